"""Long ones, with a short form in the suite: random kills of a larger run, crashes of PostgreSQL."""

import asyncio
import os
import random
import signal
from pathlib import Path

import asyncpg
import pytest

from app.clock import monotonic
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.embedded import running_postgres
from tests.processes import Service, serving
from tests.proving import prove
from tests.source_server import SourceServer

CSV_ROWS, POSTS = 45_000, 5_000
KILLS = int(os.environ.get("KILLS", "500"))
CRASHES = int(os.environ.get("CRASHES", "100"))


def csv(version: int, rows: int) -> bytes:
    return b"id,name,value\n" + b"".join(b"%d,row %d of %d,%d.25\n" % (n, n, version, n) for n in range(rows))


@pytest.mark.parametrize(
    "given",
    [
        # A run sends some 950 chunks, seldom as many as the one before: near the end a kill may come too late
        ["--at", f"kill@sent:{random.Random(5).randint(1, 400)}"],
        pytest.param(
            ["--edges", "chunks", "--kills", str(KILLS), "--seed", "1"],
            marks=[pytest.mark.long, pytest.mark.timeout(36_000)],
        ),
    ],
)
async def test_kills_at_random_chunks_of_50_000_rows_lose_nothing(
    given: list[str], server_dsn: str, source_server: SourceServer
) -> None:
    posts = [{"id": n, "title": f"post {n}"} for n in range(POSTS)]
    environment = {
        "DATABASE_URL": server_dsn,
        "API_HOST": source_server.put_pages("/posts", posts).removesuffix("/posts"),
        "CSV_URL": source_server.put("/items.csv", csv(1, CSV_ROWS)),
    }

    code, certificate = await prove(*given, seconds=36_000, **environment)

    # As text, which pytest does not shorten: hours may have gone into it
    assert code == 0, f"{certificate['result']}: {certificate['reason']} {certificate['violations']}"
    print({name: value for name, value in certificate.items() if name not in {"trials", "checked"}})


async def healthy(service: Service) -> bool:
    try:
        return bool((await service.get("/health"))["db_connected"])
    except (OSError, KeyError, ValueError):
        return False


@pytest.mark.parametrize("crashes", [1, pytest.param(CRASHES, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
async def test_the_service_goes_on_by_itself_when_postgresql_is_killed(
    crashes: int, tmp_path: Path, source_server: SourceServer
) -> None:
    tmp_path.chmod(0o755)
    rng, home, slowest = random.Random(1), tmp_path / "pg", 0.0
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)  # as root, PostgreSQL runs as another user, who must get in
    environment = {
        "ETL_DATA_DIR": str(home),
        "BUILT_IN_SOURCES": "csv",
        "CSV_URL": source_server.put("/items.csv", csv(0, 20_000)),
        "ETL_INTERVAL": "1",
    }
    async with serving("serve", **environment) as service:
        with running_postgres(home) as server:
            for crash in range(1, crashes + 1):
                source_server.put("/items.csv", csv(crash, 20_000))
                await asyncio.sleep(rng.uniform(0, 2))
                os.kill(int((server.home / "data" / "postmaster.pid").read_text().split("\n")[0]), signal.SIGKILL)
                began = monotonic()
                async with asyncio.timeout(60):
                    while await version_of(server.dsn) != (crash, 20_000):
                        await asyncio.sleep(0.1)
                slowest = max(slowest, monotonic() - began)
            assert await healthy(service)
            listing = [ListedRecord("csv", str(n), None, None) for n in range(20_000)]
            sources = [ListedSource("csv", False, False)]
            async with open_invariants(server.dsn, sources=sources, listing=listing) as invariants:
                names = [name for name in (*AT_ANY_MOMENT, "I1 nothing lost") if not name.startswith("I5")]
                assert await invariants.violations(names) == []
            assert await service.stop() == 0
    print(f"{crashes} crashes, seed 1: {slowest:.1f} s at most until the newest rows were there")


async def version_of(dsn: str) -> tuple[int, int] | None:
    """Of the rows that are served, if all are of one version; None while the database is away."""
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            rows = await connection.fetch(
                "SELECT substring(name FROM '\\d+$')::int, count(*)::int FROM normalized_data GROUP BY 1"
            )
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    return (rows[0][0], rows[0][1]) if len(rows) == 1 else None
