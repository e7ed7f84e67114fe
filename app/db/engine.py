"""The engine, and the two kinds of session: one that reads, one that writes."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NewType

import asyncpg
import structlog
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.db.errors import store_errors

log = structlog.get_logger()

ReadSession = NewType("ReadSession", AsyncSession)
"""One snapshot, read-only: PostgreSQL refuses writes, mypy refuses passing it to a writer."""
WriteSession = NewType("WriteSession", AsyncSession)
"""One transaction: commits when its block leaves cleanly, rolls back otherwise."""


class Database:
    """
    The store. Errors that leave its sessions are `app.errors.StoreError` or `ConfigError`.

    Args:
        dsn: what asyncpg accepts: `postgresql://…`, `?sslmode=`, `?host=/socket/dir`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_min_size: int = 5,
        pool_max_size: int = 20,
        connect_timeout_seconds: float = 5.0,
        command_timeout_seconds: float = 60.0,
        slow_statement_seconds: float = 1.0,
    ) -> None:
        async def connect() -> asyncpg.Connection:
            # asyncpg reads the DSN itself, so sslmode, passfile and socket directories mean what libpq says
            return await asyncpg.connect(
                dsn,
                timeout=connect_timeout_seconds,
                command_timeout=command_timeout_seconds,
                server_settings={"application_name": "etl-river", "timezone": "UTC"},
            )

        self._connect = connect
        self.command_timeout_seconds = command_timeout_seconds
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=pool_min_size,
            max_overflow=pool_max_size - pool_min_size,
            pool_timeout=connect_timeout_seconds,
            pool_pre_ping=True,
            pool_recycle=1800,
        )
        _log_slow_statements(self.engine, slow_statement_seconds)
        self._reads = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        with store_errors():
            async with AsyncSession(self._reads) as session:
                yield ReadSession(session)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        with store_errors():
            async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
                yield WriteSession(session)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A bare connection, for migrations."""
        with store_errors():
            async with self.engine.connect() as connection:
                yield connection

    async def open_session_connection(self) -> asyncpg.Connection:
        """A connection outside the pool, for what must live as long as the process. The caller closes it."""
        with store_errors():
            return await self._connect()

    async def ping(self) -> None:
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()


async def driver_connection(session: AsyncSession) -> asyncpg.Connection:
    """
    The asyncpg connection under a session, inside its transaction.

    SQLAlchemy sends BEGIN with its first statement; without one, raw calls
    would commit by themselves.
    """
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, asyncpg.Connection)
    if not raw.is_in_transaction():
        await connection.execute(text("SELECT 1"))
    return raw


def _log_slow_statements(engine: AsyncEngine, slow_statement_seconds: float) -> None:
    def started(connection: Any, *_: Any) -> None:
        connection.info["statement_started"] = time.perf_counter()

    def finished(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        log_if_slow(statement, time.perf_counter() - connection.info["statement_started"], slow_statement_seconds)

    event.listen(engine.sync_engine, "before_cursor_execute", started)
    event.listen(engine.sync_engine, "after_cursor_execute", finished)


def log_if_slow(statement: str, seconds: float, slow_statement_seconds: float) -> None:
    """The statement's text only: its parameters may be anybody's data."""
    if seconds >= slow_statement_seconds:
        log.warning("statement_slow", seconds=round(seconds, 3), statement=" ".join(statement.split())[:300])
