"""What happens while our own database is away, full, locked or read-only: it is said, and runs go on by themselves."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
from sqlalchemy import text

from app.clock import monotonic
from app.db.dsn import server_of, through
from app.db.engine import Database
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.faults.proxy import Proxy, Upstream
from tests.processes import Service, serving
from tests.source_server import SourceServer

ROWS = 3_000
COMES_BACK_SECONDS = 30.0
VERSION_ROWS = "SELECT count(*) FROM normalized_data WHERE name LIKE '% of ' || $1"
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'etl-river' AND datname = current_database()"
BLOCKED = f"{OURS} AND cardinality(pg_blocking_pids(pid)) > 0"


def csv(version: int) -> bytes:
    return b"id,name,value\n" + b"".join(b"%d,row %d of %d,1\n" % (n, n, version) for n in range(ROWS))


@pytest.fixture
def environment(dsn: str, source_server: SourceServer) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "BUILT_IN_SOURCES": "csv",
        "CSV_URL": source_server.put("/items.csv", csv(0)),
        "ETL_INTERVAL": "1",
    }


async def ask(service: Service, path: str) -> tuple[int, Any, float]:
    """Status, body and seconds."""
    began = monotonic()
    async with httpx2.AsyncClient(timeout=30) as client:
        answer = await client.get(service.url + path)
    return answer.status_code, answer.json(), monotonic() - began


async def whole(sql: asyncpg.Connection, version: int) -> float:
    """Seconds until all rows are of a version."""
    began = monotonic()
    async with asyncio.timeout(COMES_BACK_SECONDS + 15):
        while await sql.fetchval(VERSION_ROWS, str(version)) < ROWS:
            await asyncio.sleep(0.05)
    return monotonic() - began


async def nothing_is_lost(dsn: str) -> None:
    listing = [ListedRecord("csv", str(n), None, None) for n in range(ROWS)]
    async with open_invariants(dsn, sources=[ListedSource("csv", False, False)], listing=listing) as invariants:
        names = [name for name in (*AT_ANY_MOMENT, "I1 nothing lost") if not name.startswith("I5")]
        assert await invariants.violations(names) == []


async def test_sigterm_in_a_black_hole_ends_it_in_time(
    environment: dict[str, str], dsn: str, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    async with Proxy(Upstream(*server_of(dsn))) as proxy:
        url = through(dsn, host="127.0.0.1", port=proxy.port)
        async with serving("serve", **{**environment, "DATABASE_URL": url}) as service:
            await whole(sql, 0)
            source_server.put("/items.csv", csv(1))
            proxy.open_hole()
            await asyncio.sleep(1.5)
            began = monotonic()
            code = await service.stop()
            seconds = monotonic() - began

    assert code == 0
    assert seconds <= 10


async def test_a_server_that_became_read_only_is_left_once_it_is_not(
    environment: dict[str, str], dsn: str, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    database = urlsplit(dsn).path.strip("/")
    async with serving("serve", **environment) as service:
        await whole(sql, 0)
        await sql.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        await sql.execute(f"SELECT pg_terminate_backend(pid) FROM ({OURS}) AS ours")
        source_server.put("/items.csv", csv(1))
        async with asyncio.timeout(20):
            while not any("read-only transaction" in line for line in service.log):
                await asyncio.sleep(0.1)
        reading = await ask(service, "/data")
        await sql.execute("SET default_transaction_read_only = off")
        await sql.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        back = await whole(sql, 1)
        assert await service.stop() == 0

    assert reading[0] == 200
    assert back <= COMES_BACK_SECONDS
    await nothing_is_lost(dsn)


async def test_a_deadlock_costs_a_batch_a_second_try_and_nothing_else(
    environment: dict[str, str], dsn: str, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    async with serving("serve", **environment) as service:
        await whole(sql, 0)
        await sql.execute("SET deadlock_timeout = '60s'")
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute("UPDATE normalized_data SET description = 'held' WHERE source_id = '900'")
        source_server.put("/items.csv", csv(1))
        async with asyncio.timeout(20):
            blocked = None
            while blocked is None:
                blocked = await sql.fetchval(BLOCKED)
        await sql.execute("UPDATE normalized_data SET description = 'held' WHERE source_id = '1'")  # the batch has it
        await transaction.commit()
        back = await whole(sql, 1)
        assert await service.stop() == 0

    assert any("batch_again" in line and "deadlock" in line for line in service.log), service.log
    assert back <= COMES_BACK_SECONDS
    # The last one may have been stopped with the service
    assert await sql.fetchval("SELECT count(*) FROM etl_runs WHERE status NOT IN ('succeeded', 'interrupted')") == 0
    await nothing_is_lost(dsn)


async def test_the_roles_default_isolation_is_not_ours(dsn: str, sql: asyncpg.Connection) -> None:
    name = urlsplit(dsn).path.strip("/")
    await sql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    database = Database(dsn)
    async with database.write() as session:
        isolation = (await session.execute(text("SHOW transaction_isolation"))).scalar()
    await database.close()

    assert isolation == "read committed"
