"""Work in a process of its own, which costs no more than it may, whatever it is doing."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from anyio.lowlevel import RunVar

if sys.platform != "win32":
    import resource

T = TypeVar("T")

# anyio itself starts as many as there are cores; time spent in its queue would count as time spent at work
PROCESSES: Final = min(2, os.cpu_count() or 1)
"""At most, for all that this one has to do; they stay for the next work."""

_places: Final = RunVar[CapacityLimiter]("_places")


@dataclass(frozen=True, slots=True)
class Allowance:
    """
    What work may take: of processor time, where there are POSIX timers; of memory, on Linux.

    Args:
        cpu_seconds: of its own, so that a busy machine does not fail it.
        memory_bytes: beyond what its process had before.
    """

    cpu_seconds: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        """After which the process is killed, on a machine however busy; its start is part of them."""
        return 30 + 5 * self.cpu_seconds


async def apart(allowance: Allowance, work: Callable[[], T]) -> T:
    """
    What the work gives; cancelled, its process is killed.

    Args:
        work: it, its arguments, what it gives and what it raises can be pickled. It is done again if its process dies,
            which may have been killed while it had nothing to do.

    Raises:
        TimeoutError: it took longer than it may.
        MemoryError: it took more than it may.
        ChildProcessError: its process died, or none could be started.
    """
    try:
        places = _places.get()
    except LookupError:
        places = CapacityLimiter(PROCESSES)
        _places.set(places)
    async with places:
        for is_last in (False, True):
            try:
                return await _once(allowance, work)
            except TimeoutError:
                raise
            except BrokenWorkerProcess as error:
                if is_last:
                    raise ChildProcessError("it died twice") from error
            except OSError as error:
                raise ChildProcessError(f"it cannot be started: {error}") from error
    raise AssertionError  # the last time returns or raises


async def _once(allowance: Allowance, work: Callable[[], T]) -> T:
    async with asyncio.timeout(allowance.seconds):
        return await to_process.run_sync(within, allowance, work, cancellable=True)


class _Overtime(BaseException):
    """No Exception: code that catches those must not hold it."""


def within(allowance: Allowance, work: Callable[[], T]) -> T:
    """
    What the work gives, done in this process, which does nothing else.

    Python raises in it when its time is up, between two of its own instructions or in the middle of a pattern's match;
    where other code is busy for a second more, the system ends the process.

    Raises:
        TimeoutError: it took longer.
        MemoryError: it took more.
    """
    if sys.platform == "win32":
        return work()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    signal.signal(signal.SIGPROF, _stop)
    cpu, data = resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_CPU, _lowered(cpu, ceil(time.process_time() + allowance.cpu_seconds) + 1))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_DATA, _lowered(data, _data_bytes() + allowance.memory_bytes))
        signal.setitimer(signal.ITIMER_PROF, allowance.cpu_seconds)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except _Overtime:
        raise TimeoutError from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, data)
        resource.setrlimit(resource.RLIMIT_CPU, cpu)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Overtime


def _lowered(limits: tuple[int, int], soft: int) -> tuple[int, int]:
    given, hard = limits
    return (soft if given == -1 else min(soft, given)), hard  # -1: RLIM_INFINITY


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process: proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
