"""Which record is it? The key of a row, as text: `1` and `"1"` are one record."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from app.errors import ConfigError
from app.records import Rejection, is_storable

MAX_KEY_CHARACTERS: Final = 2000
USUAL_KEYS: Final = ("id", "uuid", "key", "code")

MISSING_KEY: Final = Rejection("missing_key", "source_id", "the record has no key")


def read_keys(values: Iterable[Any]) -> tuple[list[str | None], dict[int, Rejection]]:
    """Keys as text, exact for strings and integers (leading zeros, 26 digits); by index, why one has none."""
    values = list(values)
    if set(map(type, values)) == {str} and all(map(str.isalnum, values)) and max(map(len, values)) <= 100:
        return values, {}
    keys: list[str | None] = []
    rejections: dict[int, Rejection] = {}
    for at, value in enumerate(values):
        key = value if isinstance(value, str) else _key_text(value)
        if isinstance(key, str):
            refusal = None if 0 < len(key) <= 100 and key.isalnum() else _refuse(key)
            if refusal is None:
                keys.append(key)
                continue
            key = refusal
        keys.append(None)
        rejections[at] = key
    return keys, rejections


def key_column(header: Sequence[str], *, primary_key: str | None, source: str, setting: str) -> int:
    """
    The index of the column that identifies a row.

    Args:
        primary_key: the header named by the user; None tries the usual ones and the source's own name with `_id`.

    Raises:
        ConfigError: there is no such column. A key is never made up.
    """
    shown = ", ".join(header)[:1000]
    lowered = [name.strip().lower() for name in header]
    if primary_key is None:
        for usual in (*USUAL_KEYS, f"{source.lower()}_id"):
            if usual in lowered:
                return lowered.index(usual)
        raise ConfigError(
            f"{source}: no column is called {', '.join(USUAL_KEYS)} or {source.lower()}_id; "
            f"name the one that identifies a row with {setting}; there are: {shown}"
        )
    if primary_key in header:
        return header.index(primary_key)
    if primary_key.strip().lower() in lowered:
        return lowered.index(primary_key.strip().lower())
    raise ConfigError(f"{source}: {setting}={primary_key!r} is not a header; there are: {shown}")


def _key_text(value: object) -> str | Rejection:
    if value is None:
        return MISSING_KEY
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Rejection("key_not_scalar", "source_id", f"the key is a {type(value).__name__}, not text or a number")
    return str(value)


def _refuse(key: str) -> Rejection | None:
    if not key or key.isspace():
        return MISSING_KEY
    if len(key) > MAX_KEY_CHARACTERS:
        return Rejection("key_too_long", "source_id", f"{len(key)} characters; at most {MAX_KEY_CHARACTERS}")
    if not is_storable(key):
        return Rejection("unstorable_key", "source_id", "the key holds U+0000 or a lone surrogate")
    return None
