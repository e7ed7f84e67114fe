"""A field's mapping → what is made of its values: column by column, with notes of what could not be kept."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from functools import partial
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

from app.errors import ConfigError
from app.normalize.moments import date_reader, moment_reader, to_moments
from app.normalize.notes import HIDDEN, Notes
from app.normalize.numbers import marked_numbers, to_numbers
from app.normalize.texts import text_of, to_booleans, to_json, to_texts
from app.sources.mapping import FieldMapping, ValueType

Coercion = Callable[[Sequence[object]], tuple[list[Any], Notes]]
"""Values as received → values of the column's type, and by index what could not be kept."""

DEFAULT_TYPES: Final[Mapping[str, ValueType]] = {
    "source_id": "string",
    "name": "string",
    "description": "string",
    "value": "decimal",
    "created_at": "datetime",
    "updated_at": "datetime",
    "deleted": "boolean",
}
TEXT_COLUMNS: Final = {"source_id", "name", "description"}

_TYPES_OF: Final[Mapping[str, set[ValueType]]] = {
    "value": {"integer", "decimal"},
    "created_at": {"datetime", "date"},
    "updated_at": {"datetime", "date"},
    "deleted": {"boolean"},
}
_OPTIONS: Final[Mapping[str, set[ValueType]]] = {
    "format": {"datetime", "date"},
    "timezone": {"datetime", "date"},
    "decimal": {"integer", "decimal"},
    "thousands": {"integer", "decimal"},
}


def open_coercion(column: str, mapping: FieldMapping) -> Coercion:
    """
    Of a column of `normalized_data`, or of `deleted`.

    Raises:
        ConfigError: an option does not fit the type, or the type the column.
    """
    kind = mapping.type or DEFAULT_TYPES[column]
    _check(column, kind, mapping)
    coerce = _typed(column, kind, mapping)
    if column in TEXT_COLUMNS and kind not in {"string", "json"}:
        coerce = _kept_as_text(coerce)
    for option in ("default", "constant"):
        if (given := getattr(mapping, option)) is not None and coerce([given])[0] == [None]:
            raise ConfigError(f"{option} = {given!r} does not fit type {kind}")
    if mapping.default is not None:
        coerce = _with_default(coerce, coerce([mapping.default])[0][0])
    return _masked(coerce, mapping.mask) if mapping.mask else coerce


def _typed(column: str, kind: ValueType, mapping: FieldMapping) -> Coercion:
    zone = ZoneInfo(mapping.timezone) if mapping.timezone else None
    match kind:
        case "string":
            return partial(to_texts, column)
        case "integer" | "decimal" if mapping.decimal or mapping.thousands:
            read = marked_numbers(mapping.decimal or ".", mapping.thousands)
            return partial(to_numbers, column, read=read, whole=kind == "integer")
        case "integer" | "decimal":
            return partial(to_numbers, column, whole=kind == "integer")
        case "boolean":
            return partial(to_booleans, column)
        case "datetime":
            return partial(to_moments, column, read=moment_reader(mapping.format), zone=zone)
        case "date":
            read_date = date_reader(mapping.format, zone)
            return partial(to_moments, column, read=read_date, zone=zone or UTC, code="not_a_date")
        case "json":
            return partial(to_json, column)


def _kept_as_text(coerce: Coercion) -> Coercion:
    """The type decides what stands; what stands is the text received."""

    def kept(values: Sequence[object]) -> tuple[list[Any], Notes]:
        typed, notes = coerce(values)
        return [None if one is None else text_of(value) for one, value in zip(typed, values, strict=True)], notes

    return kept


def _with_default(coerce: Coercion, default: object) -> Coercion:
    """Instead of no value; what failed to parse has a note, and stays null."""

    def filled(values: Sequence[object]) -> tuple[list[Any], Notes]:
        column, notes = coerce(values)
        if None not in column:
            return column, notes
        return [default if one is None and at not in notes else one for at, one in enumerate(column)], notes

    return filled


def _masked(coerce: Coercion, mask: str) -> Coercion:
    hide = MASKS[mask]

    def masked(values: Sequence[object]) -> tuple[list[Any], Notes]:
        column, notes = coerce(values)
        hidden = [None if text is None else hide(text) for text in column]
        return hidden, {at: item._replace(given=HIDDEN) for at, item in notes.items()}

    return masked


def hashed(text: str) -> str:
    # A lone surrogate, which a JSON escape may bring, has no strict UTF-8
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _all_but_four(text: str) -> str:
    hidden = len(text) - 4 if len(text) >= 8 else len(text)
    return "*" * hidden + text[hidden:]


MASKS: Final[Mapping[str, Callable[[str], str]]] = {
    "hash": hashed,
    "redact": lambda _: "***",
    "partial": _all_but_four,
}


def _check(column: str, kind: ValueType, mapping: FieldMapping) -> None:
    fitting = _TYPES_OF.get(column)
    if fitting is not None and kind not in fitting:
        _refuse(f"type = {kind!r} does not fit the column; it takes {' or '.join(sorted(fitting))}")
    for option, kinds in _OPTIONS.items():
        if getattr(mapping, option) is not None and kind not in kinds:
            _refuse(f"{option} means nothing for type {kind}; it is for {' and '.join(sorted(kinds))}")
    if mapping.mask is not None and column not in TEXT_COLUMNS:
        _refuse("mask is for columns of text: name, description, source_id")
    if mapping.thousands is not None and mapping.thousands == (mapping.decimal or "."):
        _refuse('thousands is the decimal mark, which is "." when omitted')
    for mark in (mapping.decimal, mapping.thousands):
        if mark is not None and (mark.isalnum() or mark in "+-"):
            _refuse(f"{mark!r} cannot be a mark in a number")
    if column == "source_id":
        _check_key(mapping)


def _check_key(mapping: FieldMapping) -> None:
    if mapping.constant is not None or mapping.default is not None:
        _refuse("a constant or a default would give many records one key")
    if mapping.mask not in {None, "hash"}:
        _refuse(f'mask = "{mapping.mask}" would give many records one key; "hash" keeps them apart')


def _refuse(fault: str) -> NoReturn:
    raise ConfigError(fault)
