"""`/sources/{name}/replay`: normalize raw rows again, without asking the source; for the operator."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime

from app.api.deps import ResourcesDep, select_sources
from app.api.operator import LOCKED, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import ReplayPreview, ReplaySampleItem, RunsStarted
from app.errors import ConfigError
from app.operations import replay
from app.records import Replayed, ReplayRange
from app.resources import Resources
from app.sources.resource import ResourceSpec

router = APIRouter(prefix="/sources/{name}/replay", tags=["sources"])

MAX_ID = 2**63 - 1
Key = Annotated[str, Query(pattern=r"^[^\x00]*$", max_length=2000)]


def choose(
    *,
    since: Annotated[AwareDatetime | None, Query(description="Rows landed at this time or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Rows landed before this time.")] = None,
    run: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Rows that this run landed.")] = None,
    source_id: Annotated[list[Key] | None, Query(description="Rows with these keys.")] = None,
    rejected: Annotated[bool, Query(description="Only rows that are rejected.")] = False,
    fingerprint: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{12}$", description="Only rows rejected for this reason, see `/rejects`.")
    ] = None,
) -> ReplayRange:
    return ReplayRange(since, until, run, tuple(source_id or ()), rejected, fingerprint)


@router.post(
    "",
    dependencies=[Operator],
    responses={200: {"description": "With `dry_run`: what would change.", "model": list[ReplayPreview]}}
    | {202: {"description": "It runs in the background.", "model": RunsStarted}}
    | LOCKED
    | problem_responses(_409="It is running already; `running` names the run.", _422="The mapping does not fit."),
)
async def replay_source(
    name: str,
    resources: ResourcesDep,
    response: Response,
    chosen: Annotated[ReplayRange, Depends(choose)],
    dry_run: bool = False,
) -> RunsStarted | list[ReplayPreview]:
    """Normalize raw rows as the mapping says now; `dry_run` shows what would change, else `Location` tells."""
    specs = select_sources(resources, name)
    if dry_run:
        try:
            found = await replay.preview(resources, specs, chosen)
        except ConfigError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        return [_shown(source, replayed) for source, replayed in found.items()]
    return await start_replay(resources, specs, chosen, response)


async def start_replay(
    resources: Resources, specs: Sequence[ResourceSpec], chosen: ReplayRange, response: Response
) -> RunsStarted:
    """
    Begin, and say where to look.

    Raises:
        ProblemError: 409 when a run is in the way, 503 when none could be recorded.
    """
    name = specs[0].source
    started = await replay.start(resources, specs, chosen)
    if started.running and not started.run_ids:
        raise ProblemError(HTTPStatus.CONFLICT, f"{name} is running already", running=started.running)
    if started.reasons and not started.run_ids:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(started.reasons.values()))
    ids = list(started.run_ids.values())
    response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = (
        f"/runs/{ids[0]}" if len(specs) == len(ids) == 1 else f"/runs?tick_id={started.tick_id}"
    )
    return RunsStarted(tick_id=started.tick_id, runs=started.run_ids, running=started.running)


def _shown(source: str, replayed: Replayed) -> ReplayPreview:
    samples = {
        kind: [ReplaySampleItem(**sample._asdict()) for sample in kept] for kind, kept in replayed.samples.items()
    }
    counts = {name: getattr(replayed, name) for name in ReplayPreview.model_fields if name not in {"source", "samples"}}
    return ReplayPreview(source=source, samples=samples, **counts)
