"""How fast a source may be asked: tokens, places, and what its answers say of both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from app.clock import monotonic
from app.db.engine import Database
from app.errors import SourceUnavailableError
from app.extract.rate_headers import Budget
from app.extract.shared_tokens import Clock, SharedTokens, rate_of
from app.sources.limits import RateLimit

Sleep = Callable[[float], Awaitable[None]]

DEFAULT_CONCURRENCY: Final = 4
ROUNDING_SECONDS: Final = 1e-9
"""Shorter than any clock's tick: a wait that is only the rounding of sums."""


class Bucket:
    """
    A token bucket in one process: in any t seconds at most `burst + requests · t / per_seconds` tokens.

    Kept as one moment, the one at which it will be full again (GCRA).
    """

    def __init__(self, *, requests: int, per_seconds: float, burst: int, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._full_at = float("-inf")
        self.change(requests=requests, per_seconds=per_seconds, burst=burst)

    def change(self, *, requests: int, per_seconds: float, burst: int) -> None:
        """Another limit from now on; what was taken stays taken."""
        self._interval = per_seconds / requests
        self._slack = (burst - 1) * self._interval

    def wait_seconds(self) -> float:
        """Until there is a token; 0 when there is one."""
        wait = self._full_at - self._slack - self._clock()
        return wait if wait > ROUNDING_SECONDS else 0.0

    def take(self) -> None:
        """Take a token, be it there or not: who takes too early makes the next one wait longer."""
        self._full_at = max(self._full_at, self._clock()) + self._interval


class Pace:
    """What a source's answers say of its limit: never faster than configured, slower when little is left."""

    def __init__(self, *, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._not_before = float("-inf")
        self._interval = 0.0
        self._until = float("-inf")

    def learn(self, budget: Budget, *, requests: int) -> None:
        """
        Spread what remains over the time that it must last.

        Args:
            requests: the configured limit, for a server that does not tell its own.
        """
        now = self._clock()
        self._interval = 0.0
        if budget.remaining == 0:
            # Never earlier than an answer said before: answers overtake one another
            self._not_before = max(self._not_before, now + budget.reset_seconds)
        elif budget.remaining * 10 < (budget.limit or requests):
            self._interval = budget.reset_seconds / budget.remaining
            self._until = now + budget.reset_seconds

    def wait_seconds(self) -> float:
        wait = self._not_before - self._clock()
        return wait if wait > ROUNDING_SECONDS else 0.0

    def take(self) -> None:
        now = self._clock()
        if now < self._until:
            self._not_before = max(self._not_before, now + self._interval)


class Line:
    """Those who wait for the tokens of one bucket, in the order in which they came."""

    def __init__(self, limit: RateLimit, *, shared: SharedTokens | None, clock: Clock, sleep: Sleep) -> None:
        self._limit = limit
        self._limits: dict[str, RateLimit] = {}
        self._bucket = Bucket(**rate_of(limit), clock=clock)
        self._shared = shared
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self.pace = Pace(clock=clock)

    def join(self, source: str, limit: RateLimit) -> None:
        """Let a source in, or change its limit; of several limits of one bucket the slowest holds."""
        self._limits[source] = limit
        self._choose()

    def leave(self, source: str) -> None:
        self._limits.pop(source, None)
        self._choose()

    def _choose(self) -> None:
        self._limit = min(self._limits.values(), key=lambda limit: limit.requests / limit.per, default=self._limit)
        self._bucket.change(**rate_of(self._limit))

    async def wait(self, *, longest_seconds: float) -> None:
        """Leave with a token. Cancelled before, it has taken none: tokens are taken after the last await."""
        async with self._turn:
            while (wait := await self._wait_seconds(longest_seconds)) > 0:
                await self._sleep(wait)
            for taken_from in (self._bucket, self.pace, self._shared):
                if taken_from is not None:
                    taken_from.take()

    async def _wait_seconds(self, longest_seconds: float) -> float:
        while True:
            learned = self.pace.wait_seconds()
            if learned > longest_seconds:
                raise SourceUnavailableError(
                    f"the source says that its limit is used up for another {learned:.0f} s",
                    retry_after_seconds=learned,
                )
            if self._shared is None or self._shared.is_offline:
                return max(learned, self._bucket.wait_seconds())
            # Asked only when a token can be used at once: it may be another process's turn until then
            if learned > 0:
                return learned
            shared = self._shared.wait_seconds()
            if shared is not None:
                return shared
            await self._shared.fill(self._limit)

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()


@dataclass(frozen=True, slots=True)
class Limiter:
    """One source's right to ask."""

    places: asyncio.Semaphore
    line: Line | None
    """None: no `rate_limit`, nothing but places."""
    limit: RateLimit | None
    longest_seconds: float
    clock: Clock

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """
        A place and a token, for one request; yields the seconds waited for both.

        Raises:
            SourceUnavailableError: the source's own headers say to wait longer
                than `max_retry_after`; `retry_after_seconds` says how long.
        """
        began = self.clock()
        async with self.places:
            # The token last: one that waits for a place would be used late, beside the next ones
            if self.line is not None:
                await self.line.wait(longest_seconds=self.longest_seconds)
            yield self.clock() - began

    @property
    def concurrency(self) -> int:
        """Requests that may be in flight."""
        return self.limit.concurrency if self.limit is not None else DEFAULT_CONCURRENCY

    def learn(self, budget: Budget | None) -> None:
        """Heed what the headers of an answer say, unless `respect_headers` is off; None: they say nothing."""
        if budget is None or self.line is None or self.limit is None:
            return
        if self.limit.respect_headers:
            self.line.pace.learn(budget, requests=self.limit.requests)


class Limiters:
    """
    The limiters of this process; sources that name the same bucket wait in one line.

    Args:
        database: shares the named buckets with other processes; None keeps them in this one.
    """

    def __init__(
        self, database: Database | None = None, *, clock: Clock = monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._database = database
        self._clock = clock
        self._sleep = sleep
        self._limiters: dict[str, Limiter] = {}
        self._lines: dict[tuple[bool, str], Line] = {}

    def of(self, source: str, limit: RateLimit | None, *, longest_seconds: float = 300.0) -> Limiter:
        """
        The source's limiter; the same one until its limit changes.

        Args:
            longest_seconds: `max_retry_after`, for waits that the source's headers ask for.
        """
        known = self._limiters.get(source)
        if known is not None and (known.limit, known.longest_seconds) == (limit, longest_seconds):
            return known
        if known is not None and known.line is not None:
            known.line.leave(source)
        places = asyncio.Semaphore(limit.concurrency if limit is not None else DEFAULT_CONCURRENCY)
        line = self._line(source, limit) if limit is not None else None
        limiter = self._limiters[source] = Limiter(places, line, limit, longest_seconds, self._clock)
        return limiter

    def _line(self, source: str, limit: RateLimit) -> Line:
        key = (limit.bucket is not None, limit.bucket or source)
        if key not in self._lines:
            shared = None
            if limit.bucket is not None and self._database is not None:
                shared = SharedTokens(self._database, limit.bucket, clock=self._clock)
            self._lines[key] = Line(limit, shared=shared, clock=self._clock, sleep=self._sleep)
        self._lines[key].join(source, limit)
        return self._lines[key]

    async def close(self) -> None:
        """Wait for tokens that are being fetched, before the database is closed."""
        for line in self._lines.values():
            await line.close()
