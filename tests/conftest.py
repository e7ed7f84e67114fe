"""Fixtures: a database per test, a source to extract from, the service in this process."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import hypothesis
import pytest
import structlog

from app import scheduler
from app.api.data_reader import open_data_reader
from app.api.health import HealthCheck
from app.db.engine import Database
from app.db.migrate import upgrade
from app.main import create_app
from app.operations.hooks import receiving
from app.resources import Resources, open_resources
from app.settings import Settings, load_settings, variables
from tests.databases import choose, running_server, with_database
from tests.source_server import SourceServer

# The first text that is drawn on a machine builds Unicode's tables: two seconds that are no fault of its test
_PATIENT = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# The same examples each time, so that a red run says something about the change; `EXPLORE=1` draws new ones
hypothesis.settings.register_profile("same", _PATIENT, derandomize=True)
hypothesis.settings.register_profile("explore", _PATIENT)
hypothesis.settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")

KIND, WHY = choose()
_numbers = itertools.count(1)


def pytest_report_header() -> str:
    return f"PostgreSQL: {KIND} ({WHY})"


@pytest.fixture(autouse=True, scope="session")
def _nothing_leaks_in() -> Iterator[None]:
    """The developer's own environment and `.env` are not part of a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in variables():
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _away_from_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    # A command that ran in this process has set its level, and a stderr that ends with this test: what is opened for
    # the whole session is opened before the next one begins
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    with running_server(KIND) as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def template(server_dsn: str) -> str:
    """A database with the schema and no rows, to be cloned."""
    name = f"etl_template_{os.getpid()}"
    await _administer(server_dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}")
    database = Database(with_database(server_dsn, name))
    await upgrade(database)
    await database.close()
    return name


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """A database without a schema."""
    async for dsn in _clone(server_dsn, "template0"):
        yield dsn


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A database of the test's own, with the schema."""
    async for dsn in _clone(server_dsn, template):
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn)
    yield database
    await database.close()


@pytest.fixture
async def sql(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own, to look at what the service did."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def source_server() -> AsyncIterator[SourceServer]:
    async with SourceServer() as server:
        yield server


@pytest.fixture
def settings(dsn: str, source_server: SourceServer) -> Settings:
    """Of a service that extracts from `source_server`, impatient enough for a test."""
    return load_settings(
        DATABASE_URL=dsn,
        API_HOST=source_server.url,
        CSV_URL=source_server.url + "/items.csv",
        HTTP_MAX_ATTEMPTS=2,
        HTTP_READ_TIMEOUT_SECONDS=1,
        HTTP_TOTAL_TIMEOUT_SECONDS=2,
        PORT=0,
    )


async def _clone(server_dsn: str, template: str) -> AsyncIterator[str]:
    name = f"etl_test_{os.getpid()}_{next(_numbers)}"
    await _administer(server_dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield with_database(server_dsn, name)
    await _administer(server_dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _administer(server_dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(server_dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


Tick = Callable[..., Coroutine[Any, Any, scheduler.Tick]]


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    async with open_resources(settings) as resources:
        resources.schema_ready = True
        yield resources


@pytest.fixture
def tick(resources: Resources) -> Tick:
    """Run sources once: `await tick()`, `await tick("csv")`."""

    async def run(*names: str) -> scheduler.Tick:
        return await scheduler.run_tick(resources, resources.catalog.select(names), trigger="command")

    return run


@pytest.fixture
async def client(resources: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    async with api_client(resources) as client:
        yield client


@asynccontextmanager
async def api_client(
    resources: Resources, *, headers: Mapping[str, str] | None = None, strict: bool = True
) -> AsyncIterator[httpx2.AsyncClient]:
    """
    The API over these resources, without its scheduler.

    Args:
        strict: answers as the database has them now; else they may be 100 ms older, and a test is quicker than that.
    """
    app = create_app(resources=resources)
    app.state.resources = resources
    app.state.health_check = HealthCheck(resources.database)
    app.state.data_reader = open_data_reader(resources)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    given = {**({"Cache-Control": "no-cache"} if strict else {}), **(headers or {})}
    async with (
        receiving(resources) as app.state.hooks,
        httpx2.AsyncClient(transport=transport, base_url="http://etl", headers=given) as client,
    ):
        yield client
    await app.state.health_check.close()
