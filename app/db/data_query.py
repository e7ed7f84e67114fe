"""What a reader asks of `normalized_data`, and the SELECT that says it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    false,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.models import NormalizedData

Operator = Literal["exact", "not", "gt", "gte", "lt", "lte", "contains", "startswith", "endswith", "in", "isnull"]

SERVED: Final[Mapping[str, ColumnElement[Any]]] = {
    name: getattr(NormalizedData, name)
    for name in ("id", "source", "source_id", "name", "value", "description", "created_at", "updated_at")
}
"""Columns that readers see, in their order."""
MARKED: Final[Mapping[str, ColumnElement[Any]]] = {
    name: getattr(NormalizedData, name) for name in (*SERVED, "deleted_at")
}
"""And what they see where deleted rows are among them."""
NEAR_ROWS: Final = 10_000
"""Rows that can be walked over within some milliseconds."""
NULLABLE: Final = frozenset({"value", "description", "deleted_at"})


class Filter(NamedTuple):
    """A condition on one column. A row without a value there meets none but `isnull`."""

    column: str
    operator: Operator
    value: Any
    """Of the column's type; a list for `in`, a bool for `isnull`."""


class Order(NamedTuple):
    """Ascending nulls come last, descending first: as PostgreSQL's indexes have them."""

    column: str
    descending: bool = False


DEFAULT_ORDER: Final = (Order("source"), Order("id"))


def total_order(wanted: Sequence[Order]) -> tuple[Order, ...]:
    """The order wanted; equal rows by (source, id), so that no two pages show the same row."""
    named = {order.column for order in wanted}
    return (*wanted, *(order for order in DEFAULT_ORDER if order.column not in named))


@dataclass(frozen=True, slots=True)
class DataQuery:
    """Which rows, in which order."""

    source: str | None = None
    search: str | None = None
    """Substring of name or description, case-insensitive."""
    filters: tuple[Filter, ...] = ()
    include_deleted: bool = False
    """Rows that the source deleted, too."""
    order: tuple[Order, ...] = DEFAULT_ORDER
    """A total one: see `total_order`."""
    limit: int | None = None
    offset: int | None = None
    after: tuple[Any, ...] | None = None
    """Of the last row already seen, the values of the columns of `order`; `offset` counts from there."""

    @property
    def is_counted(self) -> bool:
        """How many rows it has is known without counting."""
        return self.search is None and not self.filters and not self.include_deleted

    @property
    def columns(self) -> Mapping[str, ColumnElement[Any]]:
        """What its rows consist of."""
        return MARKED if self.include_deleted else SERVED

    def fixes(self, column: str) -> bool:
        """All its rows have the same value there."""
        return column == "source" and self.source is not None

    @property
    def is_plain(self) -> bool:
        """All rows, or those of a source, in their order: an index leads to each of them."""
        return self.is_counted and self.order == DEFAULT_ORDER

    @property
    def is_quick(self) -> bool:
        """And not far to walk along that index."""
        return self.is_plain and (self.offset or 0) <= NEAR_ROWS


def select_data(query: DataQuery) -> Select[Any]:
    """The rows that it asks for, in its order."""
    return select_page(query, select(*query.columns.values()).where(*conditions(query)), query.columns)


def select_page(query: DataQuery, matching: Select[Any], columns: Mapping[str, ColumnElement[Any]]) -> Select[Any]:
    """
    Of all rows that match, those that it asks for, in its order.

    Args:
        columns: where `matching` has the query's.
    """
    statement = matching.order_by(*ordered(query.order, columns))
    if query.after is not None:
        statement = statement.where(_beyond(query, columns))
    if query.offset is not None:
        statement = statement.offset(query.offset)
    return statement if query.limit is None else statement.limit(query.limit)


def conditions(query: DataQuery) -> list[ColumnElement[bool]]:
    """What its rows have in common, whatever page of them is asked for."""
    table = NormalizedData
    found: list[ColumnElement[bool]] = [] if query.include_deleted else [table.deleted_at.is_(None)]
    if query.source is not None:
        found.append(table.source == query.source)
    if query.search is not None:
        found.append(
            or_(
                table.name.icontains(query.search, autoescape=True),
                table.description.icontains(query.search, autoescape=True),
            )
        )
    return found + [_condition(item) for item in query.filters]


def _condition(item: Filter) -> ColumnElement[bool]:
    column = SERVED[item.column]
    value = _given(item.value, column) if isinstance(item.value, datetime) else item.value
    return _CONDITIONS[item.operator](column, value)


def _listed(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return column == any_(bindparam(None, list(values), type_=ARRAY(column.type)))


_CONDITIONS: Final[Mapping[Operator, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]]] = {
    "exact": eq,
    "not": ne,
    "gt": gt,
    "gte": ge,
    "lt": lt,
    "lte": le,
    "contains": lambda column, text: column.icontains(text, autoescape=True),
    "startswith": lambda column, text: column.istartswith(text, autoescape=True),
    "endswith": lambda column, text: column.iendswith(text, autoescape=True),
    "in": _listed,
    "isnull": lambda column, wanted: column.is_(None) if wanted else column.is_not(None),
}


def ordered(order: Sequence[Order], columns: Mapping[str, ColumnElement[Any]]) -> Iterator[ColumnElement[Any]]:
    """What ORDER BY is given, of these columns."""
    for item in order:
        column = columns[item.column]
        yield column.desc() if item.descending else column.asc()


def _beyond(query: DataQuery, served: Mapping[str, ColumnElement[Any]]) -> ColumnElement[bool]:
    """What follows, in the query's order, the values that it was left at."""
    assert query.after is not None
    # A column that is the same in all rows would hide from PostgreSQL that the index leads straight there
    places = [place for place in zip(query.order, query.after, strict=True) if not query.fixes(place[0].column)]
    columns = [served[item.column] for item, _ in places]
    if len({item.descending for item, _ in places}) == 1 and not any(item.column in NULLABLE for item, _ in places):
        here = tuple_(*columns)
        there = tuple_(*(_given(value, column) for (_, value), column in zip(places, columns, strict=True)))
        return here < there if places[0][0].descending else here > there
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (item, value), column in zip(places, columns, strict=True):
        alternatives.append(and_(*equal, _later(item, column, value)))
        equal.append(column.is_(None) if value is None else column == _given(value, column))
    return or_(*alternatives)


def _given(value: Any, column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(value, datetime):
        # As text: asyncpg takes the first and the last moment of datetime for PostgreSQL's infinities
        return cast(bindparam(None, value.isoformat(), Text), column.type)
    return value if isinstance(value, BindParameter) else bindparam(None, value, column.type)


def _later(item: Order, column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    if value is None:
        return column.is_not(None) if item.descending else false()
    there = _given(value, column)
    if item.descending:
        return column < there
    return or_(column > there, column.is_(None)) if item.column in NULLABLE else column > there
