"""A value as received → the type of its column, or None with a note that says why. Pure."""

import json
import math
from datetime import UTC, datetime

from app.records import Note

GIVEN_LIMIT = 100
"""Characters of a refused value that a note keeps; the whole is in the raw row."""


def to_text(field: str, value: object) -> tuple[str | None, Note | None]:
    """Numbers and booleans become their JSON text; so do objects and arrays, with a note."""
    if value is None or isinstance(value, str):
        return value, None
    text = json.dumps(value, ensure_ascii=False)
    return text, None if isinstance(value, bool | int | float) else _note(field, "not_text", value)


def to_number(field: str, value: object) -> tuple[float | None, Note | None]:
    """
    A finite number, from a number or its text. Blank text is no value, without a note.

    Booleans are not numbers here, nor is `1_000` (which Python would take).
    """
    if value is None:
        return None, None
    if isinstance(value, str):
        if not value or value.isspace():
            return None, None
        if "_" in value:
            return None, _note(field, "not_a_number", value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None, _note(field, "not_a_number", value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None, _note(field, "not_a_number", value)
    if not math.isfinite(number):
        return None, _note(field, "not_finite", value)
    return number, None


def to_moment(field: str, value: object) -> tuple[datetime | None, Note | None]:
    """
    A moment in UTC, from ISO 8601 text with an offset. Blank text is no value, without a note.

    A time without an offset is refused: guessing one gives a wrong hour, confidently.
    """
    if value is None or value == "" or (isinstance(value, str) and value.isspace()):
        return None, None
    if not isinstance(value, str):
        return None, _note(field, "not_a_datetime", value)
    try:
        moment = datetime.fromisoformat(value.strip())
        if moment.tzinfo is None:
            return None, _note(field, "no_offset", value)
        return moment.astimezone(UTC), None
    except ValueError:
        return None, _note(field, "not_a_datetime", value)
    except OverflowError:  # year 1 or 9999, moved over the edge by its offset
        return None, _note(field, "out_of_range", value)


def scrub(field: str, text: str) -> tuple[str, Note]:
    """Text with U+FFFD for each character that PostgreSQL's text cannot hold: U+0000 and lone surrogates."""
    clean = "".join("\ufffd" if character == "\x00" or "\ud800" <= character <= "\udfff" else character for character in text)
    return clean, _note(field, "unstorable_character", text)


def _note(field: str, code: str, value: object) -> Note:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Escaped where needed, so that the note itself can be stored
    shown = text[:GIVEN_LIMIT].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return Note(field, code, shown)
