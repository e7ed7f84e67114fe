"""Database trouble while the service runs: each call ends in time and says why, and runs go on by themselves."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx2
import pytest

from app.clock import monotonic
from app.db.dsn import server_of, through
from app.db.invariants import AT_ANY_MOMENT, ListedRecord, ListedSource, open_invariants
from app.faults.proxy import Proxy, Upstream
from app.resources import open_resources
from app.scheduler import running_scheduler
from app.settings import load_settings
from tests.conftest import Tick, api_client
from tests.databases import with_database
from tests.processes import serving
from tests.source_server import SourceServer

RESUMED_SECONDS = 30
"""Within so many after the database is back, runs go on."""
SQLSTATE = "SQLSTATE {}"


def csv(version: int, rows: int = 2_000) -> bytes:
    return b"id,name\n" + b"".join(b"%d,row %d of %d\n" % (n, n, version) for n in range(rows))


async def until(holds: Callable[[], Awaitable[Any]], *, seconds: float = RESUMED_SECONDS) -> float:
    """How long it took until it held."""
    began = monotonic()
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)
    return monotonic() - began


@asynccontextmanager
async def service(dsn: str, source_server: SourceServer, **more: object) -> AsyncIterator[httpx2.AsyncClient]:
    """A service in this process with a tick each second, once its first rows are there."""
    settings = load_settings(
        DATABASE_URL=dsn,
        BUILT_IN_SOURCES="csv",
        CSV_URL=source_server.put("/items.csv", csv(0)),
        ETL_INTERVAL=1,
        **more,
    )
    async with open_resources(settings) as resources, api_client(resources) as client, running_scheduler(resources):
        await until(lambda: shows(client, 0))
        yield client


async def shows(client: httpx2.AsyncClient, version: int) -> bool:
    """All rows are of this version."""
    answer = await client.get("/data", params={"search": f" of {version}", "page_size": 1})
    return answer.status_code == 200 and answer.json()["total"] == 2_000


async def says(client: httpx2.AsyncClient, text: str) -> bool:
    """`/health` does; and the process is alive all the while."""
    alive = await client.get("/livez")
    health = await client.get("/health")
    assert alive.status_code == 200
    return text in (health.json()["detail"] or "")


async def holds_everything(dsn: str, rows: int) -> None:
    listing = [ListedRecord("csv", str(n), None, None) for n in range(rows)]
    async with open_invariants(dsn, sources=[ListedSource("csv", False, False)], listing=listing) as invariants:
        # A run may be under way
        names = [name for name in (*AT_ANY_MOMENT, "I1 nothing lost") if not name.startswith("I5")]
        assert await invariants.violations(names) == []


@pytest.fixture
async def role(dsn: str, sql: asyncpg.Connection) -> AsyncIterator[str]:
    """An account of the test's own that owns its database, so that it can be troubled alone."""
    name = f"etl_role_{os.getpid()}"
    place = dsn.rpartition("/")[2].partition("?")[0]
    await sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT ALL ON DATABASE {place} TO {name}")
    await sql.execute(f"GRANT ALL ON SCHEMA public TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
    await sql.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
    yield name
    last = await asyncpg.connect(dsn)
    await last.execute(f"ALTER ROLE {name} NOLOGIN")
    await last.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
    await last.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await last.close()


def as_role(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))


TROUBLES = [
    ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN", "refuses our account", 503),
    (
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "ALTER ROLE {role} RESET ALL",
        "the database is read-only",
        200,
    ),
    pytest.param(
        *("ALTER ROLE {role} CONNECTION LIMIT 0", "ALTER ROLE {role} CONNECTION LIMIT -1", "no connection slot", 503),
        marks=pytest.mark.long,
    ),
    pytest.param(
        *("ALTER DATABASE {name} RENAME TO {name}_away", "ALTER DATABASE {name}_away RENAME TO {name}"),
        *("the database does not exist", 503),
        marks=pytest.mark.long,
    ),
    pytest.param(
        *("ALTER ROLE {role} SET statement_timeout = 1", "ALTER ROLE {role} RESET ALL", "took longer", 0),
        marks=pytest.mark.long,
    ),
]


@pytest.mark.parametrize(("trouble", "mend", "said", "status"), TROUBLES, ids=lambda value: str(value)[:40])
async def test_a_database_that_refuses_says_why_and_runs_go_on_when_it_no_longer_does(
    trouble: str,
    mend: str,
    said: str,
    status: int,
    *,
    server_dsn: str,
    dsn: str,
    sql: asyncpg.Connection,
    role: str,
    source_server: SourceServer,
) -> None:
    names = {"role": role, "name": dsn.rpartition("/")[2].partition("?")[0]}
    away = await asyncpg.connect(with_database(server_dsn, "template1"))
    try:
        async with service(as_role(dsn, role), source_server) as client:
            await sql.close()
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            for _ in range(50):  # the service connects again meanwhile
                await away.execute(end, names["name"])
                try:
                    await away.execute(trouble.format(**names))
                    break
                except asyncpg.ObjectInUseError:
                    await asyncio.sleep(0.02)
            await away.execute(end, names["name"])
            source_server.put("/items.csv", csv(1))
            await until(lambda: says(client, said))
            answer = await client.get("/data")
            await away.execute(mend.format(**names))
            if status == 200 or "RESET" in mend:
                await away.execute(end, names["name"])  # what is set for an account holds for new sessions
            resumed = await until(lambda: shows(client, 1))
            await until(lambda: says(client, ""))
    finally:
        await away.close()

    print(f"{said}: {resumed:.1f} s")
    assert status in {answer.status_code, 0}
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        assert said in answer.json()["detail"]
    await holds_everything(dsn, 2_000)


@pytest.mark.parametrize(
    ("seconds", "patience"), [(3, 1), pytest.param(45, 5, marks=[pytest.mark.long, pytest.mark.timeout(240)])]
)
async def test_after_a_black_hole_runs_go_on_by_themselves(
    seconds: float, patience: float, dsn: str, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    """What was connected before stays silent for ever: nobody tells the process."""
    big = 60_000
    async with Proxy(Upstream(*server_of(dsn))) as proxy:
        environment = {
            "DATABASE_URL": through(dsn, host="127.0.0.1", port=proxy.port),
            "DATABASE_CONNECT_TIMEOUT_SECONDS": str(patience),
            "BUILT_IN_SOURCES": "csv",
            "CSV_URL": source_server.put("/items.csv", csv(0, big)),
            "ETL_INTERVAL": "1",
        }
        async with serving("serve", **environment) as run, httpx2.AsyncClient(base_url=run.url, timeout=60) as client:
            await until(lambda: sql.fetchval("SELECT sum(batch_seq) > 1 FROM etl_checkpoint"))
            proxy.open_hole()
            opened = monotonic()
            slowest: dict[str, float] = {}
            answers: dict[str, httpx2.Response] = {}

            async def ask(path: str) -> None:
                began = monotonic()
                answers[path] = await client.get(path)
                slowest[path] = max(slowest.get(path, 0), monotonic() - began)

            asking = asyncio.create_task(ask("/data"))
            while monotonic() - opened < seconds:
                await ask("/livez")
                await asyncio.gather(ask("/readyz"), ask("/health"))
                assert answers["/livez"].status_code == 200
            proxy.close_hole()
            closed = monotonic()
            await asking
            count = "SELECT count(*) = $1 FROM normalized_data"
            await until(lambda: sql.fetchval(count, big))
            ended = "SELECT count(*) > 0 FROM etl_runs WHERE status = 'succeeded'"
            await until(lambda: sql.fetchval(ended), seconds=RESUMED_SECONDS - (monotonic() - closed))
            resumed = monotonic() - closed
            assert await run.stop() == 0

    reasons = [tuple(row) for row in await sql.fetch("SELECT status, error_message FROM etl_runs ORDER BY id LIMIT 2")]
    print(f"hole of {seconds} s: back after {resumed:.1f} s, slowest {slowest}, runs {reasons}")
    assert slowest["/livez"] < 3
    assert max(slowest["/readyz"], slowest["/health"]) < 5
    assert slowest["/data"] < 15
    assert answers["/readyz"].status_code == answers["/health"].status_code == answers["/data"].status_code == 503
    assert "did not answer" in answers["/readyz"].json()["detail"] or "in time" in answers["/readyz"].json()["detail"]
    assert answers["/health"].json()["detail"]
    assert "database" in answers["/data"].json()["detail"]
    assert reasons[0][0] == "partial"
    assert "database" in reasons[0][1]
    await holds_everything(dsn, big)


async def test_a_lock_on_the_table_and_a_pool_in_use_are_said_and_passed(
    dsn: str, sql: asyncpg.Connection, source_server: SourceServer
) -> None:
    """Another session locks `normalized_data`; readers who wait for it take every connection."""
    patient = {"DATABASE_POOL_MIN_SIZE": 2, "DATABASE_POOL_MAX_SIZE": 4}
    impatient = {"DATABASE_CONNECT_TIMEOUT_SECONDS": 1, "DATABASE_COMMAND_TIMEOUT_SECONDS": 2}
    async with service(dsn, source_server, **patient, **impatient) as client:
        source_server.put("/items.csv", csv(1))
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute("LOCK TABLE normalized_data IN ACCESS EXCLUSIVE MODE")
        began = monotonic()
        answers = await asyncio.gather(*(client.get(path) for path in ["/data/1"] * 11 + ["/data"]))
        answered = monotonic() - began
        waited = "SELECT count(*) FROM etl_runs WHERE error_message LIKE '%another session holds a lock%'"
        other = await asyncpg.connect(dsn)
        try:
            await until(lambda: other.fetchval(waited))
        finally:
            await other.close()
        ready = await client.get("/readyz")
        await transaction.rollback()
        resumed = await until(lambda: shows(client, 1))

    print(f"12 readers: {answered:.1f} s; after the lock: {resumed:.1f} s")
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["retry-after"] for answer in answers} == {"5"}
    said = {answer.json()["detail"].partition(";")[0] for answer in answers}
    assert "every database connection of this process is in use" in said
    assert answered < 10
    assert ready.status_code == 200
    await holds_everything(dsn, 2_000)


async def test_no_slot_left_on_the_server_is_said_and_passed(
    dsn: str, sql: asyncpg.Connection, role: str, source_server: SourceServer
) -> None:
    """Another client of the account takes every slot that it may have."""
    async with service(as_role(dsn, role), source_server) as client:
        await sql.execute(f"ALTER ROLE {role} CONNECTION LIMIT 6")
        taken: list[asyncpg.Connection] = []
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND application_name <> ''"
        while len(taken) < 6:
            await sql.execute(end, role)
            try:
                taken.append(await asyncpg.connect(as_role(dsn, role)))
            except asyncpg.TooManyConnectionsError:
                continue
        source_server.put("/items.csv", csv(1))
        await until(lambda: says(client, "no connection slot left"))
        answer = await client.get("/data")
        for each in taken:
            await each.close()
        resumed = await until(lambda: shows(client, 1))

    print(f"slots: {resumed:.1f} s")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"].startswith("the database has no connection slot left")


FAILING = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') <= {times} THEN
        RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER fail AFTER INSERT ON normalized_data FOR EACH STATEMENT EXECUTE FUNCTION fail();
"""


@pytest.mark.parametrize(("times", "status", "rows"), [(4, "succeeded", 900), (5, "failed", 0)])
async def test_a_serialization_failure_is_tried_again_a_few_times(
    times: int, status: str, rows: int, *, tick: Tick, sql: asyncpg.Connection, source_server: SourceServer, dsn: str
) -> None:
    source_server.put("/items.csv", csv(0, 900))  # one batch
    await sql.execute(FAILING.format(times=times))

    report = (await tick("csv")).reports[0]

    assert report.status == status
    assert (report.counts.extracted, report.counts.inserted) == (rows, rows)
    assert await sql.fetchval("SELECT last_value FROM tries") == 5
    if status == "failed":
        assert SQLSTATE.format("40001") in (report.error_message or "")
        await tick("csv")
    await holds_everything(dsn, 900)
