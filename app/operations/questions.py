"""What may be asked about rows: conditions as `value__gte=3`, an order as `-updated_at,id`, a choice of columns."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC
from functools import cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, TypeAdapter, ValidationError

from app.db.data_query import NULLABLE, SERVED, DataQuery, Filter, Operator, Order
from app.errors import QuestionError
from app.operations.numbers import AS_DECIMAL, IN_DIGITS
from app.operations.patterns import NO_NUL

MAX_FILTERS: Final = 100
MAX_LISTED: Final = 100
"""Values of one `__in`."""
MAX_TEXT: Final = 2000
"""Characters of a text, and of a list of them."""

_WHOLE: Final = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), IN_DIGITS]
_TEXT: Final = Annotated[str, Field(max_length=MAX_TEXT, pattern=NO_NUL)]
_NUMBER: Final = Annotated[float, Field(allow_inf_nan=False), AS_DECIMAL]
NOT_A_NUMBER: Final = BeforeValidator(
    # Numbers are times to pydantic, and to nobody else
    lambda given: given if "T" in str(given).upper() or "-" in str(given)[1:] else "no time"
)
# An offset can move a moment out of the years that there are
_MOMENT: Final = Annotated[AwareDatetime, NOT_A_NUMBER, AfterValidator(lambda moment: moment.astimezone(UTC))]

_TYPES: Final[Mapping[str, Any]] = {
    "id": _WHOLE,
    "source": _TEXT,
    "source_id": _TEXT,
    "name": _TEXT,
    "value": _NUMBER,
    "description": _TEXT,
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
}
_COMPARISONS: Final[tuple[Operator, ...]] = ("exact", "not", "gt", "gte", "lt", "lte")
_N: Final = r"-?[0-9]{1,18}"
_D: Final = r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?"
LISTS: Final[Mapping[str, str]] = {
    **{column: NO_NUL for column, kind in _TYPES.items() if kind is _TEXT},
    "id": rf"^{_N}(?:,{_N}){{0,{MAX_LISTED - 1}}}$",
    "value": rf"^{_D}(?:,{_D}){{0,{MAX_LISTED - 1}}}$",
}
"""How `__in` looks, by column."""
_TEXT_OPERATORS: Final[tuple[Operator, ...]] = ("contains", "startswith", "endswith")


@cache
def column_adapter(column: str) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[column])


def read_value(column: str, given: Any) -> Any:
    """
    Raises:
        ValueError: it is none of that column's type.
    """
    try:
        return column_adapter(column).validate_python(given)
    except OverflowError as error:
        raise ValueError("out of range") from error


def _operators(column: str) -> tuple[Operator, ...]:
    texts = _TEXT_OPERATORS if _TYPES[column] is _TEXT else ()
    lists: tuple[Operator, ...] = ("in",) if column in LISTS else ()
    nulls: tuple[Operator, ...] = ("isnull",) if column in NULLABLE else ()
    return (*_COMPARISONS, *texts, *lists, *nulls)


FILTERS: Final[Mapping[str, tuple[str, Operator]]] = {
    column if operator == "exact" else f"{column}__{operator}": (column, operator)
    for column in SERVED
    for operator in _operators(column)
    # `source=` is a parameter of its own
    if (column, operator) != ("source", "exact")
}
"""Parameters that are conditions on a column."""


def read_filters(given: Iterable[tuple[str, str]], *, others: Iterable[str]) -> tuple[Filter, ...]:
    """
    The conditions among what was given.

    Args:
        given: names and values, as of a request's parameters.
        others: names that are none. What begins with `_` is nobody's, and left to whoever sent it.

    Raises:
        QuestionError: a name is unknown or a value is wrong; it says which.
    """
    found: list[Filter] = []
    known = set(others)
    for name, text in given:
        if name in FILTERS:
            found.append(_filter(name, text))
        elif name not in known and not name.startswith("_"):
            raise QuestionError(name, f"no such parameter; {_suggest(name, known)}")
    if len(found) > MAX_FILTERS:
        raise QuestionError("filters", f"{len(found)} conditions; at most {MAX_FILTERS}")
    return tuple(found)


def _filter(name: str, text: str) -> Filter:
    column, operator = FILTERS[name]
    try:
        if operator == "isnull":
            return Filter(column, operator, {"true": True, "1": True, "false": False, "0": False}[text])
        if operator != "in":
            return Filter(column, operator, read_value(column, text))
        if len(text) > MAX_TEXT:
            raise QuestionError(name, f"{len(text)} characters; at most {MAX_TEXT}")
        values = _listed(text)
        if len(values) > MAX_LISTED:
            raise QuestionError(name, f"{len(values)} values; at most {MAX_LISTED}")
        return Filter(column, operator, tuple(read_value(column, value) for value in values))
    except KeyError:
        raise QuestionError(name, "true or false") from None
    except ValidationError as error:
        raise QuestionError(name, _said(column, error)) from None
    except ValueError as error:
        raise QuestionError(name, str(error)) from None


def _listed(text: str) -> list[str]:
    """`a,b`; or a JSON array of texts, for those with commas."""
    if text.startswith("["):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, list) and all(isinstance(value, str) for value in values):
            return values
    return text.split(",")


def _said(column: str, error: ValidationError) -> str:
    said = error.errors(include_url=False)[0]
    if _TYPES[column] is _MOMENT:
        return "write a time with its offset, for example 2026-01-31T08:00:00Z (in an address, + is %2B)"
    return str(said["msg"])


def _suggest(name: str, others: Iterable[str]) -> str:
    column = name.partition("__")[0]
    if column in SERVED:
        names = [known for known, (of, _) in FILTERS.items() if of == column]
        return f"of {column} there are: {', '.join(names)}"
    named = "".join(f"{name}, " for name in sorted(others))
    return f"there are: {named}{'and ' if named else ''}filters as value__gte or name__contains"


def read_order(sort: str | None) -> list[Order]:
    """What `sort` says, which fits SORT; of a column named twice, the first counts."""
    named: dict[str, Order] = {}
    for part in sort.split(",") if sort else ():
        column = part.removeprefix("-")
        named.setdefault(column, Order(column, part.startswith("-")))
    return list(named.values())


def chosen_columns(query: DataQuery, fields: str | None) -> tuple[str, ...]:
    """
    Of the query's columns, those that are sent.

    Args:
        fields: fits FIELDS; only these, in this order. What marks deleted rows is never left out.
    """
    names = fields.split(",") if fields else SERVED
    return tuple(dict.fromkeys((*names, *(name for name in query.columns if name not in SERVED))))
