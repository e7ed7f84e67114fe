"""As much of PostgreSQL's protocol 3.0 as it takes to see a COMMIT pass (documentation, chapter 55)."""

import re
from typing import Final

QUERY, PARSE = b"Q"[0], b"P"[0]
TEXT_BYTES: Final = 256
"""Of a statement are kept: a COMMIT is shorter."""
_COMMIT: Final = re.compile(rb"\s*(?:COMMIT|END)\b", re.IGNORECASE)


class FrontendStream:
    """
    What a client sends on one connection, however it is cut into chunks.

    A statement is seen in a Query, or in the Parse of an extended one: a COMMIT that was prepared before
    and is only executed again would be missed. asyncpg sends it as a Query.
    """

    def __init__(self) -> None:
        self._begun = False
        """The first message, which has no type, is past."""
        self._head = bytearray()
        """Type and length of the message at hand, then the beginning of its text."""
        self._left: int | None = None
        """Bytes of the message at hand that are still to come; None: its length is not known yet."""

    def feed(self, chunk: bytes) -> int:
        """How many COMMITs end in this chunk."""
        commits, at = 0, 0
        while at < len(chunk):
            size = 5 if self._begun else 4
            if self._left is None:
                taken = chunk[at : at + size - len(self._head)]
                self._head += taken
                at += len(taken)
                if len(self._head) < size:
                    break
                self._left = int.from_bytes(self._head[size - 4 :], "big") - 4
            body = chunk[at : at + self._left]
            self._head += body[: max(0, TEXT_BYTES - len(self._head))]
            self._left -= len(body)
            at += len(body)
            if self._left == 0:
                commits += self._begun and self._is_commit()
                self._begun, self._left = True, None
                self._head.clear()
        return commits

    def _is_commit(self) -> bool:
        kind, text = self._head[0], bytes(self._head[5:])
        if kind == PARSE:  # the statement's name comes first
            text = text.partition(b"\0")[2]
        return kind in {QUERY, PARSE} and _COMMIT.match(text) is not None
