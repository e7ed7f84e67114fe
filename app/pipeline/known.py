"""What was landed before without being loaded need not be landed again. Pure."""

from collections.abc import Mapping

from app.load import StagedBatch
from app.records import CurrentRow, RawRow, VersionKey


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
        if row.disposition in {"overtaken", "deleted"} or row.source_id is None:
            return True
        # A rejected version counts as known only while it is the newest one of its record
        there = current.get(row.source_id)
        return raw_id == newest[row.source_id] and (there is None or raw_id >= there.raw_id)

    known = [row for row in batch.raw_rows if is_known(row)]
    batch.raw_rows = [row for row in batch.raw_rows if not is_known(row)]
    # The deletion of a record that is not here is told once
    again = sum(row.disposition == "deleted" for row in known)
    batch.counts.deleted -= again
    batch.counts.unchanged += again
