"""A field's mapping → where its values come from: a path, the first of several, a template, a constant."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

from app.normalize.paths import Column, Paths, Unreadable
from app.normalize.texts import text_of
from app.sources.mapping import FieldMapping
from app.sources.values import PLACEHOLDER


def open_origin(mapping: FieldMapping, paths: Paths, *, whole: bool = False) -> Column | None:
    """
    Args:
        whole: a template with a value missing gives none at all, not a part of the text.

    Returns:
        None: none of the mapping's headers is in this file, and none has to be.

    Raises:
        ConfigError: a path leads nowhere.
    """
    if mapping.path is not None:
        return _without(mapping.null_values, paths.column(mapping.path))
    if mapping.template is not None:
        return _filled(mapping.template, mapping.null_values, paths, whole=whole)
    if mapping.coalesce:
        found = [column for text in mapping.coalesce if (column := paths.find(text)) is not None]
        return _first_of([_without(mapping.null_values, column) for column in found]) if found else None
    constant = mapping.constant
    return lambda records: [constant] * len(records)


def _without(null_values: Sequence[str], column: Column) -> Column:
    if not null_values:
        return column
    nulls = frozenset(null_values)
    return lambda records: [None if isinstance(value, str) and value in nulls else value for value in column(records)]


def _first_of(columns: list[Column]) -> Column:
    first, *others = columns
    if not others:
        return first

    def read(records: Sequence[Any]) -> list[object]:
        values = first(records)
        for other in others:
            if None not in values:
                break
            values = [later if value is None else value for value, later in zip(values, other(records), strict=True)]
        return values

    return read


def _filled(template: str, null_values: Sequence[str], paths: Paths, *, whole: bool) -> Column:
    parts: list[str | Column] = []
    end = 0
    for match in PLACEHOLDER.finditer(template):
        parts.append(template[end : match.start()])
        end = match.end()
        parts.append(match[0][0] if match[1] is None else _without(null_values, paths.column(match[1].strip())))
    parts.append(template[end:])
    is_text = [isinstance(part, str) for part in parts]

    def read(records: Sequence[Any]) -> list[object]:
        if all(is_text):
            return ["".join(str(part) for part in parts)] * len(records)
        filled: list[object] = []
        columns = [repeat(part, len(records)) if isinstance(part, str) else part(records) for part in parts]
        for values in zip(*columns, strict=True):
            given = [None if isinstance(value, Unreadable) else value for value in values]
            missing = [value is None for value, text in zip(given, is_text, strict=True) if not text]
            if any(missing) if whole else all(missing):
                filled.append(None)
            else:
                filled.append("".join("" if value is None else text_of(value) for value in given))
        return filled

    return read
