"""What a batch has decided of a record so far. Pure."""

from datetime import datetime
from typing import NamedTuple

from app.records import CurrentRow


class Version(NamedTuple):
    """The version of a record that this batch will write, so far."""

    at: int
    """Its index among the normalized."""
    row_id: int
    raw_id: int
    content_hash: bytes
    updated_at: datetime | None
    raw_at: int | None
    """Its index among the raw rows; None when its bytes are landed already."""


class Deletion(NamedTuple):
    """The record that says that its record was deleted."""

    raw_id: int
    content_hash: bytes
    updated_at: datetime | None
    raw_at: int
    """Its index among the raw rows."""


def is_outdated(
    updated_at: datetime | None,
    earlier: Version | None,
    there: CurrentRow | None,
    deletion: Deletion | None = None,
) -> bool:
    """
    Older, by the source's own time, than what is there. A record without such a time never is.

    Args:
        earlier: what this batch has made of it so far, or ...
        deletion: ... that it is gone; either counts before what is there.
    """
    if updated_at is None:
        return False
    if deletion is not None:
        return deletion.updated_at is not None and updated_at < deletion.updated_at
    if earlier is not None:
        return earlier.updated_at is not None and updated_at < earlier.updated_at
    return there is not None and there.dated_by_source and updated_at < there.updated_at
