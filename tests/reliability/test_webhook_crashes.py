"""The service is killed after it has answered: what it acknowledged is there, and nothing twice."""

import asyncio
import random
import signal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from app.clock import monotonic
from app.db.dsn import server_of, through
from app.faults.proxy import Proxy, Upstream
from tests.databases import with_database
from tests.processes import serving
from tests.proving import Change, broken_build
from tests.webhooks import SECRET, body, signed, source, write

ANSWERED_BEFORE_IT_IS_COMMITTED: tuple[Change, ...] = (
    (
        "pipeline/hooks.py",
        "        await waiting.done\n",
        "        await asyncio.sleep(0)\n",
    ),
)


OURS_END = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'etl-river'
"""
"""They have ended: one that has not yet may take a delivery."""


@pytest.fixture
def environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    write(tmp_path / "sources", source())
    return {
        "DATABASE_URL": dsn,
        "BUILT_IN_SOURCES": "none",
        "SOURCES_DIR": str(tmp_path / "sources"),
        "ETL_SECRET_HOOK": SECRET,
        "ETL_LEASE_SECONDS": "1",
    }


async def acknowledged(environment: dict[str, str], *, deliveries: int, kills: int, seed: int) -> set[int]:
    """Post deliveries from eight clients, each again until it is acknowledged, and kill the service meanwhile."""
    rng = random.Random(seed)
    left, stored = list(range(deliveries, 0, -1)), set[int]()
    marks = sorted(rng.sample(range(1, deliveries), kills))
    while left or len(stored) < deliveries:
        async with serving("serve", **environment) as service, httpx2.AsyncClient() as client:
            mark = marks.pop(0) if marks else deliveries + 1
            killed = asyncio.Event()

            async def send(client: httpx2.AsyncClient, url: str, mark: int, killed: asyncio.Event) -> None:
                while left and not killed.is_set():
                    number = left.pop()
                    payload = body(number)
                    try:
                        answer = await client.post(url, content=payload, headers=signed(payload, id=f"m{number}"))
                    except httpx2.HTTPError:
                        left.append(number)
                        continue
                    if answer.status_code != 202:
                        left.append(number)
                        continue
                    stored.add(number)
                    if len(stored) >= mark:
                        killed.set()

            senders = [
                asyncio.create_task(send(client, f"{service.url}/hooks/shop-orders", mark, killed)) for _ in range(8)
            ]
            ending = asyncio.create_task(killed.wait())
            await asyncio.wait({ending, *senders}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if killed.is_set():
                service.process.send_signal(signal.SIGKILL)
                await service.process.wait()
            await asyncio.gather(*senders)
            if service.process.returncode is None:
                assert await service.stop() == 0
    return stored


async def lost_and_doubled(sql: asyncpg.Connection, stored: set[int]) -> tuple[int, int]:
    keys = {int(key) for (key,) in await sql.fetch("SELECT source_id FROM normalized_data")}
    raw = await sql.fetchval("SELECT count(*) - count(DISTINCT source_id) FROM raw_api_data")
    return len(stored - keys), raw


@pytest.mark.parametrize(
    ("deliveries", "kills"),
    [(120, 4), pytest.param(1_000, 50, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
async def test_a_service_killed_after_it_acknowledged_has_lost_nothing(
    deliveries: int, kills: int, environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    stored = await acknowledged(environment, deliveries=deliveries, kills=kills, seed=1)

    assert len(stored) == deliveries
    assert await lost_and_doubled(sql, stored) == (0, 0)
    runs = await sql.fetch("SELECT * FROM etl_runs")
    parts = ("inserted", "updated", "unchanged", "filtered", "duplicate", "rejected", "deleted", "outdated")
    assert all(run["extracted"] == sum(run[name] for name in parts) for run in runs)
    assert sum(run["inserted"] for run in runs) == deliveries
    assert await sql.fetchval("SELECT row_count FROM etl_checkpoint WHERE kind = 'cursor'") == deliveries


@pytest.mark.long
async def test_a_service_that_answers_before_it_commits_is_caught(
    environment: dict[str, str], sql: asyncpg.Connection, tmp_path: Path
) -> None:
    build = broken_build(tmp_path / "broken", *ANSWERED_BEFORE_IT_IS_COMMITTED)

    stored = await acknowledged({**environment, "PYTHONPATH": build}, deliveries=300, kills=20, seed=1)

    assert (await lost_and_doubled(sql, stored))[0] > 0


async def test_while_the_database_is_away_senders_are_told_and_nothing_is_lost(
    environment: dict[str, str], sql: asyncpg.Connection, dsn: str
) -> None:
    """For longer than a lease, so that the run that was open counts as crashed; the rest is in a new one."""
    database = urlsplit(dsn).path.strip("/")
    operator = await asyncpg.connect(with_database(dsn, "postgres"))
    async with serving("serve", **environment) as service, httpx2.AsyncClient(timeout=30) as client:

        async def send(number: int) -> httpx2.Response:
            headers = signed(body(number), id=f"m{number}")
            return await client.post(f"{service.url}/hooks/shop-orders", content=body(number), headers=headers)

        assert (await send(1)).status_code == 202
        await operator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        await operator.execute(OURS_END, database)
        refused = await asyncio.gather(*(send(number) for number in range(2, 30)))
        await asyncio.sleep(1.1)
        await operator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        left = set(range(1, 30))
        async with asyncio.timeout(20):
            while left:
                left -= {number for number in left if (await send(number)).status_code == 202}
        assert await service.stop() == 0
    await operator.close()

    assert {(answer.status_code, answer.headers["Retry-After"]) for answer in refused} == {(503, "5")}
    assert "deliver it again" in refused[0].json()["detail"]
    assert await lost_and_doubled(sql, set(range(1, 30))) == (0, 0)
    assert await sql.fetchval("SELECT sum(inserted) FROM etl_runs") == 29
    assert await sql.fetchval("SELECT status FROM etl_runs ORDER BY id DESC LIMIT 1") == "succeeded"


async def test_rows_of_another_mapping_are_made_anew_once_the_database_is_back(
    environment: dict[str, str], sql: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    """The service began without it."""
    async with serving("serve", **environment) as service, httpx2.AsyncClient() as client:
        await client.post(f"{service.url}/hooks/shop-orders", content=body(1), headers=signed(body(1)))
        assert await service.stop() == 0
    write(tmp_path / "sources", source(mapping='description = "title"'))

    async with Proxy(Upstream(*server_of(dsn))) as proxy:
        proxy.open_hole()
        away = {
            "DATABASE_URL": through(dsn, host="127.0.0.1", port=proxy.port),
            "DATABASE_CONNECT_TIMEOUT_SECONDS": "1",
        }
        async with serving("serve", **(environment | away)) as service, asyncio.timeout(20):
            # Before it serves, then by its scheduler and by its hooks
            while sum("database_unavailable" in line for line in service.log) < 3:
                await asyncio.sleep(0.05)
            proxy.close_hole()
            while await sql.fetchval("SELECT description FROM normalized_data") != "order 1":
                await asyncio.sleep(0.05)


async def test_the_run_of_a_process_that_was_killed_is_closed_by_the_next(
    environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    async with serving("serve", **environment) as service, httpx2.AsyncClient() as client:
        answer = await client.post(f"{service.url}/hooks/shop-orders", content=body(1), headers=signed(body(1)))
        assert answer.status_code == 202
        await service.stop(signal.SIGKILL)
    assert await sql.fetchval("SELECT status FROM etl_runs") == "running"

    async with serving("serve", **environment):
        began = monotonic()
        while await sql.fetchval("SELECT status FROM etl_runs") == "running":
            assert monotonic() - began < 10
            await asyncio.sleep(0.05)

    found = await sql.fetchrow("SELECT status, error_message FROM etl_runs")
    assert found is not None
    assert found["status"] == "crashed"
    assert "answered with success" in found["error_message"]
