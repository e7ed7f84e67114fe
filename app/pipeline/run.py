"""One run: extract → land → normalize → load, batch by batch, each batch one transaction."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from app.clock import monotonic, utc_now
from app.db import checkpoints, runs
from app.db.absences import read_waiting, write_waiting
from app.db.engine import Database, WriteSession
from app.db.errors import ContendedError, KeyTakenError
from app.db.ids import normalized_ids, raw_ids
from app.db.locks import Presence
from app.db.parents import read_parents
from app.db.transactions import Transactions, open_transactions
from app.extract.http import Fetcher
from app.extract.kinds import read_pages
from app.land import Landed, land
from app.load import StagedBatch, load_batch
from app.normalize.rows import Normalizer, open_normalizer
from app.pipeline import places
from app.pipeline.batches import Batch, batches, one_ahead
from app.pipeline.beside import undisturbed
from app.pipeline.checkpoint import after_batch, may_skip, must_remap
from app.pipeline.evidence import gather_evidence
from app.pipeline.expectations import Complaint
from app.pipeline.flights import follow, open_flights
from app.pipeline.held import Held
from app.pipeline.lease import while_leased
from app.pipeline.ledger import OpenRun, RunOrder, open_run
from app.pipeline.progress import OnProgress, Progress, tell_batch
from app.pipeline.replay import needs_replay, replay_source
from app.pipeline.snapshot import Absence, Snapshot
from app.pipeline.staging import StagingRules, stage
from app.pipeline.stretches import OvertakenStretchError, StretchLedger, replaced_versions
from app.records import Counts, CurrentRow, Cursor, Fingerprints, Page, RunReport
from app.steps import Steps

log = structlog.get_logger()

WRITE_ATTEMPTS: Final = 5
"""Of one batch, while other sessions are in its way."""


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
        run.checkpoint = await places.begin(run, database)
        run.resumed = run.checkpoint.cursor.page > 0
        run.asks_for_changes = order.source.asks_for_part(run.checkpoint.state)
        needed = Snapshot.is_needed(run)
        replaced = order.source.table.is_replaced
        async with open_transactions(database, hold=needed, altogether=replaced) as transactions:
            work = _Work(run, transactions, database=database, fetcher=fetcher, on_progress=on_progress)
            if needed:
                work.snapshot = Snapshot(run, transactions)
                await work.snapshot.open()
            await while_leased(work.pump(), run, database)
        if order.source.webhook is not None and run.counts.written:
            run.findings.append({"code": "not_delivered", "rows": run.counts.written})
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
        self._land_steps, self._stage_steps = Steps(), Steps()
        self._staging = asyncio.Lock()
        """One batch at a time takes ids: one that is to be written again is staged beside the next."""
        # With no rows of this source there is nothing to look up; a key that comes twice is met by KeyTakenError
        fresh = run.checkpoint.row_count == 0 and not (transactions.altogether or run.source.webhook)
        self._held = Held(run.source, transactions.reading, fresh=fresh)
        self._waiting: Mapping[str, Any] = {"keys": []}
        """Rows that a pass missed, and that nobody has decided about."""
        self._body_bytes = run.checkpoint.cursor.byte_offset
        self._held_back, self._held_back_rows = Counts(), 0
        """Of batches that are not committed yet: a pass that replaces commits as one."""
        self._may_skip = run.source.keeps_fingerprints and run.source.refresh is None and may_skip(run.checkpoint)
        self._stretches = StretchLedger(trusted=self._may_skip) if run.source.keeps_fingerprints else None

    async def pump(self) -> None:
        """Read the source to its end; again, where a snapshot is to be taken and some pages came without records."""
        await self._held.open()
        async with self._transactions.reading() as session:
            self._waiting = await read_waiting(session, source=self._source.name, resource=self._source.resource)
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
            read_parents=lambda parent, begin: read_parents(self._database, f"{self._source.source}.{parent}", begin),
            read_fingerprints=self._read_fingerprints if self._stretches else None,
        )

    async def _pump(self) -> None:
        """Stage a batch while those before it are written; they commit in order."""
        # Closed here and now: left to the collector, a file or a connection may outlive the run
        async with open_flights(self._database) as flights, aclosing(one_ahead(batches(self._read_pages()))) as found:
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
                write, committed = partial(self._commit, batch, landed, staged), self._run.counts.extracted
                await flights.begin(write, landed.keys, records=len(landed), committed=committed)

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
        return await self._land_steps.do(land, batch.parts, read_keys=self._rules.normalizer.read_keys)

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
        as_they_are = batch.skipped + len(landed) - staged.counts.extracted
        staged.counts.extracted += as_they_are
        staged.counts.unchanged += as_they_are
        return staged

    async def _stage_records(self, batch: Batch, landed: Landed) -> StagedBatch:
        """What is to be written; records that are in the table as they are may be missing in its counts."""
        different, current = landed, dict[str, CurrentRow]()
        if landed:
            assert self._rules is not None
            different, current = await self._held.compare(landed, anew=self._rules.remap or self._rules.append)
        if not different:
            return StagedBatch(Counts(pages=batch.pages))
        assert self._rules is not None
        async with self._staging:
            await self._raw_ids.reserve(len(different))
            await self._row_ids.reserve(len(different))
            staged = await self._stage_steps.do(stage, different, current, rules=self._rules, pages=batch.pages)
        replaced = replaced_versions(staged, current) if self._stretches is not None else {}
        payloads = await self._held.settle(staged, current, replaced=replaced)
        if self._stretches is not None:
            self._stretches.replace(batch, different, payloads)
        return staged

    async def _commit(
        self, batch: Batch, landed: Landed, staged: StagedBatch, before: asyncio.Task[None] | None
    ) -> None:
        attempt = 1
        while True:
            try:
                async with undisturbed(self._source, self._database, before=before) as is_news:
                    staged = await self._stage(batch, landed) if is_news else staged
                    return await self._write(batch, landed, staged, before=before)
            except (KeyTakenError, ContendedError) as error:
                # What is one transaction with the batches before it is lost with them
                if attempt == WRITE_ATTEMPTS or self._transactions.altogether:
                    raise
                self._held.fresh = False
                log.info("batch_again", attempt=attempt, records=len(landed), reason=str(error))
                await asyncio.sleep(0.02 * attempt)
            attempt += 1
            staged = await self._stage(batch, landed)

    async def _write(
        self, batch: Batch, landed: Landed, staged: StagedBatch, *, before: asyncio.Task[None] | None
    ) -> None:
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
            await follow(before)
            waiting = await self._note_returned(session, landed)
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
                checkpoint = await places.move(
                    session,
                    run,
                    # Only a pass that settled what is absent proves that nothing is left to be done
                    after_batch(
                        run.checkpoint,
                        batch,
                        proves_all=last and absence.settled and not (batch.doubts or run.complaints),
                    ),
                    new_rows=new_rows + self._held_back_rows - absence.vanished,
                    wrote=staged.wrote or absence.vanished > 0 or self._held_back.written > 0,
                    complete=last,
                    fingerprints=self._stretches.to_keep(batch) if self._stretches else None,
                )
        self._waiting = waiting
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

    async def _note_returned(self, session: WriteSession, landed: Landed) -> Mapping[str, Any]:
        """What waits to be deleted without what this batch has met; in the batch's transaction."""
        waiting = self._waiting
        if back := landed.keys.intersection(waiting["keys"]):
            waiting = {**waiting, "keys": [key for key in waiting["keys"] if key not in back]}
            await write_waiting(session, source=self._source.name, resource=self._source.resource, **waiting)
        return waiting

    def _show_progress(self, *, complete: bool) -> None:
        if self._on_progress is not None:
            counts = self._held_back if self._transactions.altogether and not complete else self._run.counts
            size = self._run.input.get("size_bytes")
            self._on_progress(Progress(self._source.name, counts, self._body_bytes, size, complete=complete))
