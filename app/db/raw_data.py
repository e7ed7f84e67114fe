"""`raw_api_data` and `raw_csv_data`: append-only."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, cast

from sqlalchemy import BigInteger, LargeBinary, Table, Text, and_, any_, bindparam, func, or_, select
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
    columns = {item.name: getattr(rows, item.name) for item in fields(PlainRawRows) if item.name != "notes"}
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


async def read_payloads(session: ReadSession, *, kind: RawKind, source: str, raw_ids: Sequence[int]) -> dict[int, str]:
    """The payloads of raw rows, as they are stored, by their ids; those that are gone are missing."""
    table = TABLES[kind]
    wanted = table.id == any_(bindparam(None, raw_ids, type_=ARRAY(BigInteger)))
    rows = await session.execute(select(table.id, table.payload).where(table.source == source, wanted))
    return {row.id: row.payload for row in rows}


def _table(kind: RawKind) -> Table:
    return cast("Table", TABLES[kind].__table__)


def _notes_json(notes: Sequence[Note]) -> str:
    return json.dumps([note._asdict() for note in notes])
