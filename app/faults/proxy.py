"""A TCP proxy between a process and its PostgreSQL: it counts what passes, and does what is to go wrong there."""

import asyncio
import signal
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from app.faults.listener import Listener
from app.faults.plans import Edge, Fault
from app.faults.wire import FrontendStream

CHUNK_BYTES: Final = 16 * 1024
PAUSE_SECONDS: Final = 3.0
"""How long a stop, a hole or a delay lasts."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: close with RST."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """
    Where the server is.

    Args:
        host: a directory when it begins with a slash: of a Unix socket, as libpq has it.
    """

    host: str
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        return await asyncio.open_connection(self.host, self.port)


@dataclass(slots=True, eq=False)
class _Link:
    """One connection of the process, and ours to the server."""

    process: asyncio.StreamWriter
    server: asyncio.StreamWriter
    stream: FrontendStream = field(default_factory=FrontendStream)
    committing: int = 0
    """COMMITs whose answer is still to come."""
    silent: bool = False
    """Nothing passes any more, and nobody is told."""

    def cut(self) -> None:
        for writer in (self.process, self.server):
            inner = writer.get_extra_info("socket")
            if inner is not None and inner.family != socket.AF_UNIX:
                with suppress(OSError):  # the other side was quicker
                    inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy(Listener):
    """
    Listens on 127.0.0.1:`port` while its block runs.

    Args:
        faults: each happens once; without any it only counts.
    """

    def __init__(self, upstream: Upstream, *faults: Fault) -> None:
        super().__init__(limit=CHUNK_BYTES)
        self.counted: Counter[Edge] = Counter()
        self.struck: list[Fault] = []
        """Faults that have happened."""
        self._upstream = upstream
        self._pending = list(faults)
        self._links: set[_Link] = set()
        self._passable = asyncio.Event()
        self._passable.set()

    def open_hole(self) -> None:
        """From now on nothing passes, and connections that are asked for wait."""
        self._passable.clear()

    def close_hole(self) -> None:
        """New connections pass; those from before stay silent for ever, as behind a firewall that forgot them."""
        for link in self._links:
            link.silent = True
        self._passable.set()

    async def serve(self, reader: asyncio.StreamReader, process: asyncio.StreamWriter) -> None:
        await self._passable.wait()
        answers, server = await self._upstream.connect()
        link = _Link(process, server)
        self._links.add(link)
        ways = [asyncio.create_task(self._send(link, reader)), asyncio.create_task(self._relay(link, answers))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._links.discard(link)
            server.close()

    async def _send(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            commits = link.stream.feed(chunk)
            if not await self._may_pass(link, ("sent", 1), ("before_commit", commits)):
                return
            link.committing += commits
            link.server.write(chunk)
            await link.server.drain()

    async def _relay(self, link: _Link, answers: asyncio.StreamReader) -> None:
        while chunk := await answers.read(CHUNK_BYTES):
            commits, link.committing = link.committing, 0
            if not await self._may_pass(link, ("received", 1), ("after_commit", commits)):
                return
            link.process.write(chunk)
            await link.process.drain()

    async def _may_pass(self, link: _Link, *events: tuple[Edge, int]) -> bool:
        """Count, and do what is to be done here; False: what was about to pass is lost, and its connection ends."""
        await self._passable.wait()
        if link.silent:
            await asyncio.Event().wait()
        passing = dict(events)
        self.counted.update(passing)
        met = [
            fault
            for fault in self._pending
            if 0 <= self.counted[fault.edge] - fault.number < passing.get(fault.edge, 0)
        ]
        # All of them are struck off first: a later one may be met while this one waits
        self._pending = [fault for fault in self._pending if fault not in met]
        return all([await self._strike(fault, link) for fault in met])

    async def _strike(self, fault: Fault, link: _Link) -> bool:
        self.struck.append(fault)
        action = fault.action
        if action == "kill":
            self.send_signal(signal.SIGKILL)
            return False
        if action == "reset":
            link.cut()
            return False
        if action == "stop":
            self.send_signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self.send_signal, signal.SIGCONT)
            return True
        if action == "hole":
            self._passable.clear()
            await asyncio.sleep(PAUSE_SECONDS)
            for each in self._links:
                each.cut()
            self._passable.set()
            return False
        await asyncio.sleep(PAUSE_SECONDS)
        return True
