"""Feeds are parsed in processes of their own: who dies there harms nobody, and nobody stays behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from app.extract import apart as room
from app.extract.apart import Allowance, apart
from tests.processes import Service, serving
from tests.proving import prove
from tests.source_server import SourceServer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MINUTES: Final = b"<rss version='2.0'><channel><item>" + b"".join(b"<category>%d</category>" % n for n in range(60_000))
"""What keeps the parser busy for minutes."""
PLENTY: Final = Allowance(60, 2**30)
ITEMS: Final = "".join(f"<item><title>t{n}</title><link>/{n}</link></item>" for n in range(300))
"""Named by links which are relative to where the feed is."""


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


def cpu_seconds(pid: int) -> float:
    """Of processor time; 0 where there is no such process, or it only waits to be buried."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 0.0 if words[0] == "Z" else (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def write_source(folder: Path, url: str, keys: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "news.toml").write_text(
        'name = "news"\ntype = "rss"\nclient = { allow_private_networks = true }\n'
        f'[[resources]]\nname = "entries"\n[resources.feed]\nurl = "{url}"\n{keys}\n'
    )


@pytest.fixture
async def busy(dsn: str, source_server: SourceServer, tmp_path: Path) -> AsyncIterator[tuple[Service, int]]:
    """A service that parses a feed which may take 4 s and needs more, and the process that does it."""
    url = source_server.put("/feed", MINUTES, content_type="application/rss+xml")
    write_source(tmp_path / "sources", url, "max_parse_seconds = 4")
    environment = {"DATABASE_URL": dsn, "BUILT_IN_SOURCES": "none", "SOURCES_DIR": str(tmp_path / "sources")}
    async with serving("serve", **environment) as service:
        await until(lambda: any(cpu_seconds(pid) > 0.5 for pid in children(service.process.pid)))
        (worker,) = children(service.process.pid)
        yield service, worker


async def test_who_parses_keeps_nobody_waiting_and_ends_with_the_service(
    busy: tuple[Service, int], sql: asyncpg.Connection
) -> None:
    service, worker = busy

    async with asyncio.timeout(1):
        health = await service.get("/health")
    async with asyncio.timeout(10):
        code = await service.stop()

    assert health["db_connected"]
    assert code == 0
    assert cpu_seconds(worker) == 0
    assert await sql.fetchval("SELECT status FROM etl_runs") == "interrupted"


async def test_who_parses_does_not_outlive_a_service_that_was_killed(busy: tuple[Service, int]) -> None:
    service, worker = busy

    await service.stop(signal.SIGKILL)

    await until(lambda: cpu_seconds(worker) == 0)  # which fails after 30 s
    assert cpu_seconds(worker) == 0


async def test_a_feed_that_is_stopped_is_a_named_error_and_its_worker_goes_on(
    busy: tuple[Service, int], sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    service, worker = busy

    async with asyncio.timeout(30):
        while (
            told := await sql.fetchrow("SELECT error_class, error_message FROM etl_runs WHERE error_class <> ''")
        ) is None:
            await asyncio.sleep(0.05)

    assert told["error_class"] == "data_error"
    assert "not parsed within 4 s of processor time" in told["error_message"]
    assert "feed.max_parse_seconds" in told["error_message"]
    assert children(service.process.pid) == [worker]


async def test_a_worker_that_died_idle_is_replaced() -> None:
    first = await apart(PLENTY, os.getpid)
    os.kill(first, signal.SIGKILL)

    assert await apart(PLENTY, os.getpid) != first


async def test_work_that_kills_its_process_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(ChildProcessError, match="died twice"):
        await apart(PLENTY, os.abort)


async def test_what_takes_too_much_memory_leaves_the_worker_as_it_was() -> None:
    small = Allowance(60, 8 * 1024 * 1024)

    with pytest.raises(MemoryError):
        await apart(small, partial(bytes, 16 * 1024 * 1024))

    assert len(await apart(PLENTY, partial(bytes, 16 * 1024 * 1024))) == 16 * 1024 * 1024


async def test_a_worker_that_does_not_run_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.Allowance, "seconds", 1.0)
    stopped = await apart(PLENTY, os.getpid)
    os.kill(stopped, signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        await apart(PLENTY, os.getpid)

    await until(lambda: cpu_seconds(stopped) == 0)


async def test_ctrl_c_is_not_for_the_worker() -> None:
    worker = await apart(PLENTY, os.getpid)

    os.kill(worker, signal.SIGINT)

    assert await apart(PLENTY, os.getpid) == worker


@pytest.mark.parametrize("edges", ["commits", "sockets"])
async def test_kills_lose_nothing_of_a_feed(
    edges: str, server_dsn: str, source_server: SourceServer, tmp_path: Path
) -> None:
    body = f'<rss version="2.0"><channel>{ITEMS}</channel></rss>'.encode()
    write_source(tmp_path / "sources", source_server.put("/feed", body, content_type="application/rss+xml"))
    environment: dict[str, Any] = {
        "DATABASE_URL": server_dsn,
        "BUILT_IN_SOURCES": "none",
        "SOURCES_DIR": str(tmp_path / "sources"),
    }

    code, certificate = await prove("news", "--kills", "3", "--edges", edges, **environment)

    assert code == 0, certificate
    assert (certificate["result"], certificate["rows"], certificate["records"]) == ("proven", 300, 300)
    assert [trial["exit_code"] for trial in certificate["trials"]] == [-9] * 3
