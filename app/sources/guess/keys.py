"""Which field names a record? Candidates with their uniqueness in a sample. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

from app.sources.guess.columns import Column

USUAL: Final = ("id", "uuid", "guid", "key", "code", "slug", "sku", "isbn", "ean", "number", "no", "nr")
_LIKE_A_KEY: Final = re.compile(r"(.+_)?(id|uuid|guid|key|code|sku|number|no|nr)")
_DECIMAL_OR_MOMENT: Final = re.compile(r"[+-]?\d*[.,]\d+|\d{4}-\d\d-\d\d.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*")
AMOUNTS: Final = frozenset(
    {"value", "price", "amount", "total", "cost", "balance", "sum", "quantity", "qty", "count", "score", "rating"}
)
"""Of records: they may be unique in a sample, and name nothing."""
MAX_CHARACTERS: Final = 200
"""Longer texts are no names of records."""
MOST_JOINED: Final = 8
"""Columns of which pairs are tried."""


@dataclass(frozen=True, slots=True)
class KeyGuess:
    paths: tuple[str, ...] = ()
    """Empty: nothing in the sample names its records."""
    reason: str = ""
    doubts: list[str] = field(default_factory=list)
    """What speaks against it, or against fields that one would have taken."""
    others: list[str] = field(default_factory=list)
    """Other fields that are unique in the sample."""
    is_named: bool = True
    """A field has the name of a key."""


def guess_key(columns: Sequence[Column], *, resource: str, records: int, is_single: bool = False) -> KeyGuess:
    """
    The field whose values are there in every record of the sample, and differ, by the order of usual names.

    Args:
        resource: whose `_id` is a usual name, too.
        records: in the sample.
        is_single: there is one record, in which everything is unique: its own fields go before those inside them.
    """
    scalar = [column for column in columns if column.is_scalar and not _is_boolean(column)]
    ranked = sorted(scalar, key=lambda column: (is_single and column.depth > 0, _rank(column, resource), column.depth))
    doubts = [
        f"{column.path} is no key: {_fault(column, records)}"
        for column in ranked
        if _rank(column, resource) < len(USUAL) + 2 and column.depth == 0 and _fault(column, records)
    ]
    unique = [column for column in ranked if not _fault(column, records) and _may_be_a_key(column)]
    if not unique:
        return _joined(scalar, doubts, records)
    best, *rest = unique
    is_named = _is_named(best)
    if not is_named:
        doubts.append(f"{best.path} has no name of a key, and may repeat beyond the sample")
    if records < 2:
        doubts.append("one record proves nothing about what is unique")
    others = [one.path for one in rest[:5]]
    return KeyGuess((best.path,), f"unique in {records} of {records} records", doubts, others, is_named)


def _rank(column: Column, resource: str) -> int:
    name, singular = column.name, resource.lower().removesuffix("s")
    if name in USUAL[:5]:
        return USUAL.index(name)
    if name in {f"{resource.lower()}_id", f"{singular}_id", f"{singular}id"}:
        return 5
    if name in USUAL:
        return 1 + USUAL.index(name)
    # A reference to another record is unique in small samples, too
    return len(USUAL) + (2 if _LIKE_A_KEY.fullmatch(name) else 3)


def _fault(column: Column, records: int) -> str | None:
    present = [value for value in column.present if value != ""]
    if len(present) < records:
        return f"missing in {records - len(present)} of {records} records"
    repeated = len(present) - len(set(map(str, present)))
    return f"repeated in {repeated} of {records} records" if repeated else None


def _may_be_a_key(column: Column) -> bool:
    if column.name in AMOUNTS:
        return False
    return all(not _is_amount_or_moment(value) and len(str(value)) <= MAX_CHARACTERS for value in column.present)


def _is_named(column: Column) -> bool:
    return column.name in USUAL or _LIKE_A_KEY.fullmatch(column.name) is not None


def _is_amount_or_moment(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL_OR_MOMENT.fullmatch(value.strip()) is not None
    return isinstance(value, float)


def _is_boolean(column: Column) -> bool:
    return any(isinstance(value, bool) for value in column.present)


def _joined(columns: Sequence[Column], doubts: list[str], records: int) -> KeyGuess:
    whole = [column for column in columns if len(column.present) == records and _may_be_a_key(column)][:MOST_JOINED]
    for first, second in _pairs(whole):
        if len(set(zip(map(str, first.values), map(str, second.values), strict=True))) == records:
            reason = f"only together unique, in {records} of {records} records"
            doubts = [*doubts, "two fields may meet again beyond the sample"]
            is_named = _is_named(first) or _is_named(second)
            return KeyGuess((first.path, second.path), reason, doubts, is_named=is_named)
    return KeyGuess(doubts=doubts)


def _pairs(columns: Sequence[Column]) -> Iterator[tuple[Column, Column]]:
    """Those with names of keys first."""
    yield from sorted(
        combinations(columns, 2), key=lambda pair: sum(not _LIKE_A_KEY.fullmatch(column.name) for column in pair)
    )
