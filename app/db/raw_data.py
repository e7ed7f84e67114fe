"""`raw_api_data` and `raw_csv_data`: append-only."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from operator import attrgetter
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    LargeBinary,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    column,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.bulk import copy_rows
from app.db.engine import ReadSession, WriteSession
from app.db.models import RawApiData, RawCsvData
from app.records import Note, PlainRawRows, RawKind, RawRow, VersionKey

TABLES: Final[dict[RawKind, type[RawApiData] | type[RawCsvData]]] = {
    "rest": RawApiData,
    "feed": RawApiData,
    "hook": RawApiData,
    "csv": RawCsvData,
}

_COMMON: Final = ("id", "source_id", "payload", "content_hash", "page", "position", "disposition")
# A column that no row of a batch uses is left to its default: not sent, not encoded.
_RARE: Final[dict[str, Callable[[RawRow], Any]]] = {
    "payload_encoding": lambda row: row.payload_encoding,
    "supersedes": lambda row: row.supersedes,
    "delivery_key": lambda row: row.delivery_key,
    "reject_code": lambda row: row.rejection.code if row.rejection else None,
    "reject_field": lambda row: row.rejection.field if row.rejection else None,
    "reject_detail": lambda row: row.rejection.detail if row.rejection else None,
    "notes": lambda row: _notes_json(row.notes) if row.notes else None,
}


async def append_plain_rows(
    session: WriteSession, rows: PlainRawRows, *, kind: RawKind, source: str, run_id: int
) -> None:
    """Append loaded records as they are: the caller has decided that each is a change."""
    if not rows:
        return
    names = [item.name for item in fields(PlainRawRows)]
    columns = {name: column for name in names if (column := getattr(rows, name))}
    if rows.notes:
        columns["notes"] = [notes and _notes_json(notes) for notes in rows.notes]
    await copy_rows(session, _table(kind), columns, source=source, run_id=run_id, kind=kind)


async def append_raw_rows(
    session: WriteSession, rows: Sequence[RawRow], *, kind: RawKind, source: str, run_id: int
) -> None:
    """The same, for records about which there is more to say."""
    if not rows:
        return
    columns = {name: list(map(attrgetter(name), rows)) for name in _COMMON}
    rare = {name: column for name, read in _RARE.items() if any(column := [read(row) for row in rows])}
    await copy_rows(session, _table(kind), columns | rare, source=source, run_id=run_id, kind=kind)


async def read_unloaded(
    session: ReadSession, *, kind: RawKind, source: str, versions: Sequence[VersionKey]
) -> dict[VersionKey, int]:
    """
    The rejected, filtered and overtaken versions of these records; for records without a key, only these versions.

    Returns:
        Raw id of the newest row of each version.
    """
    table = TABLES[kind]
    keys = [source_id for source_id, _ in versions if source_id is not None]
    hashes = [content_hash for source_id, content_hash in versions if source_id is None]
    statement = (
        select(table.source_id, table.content_hash, func.max(table.id))
        .where(
            table.source == source,
            table.disposition != "loaded",
            table.disposition != "repeated",
            or_(
                table.source_id == any_(bindparam(None, keys, type_=ARRAY(Text))),
                and_(
                    table.source_id.is_(None),
                    table.content_hash == any_(bindparam(None, hashes, type_=ARRAY(LargeBinary))),
                ),
            ),
        )
        .group_by(table.source_id, table.content_hash)
    )
    rows = await session.execute(statement)
    return {(source_id, content_hash): raw_id for source_id, content_hash, raw_id in rows}


async def known_deliveries(
    session: WriteSession, *, source: str, keys: Sequence[str], retention_seconds: float
) -> set[str]:
    """Which of these deliveries were landed not longer ago than that; older ones lose their key, and are new again."""
    table = RawApiData
    is_old = table.extracted_at < func.now() - timedelta(seconds=retention_seconds)
    there = (table.source == source, table.delivery_key == any_(bindparam(None, keys, type_=ARRAY(Text))))
    found = (await session.execute(select(table.delivery_key, is_old).where(*there))).all()
    if any(old for _, old in found):
        await session.execute(update(table).where(*there, is_old).values(delivery_key=None))
    return {key for key, old in found if key is not None and not old}


async def has_set_aside(session: ReadSession, *, kind: RawKind, source: str) -> bool:
    """Whether any record of the source was ever rejected or filtered."""
    table = TABLES[kind]
    found = select(table.id).where(table.source == source, table.disposition != "loaded", _set_aside(table)).limit(1)
    return (await session.execute(found)).scalar_one_or_none() is not None


async def read_set_aside_since(
    session: ReadSession, *, kind: RawKind, source: str, raw_ids: Mapping[str, int]
) -> set[str]:
    """
    The keys of which a version was rejected or filtered after a raw row.

    Args:
        raw_ids: by key, that raw row.
    """
    table = TABLES[kind]
    keys = bindparam(None, list(raw_ids), type_=ARRAY(Text))
    ids = bindparam(None, list(raw_ids.values()), type_=ARRAY(BigInteger))
    columns = (column("source_id", Text), column("raw_id", BigInteger))
    given = func.unnest(keys, ids).table_valued(*columns, name="given").render_derived()
    later = select(table.id).where(
        table.source == source,
        table.source_id == given.c.source_id,
        table.disposition != "loaded",  # as the index has it
        _set_aside(table),
        table.id > given.c.raw_id,
    )
    return set((await session.execute(select(given.c.source_id).where(later.exists()))).scalars())


async def read_payloads(session: ReadSession, *, kind: RawKind, source: str, raw_ids: Sequence[int]) -> dict[int, str]:
    """The payloads of raw rows, as they are stored, by their ids; those that are gone are missing."""
    table = TABLES[kind]
    wanted = table.id == any_(bindparam(None, raw_ids, type_=ARRAY(BigInteger)))
    rows = await session.execute(select(table.id, table.payload).where(table.source == source, wanted))
    return {row.id: row.payload for row in rows}


def _set_aside(table: type[RawApiData] | type[RawCsvData]) -> ColumnElement[bool]:
    return table.disposition.in_(("rejected", "filtered"))


def _table(kind: RawKind) -> Table:
    return cast("Table", TABLES[kind].__table__)


def _notes_json(notes: Sequence[Note]) -> str:
    return json.dumps([note._asdict() for note in notes])
