"""`checkpoint`: where each resource stands, and moving it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

from app.clock import utc_now
from app.db import checkpoints
from app.errors import ConfigError
from app.extract.http_errors import redact
from app.operations.backfill import unfinished
from app.pipeline.checkpoint import other_mapping
from app.pipeline.ledger import RunOrder
from app.pipeline.moves import move_by_hand, plan_move, shown, value_before
from app.records import Checkpoint, RunReport
from app.resources import Resources
from app.sources.resource import ResourceSpec


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a resource stands; nothing but its name and `backfills` when it was not read yet."""

    source: str
    backfills: list[dict[str, Any]]
    """Those that are not complete."""
    place: dict[str, Any] | None = None
    """`cursor_value` (one for each partition or parent in `cursor_values`, the first ten of `scopes`); the page, the
    record and the byte at which a pass goes on that is not complete; how many `validators` are kept."""
    next_request: str | None = None
    """Of such a pass; secrets are hidden."""
    found: dict[str, Any] = field(default_factory=dict)
    """What was found out about the source once: where its records are, how it is paged."""
    row_count: int = 0
    batch_seq: int = 0
    mapping_is_current: bool = True
    """False: rows are here that another mapping made."""
    succeeded_at: datetime | None = None
    held_by: str | None = None
    """The process that runs it now."""
    lease_expires_at: datetime | None = None


async def stand(resources: Resources, specs: Sequence[ResourceSpec]) -> list[Standing]:
    return [await _stand(resources, spec) for spec in specs]


async def _stand(resources: Resources, spec: ResourceSpec) -> Standing:
    async with resources.database.read() as session:
        held = await checkpoints.read_standing(session, source=spec.name, resource=spec.resource)
    begun = [
        {"from": one.begin, "to": one.end, "step_seconds": one.step_seconds, "page": cursor.page}
        for one, cursor in await unfinished(resources, spec)
    ]
    if held is None:
        return Standing(spec.name, begun)
    stored = held.checkpoint
    token = stored.cursor.page_token
    return Standing(
        source=spec.name,
        backfills=begun,
        place=shown(stored),
        next_request=None if token is None else spec.secrets.hide(redact(token)),
        found={name: stored.state[name] for name in ("data_selector", "paginator") if name in stored.state},
        row_count=stored.row_count,
        batch_seq=stored.batch_seq,
        mapping_is_current=other_mapping(stored, spec) is None,
        succeeded_at=held.succeeded_at,
        held_by=held.held_by,
        lease_expires_at=held.lease_expires_at,
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """A checkpoint before and after; or as it would be."""

    source: str
    before: dict[str, Any]
    after: dict[str, Any]
    report: RunReport | None = None
    """The run that records it; None: it was only shown, or another process runs the resource."""


async def move(
    resources: Resources,
    spec: ResourceSpec,
    value: str | None,
    *,
    by_seconds: float | None = None,
    only_back: bool = False,
    dry_run: bool = False,
) -> Moved:
    """
    Move the checkpoint to a value of its cursor; without one, to the beginning.

    Args:
        by_seconds: so long before where it stands, instead.
        only_back: refuse a value that would skip what was not read.

    Raises:
        ConfigError: it cannot be moved there.
        OrderError: there is no such value.
    """
    async with resources.database.read() as session:
        held = await checkpoints.read_standing(session, source=spec.name, resource=spec.resource)
    if held is None:
        raise ConfigError(f"{spec.name} has no checkpoint yet: it begins at its beginning")
    now = utc_now()

    def plan(stored: Checkpoint) -> Checkpoint:
        wanted = value if by_seconds is None else value_before(stored, spec, by_seconds)
        return plan_move(stored, spec, wanted, only_back=only_back, now=now)

    before = held.checkpoint
    after = plan(before)
    if dry_run:
        return Moved(spec.name, shown(before), shown(after))
    order = RunOrder(spec, uuid4(), "checkpoint", resources.settings.schedule.lease_seconds)
    report = await move_by_hand(order, plan, database=resources.database, presence=resources.presence)
    return Moved(spec.name, shown(before), shown(after), report)
