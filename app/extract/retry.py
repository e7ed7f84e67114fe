"""When to try again, and how long to wait. No I/O."""

import email.utils
import random
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, Self

from app.errors import SourceUnavailableError
from app.sources.limits import Retry

StatusCodes = Collection[int | Literal["5xx", "4xx"]]

# RFC 9110 §15 and RFC 6585 §4: the statuses that say "later", not "no"
RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

_NUMBER: Final = re.compile(r"\+?\d+(\.\d*)?", re.ASCII)
# RFC 9110 §5.6.7, the two obsolete forms of a date; both are in UTC
_RFC850: Final = re.compile(r"[A-Za-z]+, (\d\d)-([A-Za-z]{3})-(\d\d) (\d\d:\d\d:\d\d) GMT", re.ASCII)
_ASCTIME: Final = re.compile(r"[A-Za-z]{3} ([A-Za-z]{3}) +(\d\d?) (\d\d:\d\d:\d\d) (\d{4})", re.ASCII)
_EPOCH: Final = 1e9
_EPOCH_MILLISECONDS: Final = 1e11
_NO_TIME: Final = 1e14
_LONGEST_SECONDS: Final = 999_999_999.0


class Decision(NamedTuple):
    """What follows a failed attempt."""

    action: Literal["retry", "reschedule", "give_up"]
    """`reschedule`: the source named a time that is too far off to wait for; come back then."""
    seconds: float = 0.0
    """To wait; 0 with `give_up`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Full jitter: a wait is drawn from [0, min(max_delay, factor · 2ⁿ)] seconds; without jitter it is the upper end.

    Source of the method: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_attempts: int = 4
    max_elapsed_seconds: float = 120.0
    backoff_factor_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    jitter: Literal["full", "none"] = "full"
    status_codes: StatusCodes = RETRIABLE_STATUSES
    respect_retry_after: bool = True
    max_retry_after_seconds: float = 300.0

    @classmethod
    def of(cls, retry: Retry) -> Self:
        """As a source file's `[retry]` says."""
        return cls(
            max_attempts=retry.max_attempts,
            max_elapsed_seconds=retry.max_elapsed,
            backoff_factor_seconds=retry.backoff_factor,
            max_delay_seconds=retry.max_delay,
            jitter=retry.jitter,
            status_codes=retry.status_codes,
            respect_retry_after=retry.respect_retry_after,
            max_retry_after_seconds=retry.max_retry_after,
        )

    def is_retriable(self, status: int) -> bool:
        return is_retriable(status, self.status_codes)

    def decide(
        self, error: SourceUnavailableError, *, attempt: int, elapsed_seconds: float, rng: random.Random
    ) -> Decision:
        """
        Whether to try again in this turn, later, or not.

        Args:
            attempt: the one that failed, from 1.

        What the source asks for (Retry-After) is obeyed, never shortened: when it
        is longer than `max_retry_after_seconds`, or than the time that is left,
        the turn ends here and the scheduler comes back then.
        """
        asked = error.retry_after_seconds if self.respect_retry_after else None
        left = self.max_elapsed_seconds - elapsed_seconds
        if asked is not None and asked > self.max_retry_after_seconds:
            return Decision("reschedule", asked)
        if attempt >= self.max_attempts:
            return Decision("give_up")
        if asked is not None:
            return Decision("retry" if asked <= left else "reschedule", asked)
        delay = self._backoff_seconds(attempt, rng)
        return Decision("retry", delay) if delay <= left else Decision("give_up")

    def _backoff_seconds(self, attempt: int, rng: random.Random) -> float:
        ceiling = min(self.max_delay_seconds, self.backoff_factor_seconds * 2.0 ** (attempt - 1))
        return ceiling if self.jitter == "none" else rng.uniform(0, ceiling)


def is_retriable(status: int, codes: StatusCodes) -> bool:
    """Whether a status is among `codes`, one by one or by class."""
    classes: dict[int, Literal["5xx", "4xx"]] = {4: "4xx", 5: "5xx"}
    return status in codes or classes.get(status // 100) in codes


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """
    Seconds asked for by a Retry-After header (RFC 9110 §10.2.3), and by what is seen in its place.

    A number is seconds, be it "1.5" (Shopify) or "+5"; from 10⁹ on it is a moment,
    in seconds or milliseconds since 1970. A date may have any of the three forms
    of RFC 9110 §5.6.7.

    Returns:
        At least 0, which is what a moment in the past gives, at most 999,999,999.
        Nothing is cut to a reasonable wait: the caller reschedules.
        None for a header that is missing, negative or junk: our own backoff
        decides, where 0 would mean asking again at once.
    """
    text = (value or "").strip()
    if _NUMBER.fullmatch(text):
        return min(_seconds_of(float(text), now), _LONGEST_SECONDS)
    try:
        moment = email.utils.parsedate_to_datetime(_modern_date(text, now))
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        # TypeError: a date without a zone cannot be compared with now
        return None


def _seconds_of(number: float, now: datetime) -> float:
    if number < _EPOCH or number >= _NO_TIME:
        return number
    moment = number if number < _EPOCH_MILLISECONDS else number / 1000
    return max(0.0, moment - now.timestamp())


def _modern_date(text: str, now: datetime) -> str:
    """An obsolete form of a date as an IMF-fixdate; anything else as it is."""
    if match := _ASCTIME.fullmatch(text):
        month, day, time, year = match.groups()
        return f"{day} {month} {year} {time} GMT"
    if match := _RFC850.fullmatch(text):
        day, month, short_year, time = match.groups()
        this_year = now.astimezone(UTC).year
        year = this_year - this_year % 100 + int(short_year)
        # RFC 9110 §5.6.7: more than 50 years ahead means the century before
        return f"{day} {month} {year - 100 if year > this_year + 50 else year} {time} GMT"
    return text
