"""
What a replay reads of the raw tables, what it changes there, and where it stands.

It walks a raw table along (source, id), some thousand rows at a time. Where it
stands is kept in `etl_checkpoint`, kind `replay`, until it is complete.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Text, any_, bindparam, delete, func, literal, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from app.db.engine import ReadSession, WriteSession
from app.db.models import EtlCheckpoint, EtlRun, NormalizedData
from app.db.raw_data import TABLES
from app.db.rejects import FINGERPRINT
from app.records import HeldRow, LandedRow, RawKind, RawVerdict, Rejection, ReplayRange

KIND: Final = "replay"

_COLUMNS: Final = """
r.id, r.run_id, r.source_id, CAST(r.payload AS text), r.payload_encoding, r.content_hash, r.disposition,
r.reject_code, r.reject_field, r.reject_detail, r.notes
"""

# Of a stretch of the raw table, the rows that say what is there now: the version that the normalized row names (unless
# a pass found that record gone), what was set aside after it or without it, and what never had a key.
# MATERIALIZED: whatever the planner thinks of the joins, the stretch alone is read.
_WINDOW: Final = """
WITH stretch AS MATERIALIZED (
    SELECT * FROM {table} WHERE source = :source AND id > :after {conditions} ORDER BY id LIMIT :at_most
)
SELECT {columns}, (
    r.reject_code IS NOT DISTINCT FROM 'key_taken' AND r.disposition = 'rejected'
    OR r.source_id IS NULL AND r.disposition = 'rejected'
    OR n.raw_id = r.id AND (r.disposition <> 'loaded' OR n.deleted_at IS NULL)
    OR r.disposition IN ('rejected', 'filtered') AND r.id > coalesce(n.raw_id, 0)
        AND NOT EXISTS (
            SELECT FROM {table} AS newer
            WHERE newer.source = r.source AND newer.source_id = r.source_id AND newer.id > r.id
                AND newer.disposition <> 'loaded' AND newer.disposition NOT IN ('overtaken', 'repeated')
        )
        AND NOT EXISTS (
            SELECT FROM {table} AS gone
            WHERE gone.source = n.source AND gone.id = n.raw_id AND gone.source_id = n.source_id
                AND gone.disposition = 'loaded' AND n.deleted_at > r.extracted_at
        )
) IS TRUE AS speaks
FROM stretch AS r LEFT JOIN normalized_data AS n ON n.source = r.source AND n.source_id = r.source_id
ORDER BY r.id
"""

_CONDITIONS: Final = {
    "since": "AND extracted_at >= :since",
    "until": "AND extracted_at < :until",
    "run_id": "AND run_id = :run_id",
    "source_ids": "AND source_id = ANY(CAST(:source_ids AS text[]))",
    "rejected": "AND disposition = 'rejected'",
    "fingerprint": f"AND disposition = 'rejected' AND {FINGERPRINT} = :fingerprint",
}

_THESE: Final = """
SELECT {columns} FROM {table} AS r WHERE r.source = :source AND r.id = ANY(CAST(:ids AS bigint[]))
"""

_JUDGE: Final = """
UPDATE {table} AS raw
SET source_id = said.source_id, disposition = said.disposition, reject_code = said.reject_code,
    reject_field = said.reject_field, reject_detail = said.reject_detail, notes = CAST(said.notes AS jsonb)
FROM unnest(CAST(:ids AS bigint[]), CAST(:source_ids AS text[]), CAST(:dispositions AS text[]),
            CAST(:codes AS text[]), CAST(:fields AS text[]), CAST(:details AS text[]), CAST(:notes AS text[]))
    AS said (id, source_id, disposition, reject_code, reject_field, reject_detail, notes)
WHERE raw.source = :source AND raw.id = said.id
"""

# Of keys, the rows that another one of the same listing overtook: in its batch, or in an earlier one of its run.
_SHARING: Final = """
SELECT {columns} FROM {table} AS r
WHERE r.source = :source AND r.source_id = ANY(CAST(:keys AS text[])) AND r.disposition = 'overtaken'
UNION ALL
SELECT {columns} FROM normalized_data AS n
    JOIN {table} AS later ON later.source = n.source AND later.id = n.raw_id
    JOIN {table} AS r ON r.source = later.source AND r.id = later.supersedes
        AND r.run_id = later.run_id AND r.source_id = later.source_id
WHERE n.source = :source AND n.source_id = ANY(CAST(:keys AS text[]))
"""

# EXCEPT, not NOT EXISTS: just after a first load nobody has counted the rows, and a planner that takes them for a few
# joins them by nested loops, which for 20,000 takes a minute.
ORPHANED: Final = """
SELECT EXISTS (
    SELECT raw_id FROM normalized_data WHERE source = :source AND deleted_at IS NULL
    EXCEPT SELECT id FROM {table} WHERE source = :source
)
"""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a raw table."""

    rows: Sequence[LandedRow]
    """Those of it that say what is there now."""
    last_id: int
    """Where the next one begins."""
    size: int
    """Rows of the stretch."""
    complete: bool
    """None follows."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay came."""

    mapping_hash: str
    after: int
    """The last raw id that is settled."""
    range: dict[str, Any]
    unreadable: int = 0
    """Rows met so far that could not be read any more."""
    shared: int = 0
    """Rows met so far that were overtaken by a record that has another key than they now."""


async def read_window(
    session: ReadSession, chosen: ReplayRange, *, kind: RawKind, source: str, after: int, at_most: int
) -> Window:
    """The next `at_most` raw rows of the range."""
    given = {name: getattr(chosen, name) for name in _CONDITIONS if getattr(chosen, name)}
    conditions = " ".join(_CONDITIONS[name] for name in given)
    given.pop("rejected", None)
    if chosen.source_ids:
        given["source_ids"] = list(chosen.source_ids)
    statement = text(_WINDOW.format(table=_name(kind), columns=_COLUMNS, conditions=conditions))
    found = (
        await session.execute(
            statement.bindparams(
                *(bindparam(name, value, type_=_type(name)) for name, value in given.items()),
                source=source,
                after=after,
                at_most=at_most,
            )
        )
    ).all()
    last_id = found[-1][0] if found else after
    return Window([_landed(row) for row in found if row[-1]], last_id, len(found), complete=len(found) < at_most)


async def read_landed(session: ReadSession, *, kind: RawKind, source: str, ids: Collection[int]) -> list[LandedRow]:
    statement = text(_THESE.format(table=_name(kind), columns=_COLUMNS))
    ids_given = bindparam("ids", list(ids), type_=ARRAY(BigInteger))
    return [_landed(row) for row in await session.execute(statement.bindparams(ids_given, source=source))]


async def read_sharing(session: ReadSession, *, kind: RawKind, source: str, keys: Collection[str]) -> list[LandedRow]:
    """Rows that had one of these keys, and were overtaken by another one that the source listed with them."""
    statement = text(_SHARING.format(table=_name(kind), columns=_COLUMNS))
    given = bindparam("keys", list(keys), type_=ARRAY(Text))
    return [_landed(row) for row in await session.execute(statement.bindparams(given, source=source))]


async def read_held(session: ReadSession, *, source: str, source_ids: Collection[str]) -> dict[str, HeldRow]:
    """What the table holds for these keys, deleted rows too."""
    table = NormalizedData.__table__.c  # a row of the mapped class costs twice as much
    statement = select(
        table.source_id,
        table.raw_id,
        table.content_hash,
        table.name,
        table.value,
        table.description,
        table.created_at,
        table.updated_at,
        table.updated_at != table.loaded_at,
        table.deleted_at.is_not(None),
    ).where(table.source == source, table.source_id == any_(bindparam(None, list(source_ids), type_=ARRAY(Text))))
    return {key: HeldRow(*values) for key, *values in await session.execute(statement)}


async def read_inputs(session: ReadSession, run_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """By run, what a reader of its payloads needs; a run that is gone is missing."""
    statement = select(EtlRun.id, EtlRun.input).where(
        EtlRun.id == any_(bindparam(None, list(run_ids), type_=ARRAY(BigInteger)))
    )
    return {run_id: given or {} for run_id, given in await session.execute(statement)}


async def read_newest_input(session: ReadSession, *, source: str) -> dict[str, Any] | None:
    """Of the last run that read a header; None when none did."""
    statement = (
        select(EtlRun.input)
        .where(EtlRun.source == source, EtlRun.input["header"].as_string().is_not(None))
        .order_by(EtlRun.id.desc())
        .limit(1)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def is_raw_whole(session: ReadSession | WriteSession, *, kind: RawKind, source: str) -> bool:
    """Whether every row that is served has its raw row still."""
    orphaned = await session.execute(text(ORPHANED.format(table=_name(kind))), {"source": source})
    return not orphaned.scalar_one()


async def write_verdicts(session: WriteSession, verdicts: Sequence[RawVerdict], *, kind: RawKind, source: str) -> None:
    """Say of raw rows what became of them; what was received stays as it is."""
    if not verdicts:
        return
    columns: dict[str, list[Any]] = {
        "source_ids": [verdict.source_id for verdict in verdicts],
        "dispositions": [verdict.disposition for verdict in verdicts],
        "codes": [verdict.rejection and verdict.rejection.code for verdict in verdicts],
        "fields": [verdict.rejection and verdict.rejection.field for verdict in verdicts],
        "details": [verdict.rejection and verdict.rejection.detail for verdict in verdicts],
        "notes": [
            json.dumps([note._asdict() for note in verdict.notes]) if verdict.notes else None for verdict in verdicts
        ],
    }
    statement = text(_JUDGE.format(table=_name(kind))).bindparams(
        bindparam("ids", [verdict.id for verdict in verdicts], type_=ARRAY(BigInteger)),
        *(bindparam(name, column, type_=ARRAY(Text)) for name, column in columns.items()),
        source=source,
    )
    await session.execute(statement)


async def read_standing(session: ReadSession, *, source: str, resource: str) -> Standing | None:
    """Of a replay that was not completed."""
    table = EtlCheckpoint
    row = (
        await session.execute(select(table.mapping_hash, table.position, table.state).where(*_key(source, resource)))
    ).one_or_none()
    return None if row is None else Standing(row[0] or "", row[1], **(row[2] or {}))


async def write_standing(session: WriteSession, standing: Standing, *, source: str, resource: str) -> None:
    table = EtlCheckpoint
    values = {
        "mapping_hash": standing.mapping_hash,
        "position": standing.after,
        "state": {"range": standing.range, "unreadable": standing.unreadable, "shared": standing.shared},
        "updated_at": func.now(),
    }
    await session.execute(
        insert(table)
        .values(source=source, resource=resource, kind=KIND, **values)
        .on_conflict_do_update(index_elements=[table.source, table.resource, table.partition, table.kind], set_=values)
    )


async def drop_left_behind(session: WriteSession, *, source: str, resource: str, mapping_hash: str) -> None:
    """
    Forget a replay that nobody completed: of a part of the rows, or with another mapping than runs have now.

    Raw rows before its place may be of any mapping once a pass has run: to go on behind it would pass them by.
    """
    given = EtlCheckpoint.state["range"]
    await session.execute(
        delete(EtlCheckpoint).where(
            *_key(source, resource),
            or_(EtlCheckpoint.mapping_hash != mapping_hash, given != literal(ReplayRange().as_json(), JSONB)),
        )
    )


async def drop_standing(session: WriteSession, *, source: str, resource: str) -> None:
    await session.execute(delete(EtlCheckpoint).where(*_key(source, resource)))


def _key(source: str, resource: str) -> tuple[ColumnElement[bool], ...]:
    table = EtlCheckpoint
    return (table.source == source, table.resource == resource, table.partition == "", table.kind == KIND)


def _name(kind: RawKind) -> str:
    return TABLES[kind].__tablename__


def _type(name: str) -> Any:
    return ARRAY(Text) if name == "source_ids" else None


def _landed(row: Any) -> LandedRow:
    raw_id, run_id, source_id, payload, encoding, content_hash, disposition, code, field, detail, notes = row[:11]
    rejection = None if code is None else Rejection(code, field, detail or "")
    return LandedRow(raw_id, run_id, source_id, payload, encoding, content_hash, disposition, rejection, notes)
