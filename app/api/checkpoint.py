"""`/sources/{name}/checkpoint`, `/backfill` and `/refresh`: where a source stands, and reading it once more."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from app.api.deps import ResourcesDep, look_up_sources, select_sources
from app.api.operator import LOCKED, Inspector, Operator
from app.api.orders import BackfillOrder, CheckpointOrder, RefreshOrder
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import CheckpointItem, CheckpointMoved, RefreshItem, RunsStarted
from app.api.started import tell_started
from app.db.run_reads import find_running
from app.errors import ConfigError, OrderError
from app.operations import backfill, checkpoint, runs
from app.sources.values import duration_seconds

router = APIRouter(prefix="/sources/{name}", tags=["sources"])

_REFUSED = LOCKED | problem_responses(
    _409="It is running already, which `running` names; or it does not fit the source."
)


def _refusal(error: ConfigError, where: str) -> ProblemError:
    """422 for what has no meaning anywhere, 409 for what does not fit the source or where it stands."""
    if isinstance(error, OrderError):
        errors = [{"where": where, "fault": str(error)}]
        return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {error}", errors=errors)
    return ProblemError(HTTPStatus.CONFLICT, str(error))


@router.get("/checkpoint", dependencies=[Inspector], responses=LOCKED)
async def get_checkpoint(name: str, resources: ResourcesDep) -> list[CheckpointItem]:
    """Where each resource stands, and who is running it."""
    found = await checkpoint.stand(resources, look_up_sources(resources, name))
    return [CheckpointItem(**asdict(item)) for item in found]


@router.patch("/checkpoint", dependencies=[Operator], responses=_REFUSED)
async def move_checkpoint(
    name: str, order: CheckpointOrder, resources: ResourcesDep, dry_run: bool = False
) -> list[CheckpointMoved]:
    """Make the next run begin at a value, or at the beginning; recorded as a run, refused while one is running."""
    specs = select_sources(resources, name)
    (given,) = order.model_fields_set
    by_seconds = duration_seconds(order.rewind_by) if order.rewind_by else None
    moved = []
    for spec in specs:
        try:
            one = await checkpoint.move(resources, spec, order.cursor_value, by_seconds=by_seconds, dry_run=dry_run)
        except ConfigError as error:
            raise _refusal(error, f"body.{given}") from error
        if one.report is None and not dry_run:
            async with resources.database.read() as session:
                running = await find_running(session, spec.name)
            raise ProblemError(HTTPStatus.CONFLICT, f"{spec.name} is running", running={spec.name: running})
        run_id = one.report.run_id if one.report else None
        moved.append(CheckpointMoved(source=one.source, before=one.before, after=one.after, run_id=run_id))
    return moved


@router.post(
    "/backfill",
    status_code=HTTPStatus.ACCEPTED,
    dependencies=[Operator],
    responses=_REFUSED,
)
async def start_backfill(name: str, order: BackfillOrder, resources: ResourcesDep, response: Response) -> RunsStarted:
    """Read a range of the cursor in the background, beside the live checkpoint. `Location` is where to look."""
    specs = select_sources(resources, name)
    step_seconds = None if order.step is None else duration_seconds(order.step)
    try:
        ranged = await backfill.ranged(resources, specs, order.begin, order.end, step_seconds=step_seconds)
    except ConfigError as error:
        raise _refusal(error, "body") from error
    return tell_started(await runs.start(resources, ranged, trigger="backfill"), ranged, response)


@router.delete("/backfill", dependencies=[Operator], responses=LOCKED)
async def discard_backfills(name: str, resources: ResourcesDep) -> dict[Literal["discarded"], int]:
    """Forget the backfills that were begun and are not complete; what they loaded stays."""
    return {"discarded": await backfill.discard(resources, select_sources(resources, name))}


@router.post(
    "/refresh",
    dependencies=[Operator],
    responses={
        200: {"description": "With `dry_run`: what it would begin with.", "model": list[RefreshItem]},
        202: {"description": "It runs in the background.", "model": RunsStarted},
        **_REFUSED,
    },
)
async def start_refresh(
    name: str,
    order: RefreshOrder,
    resources: ResourcesDep,
    response: Response,
    dry_run: Annotated[bool, Query(description="Only show what it would begin with.")] = False,
) -> RunsStarted | list[RefreshItem]:
    """
    Read a source from its beginning, in the background; what is served stays so until the pass is complete.

    `state` forgets what was learned about the source. `data` deletes what it does not bring any more; `all` is both.
    """
    specs = select_sources(resources, name)
    try:
        if dry_run:
            shown = await backfill.preview_refresh(resources, specs, order.scope)
            return [RefreshItem(**asdict(item)) for item in shown]
        refreshed = backfill.refreshed(specs, order.scope)
    except ConfigError as error:
        raise _refusal(error, "body.scope") from error
    return tell_started(await runs.start(resources, refreshed, trigger="refresh"), specs, response)
