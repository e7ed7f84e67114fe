"""What a run asked of its source, request by request."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

KEPT_REQUESTS: Final = 100
"""Of a run's first requests, and as many of its last."""


@dataclass(slots=True)
class AskedRequest:
    """One request, as it was sent; a redirect that is followed, and each further try, is one of its own."""

    number: int
    """From 1, in the order in which they were sent."""
    at: datetime
    method: str
    """READ for a file on disk."""
    url: str
    """Without user, password, and values of parameters that sound secret."""
    attempt: int
    """From 1: which try of the same."""
    status: int | None = None
    """None when no answer came, and of a file on disk."""
    bytes: int = 0
    """Of the body, as far as it was read; not of an error's."""
    seconds: float = 0.0
    """Spent waiting for the answer and its body."""
    error: str | None = None
    """Why no answer came."""
    page: int | None = None
    """The first page of the pass that its answer brought; None when nothing of it was used."""
    last_page: int | None = None

    def brings(self, page: int) -> None:
        """Its answer brought this page; they come in order."""
        self.page = page if self.page is None else self.page
        self.last_page = page

    def as_json(self, hide: Callable[[str], str]) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in self.__slots__}
        return shown | {"at": self.at.isoformat(), "url": hide(self.url), "seconds": round(self.seconds, 3)}


@dataclass(slots=True)
class RequestLedger:
    """The first and the last requests of a run, each KEPT_REQUESTS at most."""

    count: int = 0
    _first: list[AskedRequest] = field(default_factory=list)
    _last: deque[AskedRequest] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))

    def add(self, *, at: datetime, method: str, url: str, attempt: int = 1) -> AskedRequest:
        """
        Args:
            url: fit to be shown.
        """
        self.count += 1
        asked = AskedRequest(self.count, at, method, url, attempt)
        (self._first if len(self._first) < KEPT_REQUESTS else self._last).append(asked)
        return asked

    def as_json(self, hide: Callable[[str], str]) -> dict[str, Any]:
        """
        For `etl_runs.request_ledger`.

        Args:
            hide: takes what else is secret out of a URL.
        """
        kept = [asked.as_json(hide) for asked in (*self._first, *self._last)]
        return {"requests": kept, "left_out": self.count - len(kept)}
