"""Keyset cursors: where a page ended, as text that a client hands back unread."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from app.api.problems import ProblemError
from app.db.data_query import NULLABLE, Order
from app.operations.patterns import MAX_PACKED
from app.operations.questions import read_value

MAX_TEXT: Final = 2000
"""Characters of a value in a cursor: as many as a condition may have."""


@dataclass(frozen=True, slots=True)
class PageCursor:
    seen: int
    """Rows before the page that follows: pages may have other sizes before and after it."""
    values: tuple[Any, ...]
    """Of the last row already seen: those of the columns that the order names."""


def encode_cursor(cursor: PageCursor, *, made_for: Sequence[Any]) -> str | None:
    """
    Args:
        made_for: filters and order, as JSON takes them; it is good for these, and for no others.

    Returns:
        None: the values are too long for an address.
    """
    if any(isinstance(value, str) and len(value) > MAX_TEXT for value in cursor.values):
        return None
    texts = [value.isoformat() if isinstance(value, datetime) else value for value in cursor.values]
    values = base64.urlsafe_b64encode(json.dumps(texts, ensure_ascii=False).encode()).decode().rstrip("=")
    # A character may take six bytes here, so that two texts of the length that one may have can be too much
    if len(values) > MAX_PACKED:
        return None
    body = f"{cursor.seen}-{values}"
    return f"{_seal(body, made_for)}-{body}"


def decode_cursor(text: str, *, order: Sequence[Order], made_for: Sequence[Any]) -> PageCursor:
    """
    Read a cursor back that fits `patterns.CURSOR`.

    Raises:
        ProblemError: 409; it was made with other filters, or not by us.
    """
    seal, _, body = text.partition("-")
    if seal != _seal(body, made_for):
        raise ProblemError(
            HTTPStatus.CONFLICT,
            "cursor: it was made with other filters, or another search or sort; use next_cursor of a page as it is, "
            "or begin without",
        )
    seen, _, packed = body.partition("-")
    try:
        values = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        read = [_read(item.column, value) for item, value in zip(order, values, strict=True)]
    except (ValueError, TypeError, RecursionError) as error:
        raise ProblemError(HTTPStatus.CONFLICT, "cursor: not one of ours; begin without") from error
    return PageCursor(int(seen), tuple(read))


def _read(column: str, value: Any) -> Any:
    if value is None and column in NULLABLE:
        return None
    return read_value(column, value)


def _seal(body: str, made_for: Sequence[Any]) -> str:
    """No secret: it tells a cursor that was mixed up from one that was not."""
    return hashlib.blake2b(json.dumps([body, *made_for]).encode(), digest_size=8).hexdigest()
