"""`normalized_data`: insert what is new by COPY, bring the rest up to date through a staging table."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, cast

from sqlalchemy import BigInteger, DateTime, LargeBinary, Table, Text, any_, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.bulk import copy_rows
from app.db.engine import ReadSession, WriteSession
from app.db.models import NormalizedData
from app.records import CurrentRow, DeletedRows, NormalizedRows

_TABLE: Final = cast("Table", NormalizedData.__table__)

_STAGING: Final = """
CREATE TEMPORARY TABLE normalized_staging (
    id bigint, raw_id bigint, run_id bigint, value double precision,
    created_at timestamptz, updated_at timestamptz,
    source text, source_id text, name text, description text, content_hash bytea
) ON COMMIT DROP
"""

# A time that equals loaded_at is ours, not the source's: created_at then stays what it was.
# Equal bytes come here only after a change of mapping, and are rewritten only if that changed the row.
_UPSERT: Final = """
WITH written AS (
    INSERT INTO normalized_data AS old
        (id, raw_id, run_id, value, created_at, updated_at, loaded_at,
         source, source_id, name, description, content_hash)
    SELECT id, raw_id, run_id, value, coalesce(created_at, now()), coalesce(updated_at, now()), now(),
           source, source_id, name, description, content_hash
    FROM normalized_staging
    ORDER BY source_id
    ON CONFLICT (source, source_id) DO UPDATE SET
        raw_id = excluded.raw_id, run_id = excluded.run_id, value = excluded.value, name = excluded.name,
        description = excluded.description, content_hash = excluded.content_hash, loaded_at = excluded.loaded_at,
        updated_at = excluded.updated_at, deleted_at = NULL,
        created_at = CASE WHEN excluded.created_at = excluded.loaded_at THEN old.created_at ELSE excluded.created_at END
    WHERE (old.content_hash, old.name, old.value, old.description, old.deleted_at)
        IS DISTINCT FROM (excluded.content_hash, excluded.name, excluded.value, excluded.description, NULL::timestamptz)
        OR excluded.updated_at NOT IN (excluded.loaded_at, old.updated_at)
        OR excluded.created_at NOT IN (excluded.loaded_at, old.created_at)
    RETURNING id
)
SELECT count(staged.id) AS inserted, count(*) - count(staged.id) AS updated
FROM written LEFT JOIN normalized_staging AS staged USING (id)
"""


_DELETE: Final = """
UPDATE normalized_data AS old
SET deleted_at = now(), loaded_at = now(), run_id = :run_id, raw_id = gone.raw_id, content_hash = gone.content_hash,
    updated_at = coalesce(gone.updated_at, now())
FROM unnest(CAST(:source_ids AS text[]), CAST(:raw_ids AS bigint[]), CAST(:hashes AS bytea[]),
            CAST(:moments AS timestamptz[])) AS gone (source_id, raw_id, content_hash, updated_at)
WHERE old.source = :source AND old.source_id = gone.source_id
"""


async def read_current(session: ReadSession, *, source: str, source_ids: Sequence[str]) -> dict[str, CurrentRow]:
    """What the table holds for these keys, deleted rows too."""
    table = NormalizedData
    statement = select(
        table.source_id,
        table.raw_id,
        table.content_hash,
        table.updated_at,
        table.updated_at != table.loaded_at,
        table.deleted_at.is_not(None),
    ).where(
        table.source == source,
        table.source_id == any_(bindparam("source_ids", type_=ARRAY(Text))),
    )
    rows = await session.execute(statement, {"source_ids": list(source_ids)})
    return {
        key: CurrentRow(raw_id, content_hash, updated_at, dated, deleted)
        for key, raw_id, content_hash, updated_at, dated, deleted in rows
    }


async def insert_new(session: WriteSession, rows: NormalizedRows, *, source: str, run_id: int) -> int:
    """
    COPY rows straight into the table.

    Raises:
        KeyTakenError: one of the keys is already there; the transaction is lost.
    """
    if not rows:
        return 0
    columns = _columns(rows)
    for name in ("created_at", "updated_at"):
        moments = columns[name]
        if not any(moments):
            del columns[name]  # the column's default: the time of this transaction, as for loaded_at
        elif not all(moments):
            now = (await session.execute(select(func.now()))).scalar_one()
            columns[name] = [moment or now for moment in moments]
    await copy_rows(session, _TABLE, columns, source=source, run_id=run_id)
    return len(rows)


async def upsert_changed(session: WriteSession, rows: NormalizedRows, *, source: str, run_id: int) -> tuple[int, int]:
    """
    Write rows whose key may be there already.

    Args:
        rows: no two may share a key: PostgreSQL cannot update a row twice in one command (SQLSTATE 21000).

    Returns:
        Rows inserted and rows updated; the others had nothing new and were not rewritten.
    """
    if not rows:
        return 0, 0
    await session.execute(text(_STAGING))
    await copy_rows(session, _TABLE, _columns(rows), into="normalized_staging", source=source, run_id=run_id)
    inserted, updated = (await session.execute(text(_UPSERT))).one()
    await session.execute(text("DROP TABLE normalized_staging"))  # a transaction may hold several batches
    return inserted, updated


async def delete_rows(session: WriteSession, rows: DeletedRows, *, source: str, run_id: int, hard: bool) -> None:
    """Hide (or remove, when `hard`) rows that the source deleted; each names the raw row that says so."""
    if not rows:
        return
    if hard:
        table = NormalizedData
        keys = bindparam(None, rows.source_id, type_=ARRAY(Text))
        await session.execute(delete(table).where(table.source == source, table.source_id == any_(keys)))
        return
    given: dict[str, tuple[list[Any], Any]] = {
        "source_ids": (rows.source_id, ARRAY(Text)),
        "raw_ids": (rows.raw_id, ARRAY(BigInteger)),
        "hashes": (rows.content_hash, ARRAY(LargeBinary)),
        "moments": (rows.updated_at, ARRAY(DateTime(timezone=True))),
    }
    statement = text(_DELETE).bindparams(
        *(bindparam(name, value, type_=kind) for name, (value, kind) in given.items()), source=source, run_id=run_id
    )
    await session.execute(statement)


def _columns(rows: NormalizedRows) -> dict[str, list[Any]]:
    return {item.name: getattr(rows, item.name) for item in fields(NormalizedRows)}
