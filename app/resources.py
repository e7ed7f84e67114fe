"""Everything that is opened and must be closed: one exit stack, entered in order, left in reverse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog

from app.clock import utc_now
from app.db import migrate
from app.db.engine import Database
from app.db.locks import Presence
from app.db.pooler import require_sessions
from app.embedded import EmbeddedServer, running_postgres
from app.errors import EtlError, StoreError, StoreRefusedError, StoreUnavailableError
from app.extract.http import Fetcher
from app.settings import Settings
from app.sources.catalog import Catalog, open_catalog

log = structlog.get_logger()

WATCH_SECONDS: Final = 2.0
"""How often the embedded PostgreSQL is asked whether it lives."""


@dataclass(slots=True)
class Resources:
    settings: Settings
    database: Database
    fetcher: Fetcher
    presence: Presence
    catalog: Catalog
    embedded: EmbeddedServer | None
    """None when DATABASE_URL names another server."""
    opened_at: datetime = field(default_factory=utc_now)
    schema_ready: bool = False
    """The schema has been brought to head by this process."""
    turns: asyncio.Semaphore = field(init=False)
    """One for each run that may be in progress at once."""
    exports: asyncio.Semaphore = field(init=False)
    """One for each export that may be in progress at once."""
    may_keep_house_at: float = 0.0
    """When this process asks again whether there is something to tidy up; of the monotonic clock."""
    background: set[asyncio.Task[Any]] = field(default_factory=set)
    """Work that somebody began and does not wait for; it ends with the process."""

    def __post_init__(self) -> None:
        self.turns = asyncio.Semaphore(self.settings.schedule.max_concurrent_runs)
        self.exports = asyncio.Semaphore(self.settings.exports.max_concurrent)

    async def prepare_schema(self) -> bool:
        """
        Migrate to head, once; False when the database cannot be reached now.

        Raises:
            ConfigError: the database refuses us.
        """
        if not self.schema_ready:
            try:
                await require_sessions(self.database)
                await migrate.upgrade(self.database)
            except StoreRefusedError:
                raise
            except StoreUnavailableError as error:
                log.warning("database_unavailable", doing="migrating", reason=str(error))
                return False
            self.schema_ready = True
        return True


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """
    Open what a process needs; nothing is written to the database yet.

    Raises:
        ConfigError: a setting is wrong, or no PostgreSQL can be found to embed.
        StoreUnavailableError: the embedded PostgreSQL does not start.
    """
    async with AsyncExitStack() as stack:
        embedded = await _start_embedded(settings, stack)
        database = await _enter_database(settings, embedded, stack)
        if embedded is not None:
            await stack.enter_async_context(_watched(embedded, database))
        fetcher = await stack.enter_async_context(Fetcher(settings.http, database))
        presence = await stack.enter_async_context(Presence(database))
        catalog = open_catalog(settings)
        for file in catalog.wrong:
            log.error("source_file_wrong", file=file.where, source=file.name, reason=file.reason)
        yield Resources(settings, database, fetcher, presence, catalog, embedded)


@asynccontextmanager
async def open_ready(settings: Settings) -> AsyncIterator[Resources]:
    """
    The same, with the schema at head: for a command that does one thing and ends.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    async with open_resources(settings) as resources:
        if not await resources.prepare_schema():
            raise StoreUnavailableError("the database cannot be reached; see the log")
        yield resources


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database alone, for tools that need nothing else."""
    async with AsyncExitStack() as stack:
        yield await _enter_database(settings, await _start_embedded(settings, stack), stack)


async def _start_embedded(settings: Settings, stack: AsyncExitStack) -> EmbeddedServer | None:
    if settings.database.url is not None:
        return None
    running = running_postgres(settings.embedded.data_dir, pg_bin=settings.embedded.pg_bin)
    server = await asyncio.to_thread(running.__enter__)
    stack.push_async_callback(asyncio.to_thread, running.__exit__, None, None, None)
    return server


@asynccontextmanager
async def _watched(embedded: EmbeddedServer, database: Database) -> AsyncIterator[None]:
    """Start the embedded server again, should it die while the block runs: nobody else would."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await database.ping()
            except StoreError:
                try:
                    await asyncio.to_thread(embedded.ensure_running)
                except EtlError as error:
                    log.error("embedded_not_restarted", reason=str(error))

    watching = asyncio.create_task(watch(), name="embedded watch")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _enter_database(settings: Settings, embedded: EmbeddedServer | None, stack: AsyncExitStack) -> Database:
    given = settings.database
    if embedded is not None:
        dsn = embedded.dsn
    else:
        assert given.url is not None
        dsn = given.url.get_secret_value()
    database = Database(
        dsn,
        pool_min_size=given.pool_min_size,
        pool_max_size=given.pool_max_size,
        connect_timeout_seconds=given.connect_timeout_seconds,
        command_timeout_seconds=given.command_timeout_seconds,
        slow_statement_seconds=given.slow_statement_seconds,
    )
    stack.push_async_callback(database.close)
    return database
