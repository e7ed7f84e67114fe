"""What stands between a process under test and somebody else: it listens, and ends with its block."""

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Self


class Listener(ABC):
    """
    Listens on 127.0.0.1:`port` while its block runs.

    Args:
        limit: bytes that a reader holds.
    """

    def __init__(self, *, limit: int) -> None:
        self.port = 0
        self.pid: int | None = None
        """Of the process, to be set once it is known; it gets no signal before."""
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, process: asyncio.StreamWriter) -> None:
        """One connection of the process, to its end."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=self._limit)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, process: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.serve(reader, process)
            process.close()
        except (OSError, ValueError):
            process.transport.abort()  # the other side cut it, or is not there: the process shall see just that
        except asyncio.CancelledError:
            process.transport.abort()  # the block ends, and asyncio.streams would tell of it as of an error
        finally:
            self._tasks.discard(task)

    def send_signal(self, number: signal.Signals) -> None:
        """To the process, if it is there."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
