"""Work is done where it holds up nobody."""

import threading
import time

import pytest

from app.steps import SHORT_SECONDS, Steps


def whereabouts(seconds: float, *, fail: bool = False) -> bool:
    """Whether it is the event loop's thread."""
    time.sleep(seconds)
    if fail:
        raise ValueError
    return threading.current_thread() is threading.main_thread()


async def test_what_takes_long_goes_to_a_thread_until_it_has_become_short() -> None:
    steps, long = Steps(), 3 * SHORT_SECONDS

    found = [await steps.do(whereabouts, seconds) for seconds in (0, 0, long, 0, 0, 0, 0, 0)]

    assert found == [True, True, True, False, False, True, True, True]


async def test_what_fails_after_long_is_known_to_take_long() -> None:
    steps = Steps()
    with pytest.raises(ValueError, match=r"^$"):
        await steps.do(whereabouts, 2 * SHORT_SECONDS, fail=True)

    assert not await steps.do(whereabouts, 0)
