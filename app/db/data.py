"""Pages of `normalized_data`, each with the version of the data that it shows."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple

from asyncpg import Record
from sqlalchemy import Integer, Label, Select, Text, bindparam, case, func, literal_column, select, text, true
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement, Executable

from app.db.data_query import DEFAULT_ORDER, SERVED, DataQuery, conditions, ordered, select_data, select_page
from app.db.engine import Database, ReadSession
from app.db.models import EtlCheckpoint, NormalizedData
from app.db.quick_reads import Compiled, compile_once

COUNT_SECONDS: Final = 1.0
"""What counting the rows of a filter or a search may take; after it, the answer says how many there are at least."""

FEW_ROWS: Final = 5_000
"""That may be sorted, and counted, once they are found: a megabyte."""

# Each batch that changes rows gives its checkpoint another version in the same transaction, so this changes exactly
# when the data do. Made from what the rows say and not from their xmin, it is the same on a standby.
_MARK: Final[tuple[Label[Any], ...]] = (
    literal_column(
        "coalesce(md5(string_agg(concat_ws('|', source, resource, data_version, row_count), '|'"
        " ORDER BY source, resource)), 'none')"
    ).label("version"),
    literal_column(
        "coalesce(md5(string_agg(concat_ws('|', source, resource, succeeded_at), '|'"
        " ORDER BY source, resource)), 'none')"
    ).label("freshness"),
)
_CURSORS: Final = EtlCheckpoint.kind == literal_column("'cursor'")


class Mark(NamedTuple):
    """By which what was read, of one source or of all, is known to be what is there still."""

    version: str = "none"
    """Another one whenever rows or totals are others."""
    freshness: str = "none"
    """Another one whenever a source was brought up to date, changed or not."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a source reaches, in rows and in time."""

    total: int
    """Rows that are served."""
    as_of: datetime | None
    """It was up to date then; None while it never was."""
    mark: Mark


_NOTHING: Final = Extent(0, None, Mark())


@dataclass(frozen=True, slots=True)
class DataVersion:
    """What the loader wrote down of the data, committed with the rows themselves."""

    all: Mark
    """Of all sources together."""
    extents: Mapping[str, Extent]
    """By source, in the order of their rows."""
    heads: Mapping[str, str]
    """By source, what the rows from the very first to its last are known by: another one whenever they are others."""

    def mark(self, source: str | None) -> Mark:
        """Of one source, or of all of them."""
        return self.all if source is None else self.extents.get(source, _NOTHING).mark

    def until(self, source: str, *, of: str | None) -> str | None:
        """
        By which rows are known to be what is there still: those from the first one to the last of a source.

        Args:
            of: the only source whose rows are meant; None: all sources.

        Returns:
            None: there is no such source.
        """
        return self.heads.get(source) if of is None else self.mark(of).version

    def total(self, source: str | None) -> int:
        """Rows of one source, or of all of them."""
        if source is not None:
            return self.extents.get(source, _NOTHING).total
        return sum(extent.total for extent in self.extents.values())

    def as_of(self, source: str | None, *, is_there: Callable[[str], bool]) -> datetime | None:
        """
        When all that an answer covers was up to date, or later; None while a part of it never was.

        Args:
            source: what it covers; None: all sources.
            is_there: whether there is a source of that name now. Rows of one that was removed are served, and grow no
                fresher: it counts for who asks for it by name.
        """
        if source is not None:
            return self.extents.get(source, _NOTHING).as_of
        moments = [extent.as_of for name, extent in self.extents.items() if is_there(name)]
        known = [moment for moment in moments if moment is not None]
        return min(known) if known and len(known) == len(moments) else None


_EXTENTS: Final = (
    select(
        EtlCheckpoint.source,
        *_MARK,
        func.sum(EtlCheckpoint.row_count),
        case((func.bool_and(EtlCheckpoint.succeeded_at.is_not(None)), func.min(EtlCheckpoint.succeeded_at))),
    )
    .where(_CURSORS)
    .group_by(text("GROUPING SETS ((), (source))"))
    .order_by(EtlCheckpoint.source)
)
"""A row without a source is of all of them, and there without any."""


@dataclass(frozen=True, slots=True)
class DataRows:
    """A page's rows, with what `DataVersion` says of the moment at which they were read."""

    mark: Mark
    """Of the query's source, or of all."""
    rows: Sequence[Sequence[Any]]
    """Columns as in `SERVED`; one more than the query's limit, where there is one."""


async def read_version(database: Database) -> DataVersion:
    return _version_of(await database.quick.fetch(_compiled_extents(), {}))


async def read_version_in(session: ReadSession) -> DataVersion:
    """That of the session's snapshot."""
    return _version_of((await session.execute(_EXTENTS)).all())


async def read_quickly(database: Database, query: DataQuery) -> DataRows:
    """The page of a quick query: in one statement, which is one snapshot."""
    shape = _Shape(query.source is not None, query.after is not None, query.offset is not None)
    values: dict[str, Any] = {"source": query.source, "offset": query.offset, "wanted": _wanted(query)}
    if query.after is not None:
        values |= dict(zip(_PLACES, query.after, strict=True))
    return _rows_of(await database.quick.fetch(_compiled_page(shape), values))


async def read_rows(session: ReadSession, query: DataQuery) -> Sequence[Sequence[Any]]:
    """Columns as the query has them; one more than its limit, where there is one."""
    rows: Sequence[Sequence[Any]] = (await session.execute(select_data(query).limit(_wanted(query)))).all()
    return rows


async def read_few(session: ReadSession, query: DataQuery) -> tuple[int, Sequence[Sequence[Any]]] | None:
    """
    The page and the number of all rows that match, found in one go; None: more than FEW_ROWS match.

    What is looked for is mostly rare, and to find it twice, for the page and for
    the number, would take twice as long.
    """
    matching = (
        select(*query.columns.values())
        .where(*conditions(query))
        .limit(FEW_ROWS + 1)
        .cte("matching")
        .prefix_with("MATERIALIZED")
    )
    columns = {name: matching.c[name] for name in query.columns}
    page = select_page(query, select(*columns.values()), columns).limit(_wanted(query)).lateral("page")
    total = select(func.count().label("total")).select_from(matching).subquery("counted")
    found = await session.execute(
        select(total.c.total, *(page.c[name] for name in query.columns))
        .select_from(total.outerjoin(page, true()))
        .order_by(*ordered(query.order, {name: page.c[name] for name in SERVED}))
    )
    rows = found.all()
    if rows[0][0] > FEW_ROWS:
        return None
    return rows[0][0], [row[1:] for row in rows] if rows[0][1] is not None else []


async def count_rows(session: ReadSession, query: DataQuery) -> int | None:
    """
    How many rows match; None when COUNT_SECONDS did not suffice. Nothing more can be asked of the session then.
    """
    await session.execute(text(f"SET LOCAL statement_timeout = {int(COUNT_SECONDS * 1000)}"))
    counted = select(func.count()).select_from(NormalizedData).where(*conditions(query))
    try:
        return (await session.execute(counted)).scalar_one()
    except DBAPIError as error:
        if getattr(getattr(error.orig, "__cause__", None), "sqlstate", None) == "57014":
            return None
        raise


async def estimate_rows(session: ReadSession, query: DataQuery) -> int:
    """How many rows match, as PostgreSQL's planner expects from its statistics."""
    plan = (await session.execute(_Explain(select(NormalizedData.id).where(*conditions(query))))).scalar_one()
    rows: int = plan[0]["Plan"]["Plan Rows"]
    return rows


class _Explain(Executable, ClauseElement):
    """`EXPLAIN` of a SELECT, which SQLAlchemy has no word for."""

    inherit_cache = False

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement


@compiles(_Explain)
def _compile_explain(element: _Explain, compiler: SQLCompiler, **options: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + compiler.process(element.statement, **options)


def _wanted(query: DataQuery) -> int | None:
    return None if query.limit is None else query.limit + 1


class _Shape(NamedTuple):
    """All in which one quick query's statement differs from another's."""

    has_source: bool
    has_after: bool
    has_offset: bool


_PLACES: Final = {f"after_{item.column}": item for item in DEFAULT_ORDER}


@cache
def _compiled_page(shape: _Shape) -> Compiled:
    query = DataQuery(
        source=bindparam("source", type_=Text) if shape.has_source else None,  # type: ignore[arg-type]
        after=tuple(bindparam(name, type_=SERVED[item.column].type) for name, item in _PLACES.items())
        if shape.has_after
        else None,
        offset=bindparam("offset", type_=Integer) if shape.has_offset else None,  # type: ignore[arg-type]
    )
    page = select_data(query).limit(bindparam("wanted", type_=Integer)).lateral("page")
    columns = {name: page.c[name] for name in SERVED}
    covered = select(*_MARK).where(_CURSORS)
    if shape.has_source:
        covered = covered.where(EtlCheckpoint.source == query.source)
    mark = covered.subquery("mark")
    return compile_once(
        select(*mark.c, *columns.values())
        .select_from(mark.outerjoin(page, true()))
        .order_by(*ordered(query.order, columns))
    )


@cache
def _compiled_extents() -> Compiled:
    return compile_once(_EXTENTS)


def _rows_of(found: Sequence[Record]) -> DataRows:
    version, freshness, first, *_ = found[0]
    # Where the page has no row, these stand alone
    return DataRows(Mark(version, freshness), [row[2:] for row in found] if first is not None else [])


def _version_of(found: Sequence[Any]) -> DataVersion:
    extents = {source: Extent(int(total or 0), as_of, Mark(*mark)) for source, *mark, total, as_of in found}
    everything = extents.pop(None).mark
    heads, seen = {}, hashlib.blake2b(digest_size=16)
    for source, extent in extents.items():
        seen.update(f"{source}\0{extent.mark.version}\0".encode())
        heads[source] = seen.hexdigest()
    return DataVersion(everything, extents, heads)
