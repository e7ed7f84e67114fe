"""The service as a process of its own: started, asked over HTTP, stopped by real signals."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from app.settings import variables

ROOT = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class Service:
    """`etl serve` or `etl demo`, answering at `url`."""

    process: asyncio.subprocess.Process
    url: str
    log: list[str] = field(default_factory=list)

    async def get(self, path: str) -> Any:
        """As the database has it now: without `no-cache` an answer of /data may be 100 ms older."""
        async with httpx2.AsyncClient() as client:
            return (await client.get(self.url + path, headers={"Cache-Control": "no-cache"})).json()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(15):
            return await self.process.wait()


async def start(*command: str, **environment: str) -> asyncio.subprocess.Process:
    """A process with exactly these settings; its output is piped."""
    inherited = {name: value for name, value in os.environ.items() if name not in variables()}
    return await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**inherited, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "json", **environment},
    )


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """One `etl` command to its end: exit code and output."""
    process = await start(sys.executable, "-m", "app", *arguments, **environment)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def serving(*arguments: str, **environment: str) -> AsyncIterator[Service]:
    """The service, from the moment it answers; killed at the end if it still lives."""
    process = await start(sys.executable, "-m", "app", *arguments, **{"PORT": "0", **environment})
    log: list[str] = []
    reading = asyncio.create_task(_read(process, log))
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(r"http://[\d.]+:\d+", "\n".join(line for line in log if "{" not in line))):
                assert process.returncode is None, "\n".join(log)
                await asyncio.sleep(0.01)
        yield Service(process, found.group(), log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


async def _read(process: asyncio.subprocess.Process, log: list[str]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        log.append(line.decode().rstrip())  # noqa: PERF401 -- others read the list meanwhile


async def connect(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare socket."""
    host, port = service.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(service: Service, sent: bytes) -> bytes:
    """All that comes back for these bytes, until the service closes the connection."""
    reader, writer = await connect(service)
    async with asyncio.timeout(20):
        try:
            writer.write(sent)
            await writer.drain()
        except ConnectionError:
            pass  # it has heard enough
        try:
            return await reader.read()
        except ConnectionError:
            return b"HTTP/1.1 413 cut off while sending"
        finally:
            writer.close()
