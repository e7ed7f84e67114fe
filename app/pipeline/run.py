"""One run: extract → land → normalize → load, batch by batch, each batch one transaction."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, NamedTuple

import structlog

from app.clock import monotonic, utc_now
from app.db import checkpoints, runs
from app.db.engine import Database
from app.db.errors import KeyTakenError
from app.db.ids import normalized_ids, raw_ids
from app.db.locks import Presence
from app.db.normalized_data import read_current
from app.db.parents import read_parents
from app.db.raw_data import read_unloaded
from app.errors import SourceError, StoreConflictError, StoreUnavailableError
from app.extract.http import Fetcher
from app.extract.kinds import read_pages
from app.land import Landed, land_records
from app.load import StagedBatch, load_batch
from app.normalize.rows import Normalizer, open_normalizer
from app.pipeline.batches import Batch, batches
from app.pipeline.checkpoint import after_batch, begin_pass, must_remap
from app.pipeline.known import drop_known_versions
from app.pipeline.ledger import OpenRun, RunOrder, open_run
from app.pipeline.staging import StagingRules, stage
from app.records import Counts, CurrentRow, RunReport
from app.sources.resource import ResourceSpec

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """After a batch: what the run has done so far."""

    source: str
    counts: Counts
    body_bytes: int
    size_bytes: int | None
    """Of the whole body; None when nobody knows."""
    complete: bool


OnProgress = Callable[[Progress], None]

MAX_FLIGHTS: Final = 3
"""Batches of one run being written at once: PostgreSQL works on one while others are encoded and sent."""


class _Flight(NamedTuple):
    task: asyncio.Task[None]
    keys: set[str]


async def run_source(
    order: RunOrder,
    *,
    database: Database,
    fetcher: Fetcher,
    presence: Presence,
    on_progress: OnProgress | None = None,
) -> RunReport | None:
    """
    Extract one source once.

    Returns:
        How it ended; None when another process is running it.

    Raises:
        StoreError: the run could not even be opened.
    """
    async with open_run(order, database=database, presence=presence) as run:
        if run is None:
            return None
        work = _Work(order.source, run, database=database, fetcher=fetcher, on_progress=on_progress)
        await _alongside(work.pump(), _keep_lease(run, database))
    return run.report


class _Work:
    def __init__(
        self,
        source: ResourceSpec,
        run: OpenRun,
        *,
        database: Database,
        fetcher: Fetcher,
        on_progress: OnProgress | None,
    ) -> None:
        run.checkpoint = begin_pass(run.checkpoint, source)
        self._source = source
        self._run = run
        self._database = database
        self._fetcher = fetcher
        self._on_progress = on_progress
        self._raw_ids = raw_ids(database)
        self._row_ids = normalized_ids(database)
        self._rules: StagingRules | None = None
        # With no rows of this source there is nothing to look up; a key that comes twice is met by KeyTakenError
        self._fresh = run.checkpoint.row_count == 0
        self._body_bytes = run.checkpoint.cursor.byte_offset

    async def pump(self) -> None:
        """Stage a batch while those before it are written; they commit in order."""
        flights: deque[_Flight] = deque()
        try:
            async for batch in batches(
                read_pages(
                    self._source,
                    self._run.checkpoint,
                    fetcher=self._fetcher,
                    traffic=self._run.traffic,
                    now=utc_now(),
                    read_parents=self._read_parents,
                )
            ):
                landed = await self._land(batch)
                keys = landed.keys
                # A batch may neither look up nor write keys that another one is writing: it would see them
                # too early, or block a transaction that it waits for itself
                while any(not keys.isdisjoint(flight.keys) for flight in flights):
                    await flights.popleft().task
                staged = await self._stage(batch, landed)
                if len(flights) == MAX_FLIGHTS:
                    await flights.popleft().task
                before = flights[-1].task if flights else None
                flights.append(_Flight(asyncio.create_task(self._commit(batch, landed, staged, before=before)), keys))
            while flights:
                await flights.popleft().task
        except SourceError:
            # What came whole before the fault is kept
            while flights:
                await flights.popleft().task
            raise
        finally:
            for flight in flights:
                flight.task.cancel()
            await asyncio.gather(*(flight.task for flight in flights), return_exceptions=True)

    def _read_parents(self, parent: str, begin: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        return read_parents(self._database, f"{self._source.source}.{parent}", begin)

    async def _land(self, batch: Batch) -> Landed:
        if not batch.size:
            return Landed()  # a body that was not modified has no header either
        if self._rules is None:
            self._run.input.update(batch.input)
            self._rules = self._open_rules(open_normalizer(self._source, batch.input))
        landed = Landed()
        for page, records in batch.parts:
            land_records(landed, page, records, read_keys=self._rules.normalizer.read_keys)
            await asyncio.sleep(0)
        return landed

    def _open_rules(self, normalizer: Normalizer) -> StagingRules:
        return StagingRules(
            normalizer=normalizer,
            kind=self._source.raw_kind,
            remap=must_remap(self._run.checkpoint),
            append=self._source.table.write_disposition == "append",
            take_raw_ids=self._raw_ids.take,
            take_row_ids=self._row_ids.take,
        )

    async def _stage(self, batch: Batch, landed: Landed) -> StagedBatch:
        if not landed:
            return StagedBatch(Counts(pages=batch.pages))
        assert self._rules is not None
        current: dict[str, CurrentRow] = {}
        if not self._fresh:
            async with self._database.read() as session:
                current = await read_current(session, source=self._source.name, source_ids=list(landed.keys))
        await self._raw_ids.reserve(len(landed))
        await self._row_ids.reserve(len(landed))
        staged = stage(landed, current, rules=self._rules, pages=batch.pages)
        unloaded = [(row.source_id, row.content_hash) for row in staged.raw_rows if row.disposition != "loaded"]
        if unloaded:
            async with self._database.read() as session:
                known = await read_unloaded(
                    session, kind=self._source.raw_kind, source=self._source.name, versions=unloaded
                )
            drop_known_versions(staged, known, current)
        return staged

    async def _commit(
        self, batch: Batch, landed: Landed, staged: StagedBatch, *, before: asyncio.Task[None] | None
    ) -> None:
        try:
            await self._write(batch, staged, before=before)
        except KeyTakenError:
            self._fresh = False
            log.info("keys_taken", records=len(landed))
            await self._write(batch, await self._stage(batch, landed), before=before)

    async def _write(self, batch: Batch, staged: StagedBatch, *, before: asyncio.Task[None] | None) -> None:
        run, began = self._run, monotonic()
        async with self._database.write() as session:
            counts = await load_batch(
                session, staged, kind=self._source.raw_kind, source=self._source.name, run_id=run.run_id
            )
            if before is not None:
                await before
            await runs.add_counts(session, run.run_id, counts)
            checkpoint = await checkpoints.move_checkpoint(
                session, run.checkpoint, after_batch(run.checkpoint, batch), new_rows=staged.net_rows
            )
        run.checkpoint = checkpoint
        run.not_modified_pages += batch.not_modified
        run.findings += [dict(finding) for finding in batch.findings]
        self._body_bytes += batch.body_bytes
        for item in fields(Counts):
            setattr(run.counts, item.name, getattr(run.counts, item.name) + getattr(counts, item.name))
        self._tell(batch, counts, seconds=monotonic() - began)

    def _tell(self, batch: Batch, counts: Counts, *, seconds: float) -> None:
        for page, records in batch.parts:
            log.debug("page_landed", page=page, rows=len(records))
        shown = {name: count for name, count in asdict(counts).items() if count}
        log.info(
            "checkpoint_moved",
            batch_seq=self._run.checkpoint.batch_seq,
            position=self._run.checkpoint.cursor.position,
            seconds=round(seconds, 3),
            **shown,
        )
        if self._on_progress is not None:
            size = self._run.input.get("size_bytes")
            progress = Progress(self._source.name, self._run.counts, self._body_bytes, size, complete=batch.last)
            self._on_progress(progress)


async def _keep_lease(run: OpenRun, database: Database) -> None:
    """
    Renew the lease three times in its life, until cancelled.

    Raises:
        StoreConflictError: it was taken over; this run must stop.
    """
    while True:
        await asyncio.sleep(run.lease_seconds / 3)
        try:
            async with database.write() as session:
                # The run's row first, then the checkpoint's: the order in which a batch locks them
                await runs.beat(session, run.run_id)
                held = await checkpoints.renew_lease(session, run.checkpoint, lease_seconds=run.lease_seconds)
        except StoreUnavailableError as error:
            # The next batch will find out by itself, and its epoch keeps it honest
            log.warning("heartbeat_failed", reason=str(error))
            continue
        if not held:
            raise StoreConflictError(
                f"{run.checkpoint.source}: lost its lease (epoch {run.checkpoint.epoch}) to another process"
            )


async def _alongside(main: Coroutine[Any, Any, None], side: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end; should `side`, which only ends by failing, fail first, stop `main` and raise that."""
    tasks = [asyncio.create_task(main), asyncio.create_task(side)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            tasks[1].result()
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
