"""Columns of numbers. Pure."""

import math
import re
from collections.abc import Callable, Sequence

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
    column: list[float | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        try:
            number = read(value) if isinstance(value, str) else _of_json(value)
        except (ValueError, TypeError):
            number = None
            if not is_blank(value):
                notes[at] = note(field, "not_a_number", value)
        column.append(number)

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
