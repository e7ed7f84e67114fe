"""A pass that is to meet every record: which rows it did not meet, and what becomes of those."""

from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from app.db import absences
from app.db.engine import WriteSession
from app.db.transactions import Transactions
from app.land import Landed
from app.load import StagedBatch
from app.pipeline.batches import Batch
from app.pipeline.expectations import Complaint
from app.pipeline.ledger import OpenRun
from app.sources.tables import RestResource

log = structlog.get_logger()

GUARD_RATIO: Final = 0.2
"""Of a snapshot without a guard of its own."""


@dataclass(frozen=True, slots=True)
class Absence:
    """What a pass says about the rows that it did not meet."""

    vanished: int = 0
    """Rows deleted."""
    settled: bool = True
    """False: the next pass must read everything again, whatever the source says of changes."""
    complaints: tuple[Complaint, ...] = ()


@dataclass(slots=True)
class Snapshot:
    """
    One whole pass of a resource that is `write_disposition = "replace"` or `deletes.detect = "snapshot"`.

    SOURCES rule 10: nothing is deleted but by a complete, un-resumed pass; and
    where pages may shift while they are read, only what two passes missed.
    """

    run: OpenRun
    transactions: Transactions
    _rows_before: int = field(init=False)
    _resumed: bool = field(init=False)
    _keyless: int = 0
    _bounded: bool = False
    _read_pages: int = 0
    _same_pages: int = 0
    _rows_met: int = 0

    @staticmethod
    def is_needed(run: OpenRun) -> bool:
        """Where no row is, none can be absent."""
        table = run.source.table
        return table.needs_every_key and (
            table.is_replaced or run.checkpoint.row_count > 0 or "source_id" in table.expect.unique
        )

    def __post_init__(self) -> None:
        self._resumed = self.run.checkpoint.cursor.page > 0
        self._rows_before = self.run.checkpoint.row_count

    async def open(self) -> None:
        async with self.transactions.aside() as session:
            await absences.open_met_keys(session)

    async def meet(self, batch: Batch, landed: Landed) -> None:
        """Remember the keys of a batch, in the order in which batches come."""
        self._bounded |= batch.bounded
        self._same_pages += batch.not_modified
        self._read_pages += batch.pages - batch.not_modified
        self._rows_met += len(landed)
        keys = [key for key in landed.source_ids if key is not None]
        if keys:
            async with self.transactions.aside() as session:
                await absences.add_met_keys(session, keys)

    def note_staged(self, staged: StagedBatch) -> None:
        """A record without a key that was there before cannot be one that has gone since."""
        self._keyless += sum(row.source_id is None for row in staged.raw_rows)

    @property
    def is_patchy(self) -> bool:
        """Some pages were read and others had not changed: whose keys they hold is not known."""
        return bool(self._read_pages and self._same_pages)

    async def begin_again(self) -> None:
        """All pages are read from the first."""
        self._resumed = self._bounded = False
        self._keyless = self._read_pages = self._same_pages = self._rows_met = 0
        async with self.transactions.aside() as session:
            await absences.forget_met_keys(session)

    async def settle(self, session: WriteSession) -> Absence:
        """Judge the keys met, and delete what is gone; in the transaction of the last batch, once it is written."""
        table = self.run.source.table
        absence = await self._settle_absent(session) if table.is_whole else Absence()
        if "source_id" in table.expect.unique:
            repeated, example = await absences.count_repeated_keys(session)
            if repeated:
                detail = f"{repeated} keys came more than once in this pass, for example {example!r}"
                complaint = Complaint("unique_violated", f"source_id: {detail}; see expect.unique")
                absence = replace(absence, complaints=(*absence.complaints, complaint))
        return absence

    async def _settle_absent(self, session: WriteSession) -> Absence:
        if self._resumed or self._bounded:
            reason = "began in the middle" if self._resumed else "ended at max_pages or max_records"
            log.info("snapshot_incomplete", source=self.run.source.name, reason=reason)
            return Absence(settled=False)
        source, resource = self.run.source.name, self.run.source.resource
        waiting = await absences.read_waiting(session, source=source, resource=resource)
        if not self._read_pages and not waiting["keys"]:
            return Absence()
        absent = await absences.find_absent(session, source=source)
        keys: list[str] = []
        if not self._read_pages:
            # Every page is as it was when these were missed: that is the second pass
            await absences.keep_absent_only(session, waiting["keys"])
        else:
            if refused := self._refusal(absent):
                keys = await absences.absent_keys(session)
                await absences.write_waiting(
                    session, source=source, resource=resource, keys=keys, refused=refused.detail
                )
                return Absence(settled=False, complaints=(refused,))
            if self._may_shift:
                again = set(waiting["keys"])
                keys = [key for key in await absences.absent_keys(session) if key not in again]
                await absences.keep_absent_only(session, waiting["keys"])
        vanished = await absences.delete_absent(
            session,
            source=source,
            run_id=self.run.run_id,
            kind=self.run.source.raw_kind,
            hard=self.run.source.table.deletes.mode == "hard",
        )
        await absences.write_waiting(session, source=source, resource=resource, keys=keys, refused=None)
        if keys:
            log.info("absent_once", source=source, rows=len(keys))
        return Absence(vanished)

    @property
    def _may_shift(self) -> bool:
        """A record may have moved from a page not yet read to one that was."""
        table = self.run.source.table
        return isinstance(table, RestResource) and not table.is_replaced and self._read_pages > 1

    def _refusal(self, absent: int) -> Complaint | None:
        """Why what is absent is not believed to be gone."""
        if not absent:
            return None
        table, name = self.run.source.table, self.run.source.name
        guard = table.deletes.guard_ratio
        if guard is None:
            guard = 1.0 if table.is_replaced else GUARD_RATIO
        ratio = absent / max(self._rows_before, 1)
        if self._keyless:
            why = f"{self._keyless} new records came without a key, and may be some of them"
        elif not self._rows_met and table.expect.on_zero != "ok":
            why = "the source brought no record at all"
        elif table.expect.min_rows is not None and self._rows_met < table.expect.min_rows:
            why = f"the source brought {self._rows_met} records, and expect.min_rows is {table.expect.min_rows}"
        elif ratio > guard:
            why = f"that is {ratio:.1%} of them, and deletes.guard_ratio is {guard:.0%}"
        else:
            return None
        return Complaint(
            "deletes_refused",
            f"{absent} of {self._rows_before} rows are absent at the source; {why}: none was deleted. "
            f"`etl deletes {name}` shows them; --approve deletes them",
        )
