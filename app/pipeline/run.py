"""One run: extract → land → normalize → load, batch by batch, each batch one transaction."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from app.clock import monotonic, utc_now
from app.db import checkpoints, runs
from app.db.engine import Database
from app.db.errors import KeyTakenError
from app.db.ids import normalized_ids, raw_ids
from app.db.locks import Presence
from app.db.normalized_data import read_current
from app.db.parents import read_parents
from app.db.raw_data import read_payloads, read_unloaded
from app.db.transactions import Transactions, open_transactions
from app.extract.http import Fetcher
from app.extract.kinds import read_pages
from app.land import Landed, land_records
from app.load import StagedBatch, load_batch
from app.normalize.rows import Normalizer, open_normalizer
from app.pipeline.batches import Batch, batches
from app.pipeline.checkpoint import after_batch, begin_pass, may_skip, must_remap
from app.pipeline.evidence import gather_evidence
from app.pipeline.expectations import Complaint
from app.pipeline.flights import open_flights
from app.pipeline.known import drop_known_versions
from app.pipeline.lease import while_leased
from app.pipeline.ledger import OpenRun, RunOrder, open_run
from app.pipeline.progress import OnProgress, Progress, tell_batch
from app.pipeline.replay import needs_replay, replay_source
from app.pipeline.snapshot import Absence, Snapshot
from app.pipeline.staging import StagingRules, stage
from app.pipeline.stretches import OvertakenStretchError, StretchLedger, replaced_versions
from app.records import Counts, CurrentRow, Cursor, Fingerprints, Page, RunReport

log = structlog.get_logger()


async def run_source(
    order: RunOrder,
    *,
    database: Database,
    fetcher: Fetcher,
    presence: Presence,
    on_progress: OnProgress | None = None,
) -> RunReport | None:
    """
    Extract one source once; rows that another mapping made are replayed before.

    Returns:
        How it ended; None when another process is running it.

    Raises:
        StoreError: the run could not even be opened.
    """
    if await needs_replay(order.source, database):
        replayed = await replay_source(replace(order, trigger="replay"), database=database, presence=presence)
        if replayed is None:
            return None
        if replayed.report.status != "succeeded":
            return replayed.report
    async with open_run(order, database=database, presence=presence) as run:
        if run is None:
            return None
        run.checkpoint = begin_pass(run.checkpoint, order.source)
        run.resumed = run.checkpoint.cursor.page > 0
        run.asks_for_changes = order.source.is_incremental and not {"cursor_value", "cursor_values"}.isdisjoint(
            run.checkpoint.state
        )
        needed = Snapshot.is_needed(run)
        replaced = order.source.table.is_replaced
        async with open_transactions(database, hold=needed, altogether=replaced) as transactions:
            work = _Work(run, transactions, database=database, fetcher=fetcher, on_progress=on_progress)
            if needed:
                work.snapshot = Snapshot(run, transactions)
                await work.snapshot.open()
            await while_leased(work.pump(), run, database)
        run.evidence = await gather_evidence(run, database)
    return run.report


class _Work:
    def __init__(
        self,
        run: OpenRun,
        transactions: Transactions,
        *,
        database: Database,
        fetcher: Fetcher,
        on_progress: OnProgress | None,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._source = run.source
        self._run = run
        self._transactions = transactions
        self._database = database
        self._fetcher = fetcher
        self._on_progress = on_progress
        self._raw_ids = raw_ids(database)
        self._row_ids = normalized_ids(database)
        self._rules: StagingRules | None = None
        # With no rows of this source there is nothing to look up; a key that comes twice is met by KeyTakenError
        self._fresh = run.checkpoint.row_count == 0 and not transactions.altogether
        self._body_bytes = run.checkpoint.cursor.byte_offset
        self._held_back, self._held_back_rows = Counts(), 0
        """Of batches that are not committed yet: a pass that replaces commits as one."""
        self._may_skip = run.source.keeps_fingerprints and may_skip(run.checkpoint)
        self._stretches = StretchLedger(trusted=self._may_skip) if run.source.keeps_fingerprints else None

    async def pump(self) -> None:
        """Read the source to its end; again, where a snapshot is to be taken and some pages came without records."""
        try:
            await self._pump()
        except OvertakenStretchError:
            log.info("stretch_overtaken", position=self._run.checkpoint.cursor.position)
            self._may_skip = False
            await self._pump()
        if self.snapshot is not None and self.snapshot.is_patchy:
            await self.snapshot.begin_again()
            self._run.checkpoint = replace(self._run.checkpoint, cursor=Cursor(), validators={})
            self._run.not_modified_pages, self._run.resumed = 0, False
            self._run.traffic.bytes_saved = 0
            await self._pump()

    def _read_pages(self) -> AsyncGenerator[Page, None]:
        return read_pages(
            self._source,
            self._run.checkpoint,
            fetcher=self._fetcher,
            traffic=self._run.traffic,
            now=utc_now(),
            read_parents=self._read_parents,
            read_fingerprints=self._read_fingerprints if self._stretches else None,
        )

    async def _pump(self) -> None:
        """Stage a batch while those before it are written; they commit in order."""
        # Closed here and now: left to the collector, a file or a connection may outlive the run
        async with open_flights() as flights, aclosing(batches(self._read_pages())) as found:
            async for batch in found:
                landed = await self._land(batch)
                if self._transactions.altogether:
                    await flights.arrive()  # they share one connection
                if self.snapshot is not None:
                    await self.snapshot.meet(batch, landed)
                # A batch may neither look up nor write keys that another one is writing: it would see them
                # too early, or block a transaction that it waits for itself
                await flights.clear_of(landed.keys)
                staged = await self._stage(batch, landed)
                if self.snapshot is not None:
                    self.snapshot.note_staged(staged)
                await flights.begin(partial(self._commit, batch, landed, staged), landed.keys)

    def _read_parents(self, parent: str, begin: str) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        return read_parents(self._database, f"{self._source.source}.{parent}", begin)

    async def _read_fingerprints(self) -> Fingerprints | None:
        if not self._may_skip:
            return None
        async with self._database.read() as session:
            return await checkpoints.read_fingerprints(session, self._run.checkpoint)

    async def _land(self, batch: Batch) -> Landed:
        if not batch.size:
            if batch.skipped:
                self._run.input.update(batch.input)
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
            trusted=self._source.table.is_whole,
            take_raw_ids=self._raw_ids.take,
            take_row_ids=self._row_ids.take,
        )

    async def _stage(self, batch: Batch, landed: Landed) -> StagedBatch:
        if self._stretches is not None:
            self._stretches.check(batch)
        staged = await self._stage_records(batch, landed)
        staged.counts.extracted += batch.skipped
        staged.counts.unchanged += batch.skipped
        return staged

    async def _stage_records(self, batch: Batch, landed: Landed) -> StagedBatch:
        if not landed:
            return StagedBatch(Counts(pages=batch.pages))
        assert self._rules is not None
        current: dict[str, CurrentRow] = {}
        if not self._fresh:
            async with self._transactions.reading() as session:
                current = await read_current(session, source=self._source.name, source_ids=list(landed.keys))
        await self._raw_ids.reserve(len(landed))
        await self._row_ids.reserve(len(landed))
        staged = stage(landed, current, rules=self._rules, pages=batch.pages)
        await self._note_replaced(batch, landed, replaced_versions(staged, current))
        unloaded = [(row.source_id, row.content_hash) for row in staged.raw_rows if row.disposition != "loaded"]
        if unloaded:
            async with self._transactions.reading() as session:
                known = await read_unloaded(
                    session, kind=self._source.raw_kind, source=self._source.name, versions=unloaded
                )
            drop_known_versions(staged, known, current)
        return staged

    async def _note_replaced(self, batch: Batch, landed: Landed, replaced: Mapping[str, int]) -> None:
        if self._stretches is None or not replaced:
            return
        async with self._database.read() as session:
            payloads = await read_payloads(
                session, kind=self._source.raw_kind, source=self._source.name, raw_ids=list(replaced.values())
            )
        self._stretches.replace(batch, landed, {key: payloads.get(raw_id) for key, raw_id in replaced.items()})

    async def _commit(
        self, batch: Batch, landed: Landed, staged: StagedBatch, before: asyncio.Task[None] | None
    ) -> None:
        try:
            await self._write(batch, staged, before=before)
        except KeyTakenError:
            self._fresh = False
            log.info("keys_taken", records=len(landed))
            await self._write(batch, await self._stage(batch, landed), before=before)

    async def _write(self, batch: Batch, staged: StagedBatch, *, before: asyncio.Task[None] | None) -> None:
        run, began = self._run, monotonic()
        # A pass that must be read again has no last batch yet
        last = batch.last and not (self.snapshot is not None and self.snapshot.is_patchy)
        absence = Absence()
        async with self._transactions.writing(last=last) as session:
            counts = await load_batch(
                session,
                staged,
                kind=self._source.raw_kind,
                source=self._source.name,
                run_id=run.run_id,
                hard_deletes=self._source.table.deletes.mode == "hard",
            )
            new_rows = staged.net_rows
            if before is not None:
                await before
            if last and self.snapshot is not None:
                absence = await self.snapshot.settle(session)
                counts.vanished = absence.vanished
            checkpoint = run.checkpoint
            if last or not self._transactions.altogether:
                counts.add(self._held_back)
                if not run.counts.extracted:
                    await runs.keep_input(session, run.run_id, run.input)
                await runs.add_counts(session, run.run_id, counts)
                if self._stretches is not None:
                    self._stretches.settle(batch, staged)
                checkpoint = await checkpoints.move_checkpoint(
                    session,
                    run.checkpoint,
                    # Only a pass that settled what is absent proves that nothing is left to be done
                    after_batch(
                        run.checkpoint,
                        batch,
                        proves_all=last and absence.settled and not (batch.doubts or run.complaints),
                    ),
                    new_rows=new_rows + self._held_back_rows - absence.vanished,
                    fingerprints=self._stretches.to_keep(batch) if self._stretches else None,
                )
        if checkpoint is run.checkpoint:
            self._held_back.add(counts)
            self._held_back_rows += new_rows
        else:
            run.checkpoint = checkpoint
            run.counts.add(counts)
            tell_batch(run, batch, counts, seconds=monotonic() - began)
        run.not_modified_pages += batch.not_modified
        run.findings += [dict(finding) for finding in batch.findings]
        run.complaints += [*absence.complaints, *(Complaint("walk_too_short", doubt) for doubt in batch.doubts)]
        run.bounded |= batch.bounded
        self._body_bytes += batch.body_bytes
        self._show_progress(complete=batch.last)

    def _show_progress(self, *, complete: bool) -> None:
        if self._on_progress is not None:
            counts = self._held_back if self._transactions.altogether and not complete else self._run.counts
            size = self._run.input.get("size_bytes")
            self._on_progress(Progress(self._source.name, counts, self._body_bytes, size, complete=complete))
