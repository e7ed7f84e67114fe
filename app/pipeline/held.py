"""What the tables hold for the records of a batch, as far as it matters for what comes now."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from app.db.engine import ReadSession
from app.db.normalized_data import read_current, read_differing
from app.db.raw_data import has_set_aside, read_payloads, read_set_aside_since, read_unloaded
from app.land import Landed
from app.load import StagedBatch
from app.pipeline.known import drop_known_versions, reopen, unchanged_rows
from app.records import CurrentRow
from app.sources.resource import ResourceSpec


class Held:
    """
    Args:
        reading: opens a session that sees what the batches before have written.
        fresh: as far as is known there are no rows of this source.
        wary: for all that is known, records were rejected or filtered before.
    """

    def __init__(
        self,
        source: ResourceSpec,
        reading: Callable[[], AbstractAsyncContextManager[ReadSession]],
        *,
        fresh: bool,
        wary: bool = False,
    ) -> None:
        self.fresh = fresh
        self._source = source
        self._reading = reading
        self._has_set_aside = wary
        """Records were rejected or filtered, by this run or before."""

    async def open(self) -> None:
        async with self._reading() as session:
            self._has_set_aside = await has_set_aside(session, kind=self._source.raw_kind, source=self._source.name)

    async def compare(self, landed: Landed, *, anew: bool) -> tuple[Landed, dict[str, CurrentRow]]:
        """
        The records that must be looked at, and the rows that are there for them.

        Args:
            anew: also those that are there with the same bytes.
        """
        if self.fresh:
            return landed, {}
        name = self._source.name
        async with self._reading() as session:
            if landed.is_plain and not anew and not self._has_set_aside:
                found = await read_differing(session, source=name, source_ids=landed.plain_ids, hashes=landed.hashes)
                different = landed.only(list(found))
                rows = zip(different.plain_ids, found.values(), strict=True)
                return different, {key: row for key, row in rows if row is not None}
            current = await read_current(session, source=name, source_ids=list(landed.keys))
            if self._has_set_aside and (same := unchanged_rows(landed, current)):
                # One of which a version was set aside since counts as another than it is
                kind = self._source.raw_kind
                reopen(current, await read_set_aside_since(session, kind=kind, source=name, raw_ids=same))
        return landed, current

    async def settle(
        self, staged: StagedBatch, current: dict[str, CurrentRow], *, replaced: Mapping[str, int]
    ) -> dict[str, str | None]:
        """
        Forget what is to be landed without being loaded, where raw has it already.

        Args:
            replaced: raw ids by key.

        Returns:
            Their payloads; None where one is gone.
        """
        self._has_set_aside |= bool(staged.counts.rejected or staged.counts.filtered)
        versions = [(row.source_id, row.content_hash) for row in staged.raw_rows if row.disposition != "loaded"]
        if not versions and not replaced:
            return {}
        name, kind = self._source.name, self._source.raw_kind
        payloads: dict[int, str] = {}
        async with self._reading() as session:
            if versions:
                known = await read_unloaded(session, kind=kind, source=name, versions=versions)
                drop_known_versions(staged, known, current)
            if replaced:
                payloads = await read_payloads(session, kind=kind, source=name, raw_ids=list(replaced.values()))
        return {key: payloads.get(raw_id) for key, raw_id in replaced.items()}
