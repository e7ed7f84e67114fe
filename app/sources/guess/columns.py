"""Records of a sample → what each field holds, named as a mapping names it. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.sources.json_paths import members, path_of

MAX_DEPTH: Final = 3
"""Of objects within objects; lists are not looked into."""
MAX_COLUMNS: Final = 500
"""Wider records are looked at as far as this."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_OTHER: Final = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Column:
    path: str
    """As a mapping names it: JMESPath, or the text of a header."""
    name: str
    """The last part of it, in lower case, words joined by `_`: to be compared with usual names."""
    values: Sequence[Any]
    """Of each record; None where there is none, and for blank cells."""
    depth: int = 0

    @property
    def present(self) -> list[Any]:
        return [value for value in self.values if value is not None]

    @property
    def share(self) -> float:
        """Of the records that have a value, from 0 to 1."""
        return len(self.present) / len(self.values) if self.values else 0.0

    @property
    def is_scalar(self) -> bool:
        """It holds texts, numbers or booleans, and something at all."""
        present = self.present
        return bool(present) and all(isinstance(value, str | int | float) for value in present)


def columns_of_objects(records: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The fields of JSON objects, those of objects inside them too, in the order in which they come."""
    values: dict[tuple[str, ...], list[Any]] = {}
    for at, record in enumerate(records):
        for path, value in members(record, MAX_DEPTH):
            if path not in values and (len(values) >= MAX_COLUMNS or not all(map(_can_be_named, path))):
                continue
            values.setdefault(path, [None] * len(records))[at] = value
    return [Column(path_of(path), plain_name(path[-1]), column, len(path) - 1) for path, column in values.items()]


def columns_of_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Column]:
    """The columns of a table of texts; rows of another width are left out."""
    whole = [row for row in rows if len(row) == len(header)]
    return [
        Column(title, plain_name(title), [row[at] if row[at].strip() else None for row in whole])
        for at, title in enumerate(header[:MAX_COLUMNS])
    ]


def plain_name(text: str) -> str:
    """`createdAt`, `Created At` and `created-at` are one name."""
    return _OTHER.sub("_", _HUMP.sub("_", text).lower()).strip("_")


def _can_be_named(key: str) -> bool:
    """Whether a file in UTF-8 can hold it: it is no empty text, and has no lone surrogate."""
    try:
        return bool(key.encode())
    except UnicodeEncodeError:
        return False
