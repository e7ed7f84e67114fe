"""Raw rows and normalized rows → their tables, in the batch's transaction."""

from dataclasses import dataclass, field

from app.db.engine import WriteSession
from app.db.normalized_data import delete_rows, insert_new, upsert_changed
from app.db.raw_data import append_plain_rows, append_raw_rows
from app.records import Counts, DeletedRows, NormalizedRows, PlainRawRows, RawKind, RawRow


@dataclass(slots=True)
class StagedBatch:
    """A batch ready to be written: everything has been decided."""

    counts: Counts
    plain_raw_rows: PlainRawRows = field(default_factory=PlainRawRows)
    raw_rows: list[RawRow] = field(default_factory=list)
    new_rows: NormalizedRows = field(default_factory=NormalizedRows)
    """Their keys are not in the table, as far as we know: straight COPY."""
    changed_rows: NormalizedRows = field(default_factory=NormalizedRows)
    """Their keys are there."""
    deleted_rows: DeletedRows = field(default_factory=DeletedRows)
    resurrected: int = 0
    """Of the changed rows: those that were deleted."""
    set_aside: set[int] = field(default_factory=set)
    """Positions of records that may not be what `normalized_data` holds for their keys now."""

    @property
    def net_rows(self) -> int:
        """Rows that are served, more than before; once the batch is loaded."""
        return self.counts.inserted + self.resurrected - len(self.deleted_rows)

    @property
    def wrote(self) -> bool:
        """Whether rows of `normalized_data` changed; once the batch is loaded."""
        return bool(self.counts.inserted or self.counts.updated or self.deleted_rows)


async def load_batch(
    session: WriteSession, batch: StagedBatch, *, kind: RawKind, source: str, run_id: int, hard_deletes: bool
) -> Counts:
    """
    Write the batch's rows; the caller adds counters and checkpoint, and commits.

    Args:
        hard_deletes: a row that the source deleted is removed, not hidden.

    Returns:
        The batch's counts, completed with what was inserted and updated.

    Raises:
        KeyTakenError: a key thought new is there; the transaction is lost, stage again.
    """
    await append_plain_rows(session, batch.plain_raw_rows, kind=kind, source=source, run_id=run_id)
    await append_raw_rows(session, batch.raw_rows, kind=kind, source=source, run_id=run_id)
    copied = await insert_new(session, batch.new_rows, source=source, run_id=run_id)
    inserted, updated = await upsert_changed(session, batch.changed_rows, source=source, run_id=run_id)
    await delete_rows(session, batch.deleted_rows, source=source, run_id=run_id, hard=hard_deletes)
    counts = batch.counts
    counts.inserted = copied + inserted
    counts.updated = updated
    # Normalized again after a change of mapping, and found to be as it was
    counts.unchanged += len(batch.changed_rows) - inserted - updated
    counts.raw_rows = len(batch.plain_raw_rows) + len(batch.raw_rows)
    return counts
