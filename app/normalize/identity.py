"""Which record is it? The key of a row, as text: `1` and `"1"` are one record."""

from collections.abc import Sequence
from typing import Final

from app.errors import ConfigError
from app.records import Rejection

MAX_KEY_CHARACTERS: Final = 2000
USUAL_KEYS: Final = ("id", "uuid", "key", "code")


def read_key(value: object) -> str | Rejection:
    """The key as text: exact for strings and integers (leading zeros, 26 digits)."""
    if isinstance(value, str):
        if not value or value.isspace():
            return Rejection("missing_key", "source_id", "the record has no key")
        if len(value) > MAX_KEY_CHARACTERS:
            return Rejection("key_too_long", "source_id", f"{len(value)} characters; at most {MAX_KEY_CHARACTERS}")
        if not _is_storable(value):
            return Rejection("unstorable_key", "source_id", "the key holds U+0000 or a lone surrogate")
        return value
    if value is None:
        return Rejection("missing_key", "source_id", "the record has no key")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Rejection("key_not_scalar", "source_id", f"the key is a {type(value).__name__}, not text or a number")
    return read_key(str(value))


def key_column(header: Sequence[str], *, primary_key: str | None, source: str, setting: str) -> int:
    """
    The index of the column that identifies a row.

    Args:
        primary_key: the header named by the user; None tries the usual ones and the source's own name with `_id`.

    Raises:
        ConfigError: there is no such column. A key is never made up.
    """
    shown = ", ".join(header)[:1000]
    if primary_key is not None:
        for wanted in (lambda name: name == primary_key, lambda name: name.strip().lower() == primary_key.lower()):
            for index, name in enumerate(header):
                if wanted(name):
                    return index
        raise ConfigError(f"{source}: {setting}={primary_key!r} is not a header; there are: {shown}")
    lowered = [name.strip().lower() for name in header]
    for usual in (*USUAL_KEYS, f"{source.lower()}_id"):
        if usual in lowered:
            return lowered.index(usual)
    raise ConfigError(
        f"{source}: no column is called {', '.join(USUAL_KEYS)} or {source.lower()}_id; "
        f"name the one that identifies a row with {setting}; there are: {shown}"
    )


def _is_storable(text: str) -> bool:
    if "\x00" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
