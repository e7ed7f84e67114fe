"""A named bucket is one limit for all processes; the server that is asked is the witness."""

import asyncio
import os
import sys
from itertools import pairwise

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.db import buckets
from app.db.engine import Database
from app.errors import StoreUnavailableError
from app.extract import shared_tokens
from app.extract.limits import Limiter, Limiters
from app.sources.limits import RateLimit
from tests.processes import ROOT
from tests.source_server import SourceServer

SECONDS = 4.0


async def start_client(dsn: str, url: str, requests: int, burst: int) -> asyncio.subprocess.Process:
    arguments = (dsn, url, str(requests), str(burst), str(SECONDS))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bucket_client", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def most_within(span: float, moments: list[float]) -> int:
    """The most moments that any window of that length holds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - span:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(("requests", "burst"), [(60, 10), (200, 20), (30, 30)])
async def test_three_processes_keep_one_limit_and_use_it(
    requests: int, burst: int, dsn: str, source_server: SourceServer
) -> None:
    url = source_server.put("/items.csv", b"id\n1\n")
    processes = [await start_client(dsn, url, requests, burst) for _ in range(3)]
    try:
        async with asyncio.timeout(30):
            assert [await line_of(process) for process in processes] == ["ready"] * 3
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            made = [int(await line_of(process)) for process in processes]
            exits = [await process.wait() for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    moments = [seen.at for seen in source_server.requests("/items.csv")]
    assert exits == [0, 0, 0]
    assert len(moments) == sum(made)
    assert most_within(1.0, moments) <= requests + burst
    # Also beyond one window: no drift adds up. A twentieth is for the way of a request to the server.
    assert len(moments) <= burst + requests * (moments[-1] - moments[0]) * 1.05 + 1
    assert len(moments) >= 0.8 * requests * SECONDS
    assert min(made) >= 0.1 * sum(made)


async def test_tokens_are_reserved_one_after_another(database: Database, sql: asyncpg.Connection) -> None:
    waits = [await buckets.take(database, "crm", requests=1, per_seconds=60, burst=3) for _ in range(5)]
    other = await buckets.take(database, "other", requests=1, per_seconds=60, burst=3)

    assert waits == pytest.approx([-120, -60, 0, 60, 120], abs=2)
    assert other == pytest.approx(-120, abs=2)
    assert await sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE kind = 'bucket'") == 2


async def test_a_group_costs_what_its_tokens_cost(database: Database) -> None:
    await buckets.take(database, "crm", requests=1, per_seconds=60, burst=1, want=5)

    assert await buckets.take(database, "crm", requests=1, per_seconds=60, burst=1) == pytest.approx(300, abs=2)


async def test_taken_at_once_no_two_tokens_are_the_same(database: Database) -> None:
    waits = await asyncio.gather(
        *(buckets.take(database, "crm", requests=1, per_seconds=60, burst=1) for _ in range(15))
    )

    assert all(after - before == pytest.approx(60, abs=2) for before, after in pairwise(sorted(waits)))


async def test_a_clock_that_was_set_back_stops_nobody_for_long(database: Database, sql: asyncpg.Connection) -> None:
    await buckets.take(database, "crm", requests=10, per_seconds=1, burst=1)
    await sql.execute(
        "UPDATE etl_checkpoint SET state = jsonb_build_object('full_at', extract(epoch FROM now()) + 86400)"
    )

    assert await buckets.take(database, "crm", requests=10, per_seconds=1, burst=1) <= 101


async def test_a_bucket_that_cannot_be_asked_is_the_stores_error() -> None:
    database = Database("postgresql://etl@127.0.0.1:1/etl", connect_timeout_seconds=1)

    with pytest.raises(StoreUnavailableError):
        await buckets.take(database, "crm", requests=1, per_seconds=60, burst=1)
    await database.close()


async def test_a_fast_source_does_not_cost_a_statement_a_request(database: Database, sql: asyncpg.Connection) -> None:
    limiters = Limiters(database)
    limiter = limiters.of("crm", RateLimit(requests=500, bucket="crm"))
    await sql.execute(
        """
        CREATE TABLE asked (n int);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN INSERT INTO asked VALUES (1); RETURN NEW; END';
        CREATE TRIGGER note BEFORE INSERT OR UPDATE ON etl_checkpoint FOR EACH ROW EXECUTE FUNCTION note();
        """
    )
    for _ in range(400):
        async with limiter.slot():
            pass
    await limiters.close()

    # INSERT … ON CONFLICT fires both triggers
    assert await sql.fetchval("SELECT count(*) FROM asked") <= 2 * 400 / 10


async def test_what_a_cancelled_waiter_fetched_is_the_next_ones(database: Database, sql: asyncpg.Connection) -> None:
    limiters = Limiters(database)
    limiter = limiters.of("crm", RateLimit(requests=1, per="PT1M", burst=1, bucket="crm"))
    # The row is held, so that the waiter is cancelled between asking and being given
    await sql.execute("INSERT INTO etl_checkpoint (source, resource, kind) VALUES ('', 'crm', 'bucket')")
    async with sql.transaction():
        await sql.execute("SELECT FROM etl_checkpoint FOR UPDATE")
        waiter = asyncio.create_task(enter(limiter))
        while not await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)

    async with asyncio.timeout(10):
        waited = await enter(limiter)
    await limiters.close()

    assert waiter.cancelled()
    assert waited < 5
    # One token was taken, not two: the next one is a minute away
    assert await buckets.take(database, "crm", requests=1, per_seconds=60, burst=1) == pytest.approx(60, abs=10)


async def test_a_bucket_whose_row_is_held_for_long_is_kept_by_the_process(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_tokens, "LONGEST_FETCH_SECONDS", 0.2)
    limiters = Limiters(database)
    limiter = limiters.of("crm", RateLimit(requests=10, bucket="crm"))
    await enter(limiter)
    async with sql.transaction():
        await sql.execute("SELECT FROM etl_checkpoint FOR UPDATE")
        with capture_logs() as logs:
            for _ in range(4):
                await enter(limiter)
    await limiters.close()

    assert [line["event"] for line in logs] == ["bucket_unavailable"]


async def test_tokens_that_were_kept_too_long_are_thrown_away(database: Database) -> None:
    now = 0.0
    tokens = shared_tokens.SharedTokens(database, "crm", clock=lambda: now)
    await tokens.fill(RateLimit(requests=100, bucket="crm"))
    fresh = tokens.wait_seconds()
    now += 0.2

    assert fresh == 0
    assert tokens.wait_seconds() is None


async def enter(limiter: Limiter) -> float:
    async with limiter.slot() as waited_seconds:
        return waited_seconds
