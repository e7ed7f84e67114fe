"""`/sources/{name}/replay`: normalize raw rows again, without asking the source; for the operator."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, AwareDatetime

from app.api.deps import ResourcesDep, select_sources
from app.api.operator import LOCKED, Operator
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import ReplayPreview, ReplaySampleItem, RunsStarted
from app.api.started import tell_started
from app.clock import in_utc
from app.errors import ConfigError
from app.operations import replay
from app.operations.numbers import IN_DIGITS
from app.operations.questions import NOT_A_NUMBER
from app.records import FINGERPRINT, Replayed, ReplayRange

router = APIRouter(prefix="/sources/{name}/replay", tags=["sources"])

MAX_ID = 2**63 - 1
Moment = Annotated[AwareDatetime, NOT_A_NUMBER, AfterValidator(in_utc)]
Key = Annotated[str, Query(pattern=r"^[^\x00]*$", max_length=2000)]


def choose(
    *,
    since: Annotated[Moment | None, Query(description="Rows landed at this time or later.")] = None,
    until: Annotated[Moment | None, Query(description="Rows landed before this time.")] = None,
    run: Annotated[int | None, Query(ge=1, le=MAX_ID, description="Rows that this run landed."), IN_DIGITS] = None,
    source_id: Annotated[list[Key] | None, Query(description="Rows with these keys.")] = None,
    rejected: Annotated[bool, Query(description="Only rows that are rejected.")] = False,
    fingerprint: Annotated[
        str | None, Query(pattern=FINGERPRINT, description="Only rows rejected for this reason, see `/rejects`.")
    ] = None,
) -> ReplayRange:
    return ReplayRange(since, until, run, tuple(source_id or ()), rejected, fingerprint)


@router.post(
    "",
    dependencies=[Operator],
    responses={200: {"description": "With `dry_run`: what would change.", "model": list[ReplayPreview]}}
    | {202: {"description": "It runs in the background.", "model": RunsStarted}}
    | LOCKED
    | problem_responses(_409="It is running already, which `running` names; or the mapping does not fit."),
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
    if chosen.fingerprint is not None:
        try:
            specs = await replay.rejected_for(resources, specs, chosen.fingerprint)
        except ConfigError as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error
    if dry_run:
        try:
            found = await replay.preview(resources, specs, chosen)
        except ConfigError as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
        return [_shown(source, replayed) for source, replayed in found.items()]
    return tell_started(await replay.start(resources, specs, chosen), specs, response)


def _shown(source: str, replayed: Replayed) -> ReplayPreview:
    samples = {
        kind: [ReplaySampleItem(**sample._asdict()) for sample in kept] for kind, kept in replayed.samples.items()
    }
    counts = {name: getattr(replayed, name) for name in ReplayPreview.model_fields if name not in {"source", "samples"}}
    return ReplayPreview(source=source, samples=samples, **counts)
