"""What of a body has been read, as a hash that another pass can check. No I/O."""

import hashlib
from collections import deque
from typing import Final

MAX_PIECES: Final = 8
"""A body that was gone on with so often without reading what comes before is read from its beginning once."""


class PrefixHash:
    """
    BLAKE2b of the bytes from the beginning of a body.

    Where a pass goes on in the middle without reading what comes before, the
    hash begins anew there: `END:HASH+HASH`, END being the offset at which a
    piece ends. The last piece ends where the cursor stands.

    Args:
        before: as `str(PrefixHash)` was at `offset`.
        offset: where the next byte stands.
    """

    def __init__(self, before: str = "", *, offset: int = 0) -> None:
        self._before = f"{_closed(before, offset)}+" if before else ""
        self._hash = hashlib.blake2b(digest_size=16)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def __str__(self) -> str:
        return self._before + self._hash.hexdigest()


class PrefixCheck:
    """
    Whether the bytes fed are those that a PrefixHash saw.

    Args:
        seen: as the cursor holds it.
        size: of what it saw, in bytes.
    """

    def __init__(self, seen: str, *, size: int) -> None:
        self._pieces = deque(piece.split(":") for piece in _closed(seen, size).split("+"))
        self._offset = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._same = True

    def feed(self, data: bytes) -> None:
        """The next bytes; none beyond `size`."""
        while data and self._pieces:
            end, expected = self._pieces[0]
            part = data[: int(end) - self._offset]
            self._hash.update(part)
            self._offset += len(part)
            data = data[len(part) :]
            if self._offset == int(end):
                self._same = self._same and self._hash.hexdigest() == expected
                self._pieces.popleft()
                self._hash = hashlib.blake2b(digest_size=16)

    @property
    def holds(self) -> bool:
        """All of them were fed, and they are the same."""
        return self._same and not self._pieces


def pieces(seen: str) -> int:
    """Of how many pieces a prefix hash consists."""
    return seen.count("+") + 1


def _closed(seen: str, end: int) -> str:
    head, plus, last = seen.rpartition("+")
    return f"{head}{plus}{end}:{last}"
