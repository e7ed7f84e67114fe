"""Exports over real sockets: clients that leave, that take nothing, that are too many; a database that goes."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from tests.processes import Service, serving

LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture
async def filled(sql: asyncpg.Connection) -> None:
    """100 MB: more than all buffers between the table and a client hold."""
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, value, description, content_hash)"
        " SELECT n, 0, 0, 'csv', n, repeat('name ', 200), n, repeat('text ', 200), '' FROM generate_series(1, 50000) n"
    )
    await sql.execute("ANALYZE normalized_data")


def exporting(dsn: str, **environment: str) -> Any:
    return serving("serve", DATABASE_URL=dsn, BUILT_IN_SOURCES="none", ETL_INTERVAL="86400", **environment)


@asynccontextmanager
async def asked(service: Service, query: str = "format=csv") -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked for an export, and takes nothing but what the caller reads."""
    parts = urlsplit(service.url)
    # So small a buffer that nearly all of it has to wait for the client
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
    try:
        writer.write(f"GET /data/export?{query} HTTP/1.1\r\nHost: etl\r\n\r\n".encode())
        await writer.drain()
        yield reader
    finally:
        writer.transport.abort()


async def copies(sql: asyncpg.Connection) -> int:
    found: int = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
        " AND pid <> pg_backend_pid() AND query LIKE 'COPY%'"
    )
    return found


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


async def gone(sql: asyncpg.Connection) -> bool:
    return await copies(sql) == 0


async def said(service: Service, event: str) -> dict[str, Any]:
    """The log's line for an event; it is waited for."""
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        found[:] = [line for line in map(parsed, service.log) if line.get("event") == event]
        return bool(found)

    await until(look)
    return found[-1]


def parsed(line: str) -> dict[str, Any]:
    return json.loads(line) if line.startswith("{") else {}


async def status_of(service: Service, query: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=20) as client:
        return await client.get(f"{service.url}/data/export?{query}")


@pytest.mark.usefixtures("filled")
async def test_a_client_that_leaves_frees_everything(dsn: str, sql: asyncpg.Connection) -> None:
    async with exporting(dsn, MAX_CONCURRENT_EXPORTS="1") as service:
        async with asked(service) as reader:
            head = await reader.readexactly(2000)
            during = await copies(sql)
        await until(lambda: gone(sql))
        line = await said(service, "export_cut")
        after = await status_of(service, "format=ndjson&id__lte=10")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert during == 1
    assert line["reason"] == "the client left"
    assert 0 < line["bytes"] < 50_000_000
    assert len(after.text.splitlines()) == 10


@pytest.mark.usefixtures("filled")
async def test_a_client_that_leaves_before_the_first_byte_ends_the_statement(dsn: str, sql: asyncpg.Connection) -> None:
    """The server writes nothing meanwhile, so that it does not notice by itself."""
    async with exporting(dsn) as service:
        async with locked(dsn):
            async with asked(service):
                await until(lambda: waiting(sql))
            await until(lambda: gone(sql))
        line = await said(service, "export_cut")

    assert (line["reason"], line["bytes"]) == ("the client left", 0)


@asynccontextmanager
async def locked(dsn: str) -> AsyncIterator[None]:
    """By a connection of its own: within a transaction `pg_stat_activity` stands still."""
    holder = await asyncpg.connect(dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE normalized_data")
            yield
    finally:
        await holder.close()


async def waiting(sql: asyncpg.Connection) -> bool:
    return await copies(sql) == 1


@pytest.mark.usefixtures("filled")
async def test_a_client_that_takes_nothing_holds_no_snapshot(dsn: str, sql: asyncpg.Connection) -> None:
    async with exporting(dsn, EXPORT_STALL_SECONDS="0.5") as service, asked(service) as reader:
        await until(lambda: waiting(sql))
        await until(lambda: gone(sql))
        line = await said(service, "export_cut")
        body = await reader.read(-1)

    assert line["reason"] == "the client took nothing for 0.5 s"
    assert line["level"] == "warning"
    assert not body.endswith(LAST_CHUNK)


@pytest.mark.usefixtures("filled")
async def test_a_client_that_takes_too_long_is_cut(dsn: str, sql: asyncpg.Connection) -> None:
    async with exporting(dsn, EXPORT_MAX_SECONDS="1") as service, asked(service) as reader:
        body = b""
        while piece := await reader.read(65_536):
            body = piece if len(piece) >= 5 else body + piece
            await asyncio.sleep(0.005)
        line = await said(service, "export_cut")
        left = await copies(sql)

    assert line["reason"] == "it took longer than EXPORT_MAX_SECONDS=1"
    assert not body.endswith(LAST_CHUNK)
    assert left == 0


@pytest.mark.usefixtures("filled")
async def test_an_export_in_which_the_database_goes_is_cut(dsn: str, sql: asyncpg.Connection) -> None:
    async with exporting(dsn) as service, asked(service) as reader:
        body = await reader.readexactly(2000)
        await sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
        body = await reader.read(-1)
        line = await said(service, "export_cut")

    assert "database" in line["reason"]
    assert not body.endswith(LAST_CHUNK)


@pytest.mark.usefixtures("filled")
async def test_a_whole_export_ends_with_the_last_chunk(dsn: str) -> None:
    async with exporting(dsn) as service, asked(service, "format=csv&fields=id") as reader:
        body = b""
        async with asyncio.timeout(20):
            while not body.endswith(LAST_CHUNK):
                body += await reader.read(65_536)
        line = await said(service, "export_finished")

    assert line["rows"] == 50_000
    assert b"\n50000\n" in body


@pytest.mark.usefixtures("filled")
async def test_more_exports_than_may_be_are_told_when_to_come_again(dsn: str, sql: asyncpg.Connection) -> None:
    async with exporting(dsn, MAX_CONCURRENT_EXPORTS="1") as service:
        async with asked(service) as reader:
            await reader.readexactly(100)
            refused = await status_of(service, "format=csv")
            data = await service.get("/data?page_size=1")
        await until(lambda: gone(sql))
        taken = await status_of(service, "format=csv&id__lte=3")

    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) > 0
    assert "MAX_CONCURRENT_EXPORTS" in refused.json()["detail"]
    assert len(data["data"]) == 1
    assert taken.status_code == 200


@pytest.mark.usefixtures("filled")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_memory_does_not_grow_with_the_rows(dsn: str) -> None:
    async with exporting(dsn) as service:
        await status_of(service, "format=csv&id__lte=1000")
        before = peak_bytes(service)
        async with asked(service, "format=ndjson") as reader, asyncio.timeout(60):
            size, body = 0, b""
            while not body.endswith(LAST_CHUNK):
                body = body[-5:] + await reader.read(65_536)
                size += len(body)
        grown = peak_bytes(service) - before

    assert size > 100_000_000
    assert grown < 16_000_000


def peak_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.usefixtures("filled")
async def test_a_service_that_is_told_to_stop_does_not_wait_for_a_client_that_takes_nothing(
    dsn: str, sql: asyncpg.Connection
) -> None:
    async with exporting(dsn) as service, asked(service) as reader:
        await reader.readexactly(100)
        async with asyncio.timeout(10):
            code = await service.stop(signal.SIGTERM)
        await until(lambda: gone(sql))

    assert code == 0
