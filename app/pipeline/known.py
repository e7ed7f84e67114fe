"""What was landed before without being loaded need not be landed again. Pure."""

from collections.abc import Callable, Mapping, Set
from typing import Final

from app.land import Landed
from app.load import StagedBatch
from app.records import CurrentRow, RawRow, VersionKey

_OTHER: Final = b""
"""The hash of no record."""


def unchanged_rows(landed: Landed, current: Mapping[str, CurrentRow]) -> dict[str, int]:
    """By key, the raw rows of the records that came as they are in the table."""
    given = zip(landed.source_ids, landed.hashes, strict=True)
    return {
        key: there.raw_id
        for key, content_hash in given
        if key is not None and (there := current.get(key)) is not None and there.content_hash == content_hash
    }


def reopen(current: dict[str, CurrentRow], keys: Set[str]) -> None:
    """
    Take what comes now for a change, though its bytes are those in the table.

    Args:
        keys: of records of which another version was rejected or filtered meanwhile: else that one would be the
            last that raw has of them, and a replay that heals it would load it.
    """
    for key in keys:
        current[key] = current[key]._replace(content_hash=_OTHER)


def keep_delivery_keys(batch: StagedBatch, landed: Landed, *, take_raw_ids: Callable[[int], list[int]]) -> None:
    """
    Land once more what was delivered and left no raw row: its retry may come after a newer version, and is known
    by the key that such a row has.
    """
    kept = {None, *batch.plain_raw_rows.delivery_key, *(row.delivery_key for row in batch.raw_rows)}
    lost = [at for at, key in enumerate(landed.delivery_keys) if key not in kept]
    for at, raw_id in zip(lost, take_raw_ids(len(lost)), strict=True):
        payload, encoding = landed.storable(at, kind="hook")
        batch.raw_rows.append(
            RawRow(
                id=raw_id,
                source_id=landed.source_ids[at],
                payload=payload,
                content_hash=landed.hashes[at],
                page=landed.pages[at],
                position=landed.positions[at],
                disposition="repeated",
                payload_encoding=encoding,
                delivery_key=landed.delivery_keys[at],
            )
        )


def drop_known_versions(
    batch: StagedBatch, unloaded: Mapping[VersionKey, int], current: Mapping[str, CurrentRow]
) -> None:
    """
    Forget raw rows that were rejected, filtered, overtaken or deleted before, with the same bytes: they are landed.

    Args:
        unloaded: raw ids of those versions of the batch's keys.
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
        there = current.get(row.source_id)
        if row.disposition == "deleted":
            return there is None or there.deleted
        # A rejected version counts as known only while it is the newest one of its record
        return raw_id == newest[row.source_id] and (there is None or raw_id >= there.raw_id)

    known = [row for row in batch.raw_rows if is_known(row)]
    batch.raw_rows = [row for row in batch.raw_rows if not is_known(row)]
    # The deletion of a record that is not here is told once
    again = sum(row.disposition == "deleted" for row in known)
    batch.counts.deleted -= again
    batch.counts.unchanged += again
