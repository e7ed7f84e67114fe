"""A host that keeps failing is left alone for a while, and then asked once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import structlog

from app.clock import monotonic, utc_now
from app.errors import SourceUnavailableError

log = structlog.get_logger()

FAILURES_TO_OPEN: Final = 5
FIRST_COOL_DOWN_SECONDS: Final = 30.0
LONGEST_COOL_DOWN_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker, to be shown."""

    host: str
    state: Literal["closed", "open", "half_open"]
    failures: int
    """In a row, those of the probes included."""
    since: datetime | None
    """When the first of these failures was noticed."""
    next_try_at: datetime | None
    """None while requests pass."""
    reason: str
    """The last failure; empty when there is none."""


class Breaker:
    """
    Closed: requests pass. Open: `check` refuses them. Half-open: one may pass, and decides.

    Only what is the host's fault counts: no connection, no answer in time, 5xx.
    A 4xx is an answer of a host that is well. Of each request that `check` let
    pass, tell exactly one of `answered`, `failed` and `abandoned`.
    """

    def __init__(
        self, host: str, *, clock: Callable[[], float] = monotonic, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.host = host
        self._clock = clock
        self._now = now
        self._failures = 0
        self._since: datetime | None = None
        self._reason = ""
        self._cool_down_seconds = 0.0
        """0 while closed."""
        self._opens_at = 0.0
        self._probe_ends_at: float | None = None

    def check(self) -> None:
        """
        Pass, or be refused; when half-open, the first to ask is the probe.

        Raises:
            SourceUnavailableError: open; `retry_after_seconds` says for how long.
        """
        if not self._cool_down_seconds:
            return
        wait = self._wait_seconds()
        if wait > 0:
            since = self._since.isoformat(timespec="seconds") if self._since else "?"
            raise SourceUnavailableError(
                f"{self.host} is not asked: {self._failures} failures in a row since {since}, the last: "
                f"{self._reason}; next try in {wait:.0f} s",
                retry_after_seconds=wait,
            )
        # A probe that nobody tells the end of does not keep the door shut for ever
        self._probe_ends_at = self._clock() + self._cool_down_seconds

    def answered(self, status: int) -> None:
        """The host answered."""
        if status >= 500:
            self.failed(f"HTTP {status}")
            return
        self._failures, self._since, self._reason = 0, None, ""
        self._cool_down_seconds, self._probe_ends_at = 0.0, None

    def failed(self, reason: str) -> None:
        """
        The host refused the connection, or did not answer in time.

        Args:
            reason: fit to be shown: no secrets.
        """
        if self._cool_down_seconds and self._probe_ends_at is None:
            return  # sent before the breaker opened: it says nothing new
        self._failures += 1
        self._since = self._since or self._now()
        self._reason = reason
        if self._failures < FAILURES_TO_OPEN:
            return
        doubled = self._cool_down_seconds * 2
        self._cool_down_seconds = min(max(doubled, FIRST_COOL_DOWN_SECONDS), LONGEST_COOL_DOWN_SECONDS)
        self._opens_at = self._clock() + self._cool_down_seconds
        self._probe_ends_at = None
        log.warning(
            "breaker_opened",
            host=self.host,
            failures=self._failures,
            reason=reason,
            wait_seconds=self._cool_down_seconds,
        )

    def abandoned(self) -> None:
        """The request was cancelled: nothing is known, and the next may probe."""
        self._probe_ends_at = None

    def state(self) -> BreakerState:
        state: Literal["closed", "open", "half_open"] = "closed"
        next_try_at = None
        if self._cool_down_seconds:
            wait = self._wait_seconds()
            state = "open" if self._clock() < self._opens_at else "half_open"
            next_try_at = self._now() + timedelta(seconds=wait)
        return BreakerState(self.host, state, self._failures, self._since, next_try_at, self._reason)

    def _wait_seconds(self) -> float:
        until = self._opens_at if self._probe_ends_at is None else self._probe_ends_at
        return max(0.0, until - self._clock())


class Breakers:
    """One breaker for each host and port, in this process."""

    def __init__(self, *, clock: Callable[[], float] = monotonic, now: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._now = now
        self._breakers: dict[str, Breaker] = {}

    def of(self, url: str) -> Breaker:
        """The breaker of the URL's host. A URL that cannot be read has one, too; it never opens by itself."""
        try:
            host = urlsplit(url).netloc.rpartition("@")[2].lower()
        except ValueError:
            host = ""
        if host not in self._breakers:
            self._breakers[host] = Breaker(host, clock=self._clock, now=self._now)
        return self._breakers[host]

    def check(self, url: str) -> None:
        """See `Breaker.check`."""
        self.of(url).check()

    def answered(self, url: str, status: int) -> None:
        self.of(url).answered(status)

    def failed(self, url: str, reason: str = "no answer") -> None:
        self.of(url).failed(reason)

    def abandoned(self, url: str) -> None:
        self.of(url).abandoned()

    def states(self) -> list[BreakerState]:
        """Those with failures, by host."""
        states = [breaker.state() for _, breaker in sorted(self._breakers.items())]
        return [state for state in states if state.failures]
