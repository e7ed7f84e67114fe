"""What a replay decides about a stretch of raw rows, and of what. Pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from app.records import KEY_TAKEN, Counts, DeletedRows, HeldRow, LandedRow, NormalizedRows, Note, RawVerdict, Rejection


class Values(NamedTuple):
    """The columns of a normalized row."""

    name: str
    value: float | None
    description: str | None
    created_at: datetime | None
    updated_at: datetime | None


class Fresh(NamedTuple):
    """What a raw row normalizes to now."""

    source_id: str | None
    """None: it has no key."""
    rejection: Rejection | None = None
    filtered: bool = False
    deleted: bool = False
    values: Values | None = None
    """None: it is not loaded."""
    notes: tuple[Note, ...] = ()
    left: bool = False
    """It cannot be read any more, and is left as it is."""


class Contest(NamedTuple):
    """Of the keys that rows of the stretch are new to: raw rows further on that hold one now."""

    staying: AbstractSet[int]
    """They keep it."""
    leaving: AbstractSet[int]
    """They will have another one, or none."""


@dataclass(slots=True)
class Replan:
    """What is to be written of a stretch."""

    counts: Counts
    changed_rows: NormalizedRows = field(default_factory=NormalizedRows)
    """Without ids; they are given where a key is new."""
    deleted_rows: DeletedRows = field(default_factory=DeletedRows)
    verdicts: list[RawVerdict] = field(default_factory=list)
    resurrected: int = 0
    moved: dict[str, str] = field(default_factory=dict)
    """Keys that their records gave up, each with the one that the record has now."""


def contested(rows: Sequence[LandedRow], fresh: Sequence[Fresh], held: Mapping[str, HeldRow]) -> set[int]:
    """Raw rows beyond the stretch whose keys rows of it would take."""
    last = rows[-1].id if rows else 0
    return {
        there.raw_id
        for row, new in zip(rows, fresh, strict=True)
        if new.source_id is not None
        and (new.source_id != row.source_id or is_other(row, new.source_id))
        and new.rejection is None
        and (there := held.get(new.source_id or "")) is not None
        and there.raw_id > last
    }


def is_other(row: LandedRow, key: str) -> bool:
    """Whether it is a record of its own, and no other version of the one that had this key."""
    moves = row.source_id is not None and row.source_id != key
    return moves or (row.rejection is not None and row.rejection.code == KEY_TAKEN.code)


def is_same(values: Values, there: HeldRow) -> bool:
    """A time that the source does not give is none that differs."""
    return (
        values.name == there.name
        and values.value == there.value
        and values.description == there.description
        and (values.created_at is None or values.created_at == there.created_at)
        and (values.updated_at is None or values.updated_at == there.updated_at)
    )
