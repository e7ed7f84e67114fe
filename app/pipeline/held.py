"""What the tables hold for the records of a batch, as far as it matters for what comes now."""

from app.db.normalized_data import read_current
from app.db.raw_data import has_set_aside, read_set_aside_since, read_unloaded
from app.db.transactions import Transactions
from app.land import Landed
from app.load import StagedBatch
from app.pipeline.known import drop_known_versions, reopen, unchanged_rows
from app.records import CurrentRow
from app.sources.resource import ResourceSpec


class Held:
    """
    Args:
        fresh: as far as is known there are no rows of this source.
    """

    def __init__(self, source: ResourceSpec, transactions: Transactions, *, fresh: bool) -> None:
        self.fresh = fresh
        self._source = source
        self._transactions = transactions
        self._has_set_aside = False
        """Records were rejected or filtered, by this run or before."""

    async def open(self) -> None:
        async with self._transactions.reading() as session:
            self._has_set_aside = await has_set_aside(session, kind=self._source.raw_kind, source=self._source.name)

    async def read_current(self, landed: Landed) -> dict[str, CurrentRow]:
        """The rows of these records; one of which a version was set aside since counts as another than it is."""
        if self.fresh:
            return {}
        name = self._source.name
        async with self._transactions.reading() as session:
            current = await read_current(session, source=name, source_ids=list(landed.keys))
            if self._has_set_aside and (same := unchanged_rows(landed, current)):
                kind = self._source.raw_kind
                reopen(current, await read_set_aside_since(session, kind=kind, source=name, raw_ids=same))
        return current

    async def drop_known(self, staged: StagedBatch, current: dict[str, CurrentRow]) -> None:
        """Forget what is to be landed without being loaded, where raw has it already."""
        self._has_set_aside |= bool(staged.counts.rejected or staged.counts.filtered)
        versions = [(row.source_id, row.content_hash) for row in staged.raw_rows if row.disposition != "loaded"]
        if versions:
            name, kind = self._source.name, self._source.raw_kind
            async with self._transactions.reading() as session:
                known = await read_unloaded(session, kind=kind, source=name, versions=versions)
            drop_known_versions(staged, known, current)
