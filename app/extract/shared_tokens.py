"""A bucket that all processes share, as one of them sees it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypedDict

import structlog

from app.db import buckets
from app.db.engine import Database
from app.errors import ConfigError, StoreError
from app.sources.limits import RateLimit

log = structlog.get_logger()

Clock = Callable[[], float]

LONGEST_FETCH_SECONDS: Final = 5.0
OFFLINE_SECONDS: Final = 10.0
"""Between two questions to a database that does not answer."""


class Rate(TypedDict):
    requests: int
    per_seconds: float
    burst: int


def rate_of(limit: RateLimit) -> Rate:
    return {"requests": limit.requests, "per_seconds": limit.per, "burst": limit.burst or limit.requests}


class SharedTokens:
    """
    Tokens of a bucket that all processes share, fetched from the database in small groups.

    Each has the moment from which it may be used, and is thrown away `grace`
    seconds later: tokens kept for a rainy day would add up to a flood. What may
    come that late is taken off the burst, so that the processes together stay
    within `burst + requests` in any `per`.
    """

    def __init__(self, database: Database, name: str, *, clock: Clock) -> None:
        self._database = database
        self._name = name
        self._clock = clock
        self._due: deque[float] = deque()
        self._want = 1
        self._used = 0
        self._grace_seconds = 0.0
        self._filling: asyncio.Task[None] | None = None
        self._offline_until = float("-inf")

    @property
    def is_offline(self) -> bool:
        """The database did not answer just now."""
        return self._clock() < self._offline_until

    def wait_seconds(self) -> float | None:
        """Until a token may be used; None when there is none to wait for: `fill` first."""
        now = self._clock()
        while self._due and self._due[0] + self._grace_seconds < now:
            self._due.popleft()
            # More was asked for than could be used: the others would have had it
            self._want = max(1, self._used)
        if not self._due:
            return None
        return max(0.0, self._due[0] - now)

    def take(self) -> None:
        if self._due:
            self._due.popleft()
            self._used += 1

    async def fill(self, limit: RateLimit) -> None:
        """Fetch a group. Whoever waits may be cancelled; what is fetched is then the next one's."""
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill(limit))
        filling = self._filling
        await asyncio.wait({filling})
        self._filling = None
        filling.result()

    async def _fill(self, limit: RateLimit) -> None:
        rate = rate_of(limit)
        slack = (rate["burst"] - 1) * limit.per / limit.requests
        # 20 ms: a loop that is busy elsewhere comes that late, and would never meet a shorter grace
        self._grace_seconds = min(0.1, max(slack / 2, 0.02))
        # What the burst cannot pay for, the rate does
        rate["per_seconds"] += max(0.0, self._grace_seconds - slack)
        interval = rate["per_seconds"] / rate["requests"]
        # A tenth of a second's worth: at most ten statements a second, whatever the limit
        most = max(1, min(100, int(0.1 / interval)))
        want = self._want = max(1, min(self._want, most))
        try:
            async with asyncio.timeout(LONGEST_FETCH_SECONDS):
                wait = await buckets.take(self._database, self._name, **rate, want=want)
        except (StoreError, ConfigError, TimeoutError) as error:
            log.warning("bucket_unavailable", bucket=self._name, reason=str(error) or "no answer in time")
            self._offline_until = self._clock() + OFFLINE_SECONDS
            return
        wait += min(self._grace_seconds, slack)
        now = self._clock()
        self._due.extend(now + max(0.0, wait + number * interval) for number in range(want))
        self._want, self._used = want * 2, 0

    async def close(self) -> None:
        if self._filling is not None:
            await asyncio.wait({self._filling})
