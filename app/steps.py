"""Steps of work that hold the event loop for moments: made at once while they are short, else in a thread."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from app.clock import monotonic

T = TypeVar("T")

SHORT_SECONDS: Final = 0.02
"""Whoever waits for the event loop waits no longer. A thread is no gift either: it takes turns with the loop (one
interpreter lock), which then waits some milliseconds for its turn after whatever it sends."""


class Steps:
    """The same work on one piece after another, each taking about as long as those before it; the first is small."""

    def __init__(self) -> None:
        self._seconds = 0.0
        """What a step takes: the last one, or half of what was expected of it."""

    async def do(self, work: Callable[..., T], *given: Any, **options: Any) -> T:
        """What the work gives."""
        await asyncio.sleep(0)
        step = partial(self._timed, work, *given, **options)
        return step() if self._seconds <= SHORT_SECONDS else await asyncio.to_thread(step)

    def _timed(self, work: Callable[..., T], *given: Any, **options: Any) -> T:
        began = monotonic()
        try:
            return work(*given, **options)
        finally:
            self._seconds = max(monotonic() - began, self._seconds / 2)
