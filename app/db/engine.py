"""The engine, and the two kinds of session: one that reads, one that writes."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NewType
from weakref import WeakKeyDictionary

import asyncpg
import structlog
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import await_only

from app.db.errors import LOST_IN_DRIVER, READ_ONLY, store_errors
from app.db.quick_reads import QuickReads
from app.errors import StoreUnavailableError

log = structlog.get_logger()

SILENCE_SECONDS: Final = 15
"""A server that acknowledges nothing for so long is gone."""

COMMAND_TIMEOUT: Final = "command_timeout_seconds"
"""In a session's `info`: for what has no deadline of the driver's."""

CLOSE_SECONDS: Final = 2.0
"""For the server to take leave of all connections."""

_END_OLDER: Final = """
SELECT pg_terminate_backend(older.pid) FROM pg_stat_activity AS older, pg_stat_activity AS this
WHERE this.pid = pg_backend_pid() AND older.pid = ANY($1)
    AND older.application_name = this.application_name AND older.backend_start < this.backend_start
"""

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
            try:
                # asyncpg reads the DSN itself, so sslmode, passfile and socket directories mean what libpq says
                connection = await asyncpg.connect(
                    dsn,
                    timeout=connect_timeout_seconds,
                    command_timeout=command_timeout_seconds,
                    server_settings={"application_name": "etl-river", "timezone": "UTC"},
                )
                await self._end_silent(connection)
            except TimeoutError:
                self.give_up()
                raise
            _notice_silence(connection)
            self._connections[connection] = connection.get_server_pid()
            return connection

        self._connect = connect
        self._connections: WeakKeyDictionary[asyncpg.Connection, int] = WeakKeyDictionary()
        """With their server processes, of which one that was terminated before cannot be asked."""
        self._silent: set[int] = set()
        """Server processes that we gave up since it did not answer the simplest question in time."""
        self.trouble: str | None = None
        """Why the last write did not succeed, for anybody's eyes; None when it did."""
        self.command_timeout_seconds = command_timeout_seconds
        self.spare = asyncio.Semaphore(pool_max_size // 4)
        """Connections for a run's second and further batches: many large runs at once leave some for all else."""
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            poolclass=AsyncAdaptedQueuePool,
            isolation_level="READ COMMITTED",  # whatever the role's default is: leases and batches are made for it
            pool_size=pool_min_size,
            max_overflow=pool_max_size - pool_min_size,
            pool_timeout=connect_timeout_seconds,
            pool_recycle=1800,
        )
        self._ping_before_use(connect_timeout_seconds)
        _log_slow_statements(self.engine, slow_statement_seconds)
        _leave_standbys(self.engine)
        self._snapshots = self.engine.execution_options(isolation_level="REPEATABLE READ")
        self._reads = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.quick = QuickReads(connect, seconds=command_timeout_seconds)
        """For single statements: outside the pool above, and besides it."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        with store_errors():
            async with AsyncSession(self._reads) as session:
                yield ReadSession(session)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        try:
            with store_errors():
                async with self.writing_session(self.engine) as session, session.begin():
                    yield WriteSession(session)
        except StoreUnavailableError as error:
            self.trouble = error.reason
            raise
        self.trouble = None

    @asynccontextmanager
    async def write_of_snapshot(self) -> AsyncIterator[WriteSession]:
        """
        All its statements see one moment.

        Raises:
            StoreConflictError: a row to be written was changed since; nothing was.
        """
        with store_errors():
            async with self.writing_session(self._snapshots) as session, session.begin():
                yield WriteSession(session)

    def writing_session(self, on: AsyncEngine | AsyncConnection) -> AsyncSession:
        """Without a transaction yet; the caller begins, ends and closes it."""
        return AsyncSession(on, expire_on_commit=False, info={COMMAND_TIMEOUT: self.command_timeout_seconds})

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
        await self.quick.close()
        # A silent server takes no leave, of one connection after another
        silent = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.give_up)
        await self.engine.dispose()
        silent.cancel()

    async def _end_silent(self, connection: asyncpg.Connection) -> None:
        """
        After a silence, end on the server whatever we opened before it.

        Nobody told the server that we gave those sessions up: it would keep their transactions and locks for hours.
        """
        if self._silent:
            silent, self._silent = list(self._silent), set()
            await connection.execute(_END_OLDER, silent)

    def give_up(self) -> None:
        """
        It went silent: whatever waits for an answer fails now.

        asyncpg has no deadline for what it waits for after a statement was cancelled or timed out.
        """
        for connection, server_pid in list(self._connections.items()):
            self._silent.add(server_pid)
            connection.terminate()
        self._connections.clear()

    def _ping_before_use(self, patience_seconds: float) -> None:
        """
        As `pool_pre_ping` does, but with a deadline: a connection may have gone silent without an end.

        Then all those opened before are given up with it, not one after the other.
        """

        def ping(connection: Any, _record: Any, _fairy: Any) -> None:
            driver: asyncpg.Connection = connection.driver_connection
            try:
                await_only(driver.execute("SELECT 1", timeout=patience_seconds))
            except TimeoutError as error:
                self.give_up()
                raise InvalidatePoolError from error
            except (OSError, *LOST_IN_DRIVER) as error:
                raise DisconnectionError from error

        event.listen(self.engine.sync_engine, "checkout", ping)


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


def _notice_silence(connection: asyncpg.Connection) -> None:
    """Let TCP tell within SILENCE_SECONDS that nothing comes back from a server; elsewhere deadlines have to do."""
    # asyncpg leaves no other way to its socket
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    held = transport.get_extra_info("socket")
    if held is None or held.family == socket.AF_UNIX or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_SECONDS // 3)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_SECONDS // 3)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000)


def _leave_standbys(engine: AsyncEngine) -> None:
    """After a failover, connections to what is a standby now are given up, all of them."""

    def met(context: ExceptionContext) -> None:
        if getattr(getattr(context.original_exception, "__cause__", None), "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    event.listen(engine.sync_engine, "handle_error", met)


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
