"""When to try again, and how long to wait. No I/O."""

import email.utils
import random
from dataclasses import dataclass
from datetime import datetime

from app.errors import SourceUnavailableError

# RFC 9110 §15 and RFC 6585 §4: the statuses that say "later", not "no"
RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Full jitter: a wait is drawn from [0, min(max_delay, factor · 2ⁿ)] seconds.

    Source of the method: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 4
    max_elapsed_seconds: float = 120.0
    backoff_factor_seconds: float = 0.5
    max_delay_seconds: float = 30.0

    def delay_seconds(
        self, error: SourceUnavailableError, *, attempt: int, elapsed_seconds: float, rng: random.Random
    ) -> float | None:
        """
        How long to wait before the next attempt; None to give up.

        Args:
            attempt: the one that failed, from 1.

        What the source asks for (Retry-After) is obeyed, never shortened: when it
        does not fit in the time that is left, the attempt ends here.
        """
        if attempt >= self.max_attempts:
            return None
        delay = error.retry_after_seconds
        if delay is None:
            ceiling = min(self.max_delay_seconds, self.backoff_factor_seconds * 2.0 ** (attempt - 1))
            delay = rng.uniform(0, ceiling)
        return delay if elapsed_seconds + delay <= self.max_elapsed_seconds else None


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Seconds asked for by a Retry-After header: a number, or an HTTP date (RFC 9110 §10.2.3).

    Returns:
        At least 0; None for a header that is missing, negative or junk.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        # TypeError: a date without a zone cannot be compared with now
        return None
