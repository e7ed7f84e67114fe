"""Columns of numbers. Pure."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import NoneType
from typing import Any, cast

from app.normalize.notes import Notes, note
from app.normalize.texts import is_blank

ReadNumber = Callable[[str], float]
"""Text → number; a ValueError when it is none."""


def to_numbers(
    field: str, values: Sequence[object], *, read: ReadNumber = float, whole: bool = False
) -> tuple[list[float | None], Notes]:
    """
    Finite numbers, from numbers or their text. Blank text is no value, without a note.

    Booleans are not numbers here, nor is `1_000` (which Python would take).

    Args:
        read: understands the text.
        whole: 2.5 is refused; 2.0 is not.
    """
    column, notes = _read_all(field, values, read)

    def drop(code: str, is_wrong: Callable[[float, object], bool]) -> None:
        for at, number in enumerate(column):
            if number is not None and is_wrong(number, values[at]):
                column[at] = None
                notes[at] = note(field, code, values[at])

    if not all(map(math.isfinite, filter(None, column))):
        drop("not_finite", lambda number, _: not math.isfinite(number))
    if read is float and "_" in "".join(value for value in values if isinstance(value, str)):
        drop("not_a_number", lambda _, value: isinstance(value, str) and "_" in value)
    if whole and not all(map(float.is_integer, filter(None, column))):
        drop("not_an_integer", lambda number, _: not number.is_integer())
    return column, notes


def _read_all(field: str, values: Sequence[object], read: ReadNumber) -> tuple[list[float | None], Notes]:
    column: list[float | None] = []
    notes: Notes = {}
    plain = read is float and set(map(type, values)) <= {str, NoneType}
    numbers: Iterator[float | None] = map(float if plain else partial(_number, read), cast("Sequence[Any]", values))
    while len(column) < len(values):
        try:
            # One `try` for all up to the next that is none, for most of them are
            for number in numbers:
                column.append(number)  # noqa: PERF402 -- what came before an error stays
        except (ValueError, TypeError):
            value = values[len(column)]
            if value is not None and not is_blank(value):
                notes[len(column)] = note(field, "not_a_number", value)
            column.append(None)
    return column, notes


def marked_numbers(decimal: str, thousands: str | None) -> ReadNumber:
    """
    Reads `1.234,5` as decimal and thousands say.

    Groups must be well placed: `1.23,4` is no number, `1234,5` is one.
    """
    point = re.escape(decimal)
    whole = r"[0-9]+" if thousands is None else rf"(?:[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|[0-9]+)"
    shape = re.compile(rf"[+-]?(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")

    def read(text: str) -> float:
        text = text.strip()
        if shape.fullmatch(text) is None:
            raise ValueError
        if thousands is not None:
            text = text.replace(thousands, "")
        return float(text.replace(decimal, "."))

    return read


def _number(read: ReadNumber, value: object) -> float | None:
    return read(value) if isinstance(value, str) else _of_json(value)


def _of_json(value: object) -> float | None:
    """
    Raises:
        TypeError: not a number, nor nothing.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    try:
        return float(value)
    except OverflowError:
        return math.inf
