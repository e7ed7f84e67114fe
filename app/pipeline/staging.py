"""
A batch of landed records → what is to be written. Pure: the world as it stands is an argument.

Record by record, in the order received: one whose bytes are those of its
current version is unchanged; a changed one is normalized; one that is older
than what is there is outdated; of two with the same key the later one wins,
and the earlier is kept in raw as overtaken.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from app.land import Landed, storable
from app.load import StagedBatch
from app.normalize.rows import Normalizer
from app.records import (
    Counts,
    CurrentRow,
    DataRecord,
    Disposition,
    NormalizedRow,
    Note,
    RawKind,
    RawRow,
    Rejection,
    VersionKey,
)


@dataclass(frozen=True, slots=True)
class StagingRules:
    """What stays the same over the batches of one run."""

    normalizer: Normalizer
    kind: RawKind
    remap: bool
    """The mapping has changed: records with equal bytes are normalized again."""
    take_raw_id: Callable[[], int]
    """The next id; as many must have been reserved as the batch has records."""
    take_row_id: Callable[[], int]


def stage(
    landed: Iterable[Landed], current: Mapping[str, CurrentRow], *, rules: StagingRules, pages: int
) -> StagedBatch:
    """
    Decide what becomes of each record.

    Args:
        current: what `normalized_data` holds for the batch's keys; a key that is missing is new.
    """
    staging = _Staging(rules, current)
    for record in landed:
        staging.add(record)
    return staging.finish(pages)


def drop_known_versions(
    batch: StagedBatch, unloaded: Mapping[VersionKey, int], current: Mapping[str, CurrentRow]
) -> None:
    """
    Forget raw rows that were rejected or overtaken before, with the same bytes: they are landed already.

    Args:
        unloaded: raw ids of the rejected and overtaken versions of the batch's keys.
    """
    newest: dict[str | None, int] = {}
    for (source_id, _), raw_id in unloaded.items():
        newest[source_id] = max(raw_id, newest.get(source_id, 0))

    def is_known(row: RawRow) -> bool:
        raw_id = unloaded.get((row.source_id, row.content_hash))
        if raw_id is None or row.disposition == "loaded":
            return False
        if row.disposition == "overtaken" or row.source_id is None:
            return True
        # A rejected version counts as known only while it is the newest one of its record
        there = current.get(row.source_id)
        return raw_id == newest[row.source_id] and (there is None or raw_id > there.raw_id)

    batch.raw_rows = [row for row in batch.raw_rows if not is_known(row)]


class _Pending(NamedTuple):
    """The version of a record that this batch will write, so far."""

    row: NormalizedRow
    raw_at: int | None
    """Its index in the raw rows; None when its bytes are landed already."""


@dataclass(slots=True)
class _Staging:
    rules: StagingRules
    current: Mapping[str, CurrentRow]
    counts: Counts = field(default_factory=Counts)
    raw_rows: list[RawRow | None] = field(default_factory=list)
    pending: dict[str, _Pending] = field(default_factory=dict)
    rejected: set[VersionKey] = field(default_factory=set)

    def add(self, landed: Landed) -> None:
        self.counts.extracted += 1
        source_id = landed.source_id
        if landed.rejection is not None or source_id is None:
            assert landed.rejection is not None
            self._reject(landed, landed.rejection)
            return
        earlier = self.pending.get(source_id)
        there = self.current.get(source_id)
        known_hash = earlier.row.content_hash if earlier else there.content_hash if there else None
        same = known_hash == landed.content_hash
        if same and (earlier or not self.rules.remap):
            self.counts.unchanged += 1
            return
        normalized = self.rules.normalizer.normalize(source_id, landed.record.fields)
        if isinstance(normalized, Rejection):
            self._reject(landed, normalized)
        elif _is_outdated(normalized.record, earlier, there):
            self.counts.outdated += 1
            self._append(landed, "overtaken")
        else:
            self._write(landed, normalized.record, normalized.notes, landed_as=there.raw_id if same and there else None)

    def finish(self, pages: int) -> StagedBatch:
        batch = StagedBatch(self.counts)
        self.counts.pages = pages
        for source_id, (row, raw_at) in self.pending.items():
            there = self.current.get(source_id)
            if there is None:
                batch.new_rows.append(row)
            elif there.content_hash == row.content_hash and raw_at is not None:
                # Overtaken within the batch, and back where it was: nothing to write
                self.counts.unchanged += 1
                self._forget(raw_at)
            else:
                batch.changed_rows.append(row)
        batch.raw_rows = [row for row in self.raw_rows if row is not None]
        return batch

    def _write(
        self, landed: Landed, record: DataRecord, notes: tuple[Note, ...], *, landed_as: int | None
    ) -> None:
        source_id = record.source_id
        earlier = self.pending.get(source_id)
        if earlier is not None:
            self._overtake(earlier)
        if notes:
            self.counts.coerced += 1
        raw_at = None
        if landed_as is None:
            raw_at = len(self.raw_rows)
            landed_as = self._append(landed, "loaded", notes=notes)
        self.pending[source_id] = _Pending(
            NormalizedRow(
                earlier.row.id if earlier else self.rules.take_row_id(),
                source_id,
                record.name,
                record.value,
                record.description,
                record.created_at,
                record.updated_at,
                landed_as,
                landed.content_hash,
            ),
            raw_at,
        )

    def _overtake(self, earlier: _Pending) -> None:
        self.counts.duplicate += 1
        row = self.raw_rows[earlier.raw_at] if earlier.raw_at is not None else None
        if row is not None and earlier.raw_at is not None:
            self.counts.coerced -= bool(row.notes)
            self.raw_rows[earlier.raw_at] = row._replace(disposition="overtaken")

    def _forget(self, raw_at: int) -> None:
        row = self.raw_rows[raw_at]
        assert row is not None
        self.counts.coerced -= bool(row.notes)
        self.raw_rows[raw_at] = None

    def _reject(self, landed: Landed, rejection: Rejection) -> None:
        self.counts.rejected += 1
        version = (landed.source_id, landed.content_hash)
        if version not in self.rejected:
            self.rejected.add(version)
            self._append(landed, "rejected", rejection=rejection)

    def _append(
        self,
        landed: Landed,
        disposition: Disposition,
        *,
        rejection: Rejection | None = None,
        notes: tuple[Note, ...] = (),
    ) -> int:
        raw_id = self.rules.take_raw_id()
        source_id, content_hash, page, record, _ = landed
        payload, encoding = storable(record.payload, kind=self.rules.kind)
        self.raw_rows.append(
            RawRow(
                raw_id,
                source_id,
                payload,
                content_hash,
                page,
                record.position,
                disposition,
                encoding,
                rejection,
                notes,
                self._superseded(source_id),
            )
        )
        return raw_id

    def _superseded(self, source_id: str | None) -> int | None:
        if source_id is None:
            return None
        earlier = self.pending.get(source_id)
        if earlier is not None:
            return earlier.row.raw_id
        there = self.current.get(source_id)
        return there.raw_id if there else None


def _is_outdated(record: DataRecord, earlier: _Pending | None, there: CurrentRow | None) -> bool:
    """Older, by the source's own time, than what is there. A record without such a time never is."""
    if record.updated_at is None:
        return False
    if earlier is not None:
        return earlier.row.updated_at is not None and record.updated_at < earlier.row.updated_at
    return there is not None and there.dated_by_source and record.updated_at < there.updated_at
