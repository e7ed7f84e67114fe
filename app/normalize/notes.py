"""What is said about a value that could not be kept as it was."""

import json
from typing import Any, Final

from app.records import Note

GIVEN_LIMIT: Final = 100
"""Characters of a refused value that a note keeps; the whole is in the raw row."""

HIDDEN: Final = "***"
"""Stands in notes for a value of a masked field."""

Notes = dict[int, Note]
"""By index of the record."""


def note(field: str, code: str, value: Any) -> Note:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # Escaped where needed, so that the note itself can be stored
    shown = text[:GIVEN_LIMIT].encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return Note(field, code, shown)


def scrub(text: str) -> str:
    """Text with U+FFFD for each character that PostgreSQL's text cannot hold: U+0000 and lone surrogates."""
    return "".join(
        "\ufffd" if character == "\x00" or "\ud800" <= character <= "\udfff" else character for character in text
    )
