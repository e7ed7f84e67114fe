"""Which records do not hold against the resource's filters. Pure."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from app.errors import ConfigError
from app.normalize.paths import Column, Paths, Unreadable
from app.normalize.texts import boolean_of, text_of
from app.sources.mapping import Filter

Holds = Callable[[Any], bool]
"""Whether a value passes."""

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class Filters:
    """
    Every filter must hold.

    A value that is not there equals nothing: `ne`, `not_in` and `missing` hold,
    the others do not. Values of different types are neither equal nor in order;
    a CSV cell is read as what the filter's value is.

    Raises:
        ConfigError: a path leads nowhere, or a pattern is no regular expression.
    """

    def __init__(self, filters: Sequence[Filter], paths: Paths, *, cells: bool) -> None:
        self._tests: list[tuple[Column, Holds]] = [
            (paths.column(one.path), open_test(one, cells=cells)) for one in filters
        ]

    def filtered(self, records: Sequence[Any]) -> set[int]:
        """Indexes of the records for which one does not hold."""
        return {
            at
            for column, holds in self._tests
            for at, value in enumerate(column(records))
            if not holds(None if isinstance(value, Unreadable) else value)
        }


def open_test(given: Filter, *, cells: bool) -> Holds:
    """
    Args:
        cells: values are texts of a CSV file.
    """
    wanted = given.value
    match given.op:
        case "exists" | "missing":
            return lambda value: (value is None) == (given.op == "missing")
        case "eq":
            return lambda value: _equal(value, wanted, cells=cells)
        case "ne":
            return lambda value: not _equal(value, wanted, cells=cells)
        case "in":
            return lambda value: any(_equal(value, one, cells=cells) for one in wanted)
        case "not_in":
            return lambda value: not any(_equal(value, one, cells=cells) for one in wanted)
        case "contains":
            return lambda value: _contains(value, wanted)
        case "lt" | "le" | "gt" | "ge":
            return lambda value: _in_order(_ORDERS[given.op], value, wanted, cells=cells)
        case "matches":
            return _matching(wanted)


def _matching(pattern: object) -> Holds:
    try:
        compiled = re.compile(str(pattern))
    except re.error as error:
        raise ConfigError(f"{pattern!r} is no regular expression: {error}") from error
    return lambda value: isinstance(value, str | int | float) and compiled.search(text_of(value)) is not None


def _equal(value: Any, wanted: Any, *, cells: bool) -> bool:
    if value is None:
        return False
    if isinstance(wanted, bool) or isinstance(value, bool):
        given = boolean_of(value) if cells else value
        return bool(given is wanted)
    if isinstance(wanted, datetime):
        return bool(_moment(value) == wanted)
    if isinstance(wanted, date):
        return bool(value == wanted.isoformat())
    if _is_number(wanted) and cells:
        return bool(_number(value) == wanted)
    return bool(value == wanted)


def _in_order(holds: Callable[[Any, Any], bool], value: Any, wanted: Any, *, cells: bool) -> bool:
    if isinstance(wanted, datetime):
        value = _moment(value)
        if value is None or (value.tzinfo is None) != (wanted.tzinfo is None):
            return False
        return holds(value, wanted)
    if isinstance(wanted, date):
        wanted = wanted.isoformat()
    if cells and isinstance(value, str):
        left, right = _number(value), _number(wanted)
        if left is not None and right is not None:
            return holds(left, right)
        wanted = text_of(wanted)
    if (_is_number(value) and _is_number(wanted)) or (isinstance(value, str) and isinstance(wanted, str)):
        return holds(value, wanted)
    return False


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return text_of(wanted) in value
    if isinstance(value, list):
        return any(_equal(one, wanted, cells=False) for one in value)
    return isinstance(value, dict) and isinstance(wanted, str) and wanted in value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> float | None:
    if _is_number(value):
        return value  # type: ignore[no-any-return]  # narrowed by _is_number
    if not isinstance(value, str) or "_" in value:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
