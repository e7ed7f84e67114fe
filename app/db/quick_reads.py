"""
Single statements without what SQLAlchemy does around each: for the few that every reader sends.

A statement is compiled by SQLAlchemy once; then asyncpg runs it, on connections of its own,
without a transaction and without asking first whether the connection lives: a statement that
only reads can be sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import asyncpg
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from app.db.errors import store_errors

MAX_CONNECTIONS: Final = 4
_DIALECT: Final = dialect()  # type: ignore[no-untyped-call]


class Compiled(NamedTuple):
    """A SELECT as asyncpg takes it."""

    sql: str
    names: tuple[str, ...]
    """Of its parameters, in their order."""


def compile_once(statement: Select[Any]) -> Compiled:
    """
    Args:
        statement: its parameters have names of their own.
    """
    compiled = statement.compile(dialect=_DIALECT)
    return Compiled(str(compiled), tuple(compiled.positiontup or ()))


class QuickReads:
    """
    Args:
        connect: opens a connection.
        seconds: that a statement may take.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], *, seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        self._pool: asyncpg.Pool | None = None
        # In the order in which they came: of who waits for a connection, the pool lets newcomers go before
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    async def fetch(self, statement: Compiled, values: Mapping[str, Any]) -> list[asyncpg.Record]:
        """
        Its rows.

        Raises:
            StoreError: the database cannot be reached, or refused.
        """
        arguments = [values[name] for name in statement.names]
        with store_errors():
            async with self._turns:
                return await self._fetch(statement.sql, arguments)

    async def _fetch(self, sql: str, arguments: list[Any]) -> list[asyncpg.Record]:
        pool = self._pool or await self._open()
        try:
            return await pool.fetch(sql, *arguments, timeout=self._seconds)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, ConnectionError):
            # Of a connection that ended while nobody used it: the next one is new
            return await pool.fetch(sql, *arguments, timeout=self._seconds)

    async def close(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def _open(self) -> asyncpg.Pool:
        async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
            return await self._connect()

        async def leave_as_it_is(_: asyncpg.Connection) -> None:
            """Such statements change nothing of a session."""

        self._pool = asyncpg.create_pool(min_size=0, max_size=MAX_CONNECTIONS, connect=connect, reset=leave_as_it_is)
        return await self._pool
