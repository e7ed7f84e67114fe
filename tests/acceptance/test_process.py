"""Acceptance means a process: started as a user would, stopped by real signals."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import asyncpg
import pytest

from tests.processes import run, serving
from tests.source_server import Fault, SourceServer

ROWS = 60_000
CSV = b"id,name,value\n" + b"".join(b"%d,row %d,%d.25\n" % (n, n, n) for n in range(ROWS))
AHEAD = """
SELECT count(*) FROM etl_checkpoint AS c
WHERE row_count <> (SELECT count(*) FROM normalized_data AS n WHERE n.source = c.source)
"""
UNBALANCED = """
SELECT count(*) FROM etl_runs
WHERE extracted <> inserted + updated + unchanged + filtered + duplicate + rejected + deleted + outdated
"""
POSTS = [{"id": n, "title": f"post {n}"} for n in range(1, 21)]


@pytest.fixture
def environment(dsn: str, source_server: SourceServer) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "API_HOST": source_server.put_pages("/posts", POSTS).removesuffix("/posts"),
        "CSV_URL": source_server.put("/items.csv", CSV),
        "HTTP_MAX_ATTEMPTS": "1",
    }


async def test_serve_answers_and_ends_with_0_on_sigterm(environment: dict[str, str], sql: asyncpg.Connection) -> None:
    async with serving("serve", **environment) as service:
        async with asyncio.timeout(30):
            while (await service.get("/health"))["etl_status"] != "success":
                await asyncio.sleep(0.05)
        page = await service.get("/data?page=1&page_size=10")
        code = await service.stop()

    assert code == 0
    assert page["total"] == ROWS + 20
    assert await sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE holder IS NOT NULL") == 0


async def test_the_tick_repeats(environment: dict[str, str], source_server: SourceServer) -> None:
    async with serving("serve", **environment, ETL_INTERVAL="1") as service:
        async with asyncio.timeout(30):
            # The fourth: the third, which counts from its beginning, has then asked for everything
            while (await service.get("/stats"))["run_count"] < 4:
                await asyncio.sleep(0.05)

    assert len(source_server.requests("/posts")) >= 3


async def test_sigterm_in_mid_run_closes_it_as_interrupted(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.fault("/posts", Fault(hang=True))
    async with serving("serve", **environment) as service:
        async with asyncio.timeout(10):
            while not source_server.requests("/posts"):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            code = await service.stop()

    assert code == 0
    assert await sql.fetchval("SELECT status FROM etl_runs WHERE source = 'api'") == "interrupted"


async def test_the_service_answers_while_a_source_hangs(
    environment: dict[str, str], source_server: SourceServer
) -> None:
    source_server.fault("/posts", Fault(hang=True))
    async with serving("serve", **environment) as service:
        async with asyncio.timeout(20):
            while (await service.get("/data?source=csv"))["total"] != ROWS:
                await asyncio.sleep(0.05)
        health = await service.get("/health")

    assert health["etl_status"] == "running"


async def test_killed_five_times_it_loses_nothing_and_doubles_nothing(
    environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    await run("db", "upgrade", **environment)
    for kill in range(1, 6):
        async with serving("serve", **environment) as service:
            async with asyncio.timeout(30):
                while await sql.fetchval("SELECT coalesce(sum(batch_seq), 0) FROM etl_checkpoint") < kill * 2:
                    await asyncio.sleep(0.002)
            service.process.kill()
            await service.process.wait()
        ahead = await sql.fetchval(AHEAD)
        assert ahead == 0

    code, output = await run("run", "--json", **environment)

    assert code == 0, output
    assert await sql.fetchval("SELECT count(*) FROM normalized_data WHERE source = 'csv'") == ROWS
    assert await sql.fetchval("SELECT count(DISTINCT source_id) FROM normalized_data WHERE source = 'csv'") == ROWS
    assert await sql.fetchval("SELECT count(*) FROM raw_csv_data") == ROWS
    assert await sql.fetchval("SELECT sum(inserted) FROM etl_runs WHERE source = 'csv'") == ROWS
    assert await sql.fetchval("SELECT count(*) FROM etl_runs WHERE status = 'running'") == 0
    assert await sql.fetchval(UNBALANCED) == 0


async def test_run_prints_one_json_object(environment: dict[str, str]) -> None:
    code, output = await run("run", "--json", **environment)

    result = json.loads(output.splitlines()[-1])
    assert code == 0
    assert {entry["source"]: entry["counts"]["inserted"] for entry in result["runs"]} == {"api": 20, "csv": ROWS}


@pytest.mark.parametrize(
    ("change", "arguments", "code"),
    [
        ({}, ["run", "api"], 0),
        ({"API_HOST": "http://127.0.0.1:1"}, ["run", "api"], 1),
        ({"ETL_INTERVAL": "soon"}, ["run"], 2),
        ({}, ["run", "nobody"], 2),
        ({}, ["frobnicate"], 2),
        ({"API_HOST": "http://127.0.0.1:1"}, ["run"], 3),
        ({"DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/none"}, ["run"], 1),
    ],
)
async def test_exit_codes(environment: dict[str, str], change: dict[str, str], arguments: list[str], code: int) -> None:
    returned, output = await run(*arguments, **{**environment, **change})

    assert returned == code, output
    assert "Traceback" not in output


async def test_run_ends_with_75_while_another_process_has_the_source(
    environment: dict[str, str], source_server: SourceServer
) -> None:
    source_server.fault("/posts", Fault(hang=True))
    async with serving("serve", **environment):
        async with asyncio.timeout(10):
            while not source_server.requests("/posts"):
                await asyncio.sleep(0.01)
        code, _ = await run("run", "api", **environment)

    assert code == 75


async def test_a_port_in_use_is_one_line_that_says_what_to_do(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = await run("serve", "--port", str(port), **environment)

    assert code == 2
    assert output.strip() == f"etl: PORT={port}: in use on 127.0.0.1; for example --port {port + 1}"


async def test_demo_starts_with_nothing_and_serves_its_samples(tmp_path: Path) -> None:
    async with serving("demo", ETL_DATA_DIR=str(tmp_path / "data"), HOME=str(tmp_path)) as service:
        async with asyncio.timeout(30):
            while (await service.get("/health"))["etl_status"] != "success":
                await asyncio.sleep(0.05)
        page = await service.get("/data?search=river&source=csv")
        code = await service.stop(signal.SIGINT)

    assert code == 0
    assert page["total"] > 0


async def test_no_secret_reaches_log_or_table(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    canary = "canary-7f3a"
    source_server.fault("/posts", Fault(status=500, body=canary.encode()))
    changed = {
        "API_KEY": canary,
        "CSV_URL": source_server.url.replace("http://", f"http://user:{canary}@") + f"/missing.csv?api_key={canary}",
        "LOG_LEVEL": "debug",
    }

    code, output = await run("run", **{**environment, **changed})

    assert code == 1
    assert source_server.requests("/posts")[0].headers["Authorization"] == f"Bearer {canary}"
    assert canary not in output
    stored = await sql.fetch("SELECT to_json(r)::text AS run FROM etl_runs r")
    assert len(stored) == 2
    assert not [row for row in stored if canary in row["run"]]
