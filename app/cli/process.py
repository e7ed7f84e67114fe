"""What a command does as a process: logs, signals, one event loop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from app.observability.logs import configure_logs
from app.settings import Settings

T = TypeVar("T")

CONFIGURATION: Final = 2
"""Exit code: edit something first."""
LOCKED: Final = 75
"""Exit code: another process is running the source; try again later (EX_TEMPFAIL of sysexits.h)."""


def run_async(main: Coroutine[Any, Any, T], settings: Settings, *, quiet: bool = False) -> T:
    """
    Run a command to its end; SIGTERM and SIGINT cancel it, so that it can close what it opened.

    Raises:
        KeyboardInterrupt: it was stopped by a signal.
    """
    configure_logs(level="error" if quiet else settings.log.level, style=settings.log.format)
    # What is loaded by now stays for ever: the collector need not look at it again for each batch
    gc.freeze()
    # A batch is some 10,000 lists that die together and hold no cycle: 700, the default, looks at them in vain
    gc.set_threshold(100_000, 20, 20)
    if sys.platform != "win32":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_stopped(main))
    return asyncio.run(_until_stopped(main))


async def _until_stopped(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:  # a second signal must not cut short the closing that the first began
            stopped = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        return await main
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
