"""`normalized_data`: insert what is new by COPY, bring the rest up to date by one statement."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any, Final, cast

import asyncpg
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Double,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.bulk import copy_rows
from app.db.engine import ReadSession, WriteSession, driver_connection
from app.db.errors import store_errors
from app.db.models import NormalizedData
from app.db.quick_reads import Compiled, compile_once
from app.records import CurrentRow, DeletedRows, NormalizedRows

_TABLE: Final = cast("Table", NormalizedData.__table__)

# A time that equals loaded_at is ours, not the source's: created_at then stays what it was.
# Equal bytes come here after a change of mapping, and are rewritten only if that changed the row; or as a raw row of
# their own, after another version that was set aside: then the row names that one.
# Arrays, not a temporary table: one statement, and no rows of PostgreSQL's own catalog written for each batch.
_UPSERT: Final = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:id AS bigint[]), CAST(:raw_id AS bigint[]), CAST(:source_id AS text[]), CAST(:name AS text[]),
        CAST(:value AS float8[]), CAST(:description AS text[]), CAST(CAST(:created_at AS text[]) AS timestamptz[]),
        CAST(CAST(:updated_at AS text[]) AS timestamptz[]), CAST(:content_hash AS bytea[])
    ) AS given (id, raw_id, source_id, name, value, description, created_at, updated_at, content_hash)
), written AS (
    INSERT INTO normalized_data AS old
        (id, raw_id, run_id, value, created_at, updated_at, loaded_at,
         source, source_id, name, description, content_hash)
    SELECT id, raw_id, :run_id, value, coalesce(created_at, now()), coalesce(updated_at, now()), now(),
           :source, source_id, name, description, content_hash
    FROM given
    ORDER BY source_id
    ON CONFLICT (source, source_id) DO UPDATE SET
        raw_id = excluded.raw_id, run_id = excluded.run_id, value = excluded.value, name = excluded.name,
        description = excluded.description, content_hash = excluded.content_hash, loaded_at = excluded.loaded_at,
        updated_at = excluded.updated_at, deleted_at = NULL,
        created_at = CASE WHEN excluded.created_at = excluded.loaded_at THEN old.created_at ELSE excluded.created_at END
    WHERE (old.content_hash, old.name, old.value, old.description, old.deleted_at)
        IS DISTINCT FROM (excluded.content_hash, excluded.name, excluded.value, excluded.description, NULL::timestamptz)
        OR old.raw_id <> excluded.raw_id
        OR excluded.updated_at NOT IN (excluded.loaded_at, old.updated_at)
        OR excluded.created_at NOT IN (excluded.loaded_at, old.created_at)
    RETURNING id
)
SELECT count(given.id) AS inserted, count(*) - count(given.id) AS updated
FROM written LEFT JOIN given USING (id)
"""
_TYPES: Final = {
    "id": BigInteger,
    "raw_id": BigInteger,
    "source_id": Text,
    "name": Text,
    "value": Double,
    "description": Text,
    "created_at": Text,
    "updated_at": Text,
    "content_hash": LargeBinary,
}


_DELETE: Final = """
UPDATE normalized_data AS old
SET deleted_at = now(), loaded_at = now(), run_id = :run_id, raw_id = gone.raw_id, content_hash = gone.content_hash,
    updated_at = coalesce(gone.updated_at, now())
FROM unnest(CAST(:source_ids AS text[]), CAST(:raw_ids AS bigint[]), CAST(:hashes AS bytea[]),
            CAST(CAST(:moments AS text[]) AS timestamptz[])) AS gone (source_id, raw_id, content_hash, updated_at)
WHERE old.source = :source AND old.source_id = gone.source_id
"""


# One look at the index for each key (LIMIT): as a plain join it may become a scan of the whole table
_DIFFERING: Final = """
SELECT given.at - 1, there.*
FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS given (source_id, content_hash, at)
LEFT JOIN LATERAL (
    SELECT raw_id, content_hash, updated_at, updated_at <> loaded_at, deleted_at IS NOT NULL AS deleted
    FROM normalized_data
    WHERE source = $1 AND source_id = given.source_id
    LIMIT 1
) AS there ON true
WHERE (there.content_hash = given.content_hash AND NOT there.deleted) IS NOT TRUE
ORDER BY given.at
"""


@cache
def _current() -> Compiled:
    held = _TABLE.c
    wanted = held.source_id == any_(bindparam("source_ids", type_=ARRAY(Text)))
    return compile_once(
        select(
            held.source_id,
            held.raw_id,
            held.content_hash,
            held.updated_at,
            held.updated_at != held.loaded_at,
            held.deleted_at.is_not(None),
        ).where(held.source == bindparam("source", type_=Text), wanted)
    )


async def read_current(session: ReadSession, *, source: str, source_ids: Sequence[str]) -> dict[str, CurrentRow]:
    """What the table holds for these keys, deleted rows too."""
    statement, values = _current(), {"source": source, "source_ids": source_ids}
    rows = await _fetch(session, statement.sql, *(values[name] for name in statement.names))
    return {key: CurrentRow(*held) for key, *held in rows}


async def read_differing(
    session: ReadSession, *, source: str, source_ids: Sequence[str], hashes: Sequence[bytes]
) -> dict[int, CurrentRow | None]:
    """
    What the table holds for those keys that it does not hold with just these bytes.

    Args:
        source_ids: no two are the same.
        hashes: of the bytes that came, one for each key.

    Returns:
        By index, ascending; None where the key is new.
    """
    rows = await _fetch(session, _DIFFERING, source, source_ids, hashes)
    return {at: None if raw_id is None else CurrentRow(raw_id, *held) for at, raw_id, *held in rows}


async def _fetch(session: ReadSession, statement: str, *values: Any) -> list[asyncpg.Record]:
    """Asked of the driver itself: many rows, and SQLAlchemy takes longer over each than PostgreSQL."""
    connection = await driver_connection(session)
    with store_errors():
        return await connection.fetch(statement, *values)


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
    columns = _columns(rows)
    columns |= {name: _texts(columns[name]) for name in ("created_at", "updated_at")}
    given: list[BindParameter[Any]] = [
        bindparam(name, column, type_=ARRAY(_TYPES[name])) for name, column in columns.items()
    ]
    statement = text(_UPSERT).bindparams(*given, source=source, run_id=run_id)
    inserted, updated = (await session.execute(statement)).one()
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
        "moments": (_texts(rows.updated_at), ARRAY(Text)),
    }
    statement = text(_DELETE).bindparams(
        *(bindparam(name, value, type_=kind) for name, (value, kind) in given.items()), source=source, run_id=run_id
    )
    await session.execute(statement)


def _texts(moments: Sequence[datetime | None]) -> list[str | None]:
    """As text, for asyncpg takes the last microsecond of the year 9999 for PostgreSQL's infinity."""
    return [None if moment is None else moment.isoformat() for moment in moments]


def _columns(rows: NormalizedRows) -> dict[str, list[Any]]:
    return {item.name: getattr(rows, item.name) for item in fields(NormalizedRows)}
