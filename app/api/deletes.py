"""`/sources/{name}/deletes`: what is absent at the source and still here, and the decision about it."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Body

from app.api.deps import ResourcesDep, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import DeletesDecided, WaitingItem
from app.operations import deletes

router = APIRouter(prefix="/sources/{name}/deletes", tags=["sources"])


@router.get("", dependencies=[Inspector], responses=LOCKED)
async def list_deletes(name: str, resources: ResourcesDep) -> list[WaitingItem]:
    """Rows that a complete pass did not bring and that are not deleted yet: refused by a guard, or missed only once."""
    found = await deletes.waiting(resources, select_sources(resources, name))
    return [WaitingItem(**asdict(item)) for item in found]


@router.post(
    "", dependencies=[Operator], responses=LOCKED | problem_responses(_409="Another process is running the source.")
)
async def decide(
    name: str, resources: ResourcesDep, decision: Annotated[Literal["approve", "discard"], Body(embed=True)]
) -> DeletesDecided:
    """Delete what waits, in a run of its own; or keep it, until the next complete pass asks again."""
    specs = select_sources(resources, name)
    if decision == "discard":
        await deletes.discard(resources, specs)
        return DeletesDecided(vanished=0)
    reports = await deletes.approve(resources, specs)
    if None in reports:
        raise ProblemError(HTTPStatus.CONFLICT, f"{name} is running; decide when its run has ended")
    return DeletesDecided(vanished=sum(report.counts.vanished for report in reports if report))
