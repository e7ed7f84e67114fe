"""`/rejects`: records that could not be normalized, by what is wrong with them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.deps import ReadSessionDep, ResourcesDep, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.orders import Fingerprint, RedriveOrder
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import RejectedRecord, RejectGroup, RunsStarted
from app.api.started import tell_started
from app.db.rejects import read_groups, read_members
from app.operations import replay
from app.operations.numbers import IN_DIGITS
from app.operations.patterns import NO_NUL
from app.records import ReplayRange

router = APIRouter(prefix="/rejects", tags=["rejects"])

_WRONG = problem_responses(_422="A parameter is wrong.")


@router.get("", dependencies=[Inspector], responses=LOCKED | _WRONG)
async def list_rejects(
    session: ReadSessionDep, source: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None
) -> list[RejectGroup]:
    """What is wrong with the records that nothing has made good since: one group for each kind."""
    return [RejectGroup(**row) for row in await read_groups(session, source=source or None)]


@router.post(
    "/redrive",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[Operator],
    responses=LOCKED | problem_responses(_409="The source is running; `running` names the run."),
)
async def redrive(
    order: RedriveOrder, session: ReadSessionDep, resources: ResourcesDep, response: Response
) -> RunsStarted:
    """Normalize the records of one kind again, as the mapping says now, without asking the source."""
    found = await read_members(session, order.fingerprint, at_most=1)
    if not found:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"nothing is rejected for reason {order.fingerprint}")
    specs = select_sources(resources, found[0]["source"])
    started = await replay.start(resources, specs, ReplayRange(fingerprint=order.fingerprint))
    return tell_started(started, specs, response)


@router.get("/redrive", include_in_schema=False)
async def refuse_reading() -> Response:
    """Otherwise it would be taken for a fingerprint, and a wrong one."""
    raise ProblemError(HTTPStatus.METHOD_NOT_ALLOWED, "redrive is a POST", headers={"Allow": "POST"})


@router.get("/{fingerprint}", dependencies=[Inspector], responses=LOCKED | _WRONG)
async def list_members(
    fingerprint: Fingerprint,
    session: ReadSessionDep,
    after: Annotated[
        int, Query(ge=0, le=2**63 - 1, description="The id of the last record already seen."), IN_DIGITS
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=100), IN_DIGITS] = 20,
) -> list[RejectedRecord]:
    """The records of one kind as received, the oldest first."""
    rows = await read_members(session, fingerprint, after=after, at_most=limit)
    return [RejectedRecord(**row) for row in rows]
