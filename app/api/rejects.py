"""`/rejects`: records that could not be normalized, by what is wrong with them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import StringConstraints

from app.api.deps import ReadSessionDep, ResourcesDep, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.replay import start_replay
from app.api.schemas import RejectedRecord, RejectGroup, RunsStarted
from app.db.rejects import read_groups, read_members
from app.records import ReplayRange

router = APIRouter(prefix="/rejects", tags=["rejects"])
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]

_WRONG = problem_responses(_422="A parameter is wrong.")


@router.get("", dependencies=[Inspector], responses=LOCKED | _WRONG)
async def list_rejects(
    session: ReadSessionDep, source: Annotated[str | None, Query(max_length=200)] = None
) -> list[RejectGroup]:
    """What is wrong with the records that nothing has made good since: one group for each kind."""
    if source and "\x00" in source:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "source: a NUL character is in no name")
    return [RejectGroup(**row) for row in await read_groups(session, source=source or None)]


@router.post(
    "/redrive",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[Operator],
    responses=LOCKED | problem_responses(_409="The source is running; `running` names the run."),
)
async def redrive(
    fingerprint: Annotated[Fingerprint, Body(embed=True)],
    session: ReadSessionDep,
    resources: ResourcesDep,
    response: Response,
) -> RunsStarted:
    """Normalize the records of one kind again, as the mapping says now, without asking the source."""
    found = await read_members(session, fingerprint, at_most=1)
    if not found:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"nothing is rejected for reason {fingerprint}")
    specs = select_sources(resources, found[0]["source"])
    return await start_replay(resources, specs, ReplayRange(fingerprint=fingerprint), response)


@router.get("/{fingerprint}", dependencies=[Inspector], responses=LOCKED | _WRONG)
async def list_members(
    fingerprint: Fingerprint,
    session: ReadSessionDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The id of the last record already seen.")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[RejectedRecord]:
    """The records of one kind as received, the oldest first."""
    rows = await read_members(session, fingerprint, after=after, at_most=limit)
    return [RejectedRecord(**row) for row in rows]
