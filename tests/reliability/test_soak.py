"""Under faults that do not end, the service keeps its memory, connections, files and tasks, and its rows."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from app.clock import monotonic
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.faults.plans import SOURCE_ACTIONS, parse_plan, place_faults
from app.faults.relay import Relay
from tests.processes import ROOT, Service, serving
from tests.proving import Change, broken_build
from tests.source_server import SourceServer

SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "2"))
SHORT_MINUTES: Final = 0.3
PLAN: Final = parse_plan("http_500; cut_body; dup_page; slow; reorder")
SEED: Final = 7
ROUND_SECONDS: Final = 5.0
"""Then the faults get new places."""
REST_SECONDS: Final = 15.0
CSV_ROWS, POSTS = 5_000, 500

TASKS_TOLD: Final = """
import asyncio, os, pathlib, signal

def tell(*_):
    names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    file = pathlib.Path(os.environ["TASKS_FILE"])
    file.with_suffix(".new").write_text(chr(10).join(sorted(names)))
    file.with_suffix(".new").rename(file)

signal.signal(signal.SIGUSR1, tell)
"""
"""As `sitecustomize`: the process names its tasks when asked."""

A_TASK_LEAKED: tuple[Change, ...] = (
    (
        "scheduler.py",
        "async def run_tick(",
        """_leaked = []


async def run_tick(*given, **named):
    _leaked.append((asyncio.create_task(asyncio.sleep(9999)), bytearray(1024 * 1024)))
    return await _run_tick(*given, **named)


async def _run_tick(""",
    ),
)


def csv(version: int) -> bytes:
    return b"id,name,value\n" + b"".join(b"%d,row %d of %d,%d.25\n" % (n, n, version, n) for n in range(CSV_ROWS))


def rss_kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


@dataclass(frozen=True, slots=True)
class Sample:
    rss_kilobytes: int
    connections: int
    files: int
    tasks: tuple[str, ...]
    """By the names of their coroutines."""


@dataclass(slots=True)
class Soak:
    """What was measured, after the first quarter: the process needs it to warm up."""

    samples: list[Sample] = field(default_factory=list)
    left: tuple[str, ...] = ()
    """Tasks that were still there, long after the last fault; none when there were as few as at the beginning."""
    struck: Counter[str] = field(default_factory=Counter)

    def grown(self, what: Callable[[Sample], int]) -> int:
        """From the quietest moment of the second quarter to that of the last: a run under way is no leak."""
        quarter = max(1, len(self.samples) // 4)
        return min(map(what, self.samples[-quarter:])) - min(map(what, self.samples[quarter : 2 * quarter]))

    @property
    def settled(self) -> list[Sample]:
        return self.samples[len(self.samples) // 4 :]

    @property
    def tasks_at_rest(self) -> int:
        """At the quietest moment of the first quarter."""
        return min(len(sample.tasks) for sample in self.samples[: max(1, len(self.samples) // 4)])

    def __str__(self) -> str:
        curve = [sample.rss_kilobytes // 1024 for sample in self.samples[:: max(1, len(self.samples) // 20)]]
        return f"MB {curve}, {self.samples[0]}, {self.samples[-1]}, left {self.left}, faults {dict(self.struck)}"


async def soak(
    minutes: float, dsn: str, sql: asyncpg.Connection, source_server: SourceServer, folder: Path, *, build: str
) -> Soak:
    """Serve with a 1 s interval and faults at places that the seed draws anew, then without until all is there."""
    (folder / "sitecustomize.py").write_text(TASKS_TOLD)
    posts = [{"id": n, "title": f"post {n}"} for n in range(POSTS)]
    environment = {
        "DATABASE_URL": dsn,
        "API_HOST": source_server.put_pages("/posts", posts).removesuffix("/posts"),
        "CSV_URL": source_server.put("/items.csv", csv(0)),
        "ETL_INTERVAL": "1",
        "PYTHONPATH": f"{folder}:{build}",
        "TASKS_FILE": str(folder / "tasks"),
    }
    done, seconds, rounds = Soak(), minutes * 60, 0
    async with Relay() as relay, serving("serve", **environment, FAULT_RELAY=relay.url) as service:
        began = monotonic()
        while (passed := monotonic() - began) < seconds:
            if passed >= rounds * ROUND_SECONDS and relay.able["dup_page"]:
                rounds += 1
                relay.plan(place_faults(PLAN, {}, relay.able, seed=SEED + rounds).faults)
            source_server.put("/items.csv", csv(len(done.samples)))
            await asyncio.sleep(min(5.0, seconds / 40))
            done.samples.append(await look(service, sql, folder / "tasks"))
        relay.plan([])
        done.struck.update(fault.action for fault in relay.struck)
        await wait_for_rows(sql, version=len(done.samples) - 1)
        done.left = await rest(service, sql, folder / "tasks", tasks=done.tasks_at_rest)
        assert await service.stop() == 0
    return done


async def look(service: Service, sql: asyncpg.Connection, told: Path) -> Sample:
    pid = service.process.pid
    told.unlink(missing_ok=True)
    service.process.send_signal(signal.SIGUSR1)
    connections = await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    async with asyncio.timeout(10):
        while not told.exists():
            await asyncio.sleep(0.01)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Sample(rss_kilobytes(pid), connections, files, tuple(told.read_text().split("\n")))


async def rest(service: Service, sql: asyncpg.Connection, told: Path, *, tasks: int) -> tuple[str, ...]:
    """Wait for a moment with so few tasks; those that stay."""
    began = monotonic()
    while len(left := (await look(service, sql, told)).tasks) > tasks:
        if monotonic() - began > REST_SECONDS:
            return left
        await asyncio.sleep(0.02)
    return ()


async def wait_for_rows(sql: asyncpg.Connection, *, version: int) -> None:
    newest = "SELECT count(*) FROM normalized_data WHERE source = 'csv' AND name LIKE '%of ' || $1::text"
    async with asyncio.timeout(60):
        while await sql.fetchval(newest, str(version)) != CSV_ROWS:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "minutes",
    [SHORT_MINUTES, pytest.param(SOAK_MINUTES, marks=[pytest.mark.long, pytest.mark.timeout(36_000)])],
)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_memory_connections_and_tasks_stay_flat_under_faults(
    minutes: float, dsn: str, sql: asyncpg.Connection, source_server: SourceServer, tmp_path: Path
) -> None:
    done = await soak(minutes, dsn, sql, source_server, tmp_path, build=str(ROOT))

    print(f"{minutes} minutes, seed {SEED}: {done}")
    assert set(done.struck) == set(SOURCE_ACTIONS)
    assert done.left == ()
    assert done.grown(lambda sample: sample.files) <= 5
    assert max(sample.connections for sample in done.settled) <= 22
    # In half a minute it has not settled yet
    assert done.grown(lambda sample: sample.rss_kilobytes) <= (5 if minutes >= 20 else 20) * 1024
    ended = "SELECT DISTINCT status, error_class FROM etl_runs WHERE status NOT IN ('succeeded', 'interrupted')"
    assert {row["status"] for row in await sql.fetch(ended)} <= {"failed", "partial"}
    assert {row["error_class"] for row in await sql.fetch(ended)} <= {"transient_error", "data_error"}
    listing = [ListedRecord("csv", str(n), None, None) for n in range(CSV_ROWS)]
    listing += [ListedRecord("api", str(n), None, None) for n in range(POSTS)]
    sources = [ListedSource("csv", False, False), ListedSource("api", False, False)]
    # After 20 minutes there are millions of versions, and what compares each with the one before takes longer than that
    names = [name for name in AT_ANY_MOMENT if minutes < 20 or not name.startswith(("I2", "I6"))]
    async with open_invariants(dsn, sources=sources, listing=listing) as invariants:
        assert await invariants.violations([*names, "I1 nothing lost"]) == []


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_a_leak_is_caught(dsn: str, sql: asyncpg.Connection, source_server: SourceServer, tmp_path: Path) -> None:
    build = broken_build(tmp_path / "broken", *A_TASK_LEAKED)

    done = await soak(SHORT_MINUTES, dsn, sql, source_server, tmp_path, build=build)

    assert done.left.count("sleep") > 5
