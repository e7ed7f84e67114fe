"""
A batch of landed records → what is to be written. Pure: the world as it stands is an argument.

Record by record, in the order received: one whose bytes are those of its
current version is unchanged; a changed one is normalized; one that is older
than what is there is outdated; of two with the same key the later one wins,
and the earlier is kept in raw as overtaken.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar, cast

from app.land import Landed
from app.load import StagedBatch
from app.normalize.rows import Normalized, Normalizer
from app.pipeline.versions import Deletion, Version, is_outdated
from app.records import (
    Counts,
    CurrentRow,
    Disposition,
    Note,
    PlainRawRows,
    RawKind,
    RawRow,
    Rejection,
    VersionKey,
)

T = TypeVar("T")
_NORMALIZED: Final = ("name", "value", "description", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class StagingRules:
    """What stays the same over the batches of one run."""

    normalizer: Normalizer
    kind: RawKind
    remap: bool
    """The mapping has changed: records with equal bytes are normalized again."""
    append: bool
    """A record whose key is there stays as it is, whatever comes."""
    trusted: bool
    """What a pass brings is how the source is now: no time makes it outdated."""
    take_raw_ids: Callable[[int], list[int]]
    """The next ids; as many must have been reserved as the batch has records."""
    take_row_ids: Callable[[int], list[int]]


def stage(landed: Landed, current: Mapping[str, CurrentRow], *, rules: StagingRules, pages: int) -> StagedBatch:
    """
    Decide what becomes of each record.

    Args:
        current: what `normalized_data` holds for the batch's keys; a key that is missing is new.
    """
    return _Staging(landed, current, rules, pages=pages).batch()


class _Staging:
    def __init__(self, landed: Landed, current: Mapping[str, CurrentRow], rules: StagingRules, *, pages: int) -> None:
        self._landed = landed
        self._current = current
        self._rules = rules
        self._counts = Counts(pages=pages, extracted=len(landed))
        self._repeated = _repeated(landed)
        self._batch = StagedBatch(self._counts)
        self._raw_rows: list[RawRow | None] = []
        self._pending: dict[str, Version] = {}
        self._deletions: dict[str, Deletion] = {}
        self._set_aside: set[VersionKey] = set()

    def batch(self) -> StagedBatch:
        for index, rejection in self._landed.rejections.items():
            self._reject(index, rejection)
        for index in sorted(self._landed.filtered - self._landed.rejections.keys()):
            self._filter(index)
        todo = self._changed()
        # Only a rejected record has no key, and those are not among them
        source_ids = cast("list[str]", _pick(self._landed.source_ids, todo))
        normalized = self._rules.normalizer.normalize(source_ids, _pick(self._landed.fields, todo))
        plain: Sequence[int] = range(len(todo))
        if self._current or self._repeated or normalized.rejections or normalized.filtered or normalized.deleted:
            plain = self._pick_plain(todo, source_ids, normalized)
        self._write_plain(plain, todo, source_ids, normalized)
        self._write_pending(normalized)
        self._write_deletions()
        self._set_repeated_aside()
        self._batch.raw_rows += [row for row in self._raw_rows if row is not None]
        return self._batch

    def _pick_plain(self, todo: Sequence[int], source_ids: list[str], normalized: Normalized) -> list[int]:
        """Settle each record that needs a decision of its own; the others."""
        plain: list[int] = []
        for at, source_id in enumerate(source_ids):
            if at in normalized.rejections:
                self._reject(todo[at], normalized.rejections[at])
            elif at in normalized.filtered:
                self._filter(todo[at])
            elif at in normalized.deleted:
                self._delete(todo[at], source_id, normalized.updated_at[at])
            elif source_id in self._current or source_id in self._repeated:
                self._settle(todo[at], at, source_id, normalized)
            else:
                plain.append(at)
        return plain

    def _changed(self) -> Sequence[int]:
        """Indexes of the records that must be looked at: not rejected, and not plainly what is there already."""
        landed, current = self._landed, self._current
        if not current and not landed.rejections and not landed.filtered:
            return range(len(landed))
        todo: list[int] = []
        for index, (source_id, content_hash) in enumerate(zip(landed.source_ids, landed.hashes, strict=True)):
            if index in landed.rejections or index in landed.filtered or source_id is None:
                continue
            there = current.get(source_id)
            same = there is not None and (
                (there.content_hash == content_hash and not there.deleted) or self._rules.append
            )
            if same and not self._rules.remap and source_id not in self._repeated:
                self._counts.unchanged += 1
            else:
                todo.append(index)
        return todo

    def _write_plain(
        self, plain: Sequence[int], todo: Sequence[int], source_ids: list[str], normalized: Normalized
    ) -> None:
        """New records, each the only one of its key: the many, column by column."""
        landed = self._landed
        indexes = [todo[at] for at in plain]
        raw_ids = self._rules.take_raw_ids(len(plain))
        rows = self._batch.new_rows
        rows.id += self._rules.take_row_ids(len(plain))
        rows.raw_id += raw_ids
        rows.source_id += _pick(source_ids, plain)
        rows.content_hash += _pick(landed.hashes, indexes)
        for name in _NORMALIZED:
            getattr(rows, name).extend(_pick(getattr(normalized, name), plain))
        notes = [normalized.notes.get(at) for at in plain] if normalized.notes else []
        self._counts.coerced += len(notes) - notes.count(None)
        self._batch.plain_raw_rows = PlainRawRows(
            id=raw_ids,
            source_id=rows.source_id.copy(),
            payload=_pick(landed.payloads, indexes),
            content_hash=rows.content_hash.copy(),
            page=_pick(landed.pages, indexes),
            position=_pick(landed.positions, indexes),
            notes=notes,
            delivery_key=_pick(landed.delivery_keys, indexes) if landed.delivery_keys else [],
        )

    def _settle(self, index: int, at: int, source_id: str, normalized: Normalized) -> None:
        """One record whose key is there already, or comes more than once in the batch."""
        content_hash, updated_at = self._landed.hashes[index], normalized.updated_at[at]
        earlier, there = self._pending.get(source_id), self._current.get(source_id)
        # What returns is landed again: the raw row of a deleted row may speak of another key by now
        known = earlier or (there if there and (self._rules.append or not there.deleted) else None)
        known_hash = known.content_hash if known else None
        same = known_hash == content_hash or (self._rules.append and known_hash is not None)
        deletion = self._deletions.get(source_id)  # an earlier record of the batch said that it is gone
        is_dated = not self._rules.trusted and (deletion is not None or not same)
        outdated = is_dated and is_outdated(updated_at, earlier, there, deletion)
        if same and not outdated and (earlier or not self._rules.remap):
            self._undelete(source_id)
            self._counts.unchanged += 1
        elif outdated:
            self._counts.outdated += 1
            self._batch.set_aside.add(self._landed.positions[index])
            self._append(index, "overtaken")
        else:
            if earlier is not None:
                self._overtake(earlier)
            self._undelete(source_id)
            notes = normalized.notes.get(at, ())
            self._counts.coerced += bool(notes)
            raw_at = None if same else len(self._raw_rows)
            raw_id = there.raw_id if same and there else self._append(index, "loaded", notes=notes)
            row_id = earlier.row_id if earlier else self._rules.take_row_ids(1)[0]
            self._pending[source_id] = Version(at, row_id, raw_id, content_hash, updated_at, raw_at)

    def _set_repeated_aside(self) -> None:
        """Of records with the same key only one is in the table."""
        if self._repeated:
            repeated = (at for at, key in enumerate(self._landed.source_ids) if key in self._repeated)
            self._batch.set_aside.update(self._landed.positions[at] for at in repeated)

    def _write_pending(self, normalized: Normalized) -> None:
        for source_id, version in self._pending.items():
            there = self._current.get(source_id)
            back = there is not None and there.content_hash == version.content_hash and not there.deleted
            if back and version.raw_at is not None:
                # Overtaken within the batch, and back where it was: nothing to write
                self._counts.unchanged += 1
                self._forget(version.raw_at)
                continue
            rows = self._batch.new_rows if there is None else self._batch.changed_rows
            self._batch.resurrected += there is not None and there.deleted
            rows.id.append(version.row_id)
            rows.raw_id.append(version.raw_id)
            rows.source_id.append(source_id)
            rows.content_hash.append(version.content_hash)
            for name in _NORMALIZED:
                getattr(rows, name).append(getattr(normalized, name)[version.at])

    def _overtake(self, earlier: Version) -> None:
        self._counts.duplicate += 1
        row = None if earlier.raw_at is None else self._raw_rows[earlier.raw_at]
        if row is not None and earlier.raw_at is not None:
            self._counts.coerced -= bool(row.notes)
            self._raw_rows[earlier.raw_at] = row._replace(disposition="overtaken")

    def _forget(self, raw_at: int) -> None:
        row = self._raw_rows[raw_at]
        self._counts.coerced -= bool(row and row.notes)
        self._raw_rows[raw_at] = None

    def _delete(self, index: int, source_id: str, updated_at: datetime | None) -> None:
        """The record says itself that it was deleted."""
        self._batch.set_aside.add(self._landed.positions[index])
        earlier, there = self._pending.get(source_id), self._current.get(source_id)
        if source_id in self._deletions or (earlier is None and there is not None and there.deleted):
            self._counts.unchanged += 1
            return
        if not self._rules.trusted and is_outdated(updated_at, earlier, there):
            self._counts.outdated += 1
            self._append(index, "overtaken")
            return
        if earlier is not None:
            self._overtake(earlier)
            del self._pending[source_id]
        self._counts.deleted += 1
        raw_id = self._append(index, "deleted")
        self._deletions[source_id] = Deletion(raw_id, self._landed.hashes[index], updated_at, len(self._raw_rows) - 1)

    def _undelete(self, source_id: str) -> None:
        """A later record of the batch brings back what an earlier one deleted."""
        deletion = self._deletions.pop(source_id, None)
        row = None if deletion is None else self._raw_rows[deletion.raw_at]
        if deletion is not None and row is not None:
            self._counts.deleted -= 1
            self._counts.duplicate += 1
            self._raw_rows[deletion.raw_at] = row._replace(disposition="overtaken")

    def _write_deletions(self) -> None:
        rows = self._batch.deleted_rows
        for source_id, deletion in self._deletions.items():
            there = self._current.get(source_id)
            if there is not None and not there.deleted:
                rows.source_id.append(source_id)
                rows.raw_id.append(deletion.raw_id)
                rows.content_hash.append(deletion.content_hash)
                rows.updated_at.append(deletion.updated_at)

    def _filter(self, index: int) -> None:
        self._counts.filtered += 1
        self._append_once(index, "filtered")

    def _reject(self, index: int, rejection: Rejection) -> None:
        self._counts.rejected += 1
        self._append_once(index, "rejected", rejection=rejection)

    def _append_once(self, index: int, disposition: Disposition, *, rejection: Rejection | None = None) -> None:
        self._batch.set_aside.add(self._landed.positions[index])
        if (version := (self._landed.source_ids[index], self._landed.hashes[index])) not in self._set_aside:
            self._set_aside.add(version)
            self._append(index, disposition, rejection=rejection)

    def _append(
        self,
        index: int,
        disposition: Disposition,
        *,
        rejection: Rejection | None = None,
        notes: tuple[Note, ...] = (),
    ) -> int:
        landed = self._landed
        source_id = landed.source_ids[index]
        payload, encoding = landed.storable(index, kind=self._rules.kind)
        raw_id = self._rules.take_raw_ids(1)[0]
        self._raw_rows.append(
            RawRow(
                id=raw_id,
                source_id=source_id,
                payload=payload,
                content_hash=landed.hashes[index],
                page=landed.pages[index],
                position=landed.positions[index],
                disposition=disposition,
                payload_encoding=encoding,
                rejection=rejection,
                notes=notes,
                supersedes=self._superseded(source_id),
                delivery_key=landed.delivery_keys[index] if landed.delivery_keys else None,
            )
        )
        return raw_id

    def _superseded(self, source_id: str | None) -> int | None:
        key = source_id or ""  # which no record has
        earlier, there = self._pending.get(key), self._current.get(key)
        return earlier.raw_id if earlier else there.raw_id if there else None


def _pick(column: list[T], indexes: Sequence[int]) -> list[T]:
    """The values at these indexes."""
    if len(indexes) == len(column):
        return column  # all of them, since indexes ascend
    return [column[at] for at in indexes]


def _repeated(landed: Landed) -> set[str]:
    """Keys that come more than once."""
    if len(landed.keys) == len(landed):
        return set()
    return {key for key, count in Counter(landed.source_ids).items() if count > 1 and key is not None}
