"""Columns of text, of booleans and of JSON. Pure."""

import json
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, Final, cast

from app.normalize.notes import Notes, note

_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


def text_of(value: object) -> str:
    """Text as it is; anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def is_blank(value: object) -> bool:
    return isinstance(value, str) and (not value or value.isspace())


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
        column.append(text_of(value))
        if not isinstance(value, bool | int | float):
            notes[at] = note(field, "not_text", value)
    return column, notes


def boolean_of(value: object) -> bool | None:
    """true, false, yes, no, 1, 0 and their first letters, in any case; None: it is none of them."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    return _BOOLEANS.get(text)


def to_booleans(field: str, values: Sequence[object]) -> tuple[list[bool | None], Notes]:
    """Blank text is no value, without a note."""
    column = [boolean_of(value) for value in values]
    notes: Notes = {}
    if None in column:
        for at, value in enumerate(values):
            if column[at] is None and value is not None and not is_blank(value):
                notes[at] = note(field, "not_a_boolean", value)
    return column, notes


def to_json(field: str, values: Sequence[object]) -> tuple[list[str | None], Notes]:
    """JSON as text. What is text already must be JSON, and is kept as it is; blank text is no value, without a note."""
    column: list[str | None] = []
    notes: Notes = {}
    for at, value in enumerate(values):
        text: str | None = None
        if value is not None and not is_blank(value):
            try:
                text = _json_text(value)
            except (ValueError, TypeError, RecursionError):
                notes[at] = note(field, "not_json", value)
        column.append(text)
    return column, notes


def _json_text(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    json.loads(value, parse_constant=_no_constant)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
