"""Waiting for something outside this process, never without an end."""

import time
from collections.abc import Callable

from app.clock import monotonic


def wait_until(condition: Callable[[], bool], *, seconds: float, pause_seconds: float = 0.02) -> bool:
    """Ask until the answer is yes; False when `seconds` went by without one. Asks at least once."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() >= end:
            return False
        time.sleep(pause_seconds)
    return True
