"""`backfill` and `refresh`: read a range, or everything, once more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.clock import utc_now
from app.db import backfills, checkpoints
from app.errors import ConfigError, OrderError
from app.pipeline.bounded import choose_range, for_range, from_beginning
from app.pipeline.moves import shown
from app.records import RefreshScope
from app.resources import Resources
from app.sources.resource import ResourceSpec


async def ranged(
    resources: Resources,
    specs: Sequence[ResourceSpec],
    begin: str | None,
    end: str | None,
    *,
    step_seconds: float | None = None,
) -> list[ResourceSpec]:
    """
    The resources as a backfill runs them; without `begin`, what was begun and is not complete goes on.

    Args:
        begin: see `choose_range`.

    Raises:
        ConfigError: it cannot be read so, or there is nothing to go on with.
        OrderError: that is no range.
    """
    if begin is not None:
        now = utc_now()
        return [for_range(spec, choose_range(spec, begin, end, step_seconds=step_seconds, now=now)) for spec in specs]
    if end is not None or step_seconds is not None:
        raise OrderError("name where the range begins, too (from)")
    begun = {spec.name: await unfinished(resources, spec) for spec in specs}
    found = [for_range(spec, begun[spec.name][0][0]) for spec in specs if begun[spec.name]]
    if not found:
        names = ", ".join(spec.name for spec in specs)
        raise ConfigError(f"{names}: no backfill was begun that is not complete; name a range (from, to)")
    return found


async def unfinished(resources: Resources, spec: ResourceSpec) -> list[backfills.Begun]:
    async with resources.database.read() as session:
        return await backfills.read_unfinished(session, source=spec.name, resource=spec.resource)


async def discard(resources: Resources, specs: Sequence[ResourceSpec]) -> int:
    """Forget the backfills that are not complete; what they loaded stays. How many they were."""
    async with resources.database.write() as session:
        return sum(
            [await backfills.drop_unfinished(session, source=spec.name, resource=spec.resource) for spec in specs]
        )


@dataclass(frozen=True, slots=True)
class RefreshPreview:
    """What a refresh would begin with."""

    source: str
    scope: RefreshScope
    rows: int
    """Served now; they stay so until the pass is complete."""
    forgets: dict[str, Any]
    """Where the checkpoint stands."""
    deletes: bool
    """Rows that the pass does not bring are deleted at its end."""
    guard_ratio: float | None
    """Unless they are a larger share than this."""
    last_read_at: datetime | None
    """As its source had it then."""


def refreshed(specs: Sequence[ResourceSpec], scope: RefreshScope) -> list[ResourceSpec]:
    """
    The resources as a refresh runs them.

    Raises:
        ConfigError: see `from_beginning`.
    """
    return [from_beginning(spec, scope) for spec in specs]


async def preview_refresh(
    resources: Resources, specs: Sequence[ResourceSpec], scope: RefreshScope
) -> list[RefreshPreview]:
    """What it would begin with; nothing is written, and no source is asked."""
    found = []
    async with resources.database.read() as session:
        for spec in refreshed(specs, scope):
            stored = await checkpoints.read_standing(session, source=spec.name, resource=spec.resource)
            found.append(
                RefreshPreview(
                    spec.name,
                    scope,
                    stored.checkpoint.row_count if stored else 0,
                    shown(stored.checkpoint) if stored else {},
                    spec.table.is_whole,
                    spec.table.deletes.guard_ratio if spec.table.is_whole else None,
                    stored.succeeded_at if stored else None,
                )
            )
    return found
