"""Keyset cursors: where a page ended, as text that a client hands back unread."""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus

from app.api.problems import ProblemError

MAX_CURSOR_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class PageCursor:
    source: str
    id: int
    page: int
    """Number of the page that follows."""


def filter_mark(source: str | None, search: str | None) -> str:
    """A cursor is good for the filters it was made with, and for no others."""
    return hashlib.blake2b(json.dumps([source, search]).encode(), digest_size=4).hexdigest()


def encode_cursor(cursor: PageCursor, *, mark: str) -> str:
    text = json.dumps([cursor.source, cursor.id, cursor.page, mark], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(text: str, *, mark: str) -> PageCursor:
    """
    Read a cursor back.

    Raises:
        ProblemError: 422; not one of ours, or made with other filters.
    """
    try:
        padded = text + "=" * (-len(text) % 4)
        source, row_id, page, made_with = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _broken() from None
    # bool is an int to isinstance, and no id
    if not isinstance(source, str) or type(row_id) is not int or type(page) is not int:
        raise _broken()
    if "\x00" in source or not source.isprintable() or not 0 <= row_id < 2**63 or not 0 < page < 2**63:
        raise _broken()
    if made_with != mark:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "cursor: it was made with another source or search; begin again without a cursor",
        )
    return PageCursor(source, row_id, page)


def _broken() -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: not one of ours; use next_cursor of a page as it is")
