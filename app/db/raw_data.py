"""`raw_api_data` and `raw_csv_data`: append-only."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import repeat
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import LargeBinary, Text, and_, any_, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.bulk import copy_rows
from app.db.engine import ReadSession, WriteSession
from app.db.models import RawApiData, RawCsvData
from app.records import PlainRawRows, RawKind, RawRow, VersionKey

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
    "notes": lambda row: json.dumps([note._asdict() for note in row.notes]) if row.notes else None,
}


async def append_plain_rows(
    session: WriteSession, rows: PlainRawRows, *, kind: RawKind, source: str, run_id: int
) -> None:
    """Append loaded records as they are: the caller has decided that each is a change."""
    if not rows:
        return
    columns = [item.name for item in fields(PlainRawRows)]
    await copy_rows(
        session,
        TABLES[kind].__tablename__,
        (*columns, "source", "run_id", "kind"),
        zip(
            *(getattr(rows, name) for name in columns),
            repeat(source),
            repeat(run_id),
            repeat(kind),
            strict=False,
        ),
    )


async def append_raw_rows(
    session: WriteSession, rows: Sequence[RawRow], *, kind: RawKind, source: str, run_id: int
) -> None:
    """The same, for records about which there is more to say."""
    if not rows:
        return
    rare = {name: column for name, read in _RARE.items() if any(column := [read(row) for row in rows])}
    await copy_rows(
        session,
        TABLES[kind].__tablename__,
        (*_COMMON, "source", "run_id", "kind", *rare),
        (
            (*usual, source, run_id, kind, *extra)
            for usual, *extra in zip(map(attrgetter(*_COMMON), rows), *rare.values(), strict=True)
        ),
    )


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
