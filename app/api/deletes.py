"""`/sources/{name}/deletes`: what is absent at the source and still here, and the decision about it."""

from dataclasses import asdict
from http import HTTPStatus

from fastapi import APIRouter

from app.api.deps import ResourcesDep, look_up_sources, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.orders import DeletesOrder
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import DeletesDecided, WaitingItem
from app.db.run_reads import find_running
from app.operations import deletes

router = APIRouter(prefix="/sources/{name}/deletes", tags=["sources"])


@router.get("", dependencies=[Inspector], responses=LOCKED)
async def list_deletes(name: str, resources: ResourcesDep) -> list[WaitingItem]:
    """Rows that a complete pass did not bring and that are not deleted yet: refused by a guard, or missed only once."""
    found = await deletes.waiting(resources, look_up_sources(resources, name))
    return [WaitingItem(**asdict(item)) for item in found]


@router.post(
    "",
    dependencies=[Operator],
    responses=LOCKED | problem_responses(_409="Nothing could be deleted now; `running` names the run in the way."),
)
async def decide(name: str, order: DeletesOrder, resources: ResourcesDep) -> DeletesDecided:
    """
    Delete what waits, each resource in a run of its own; or keep it, until the next complete pass asks again.

    Where nothing waits there is no run; where only some of the resources are running the others' rows are deleted.
    """
    specs = select_sources(resources, name)
    if order.decision == "discard":
        await deletes.discard(resources, specs)
        return DeletesDecided(vanished=0, runs={}, running={})
    reports = await deletes.approve(resources, specs)
    async with resources.database.read() as session:
        running = {source: await find_running(session, source) for source, one in reports.items() if one is None}
    done = [one for one in reports.values() if one is not None]
    ids = {one.source: one.run_id for one in done}
    if failed := [one for one in done if one.status != "succeeded"]:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, f"it failed; /runs/{failed[0].run_id} says why", runs=ids)
    if running and not done:
        raise ProblemError(HTTPStatus.CONFLICT, f"{name} is running; decide when its run has ended", running=running)
    return DeletesDecided(vanished=sum(one.counts.vanished for one in done), runs=ids, running=running)
