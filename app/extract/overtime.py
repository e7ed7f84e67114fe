"""Work in a thread that ends when its time is up, whatever it is doing."""

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class _Overtime(BaseException):
    """No Exception: code that catches those must not hold it."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """
    What the work gives, done in this thread.

    A thread cannot be cancelled from outside, and a parser that is busy with hostile input would keep its run, its
    core and the end of the process waiting. So Python is asked to raise in it, between two of its own instructions;
    one long call into C, such as one match of a pattern, is not interrupted.

    Raises:
        TimeoutError: it took longer.
    """
    thread, lock, is_over = threading.get_ident(), threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            if not is_over.is_set():
                _raise_in(thread, _Overtime)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    try:
        try:
            timer.start()
            return work()
        finally:
            timer.cancel()
            with lock:
                is_over.set()
            # Asked for and not raised yet, it would hit what this thread does next
            _raise_in(thread, None)
    except _Overtime:
        raise TimeoutError from None


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)
