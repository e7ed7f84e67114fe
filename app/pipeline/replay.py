"""Replay: raw rows are normalized again, as the mapping says now, and nothing is asked of the source."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from app.clock import monotonic
from app.db import absences, checkpoints, replays, runs
from app.db.engine import Database, WriteSession
from app.db.ids import normalized_ids
from app.db.locks import Presence
from app.db.normalized_data import delete_rows, upsert_changed
from app.db.replays import Standing, Window
from app.errors import ConfigError
from app.pipeline.beside import undisturbed
from app.pipeline.checkpoint import after_replay, may_replay, other_mapping, while_replaying
from app.pipeline.lease import while_leased
from app.pipeline.ledger import OpenRun, RunOrder, open_run
from app.pipeline.renormalize import UNREADABLE, Renormalizer, open_renormalizer
from app.pipeline.replan import Contest, Fresh, Replan, contested
from app.pipeline.replanning import Replanning
from app.records import Checkpoint, Counts, LandedRow, Replayed, ReplayRange, RunReport
from app.sources.resource import ResourceSpec

log = structlog.get_logger()

WINDOW_ROWS: Final = 5_000
"""Raw rows that are read, and settled in one transaction."""

OnReplayed = Callable[[str, int], None]
"""Is told the resource, and how many raw rows were walked along so far."""


@dataclass(slots=True)
class ReplayDone:
    """How a replay ended."""

    report: RunReport
    replayed: Replayed
    """By this run; what an interrupted one did before it is in that one's counts."""


async def needs_replay(source: ResourceSpec, database: Database) -> bool:
    """
    Whether rows are there that another mapping made, and raw has what it takes to make them anew.

    Where raw was pruned, or another body is asked for now, the next pass reads the source from its beginning.
    """
    async with database.read() as session:
        stored = await checkpoints.read_checkpoint(session, source=source.name, resource=source.resource)
        if stored is None or other_mapping(stored, source) is None:
            return False
        standing = await replays.read_standing(session, source=source.name, resource=source.resource)
        if not may_replay(stored, source, begun=standing is not None):
            return False
        if await replays.is_raw_whole(session, kind=source.raw_kind, source=source.name):
            return True
    log.info("replay_not_possible", source=source.name, reason="raw rows were pruned: the source is read again")
    return False


async def preview_replay(
    source: ResourceSpec, chosen: ReplayRange, *, database: Database, on_progress: OnReplayed | None = None
) -> Replayed:
    """
    What a replay would do; nothing is written, no lease is taken.

    Each stretch is looked at by itself: a row that an earlier one would have
    changed is seen as it stands now.

    Raises:
        ConfigError: the mapping does not fit the source's header.
    """
    renormalizer = await open_renormalizer(source, database)
    replayed, walked, after = Replayed(), 0, 0
    while True:
        window = await _read(database, source, chosen, after)
        fresh = await renormalizer.renormalize(window.rows)
        await _plan(database, source, window.rows, fresh, renormalizer, replayed)
        walked += window.size
        after = window.last_id
        if on_progress is not None:
            on_progress(source.name, walked)
        if window.complete:
            return replayed


async def replay_source(
    order: RunOrder,
    chosen: ReplayRange = ReplayRange(),  # noqa: B008 -- frozen
    *,
    database: Database,
    presence: Presence,
    by_hand: bool = False,
    on_progress: OnReplayed | None = None,
) -> ReplayDone | None:
    """
    Normalize raw rows again, in a run of its own.

    One that did not complete is gone on with, where mapping and range are the same.

    Args:
        by_hand: rows whose header nobody knows are rejected; otherwise they are left to the pass that follows.

    Returns:
        How it ended; None when another process is running the resource.

    Raises:
        StoreError: the run could not even be opened.
    """
    replayed = Replayed()
    async with open_run(order, database=database, presence=presence) as run:
        if run is None:
            return None
        run.reads_source = False
        work = _Work(run, chosen, database=database, replayed=replayed, by_hand=by_hand, on_progress=on_progress)
        await while_leased(work.pump(), run, database)
    assert run.report is not None
    return ReplayDone(run.report, replayed)


@dataclass(slots=True)
class _Work:
    run: OpenRun
    chosen: ReplayRange
    database: Database
    replayed: Replayed
    by_hand: bool
    on_progress: OnReplayed | None
    _walked: int = field(init=False, default=0)

    async def pump(self) -> None:
        source = self.run.source
        renormalizer = await open_renormalizer(source, self.database, keeps_unreadable=not self.by_hand)
        standing = await self._stand()
        self.run.checkpoint = while_replaying(self.run.checkpoint, source, whole=self.chosen.is_whole)
        row_ids = normalized_ids(self.database)
        while True:
            began = monotonic()
            window = await _read(self.database, source, self.chosen, standing.after)
            fresh = await renormalizer.renormalize(window.rows)
            async with undisturbed(source, self.database):
                plan = await _plan(self.database, source, window.rows, fresh, renormalizer, self.replayed)
                if plan.moved and not self.chosen.is_whole:
                    raise ConfigError(
                        f"{source.name}: record {next(iter(plan.moved))} has another key now; a part of the rows "
                        "cannot be moved: replay all of them, without a range"
                    )
                written = len(plan.changed_rows.source_id)
                await row_ids.reserve(written)
                plan.changed_rows.id += row_ids.take(written)
                standing = replace(
                    standing,
                    after=window.last_id,
                    unreadable=standing.unreadable + _unreadable(window.rows, fresh),
                    shared=standing.shared + (await self._count_sharing(plan.moved, renormalizer) if plan.moved else 0),
                )
                await self._write(plan, standing, complete=window.complete)
            self._tell(window, plan.counts, seconds=monotonic() - began)
            if window.complete:
                return

    async def _count_sharing(self, moved: Mapping[str, str], renormalizer: Renormalizer) -> int:
        """
        Records that shared a key with one that has another now, and would not have it.

        Raw cannot tell them from earlier versions, nor whether the source has them still.
        """
        source = self.run.source
        async with self.database.read() as session:
            rows = await replays.read_sharing(session, kind=source.raw_kind, source=source.name, keys=moved.keys())
        fresh = await renormalizer.renormalize(rows)
        return sum(
            new.source_id not in {None, moved[row.source_id or ""]} for row, new in zip(rows, fresh, strict=True)
        )

    async def _stand(self) -> Standing:
        """Where an earlier replay of the same stopped, or the beginning."""
        source = self.run.source
        async with self.database.read() as session:
            standing = await replays.read_standing(session, source=source.name, resource=source.resource)
        begun = Standing(source.mapping_hash, 0, self.chosen.as_json())
        if standing is None or (standing.mapping_hash, standing.range) != (begun.mapping_hash, begun.range):
            return begun
        log.info("replay_resumed", source=source.name, after=standing.after)
        return standing

    async def _write(self, plan: Replan, standing: Standing, *, complete: bool) -> None:
        run, source, counts = self.run, self.run.source, plan.counts
        async with self.database.write() as session:
            await self._load(session, plan)
            if plan.moved:
                await self._forget_waiting(session)
            after = run.checkpoint
            if complete:
                after = await self._complete(session, standing)
            else:
                await replays.write_standing(session, standing, source=source.name, resource=source.resource)
            await runs.add_counts(session, run.run_id, counts)
            checkpoint = await checkpoints.move_checkpoint(
                session,
                run.checkpoint,
                after,
                new_rows=counts.inserted + plan.resurrected - len(plan.deleted_rows),
                wrote=bool(counts.inserted or counts.updated or plan.deleted_rows),
            )
        run.checkpoint = checkpoint
        run.counts.add(counts)

    async def _forget_waiting(self, session: WriteSession) -> None:
        """What a pass missed is known by its key, and that may be another record's now: the next pass asks anew."""
        name, resource = self.run.source.name, self.run.source.resource
        if (await absences.read_waiting(session, source=name, resource=resource))["keys"]:
            await absences.write_waiting(session, source=name, resource=resource, keys=(), refused=None)
            self.run.checkpoint = replace(self.run.checkpoint, validators={})  # it must read all pages

    async def _load(self, session: WriteSession, plan: Replan) -> None:
        run, source, counts = self.run, self.run.source, plan.counts
        hard = source.table.deletes.mode == "hard"
        inserted, updated = await upsert_changed(session, plan.changed_rows, source=source.name, run_id=run.run_id)
        counts.inserted, counts.updated = inserted, updated
        counts.unchanged += len(plan.changed_rows) - inserted - updated
        await delete_rows(session, plan.deleted_rows, source=source.name, run_id=run.run_id, hard=hard)
        await replays.write_verdicts(session, plan.verdicts, kind=source.raw_kind, source=source.name)

    async def _complete(self, session: WriteSession, standing: Standing) -> Checkpoint:
        run, source = self.run, self.run.source
        await replays.drop_standing(session, source=source.name, resource=source.resource)
        if not self.chosen.is_whole:
            return run.checkpoint
        whole = await replays.is_raw_whole(session, kind=source.raw_kind, source=source.name)
        complete = whole and not (standing.unreadable or standing.shared)
        if not complete:
            detail = _what_is_missing(standing) if whole else "raw rows were pruned"
            run.findings.append({"code": "replay_incomplete", "detail": detail})
            log.warning("replay_incomplete", source=source.name, reason=detail)
        return after_replay(run.checkpoint, source, reached_all=complete)

    def _tell(self, window: Window, counts: Counts, *, seconds: float) -> None:
        self._walked += window.size
        log.info(
            "replayed",
            after=window.last_id,
            rows=len(window.rows),
            updated=counts.updated,
            inserted=counts.inserted,
            rejected=counts.rejected,
            seconds=round(seconds, 3),
        )
        if self.on_progress is not None:
            self.on_progress(self.run.source.name, self._walked)


async def _read(database: Database, source: ResourceSpec, chosen: ReplayRange, after: int) -> Window:
    async with database.read() as session:
        return await replays.read_window(
            session, chosen, kind=source.raw_kind, source=source.name, after=after, at_most=WINDOW_ROWS
        )


def _what_is_missing(standing: Standing) -> str:
    if standing.unreadable:
        return f"{standing.unreadable} raw rows could not be read"
    return f"{standing.shared} records shared a key with others and may be there under one of their own"


def _unreadable(rows: Sequence[LandedRow], fresh: Sequence[Fresh]) -> int:
    """Rows with a key that may be served still, as another mapping made them."""
    return sum(
        new.rejection is not None and new.rejection.code in UNREADABLE and row.source_id is not None
        for row, new in zip(rows, fresh, strict=True)
    )


async def _plan(
    database: Database,
    source: ResourceSpec,
    rows: Sequence[LandedRow],
    fresh: Sequence[Fresh],
    renormalizer: Renormalizer,
    told: Replayed,
) -> Replan:
    keys = {row.source_id for row in rows} | {new.source_id for new in fresh}
    async with database.read() as session:
        held = await replays.read_held(session, source=source.name, source_ids=keys - {None})  # type: ignore[arg-type]
        ids = contested(rows, fresh, held)
        rivals = await replays.read_landed(session, kind=source.raw_kind, source=source.name, ids=ids) if ids else []
    contest = await _judge_rivals(rivals, renormalizer)
    await asyncio.sleep(0)
    append, trusted = source.table.write_disposition == "append", source.table.is_whole
    return Replanning(rows, fresh, held, contest=contest, append=append, trusted=trusted, told=told).plan()


async def _judge_rivals(rivals: Sequence[LandedRow], renormalizer: Renormalizer) -> Contest:
    """Which raw rows keep the key that they hold now, and which will give it up."""
    staying: set[int] = set()
    leaving: set[int] = set()
    for row, new in zip(rivals, await renormalizer.renormalize(rivals), strict=True):
        stays = new.source_id == row.source_id or new.rejection is not None
        (staying if stays else leaving).add(row.id)
    return Contest(staying, leaving)
