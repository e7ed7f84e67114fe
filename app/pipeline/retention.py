"""Prune what is older than it is kept; a run never waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from app.clock import monotonic, utc_now
from app.db import retention as tables
from app.db.engine import Database
from app.errors import StoreConflictError
from app.settings.groups import RetentionSettings

log = structlog.get_logger()

STRETCH_ROWS: Final = 5_000
"""Raw rows that are looked at, and removed, in one transaction."""
TICKS_AT_ONCE: Final = 500
CONFLICTS_BORNE: Final = 10
EVERY_SECONDS: Final = 24 * 3600.0
"""How often it is done by itself: the walk passes all raw rows, those that stay as well."""


@dataclass(slots=True)
class Pruned:
    """What went, or would go."""

    raw_rows: int = 0
    runs: int = 0
    dry_run: bool = False
    seconds: float = 0.0


async def prune(
    database: Database,
    settings: RetentionSettings,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    on_progress: Callable[[Pruned], None] | None = None,
) -> Pruned:
    """
    Remove raw rows and runs that are past; nothing where no retention is set.

    Args:
        dry_run: only count. A run that waits for a raw row to go is not counted.

    Raises:
        StoreError: what was committed until then stays done.
    """
    began, now, pruned = monotonic(), now or utc_now(), Pruned(dry_run=dry_run)
    if settings.raw_days is None and settings.runs_days is None:
        return pruned
    # Without a limit, the walk says which runs raw rows name
    before = now - timedelta(days=settings.raw_days) if settings.raw_days else datetime(1970, 1, 1, tzinfo=UTC)
    named: set[int] = set()
    async with database.read() as session:
        sources = await tables.read_sources(session)
    for source in sources:
        for table in tables.RAW_TABLES:
            named |= await _prune_raw(database, table, source, before, pruned)
            if on_progress is not None:
                on_progress(pruned)
    if settings.runs_days is not None:
        await _prune_runs(database, now - timedelta(days=settings.runs_days), named, pruned)
    pruned.seconds = round(monotonic() - began, 3)
    if not dry_run:
        log.info("pruned", raw_rows=pruned.raw_rows, runs=pruned.runs, seconds=pruned.seconds)
    return pruned


async def prune_in_turn(database: Database, settings: RetentionSettings) -> Pruned | None:
    """The same once in EVERY_SECONDS, whatever processes there are; None when it is not time."""
    if settings.raw_days is None and settings.runs_days is None:
        return None
    async with database.write() as session:
        if not await tables.take_turn(session, every_seconds=EVERY_SECONDS):
            return None
    return await prune(database, settings)


async def _prune_raw(database: Database, table: str, source: str, before: datetime, pruned: Pruned) -> set[int]:
    """The runs that the rows which stay were landed by."""
    after, named, refused = 0, set[int](), 0
    while True:
        try:
            async with database.write_of_snapshot() as session:
                stretch = await tables.read_stretch(
                    session, table, source=source, after=after, before=before, at_most=STRETCH_ROWS
                )
                if stretch.past and not pruned.dry_run:
                    await tables.remove_raw(session, table, source=source, ids=stretch.past)
        except StoreConflictError:
            # A replay has just judged one of these rows anew: look again
            refused += 1
            if refused == CONFLICTS_BORNE:
                raise
            continue
        pruned.raw_rows += len(stretch.past)
        named |= stretch.runs
        after = stretch.last_id
        if stretch.complete:
            return named


async def _prune_runs(database: Database, before: datetime, named: set[int], pruned: Pruned) -> None:
    while True:
        async with database.write() as session:
            at_most = 1_000_000_000 if pruned.dry_run else TICKS_AT_ONCE
            ticks = await tables.read_past_ticks(session, before=before, kept_runs=named, at_most=at_most)
            if pruned.dry_run:
                pruned.runs = await tables.count_runs(session, ticks)
                return
            if ticks:
                pruned.runs += await tables.remove_ticks(session, ticks)
        if len(ticks) < TICKS_AT_ONCE:
            return
