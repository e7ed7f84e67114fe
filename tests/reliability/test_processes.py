"""Several processes, stopped and killed: one run at a time, no zombie writes, nothing stays behind."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from app.clock import monotonic
from app.extract.limits import DEFAULT_CONCURRENCY
from app.pipeline.batches import MAX_RECORDS
from tests.processes import run, serving, start
from tests.proving import Change, broken_build
from tests.source_server import Fault, SourceServer

EPOCH_NOT_COMPARED: tuple[Change, ...] = (
    (
        "db/checkpoints.py",
        'held.epoch == bindparam("held_epoch"),\n        held.holder == bindparam("held_by"),\n',
        'held.epoch >= bindparam("held_epoch"),\n        held.source != bindparam("held_by"),\n',
    ),
    ("db/checkpoints.py", 'held.batch_seq == bindparam("before_seq")', 'held.batch_seq >= bindparam("before_seq")'),
)
LEASE_DROPPED: tuple[Change, ...] = (
    ("db/checkpoints.py", "if lease is not None and lease[1] and await is_alive(session, lease[0]):", "if False:"),
)
PAGES = 20


@pytest.fixture
def environment(dsn: str, source_server: SourceServer) -> dict[str, str]:
    posts = [{"id": n, "title": f"post {n}"} for n in range(PAGES * 100)]
    return {
        "DATABASE_URL": dsn,
        "BUILT_IN_SOURCES": "api",
        "API_HOST": source_server.put_pages("/posts", posts).removesuffix("/posts"),
        "HTTP_MAX_ATTEMPTS": "1",
        "ETL_INTERVAL": "1",
    }


def overlaps(pages: Sequence[int]) -> int:
    """Requests that are not the next page of one walk."""
    return sum(after != before + 1 and (before, after) != (PAGES, 1) for before, after in pairwise(pages))


async def replicas(environment: dict[str, str], source_server: SourceServer, *, seconds: float) -> list[int]:
    """Serve with three of them; the pages that they asked for, by the server's own log."""
    async with (
        serving("serve", **environment) as one,
        serving("serve", **environment) as two,
        serving("serve", **environment) as three,
    ):
        await asyncio.sleep(seconds)
        # Not those after: a run that is stopped is gone on with by another process, which reads pages again
        asked = [int(seen.query["_page"]) for seen in source_server.requests("/posts")]
        assert [await each.stop() for each in (one, two, three)] == [0, 0, 0]
    return asked


@pytest.mark.parametrize(
    ("seconds", "least"), [(5, 3), pytest.param(230, 200, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_three_replicas_never_run_a_source_together(
    seconds: float, least: int, environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    pages = await replicas(environment, source_server, seconds=seconds)

    assert pages.count(1) >= least
    assert overlaps(pages) == 0
    assert await sql.fetchval("SELECT count(*) FROM etl_runs WHERE status = 'running'") == 0


async def zombie(environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection) -> int:
    """Stop a process past its lease, let another one take over, continue the first; rows that it then wrote."""
    gate = asyncio.Event()
    source_server.fault("/posts", Fault(), Fault(gate=gate))
    impatient = {**environment, "ETL_LEASE_SECONDS": "1"}
    process = await start(sys.executable, "-m", "app", "run", "api", **impatient)
    try:
        async with asyncio.timeout(30):
            while len(source_server.requests("/posts")) < 2:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        code, output = await run("run", "api", **{**impatient, "PYTHONPATH": os.fspath(Path(__file__).parents[2])})
        assert code == 0, output
        before = await sql.fetch("SELECT source_id, xmin::text FROM normalized_data ORDER BY 1")
        source_server.put_pages("/posts", [{"id": n, "title": "of a zombie"} for n in range(PAGES * 100)])
        gate.set()
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    after = await sql.fetch("SELECT source_id, xmin::text FROM normalized_data ORDER BY 1")
    return len(set(after) ^ set(before))


async def test_a_process_stopped_past_its_lease_writes_nothing_when_it_goes_on(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    assert await zombie(environment, source_server, sql) == 0


@pytest.mark.long
async def test_an_epoch_that_is_not_compared_is_caught(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    build = broken_build(tmp_path / "broken", *EPOCH_NOT_COMPARED)

    assert await zombie({**environment, "PYTHONPATH": build}, source_server, sql) > 0


@pytest.mark.long
async def test_a_lease_that_is_not_respected_is_caught(
    environment: dict[str, str], source_server: SourceServer, tmp_path: Path
) -> None:
    build = broken_build(tmp_path / "broken", *LEASE_DROPPED)
    pages = await replicas({**environment, "PYTHONPATH": build}, source_server, seconds=8)

    assert overlaps(pages) > 0


async def test_a_killed_leader_is_followed_within_a_lease(
    environment: dict[str, str], source_server: SourceServer, sql: asyncpg.Connection
) -> None:
    source_server.fault("/posts", Fault(hang=True))
    async with serving("serve", **environment) as leader:
        async with asyncio.timeout(30):
            while not source_server.requests("/posts"):
                await asyncio.sleep(0.01)
        async with serving("serve", **environment):
            leader.process.kill()
            killed_at = monotonic()
            async with asyncio.timeout(30):
                while not await sql.fetchval("SELECT count(*) FROM etl_runs WHERE status = 'succeeded'"):
                    await asyncio.sleep(0.02)

    assert monotonic() - killed_at < 10, "the lease is 30 seconds; a death is noticed at once"
    assert await sql.fetchval("SELECT status FROM etl_runs ORDER BY id LIMIT 1") == "crashed"


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 101))])
async def test_sigterm_at_any_point_ends_it_in_time_and_frees_its_lease(
    seed: int, environment: dict[str, str], sql: asyncpg.Connection
) -> None:
    async with serving("serve", **environment) as service:
        await asyncio.sleep(random.Random(seed).uniform(0, 2.5))
        began = monotonic()
        code = await service.stop()
        seconds = monotonic() - began

    assert code == 0
    assert seconds <= 10
    statuses = {row["status"] for row in await sql.fetch("SELECT DISTINCT status FROM etl_runs")}
    assert statuses <= {"succeeded", "interrupted"}
    assert await sql.fetchval("SELECT count(*) FROM etl_checkpoint WHERE holder IS NOT NULL") == 0


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_a_killed_run_reads_again_no_more_than_one_batch_may_hold(
    kills: int, dsn: str, source_server: SourceServer
) -> None:
    rng, pages = random.Random(7), 200 * kills
    posts = [{"id": n, "title": f"post {n}"} for n in range(pages * 100)]
    environment = {
        "DATABASE_URL": dsn,
        "BUILT_IN_SOURCES": "api",
        "API_HOST": source_server.put_pages("/posts", posts).removesuffix("/posts"),
    }
    furthest, again = 0, list[int]()
    for enough in [*(rng.randint(10, 200) for _ in range(kills)), pages]:
        before = len(source_server.requests("/posts"))
        process = await start(sys.executable, "-m", "app", "run", "api", **environment)
        while len(source_server.requests("/posts")) < before + enough and process.returncode is None:
            await asyncio.sleep(0.001)
        if enough < pages:
            process.kill()
        output, _ = await process.communicate()
        asked = [int(seen.query["_page"]) for seen in source_server.requests("/posts")[before:]]
        again.append(1 + furthest - min(asked))
        furthest = max(furthest, *asked)

    assert process.returncode == 0, output
    assert furthest == pages
    print(f"{kills} kills, pages asked again: {again}")
    assert max(again) <= MAX_RECORDS // 100 + DEFAULT_CONCURRENCY
