"""
Rows that a pass did not meet.

The keys of a pass live in a temporary table on a connection of its own, not in
memory; what is absent is settled in the transaction of its last batch. What
was absent once, and waits for a second pass or for a decision, is kept in
`etl_checkpoint`, kind `absent`.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Text, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert

from app.db.engine import ReadSession, WriteSession
from app.db.models import EtlCheckpoint
from app.db.raw_data import TABLES
from app.db.results import changed_rows
from app.records import RawKind

KIND: Final = "absent"
MAX_KEPT: Final = 100_000
"""Keys that wait at a time; further ones wait for the pass after."""

_ABSENT: Final = """
CREATE TEMPORARY TABLE absent_rows ON COMMIT DROP AS
SELECT source_id, raw_id FROM normalized_data AS held
WHERE source = :source AND deleted_at IS NULL
    AND NOT EXISTS (SELECT FROM met_keys WHERE met_keys.source_id = held.source_id)
"""

_THESE: Final = """
CREATE TEMPORARY TABLE absent_rows ON COMMIT DROP AS
SELECT source_id, raw_id FROM normalized_data
WHERE source = :source AND deleted_at IS NULL AND source_id = ANY(CAST(:source_ids AS text[]))
"""

_KEEP: Final = """
DELETE FROM absent_rows
WHERE source_id NOT IN (SELECT unnest(CAST(:source_ids AS text[])))
"""

_MARK_REMOVED: Final = """
UPDATE {table} AS raw SET disposition = 'deleted' FROM absent_rows AS gone
WHERE raw.source = :source AND raw.id = gone.raw_id
"""

_REMOVE: Final = """
DELETE FROM normalized_data AS old USING absent_rows AS gone
WHERE old.source = :source AND old.source_id = gone.source_id
"""

# What the source dates keeps its date: the record may come back as it was
_HIDE: Final = """
UPDATE normalized_data AS old
SET deleted_at = now(), loaded_at = now(), run_id = :run_id,
    updated_at = CASE WHEN old.updated_at = old.loaded_at THEN now() ELSE old.updated_at END
FROM absent_rows AS gone
WHERE old.source = :source AND old.source_id = gone.source_id
"""


async def open_met_keys(session: WriteSession) -> None:
    await session.execute(text("CREATE TEMPORARY TABLE met_keys (source_id text) ON COMMIT PRESERVE ROWS"))


async def add_met_keys(session: WriteSession, source_ids: Sequence[str]) -> None:
    """Keys may repeat."""
    statement = text("INSERT INTO met_keys SELECT unnest(CAST(:source_ids AS text[]))")
    await session.execute(statement.bindparams(bindparam("source_ids", list(source_ids), type_=ARRAY(Text))))


async def forget_met_keys(session: WriteSession) -> None:
    await session.execute(text("TRUNCATE met_keys"))


async def count_repeated_keys(session: WriteSession) -> tuple[int, str | None]:
    """How many keys were met more than once, and one of them."""
    statement = (
        "SELECT count(*), min(source_id) FROM (SELECT source_id FROM met_keys GROUP BY 1 HAVING count(*) > 1) AS twice"
    )
    repeated, example = (await session.execute(text(statement))).one()
    return repeated, example


async def find_absent(session: WriteSession, *, source: str) -> int:
    """Set aside the rows whose keys were not met, for the rest of the transaction; how many they are."""
    await session.execute(text("ANALYZE met_keys"))
    await session.execute(text(_ABSENT), {"source": source})
    found: int = (await session.execute(text("SELECT count(*) FROM absent_rows"))).scalar_one()
    return found


async def set_aside(session: WriteSession, *, source: str, source_ids: Sequence[str]) -> None:
    """Set aside these rows, as far as they are there."""
    statement = text(_THESE).bindparams(bindparam("source_ids", list(source_ids), type_=ARRAY(Text)), source=source)
    await session.execute(statement)


async def absent_keys(session: WriteSession) -> list[str]:
    """Of the rows set aside, in order; at most MAX_KEPT."""
    statement = text("SELECT source_id FROM absent_rows ORDER BY source_id LIMIT :at_most")
    found = await session.execute(statement, {"at_most": MAX_KEPT})
    return list(found.scalars())


async def keep_absent_only(session: WriteSession, source_ids: Sequence[str]) -> None:
    """Of the rows set aside, only these stay so."""
    statement = text(_KEEP)
    await session.execute(statement.bindparams(bindparam("source_ids", list(source_ids), type_=ARRAY(Text))))


async def delete_absent(session: WriteSession, *, source: str, run_id: int, kind: RawKind, hard: bool) -> int:
    """Delete the rows set aside; how many they were. A removed row's raw row says what became of it."""
    if not hard:
        return await changed_rows(session, text(_HIDE).bindparams(source=source, run_id=run_id))
    table = TABLES[kind].__tablename__
    await session.execute(text(_MARK_REMOVED.format(table=table)).bindparams(source=source))
    return await changed_rows(session, text(_REMOVE).bindparams(source=source))


async def read_waiting(session: ReadSession | WriteSession, *, source: str, resource: str) -> dict[str, Any]:
    """What waits: `keys`, and `refused`, why they were not deleted (None: they wait for a second pass)."""
    table = EtlCheckpoint
    statement = select(table.state).where(
        table.source == source, table.resource == resource, table.partition == "", table.kind == KIND
    )
    return (await session.execute(statement)).scalar_one_or_none() or {"keys": [], "refused": None}


async def write_waiting(
    session: WriteSession, *, source: str, resource: str, keys: Sequence[str], refused: str | None
) -> None:
    """Replace what waits; nothing waits when there are no keys."""
    table = EtlCheckpoint
    if not keys:
        await session.execute(
            delete(table).where(
                table.source == source, table.resource == resource, table.partition == "", table.kind == KIND
            )
        )
        return
    values = {"state": {"keys": list(keys), "refused": refused}, "updated_at": func.now()}
    await session.execute(
        insert(table)
        .values(source=source, resource=resource, kind=KIND, **values)
        .on_conflict_do_update(index_elements=[table.source, table.resource, table.partition, table.kind], set_=values)
    )
