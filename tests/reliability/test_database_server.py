"""The embedded server in trouble: a disk that is really full, a restart. It is said, and over without a hand."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import asyncpg
import httpx2
import pytest

from app.clock import monotonic
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.embedded import EmbeddedServer, running_postgres
from tests.processes import Service, serving
from tests.source_server import SourceServer

ROWS = 10_000
RESUMED_SECONDS = 30


def csv(version: int) -> bytes:
    return b"id,name\n" + b"".join(b"%d,row %d of %d %s\n" % (n, n, version, b"x" * 300) for n in range(ROWS))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)  # as root, PostgreSQL runs as another user, who must get in
    return tmp_path / "pg"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A filesystem of 96 MB."""
    place = Path(mkdtemp(prefix="etl-small-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=96m,mode=0777", "tmpfs", str(place)]
    try:
        mounting = subprocess.run(command, capture_output=True, text=True, check=False)
        refusal = mounting.stderr.strip() if mounting.returncode else ""
    except OSError as error:
        refusal = str(error)
    if refusal:
        place.rmdir()
        pytest.skip(f"a small filesystem cannot be mounted here: {refusal}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


@dataclass(slots=True)
class Watched:
    """The service and what it says meanwhile."""

    service: Service
    client: httpx2.AsyncClient
    source_server: SourceServer
    server: EmbeddedServer
    said: set[str] = field(default_factory=set)
    slowest_seconds: float = 0.0
    """Of `/livez`."""

    async def look(self) -> None:
        began = monotonic()
        assert (await self.client.get("/livez")).status_code == 200
        self.slowest_seconds = max(self.slowest_seconds, monotonic() - began)
        self.said.add((await self.client.get("/health")).json()["detail"] or "")

    async def show(self, version: int) -> float:
        """Change the source; how long until all its rows are there."""
        self.source_server.put("/items.csv", csv(version))
        began = monotonic()
        async with asyncio.timeout(RESUMED_SECONDS):
            while not await self._has(version):
                await asyncio.sleep(0.1)
        return monotonic() - began

    async def _has(self, version: int) -> bool:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            counted = f"SELECT count(*) FROM normalized_data WHERE name LIKE '% of {version} %'"
            return bool((await fetch(self.server, counted))[0][0] == ROWS)
        return False


@asynccontextmanager
async def watched(server: EmbeddedServer, source_server: SourceServer) -> AsyncIterator[Watched]:
    """Serve with a tick each second; at the end nothing is lost."""
    environment = {
        "ETL_DATA_DIR": str(server.home),
        "BUILT_IN_SOURCES": "csv",
        "CSV_URL": source_server.put("/items.csv", csv(0)),
        "ETL_INTERVAL": "1",
    }
    async with serving("serve", **environment) as service, httpx2.AsyncClient(base_url=service.url) as client:
        watching = Watched(service, client, source_server, server)
        await watching.show(0)
        yield watching
        listing = [ListedRecord("csv", str(n), None, None) for n in range(ROWS)]
        sources = [ListedSource("csv", False, False)]
        async with open_invariants(server.dsn, sources=sources, listing=listing) as invariants:
            # A run may be under way
            names = [name for name in (*AT_ANY_MOMENT, "I1 nothing lost") if not name.startswith("I5")]
            assert await invariants.violations(names) == []
        assert await service.stop() == 0
    assert watching.slowest_seconds < 3


async def fetch(server: EmbeddedServer, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.dsn, timeout=5)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(query)
    finally:
        await connection.close()
    return rows


async def ended_badly(server: EmbeddedServer) -> list[tuple[str, str | None]]:
    rows = await fetch(
        server, "SELECT status, error_message FROM etl_runs WHERE status NOT IN ('succeeded', 'running')"
    )
    return [tuple(row) for row in rows]


def fill(disk: Path) -> Path:
    """To the last byte."""
    filled = disk / "filled"
    with filled.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    return filled


async def change_until(watching: Watched, text: str, *, first: int) -> int:
    """Change the source until the process has said it; the last version."""
    version = first
    async with asyncio.timeout(60):
        while not any(text in said for said in (*watching.said, *watching.service.log)):
            watching.source_server.put("/items.csv", csv(version := version + 1))
            for _ in range(5):
                await watching.look()
                await asyncio.sleep(0.1)
    return version


async def test_full_tables_are_said_and_runs_go_on_when_there_is_room(
    home: Path, small_disk: Path, source_server: SourceServer
) -> None:
    with running_postgres(home) as server:
        async with watched(server, source_server) as watching:
            space = small_disk / "space"
            space.mkdir()
            owner = (server.home / "data").stat()
            os.chown(space, owner.st_uid, owner.st_gid)
            await fetch(server, f"CREATE TABLESPACE small LOCATION '{space}'")
            for table in ("normalized_data", "raw_csv_data"):
                await fetch(server, f"ALTER TABLE {table} SET TABLESPACE small")
            filled = fill(small_disk)
            version = await change_until(watching, "the database's disk is full", first=0)
            filled.unlink()
            resumed = await watching.show(version + 1)
        reasons = await ended_badly(server)

    print(f"tables full: {resumed:.1f} s, said {watching.said}, runs {set(reasons)}")
    assert reasons
    assert all("No space left on device (SQLSTATE 53100)" in (reason or "") for _, reason in reasons)


@pytest.mark.long
async def test_a_full_log_ends_the_server_and_it_is_started_again_when_there_is_room(
    home: Path, small_disk: Path, source_server: SourceServer
) -> None:
    with running_postgres(home) as server:
        log = server.home / "data" / "pg_wal"
    subprocess.run(["cp", "-a", str(log), str(small_disk / "pg_wal")], check=True)
    log.rename(log.with_name("pg_wal.before"))
    log.symlink_to(small_disk / "pg_wal")
    with running_postgres(home) as server:
        async with watched(server, source_server) as watching:
            filled = fill(small_disk)
            version = await change_until(watching, "embedded_not_restarted", first=0)
            await asyncio.sleep(5)
            await watching.look()
            filled.unlink()
            resumed = await watching.show(version + 1)
        reasons = await ended_badly(server)

    words = [line for line in watching.service.log if "embedded_not_restarted" in line]
    print(f"log full: {resumed:.1f} s, said {watching.said}, runs {set(reasons)}, {words[0][:600]}")
    assert "No space left on device" in words[0]
    assert watching.said - {""}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_server_that_is_stopped_is_back_and_runs_go_on(
    number: signal.Signals, home: Path, source_server: SourceServer
) -> None:
    with running_postgres(home) as server:
        async with watched(server, source_server) as watching:
            source_server.put("/items.csv", csv(1))
            await asyncio.sleep(0.7)
            os.kill(int((server.home / "data" / "postmaster.pid").read_text().split("\n")[0]), number)
            resumed = await watching.show(2)
        reasons = await ended_badly(server)

    print(f"restart ({number.name}): {resumed:.1f} s, runs {reasons}")
    assert all("database" in (reason or "") for _, reason in reasons)
