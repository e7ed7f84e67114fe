"""`/runs`: the ledger; starting and stopping, for the operator."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from app.api.deps import ReadSessionDep, ResourcesDep, select_sources
from app.api.operator import LOCKED, Operator
from app.api.orders import StartOrder
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import RunDetail, RunPage, RunsStarted, RunSummary
from app.api.started import BUSY, tell_started
from app.db.run_reads import RunQuery, read_run, read_runs
from app.operations import runs
from app.operations.numbers import IN_DIGITS
from app.operations.patterns import NO_NUL
from app.records import RunStatus

router = APIRouter(prefix="/runs", tags=["runs"])

MAX_ID = 2**63 - 1
RunId = Annotated[int, Path(ge=1, le=MAX_ID), IN_DIGITS]
_MISSING = problem_responses(_404="No such run.")


@router.get("", responses=problem_responses(_422="A parameter is wrong."))
async def list_runs(
    session: ReadSessionDep,
    source: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    status: RunStatus | None = None,
    tick_id: UUID | None = None,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="`next_before` of the page before."), IN_DIGITS
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100), IN_DIGITS] = 20,
) -> RunPage:
    """Runs, newest first."""
    query = RunQuery(source=source or None, status=status, tick_id=tick_id, before=before, limit=limit)
    found = await read_runs(session, query)
    shown = found[:limit]
    return RunPage(
        runs=[RunSummary(**row) for row in shown],
        next_before=shown[-1]["id"] if len(found) > limit else None,
    )


@router.get("/{run_id}", responses=_MISSING)
async def get_run(run_id: RunId, session: ReadSessionDep) -> RunDetail:
    """One run, with what it noticed."""
    row = await read_run(session, run_id)
    if row is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no run {run_id}")
    return RunDetail(**row)


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[Operator],
    responses=LOCKED | BUSY,
)
async def start_runs(order: StartOrder, resources: ResourcesDep, response: Response) -> RunsStarted:
    """Run a source now, in the background. `Location` is where to look."""
    specs = [spec for spec in select_sources(resources, order.source) if not spec.is_pushed]
    if not specs:
        raise ProblemError(HTTPStatus.CONFLICT, f"{order.source} is delivered to /hooks, and not run")
    return tell_started(await runs.start(resources, specs), specs, response)


@router.post(
    "/{run_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[Operator],
    responses=LOCKED | _MISSING | problem_responses(_409="It is not running."),
)
async def cancel_run(run_id: RunId, resources: ResourcesDep) -> dict[Literal["cancelling"], int]:
    """Ask a run to stop, whatever process runs it: within two seconds; what it committed stays."""
    if not await runs.cancel(resources, run_id):
        async with resources.database.read() as session:
            row = await read_run(session, run_id)
        if row is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no run {run_id}")
        raise ProblemError(HTTPStatus.CONFLICT, f"run {run_id} is not running: {row['status']}")
    return {"cancelling": run_id}
