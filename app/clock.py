"""The only place that asks what time it is. Pure code takes `now` as an argument."""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that only ever grow; for measuring, never for storing."""
    return time.monotonic()
