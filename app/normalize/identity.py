"""Which record is it? The key of a row, as text: `1` and `"1"` are one record."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from app.errors import ConfigError
from app.normalize.coerce import hashed, open_coercion
from app.normalize.notes import GIVEN_LIMIT
from app.normalize.origins import open_origin
from app.normalize.paths import Column, HeaderPaths, Paths, Unreadable, cell_column, config_fault, header_index, shown
from app.records import Rejection, is_storable
from app.sources.mapping import FieldMapping
from app.sources.resource import ResourceSpec

MAX_KEY_CHARACTERS: Final = 2000
USUAL_KEYS: Final = ("id", "uuid", "key", "code")

MISSING_KEY: Final = Rejection("missing_key", "source_id", "the record has no key")

Keys = tuple[list[str | None], dict[int, Rejection]]
"""The keys of records, and by index why one has none."""
ReadKeys = Callable[[Sequence[Any]], Keys]


def read_keys(values: Iterable[Any]) -> Keys:
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


def keys_of(column: Column) -> ReadKeys:
    """One value is the key."""
    return lambda records: read_keys(column(records))


def joined_keys(parts: Sequence[tuple[str, Column]]) -> ReadKeys:
    """
    Several values are the key, joined by `:`.

    `:` and `\\` inside a part are escaped by `\\`, so that no two keys meet.

    Args:
        parts: each with its name, for rejections.
    """

    def read(records: Sequence[Any]) -> Keys:
        rejections: dict[int, Rejection] = {}
        columns: list[list[str]] = []
        for name, column in parts:
            keys, refused = read_keys(column(records))
            columns.append([_escaped(key or "") for key in keys])
            for at, item in refused.items():
                rejections.setdefault(at, item._replace(detail=f"{name}: {item.detail}"))
        joined: list[str | None] = [":".join(values) for values in zip(*columns, strict=True)]
        for at, key in enumerate(joined):
            if at not in rejections and len(key or "") > MAX_KEY_CHARACTERS:
                rejections[at] = _too_long(key or "")
            if at in rejections:
                joined[at] = None
        return joined, rejections

    return read


def open_keys(spec: ResourceSpec, paths: Paths) -> ReadKeys:
    """
    How a resource's records are named: `mapping.source_id`, else `primary_key`, else the usual.

    Raises:
        ConfigError: what names them is not there, or would give many records one key.
    """
    if spec.table.mapping.source_id is not None:
        with config_fault(spec, "mapping.source_id"):
            return mapped_keys(spec.table.mapping.source_id, paths)
    named = spec.table.primary_key
    if isinstance(paths, HeaderPaths):
        parts = [_cells_of(spec, paths, name) for name in named or (None,)]
    else:
        with config_fault(spec, "primary_key"):
            parts = [(name, paths.column(name)) for name in named or ("id",)]
    return joined_keys(parts) if len(parts) > 1 else keys_of(parts[0][1])


def _cells_of(spec: ResourceSpec, paths: HeaderPaths, primary_key: str | None) -> tuple[str, Column]:
    built_in = spec.where == "built in"
    at = key_column(
        paths.header,
        primary_key=primary_key,
        source=spec.source,
        setting="CSV_ID_COLUMN" if built_in and spec.source == "csv" else "primary_key",
        what=spec.name if built_in else f"{spec.where}: {spec.name}",
    )
    # An empty cell is refused as key anyway; looking for it here would cost the many without one
    nulls = () if paths.null_values == ("",) else paths.null_values
    return paths.header[at], cell_column(at, nulls)


def mapped_keys(mapping: FieldMapping, paths: Paths) -> ReadKeys:
    """
    The key as `mapping.source_id` says.

    Raises:
        ConfigError: a path leads nowhere, or it would give many records one key.
    """
    coerce = open_coercion("source_id", mapping)
    column = open_origin(mapping, paths, whole=True)
    if column is None:
        raise ConfigError(f"none of {', '.join(mapping.coalesce)} is a header")
    if mapping.type in {None, "string"}:
        plain = keys_of(column)
        return _hashed(plain) if mapping.mask else plain

    def read(records: Sequence[Any]) -> Keys:
        texts, notes = coerce(column(records))
        keys, rejections = read_keys(texts)
        misfits = {at: Rejection("bad_key", "source_id", f"{item.code}: {item.given}") for at, item in notes.items()}
        return keys, rejections | misfits

    return read


def _hashed(read: ReadKeys) -> ReadKeys:
    def hashing(records: Sequence[Any]) -> Keys:
        keys, rejections = read(records)
        return [None if key is None else hashed(key) for key in keys], rejections

    return hashing


def key_column(
    header: Sequence[str], *, primary_key: str | None, source: str, setting: str, what: str | None = None
) -> int:
    """
    The index of the column that identifies a row.

    Args:
        primary_key: the header named by the user; None tries the usual ones and the source's own name with `_id`.
        setting: with which the user names it.
        what: names file and resource in errors; `source` when None.

    Raises:
        ConfigError: there is no such column. A key is never made up.
    """
    if primary_key is not None:
        found = header_index(header, primary_key)
        if found is None:
            raise ConfigError(
                f"{what or source}: {setting}={primary_key!r} is not a header; there are: {shown(header)}"
            )
        return found
    lowered = [name.strip().lower() for name in header]
    for usual in (*USUAL_KEYS, f"{source.lower()}_id"):
        if usual in lowered:
            return lowered.index(usual)
    raise ConfigError(
        f"{what or source}: no column is called {', '.join(USUAL_KEYS)} or {source.lower()}_id; "
        f"name the one that identifies a row with {setting}; there are: {shown(header)}"
    )


def _key_text(value: object) -> str | Rejection:
    if value is None:
        return MISSING_KEY
    if isinstance(value, Unreadable):
        return Rejection("bad_key", "source_id", str(value)[:GIVEN_LIMIT])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Rejection("key_not_scalar", "source_id", f"the key is a {type(value).__name__}, not text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        return Rejection("bad_key", "source_id", f"the key is {value}, which is no number")
    return str(value)


def _refuse(key: str) -> Rejection | None:
    if not key or key.isspace():
        return MISSING_KEY
    if len(key) > MAX_KEY_CHARACTERS:
        return _too_long(key)
    if not is_storable(key):
        return Rejection("unstorable_key", "source_id", "the key holds U+0000 or a lone surrogate")
    return None


def _too_long(key: str) -> Rejection:
    return Rejection("key_too_long", "source_id", f"{len(key)} characters; at most {MAX_KEY_CHARACTERS}")


def _escaped(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:") if ":" in part or "\\" in part else part
