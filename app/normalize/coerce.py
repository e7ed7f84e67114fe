"""A column as received → a column of its type, with notes of what could not be kept. Pure."""

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any, Final, cast

from app.records import Note

GIVEN_LIMIT: Final = 100
"""Characters of a refused value that a note keeps; the whole is in the raw row."""

Notes = dict[int, Note]
"""By index of the record."""


def to_texts(field: str, values: Sequence[object]) -> tuple[list[str | None], Notes]:
    """Numbers and booleans become their JSON text; so do objects and arrays, with a note."""
    if set(map(type, values)) <= {str, NoneType}:
        return cast("list[str | None]", list(values)), {}
    column: list[str | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        if value is None or isinstance(value, str):
            column.append(value)
            continue
        column.append(json.dumps(value, ensure_ascii=False))
        if not isinstance(value, bool | int | float):
            notes[at] = note(field, "not_text", value)
    return column, notes


def to_numbers(field: str, values: Sequence[object]) -> tuple[list[float | None], Notes]:
    """
    Finite numbers, from numbers or their text. Blank text is no value, without a note.

    Booleans are not numbers here, nor is `1_000` (which Python would take).
    """
    column: list[float | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        try:
            number = float(value) if isinstance(value, str) else _of_json(value)
        except (ValueError, TypeError):
            number = None
            if not (isinstance(value, str) and (not value or value.isspace())):
                notes[at] = note(field, "not_a_number", value)
        column.append(number)
    if not all(map(math.isfinite, filter(None, column))):
        _drop(
            field,
            "not_finite",
            values=values,
            column=column,
            notes=notes,
            is_wrong=lambda number, _: not math.isfinite(number),
        )
    if "_" in "".join(value for value in values if isinstance(value, str)):
        _drop(
            field,
            "not_a_number",
            values=values,
            column=column,
            notes=notes,
            is_wrong=lambda _, value: isinstance(value, str) and "_" in value,
        )
    return column, notes


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


def _drop(
    field: str,
    code: str,
    *,
    values: Sequence[object],
    column: list[float | None],
    notes: Notes,
    is_wrong: Callable[[float, object], bool],
) -> None:
    for at, number in enumerate(column):
        if number is not None and is_wrong(number, values[at]):
            column[at] = None
            notes[at] = note(field, code, values[at])


def to_moments(field: str, values: Sequence[object]) -> tuple[list[datetime | None], Notes]:
    """
    Moments in UTC, from ISO 8601 text with an offset. Blank text is no value, without a note.

    A time without an offset is refused: guessing one gives a wrong hour, confidently.
    """
    fromisoformat = datetime.fromisoformat
    try:
        moments = list(map(fromisoformat, cast("Sequence[str]", values)))
        if {moment.tzinfo for moment in moments} == {UTC}:
            return cast("list[datetime | None]", moments), {}
    except (ValueError, TypeError):
        pass  # value by value, then
    column: list[datetime | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        moment: datetime | None = None
        try:
            if isinstance(value, str):
                moment = fromisoformat(value)
            elif value is not None:
                notes[at] = note(field, "not_a_datetime", value)
        except ValueError:
            moment = _of_odd_text(field, str(value), at, notes)
        if moment is not None and moment.tzinfo is not UTC:
            moment = _in_utc(field, value, moment, at, notes)
        column.append(moment)
    return column, notes


def _of_odd_text(field: str, text: str, at: int, notes: Notes) -> datetime | None:
    stripped = text.strip()
    if not stripped:
        return None
    try:
        return datetime.fromisoformat(stripped)
    except ValueError:
        notes[at] = note(field, "not_a_datetime", text)
        return None


def _in_utc(field: str, value: object, moment: datetime, at: int, notes: Notes) -> datetime | None:
    if moment.tzinfo is None:
        notes[at] = note(field, "no_offset", value)
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999, moved over the edge by its offset
        notes[at] = note(field, "out_of_range", value)
        return None


def scrub(text: str) -> str:
    """Text with U+FFFD for each character that PostgreSQL's text cannot hold: U+0000 and lone surrogates."""
    return "".join(
        "\ufffd" if character == "\x00" or "\ud800" <= character <= "\udfff" else character for character in text
    )


def note(field: str, code: str, value: Any) -> Note:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Escaped where needed, so that the note itself can be stored
    shown = text[:GIVEN_LIMIT].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return Note(field, code, shown)
