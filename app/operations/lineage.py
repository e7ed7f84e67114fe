"""`lineage`: what a served row was made of."""

from dataclasses import dataclass
from typing import Any

from app.db import lineage as tables
from app.db.engine import ReadSession

_SERVED = ("id", "source", "source_id", "name", "value", "description", "created_at", "updated_at")
_INTERNAL = ("raw_id", "run_id", "loaded_at", "deleted_at")


@dataclass(frozen=True, slots=True)
class Lineage:
    row: dict[str, Any]
    """As it is served, with when it was loaded or deleted."""
    received: dict[str, Any] | None
    """The record as received, where it stood and what was coerced; None when it was pruned."""
    run: dict[str, Any] | None
    """The run that brought it, with the header, dialect and encoding of a file."""
    earlier: list[dict[str, Any]]
    """The versions before, newest first."""
    set_aside: list[dict[str, Any]]
    """Versions that were not loaded, with the reason."""


async def trace(
    session: ReadSession, *, row_id: int | None = None, source: str = "", source_id: str = ""
) -> Lineage | None:
    """Follow a row back, by its id, or by source and key; None when there is none."""
    row = await tables.find_row(session, row_id=row_id, source=source, source_id=source_id)
    if row is None:
        return None
    versions = await tables.read_versions(session, source=row["source"], raw_id=row["raw_id"])
    received = versions[0] if versions else None
    return Lineage(
        row={name: row[name] for name in (*_SERVED, *_INTERNAL)},
        received=received,
        run=await tables.read_landing_run(session, received["run_id"]) if received else None,
        earlier=versions[1:],
        set_aside=await tables.read_set_aside(session, source=row["source"], source_id=row["source_id"]),
    )
