"""The values that the rooms exchange. No behaviour that touches the world."""

from app.records.extracted import (
    Cursor,
    Note,
    Page,
    Records,
    Rejection,
    Validators,
    is_storable,
)
from app.records.rows import (
    CurrentRow,
    DataRecord,
    DeletedRows,
    Disposition,
    NormalizedRows,
    PlainRawRows,
    RawKind,
    RawRow,
    VersionKey,
)
from app.records.runs import (
    Checkpoint,
    Counts,
    Outcome,
    RunReport,
    RunStatus,
    TickStatus,
    Traffic,
    Trigger,
)

__all__ = [
    "Checkpoint",
    "Counts",
    "CurrentRow",
    "Cursor",
    "DataRecord",
    "DeletedRows",
    "Disposition",
    "NormalizedRows",
    "Note",
    "Outcome",
    "Page",
    "PlainRawRows",
    "RawKind",
    "RawRow",
    "Records",
    "Rejection",
    "RunReport",
    "RunStatus",
    "TickStatus",
    "Traffic",
    "Trigger",
    "Validators",
    "VersionKey",
    "is_storable",
]
