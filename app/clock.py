"""The only place that asks what time it is. Pure code takes `now` as an argument."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that only ever grow; for measuring, never for storing."""
    return time.monotonic()


def in_utc(moment: datetime) -> datetime:
    """
    The same moment in UTC; one without an offset is in UTC already.

    Raises:
        ValueError: in UTC it would lie before the year 1 or after the year 9999.
    """
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("out of range") from error
