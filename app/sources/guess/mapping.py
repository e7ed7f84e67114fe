"""Which field becomes which column, and why; and which could be a cursor. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.sources.guess.columns import Column
from app.sources.guess.forms import Form, number_form, time_form

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "name": (
        "name", "title", "full_name", "display_name", "label", "headline", "subject", "product_name", "product",
        "username", "user_name", "login", "first_name", "customer", "kunde", "bezeichnung", "titel", "nom", "nombre",
    ),
    "value": (
        "value", "price", "unit_price", "amount", "total", "total_amount", "cost", "balance", "sum", "quantity", "qty",
        "count", "score", "rating", "population", "preis", "betrag", "summe", "wert", "prix", "precio",
    ),
    "description": (
        "description", "body", "summary", "content", "text", "abstract", "details", "notes", "note", "comment",
        "comments", "message", "about", "bio", "beschreibung",
    ),
    "created_at": (
        "created_at", "created", "date_created", "created_on", "created_date", "creation_date", "created_time",
        "create_time", "inserted_at", "published_at", "published", "publish_date", "pub_date", "timestamp", "date",
    ),
    "updated_at": (
        "updated_at", "updated", "last_updated", "date_updated", "updated_on", "update_time", "modified_at",
        "modified", "last_modified", "date_modified", "modified_on", "last_modified_at", "changed_at", "stand",
    ),
}  # fmt: skip
_ENDINGS: Final[dict[str, tuple[str, ...]]] = {
    "name": ("_name", "_title"),
    "value": ("_price", "_amount", "_total", "_value", "_cost", "_count"),
    "description": ("_description", "_text", "_summary"),
    "created_at": ("_created_at",),
    "updated_at": ("_updated_at",),
}
_REFERENCE: Final = re.compile(r"(.+_)?(id|ids|uuid|key|code|zip|year|phone|lat|lng|latitude|longitude)")
USUAL_SHARE: Final = 0.5
"""A field that fewer records have is proposed last."""


@dataclass(slots=True)
class MappingGuess:
    mapping: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """By column."""
    left: list[str] = field(default_factory=list)
    """Lines to write instead of what could not be told."""


@dataclass(frozen=True, slots=True)
class CursorCandidate:
    path: str
    share: float
    """Of the records that have it."""
    order: str
    """Of the sample: ascending, descending, or none."""


def guess_mapping(columns: Sequence[Column], *, key: Sequence[str]) -> MappingGuess:
    """
    Args:
        key: the paths of the primary key, which become no other column.
    """
    guess = MappingGuess()
    free = [column for column in columns if column.path not in key and column.is_scalar]
    for target in ("updated_at", "created_at", "name", "description", "value"):
        found = next(((column, form) for column in _ranked(free, target) if (form := _form(column, target))), None)
        reason = "by its name"
        if found is None and target == "value":
            found, reason = _only_number(free), "the only number that is no reference"
        if found is None:
            continue
        column, form = found
        free.remove(column)
        _take(guess, target, column, form, reason)
    return guess


def cursor_candidates(columns: Sequence[Column]) -> list[CursorCandidate]:
    """Times of change, by which an API may be asked for what changed."""
    named = _ranked([column for column in columns if column.is_scalar], "updated_at")
    times = [column for column in named if time_form(column.present) is not None]
    return [CursorCandidate(column.path, column.share, _order(column.present)) for column in times]


def _take(guess: MappingGuess, target: str, column: Column, form: Form, reason: str) -> None:
    told = f"{reason}; in {column.share:.0%} of the records" + (f"; {form.note}" if form.note else "")
    if form.missing:
        guess.left.append(f"{target}: {column.path} ({reason}) is not mapped: {form.missing}")
        return
    # A type that the column has anyway needs no word
    options = {name: value for name, value in form.options.items() if (name, value) != ("type", "datetime")}
    guess.mapping[target] = {"path": column.path, **options} if options else column.path
    guess.reasons[target] = told


def _ranked(columns: Sequence[Column], target: str) -> list[Column]:
    """Those whose name fits, the best first."""
    usual, endings = _NAMES[target], _ENDINGS[target]

    def rank(column: Column) -> int | None:
        if column.name in usual:
            return usual.index(column.name)
        return len(usual) if column.name.endswith(endings) else None

    ranks = [
        (column.share < USUAL_SHARE, column.depth, at, column) for column in columns if (at := rank(column)) is not None
    ]
    return [column for *_, column in sorted(ranks, key=lambda item: item[:3])]


def _form(column: Column, target: str) -> Form | None:
    """How the column is to be read for the target; None where it does not fit."""
    if target in {"created_at", "updated_at"}:
        return time_form(column.present)
    if target == "value":
        return number_form(column.present)
    return None if any(isinstance(value, bool) for value in column.present) else Form()


def _only_number(columns: Sequence[Column]) -> tuple[Column, Form] | None:
    numbers = [
        (column, form)
        for column in columns
        if column.depth == 0
        and not _REFERENCE.fullmatch(column.name)
        and (form := number_form(column.present))
        and time_form(column.present) is None
    ]
    return numbers[0] if len(numbers) == 1 else None


def _order(values: Sequence[Any]) -> str:
    try:
        if len(values) > 1 and list(values) == sorted(values):
            return "ascending"
        if len(values) > 1 and list(values) == sorted(values, reverse=True):
            return "descending"
    except TypeError:
        pass
    return "in no order"
