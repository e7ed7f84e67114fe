"""Being seen alive: one connection per process, holding one advisory lock for as long as the process lives."""

import asyncio
import os
import secrets
import socket
from types import TracebackType
from typing import Self

import asyncpg
from sqlalchemy import func, select

from app.db.engine import Database, WriteSession
from app.db.errors import store_errors

MIGRATION_LOCK = 4_715_210_011
"""Key of the advisory lock under which migrations run."""


class Presence:
    """
    This process, as other processes see it.

    `holder` names it in leases. While its connection lives, so does the
    advisory lock of that name; when the process is killed PostgreSQL drops
    both at once, and its leases can be taken over without waiting for them to
    expire. Losing the connection alone does no harm: a lease taken over is
    fenced off by its epoch.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key = secrets.randbits(62)
        self._connection: asyncpg.Connection | None = None
        self._announcing = asyncio.Lock()
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{self._key}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def announce(self) -> None:
        """
        Hold the lock, again if the connection was lost. Cheap when it is held.

        Raises:
            StoreError: the database cannot be reached.
        """
        async with self._announcing:  # runs begin together; a second connection would wait for the first one's lock
            if self._connection is not None and not self._connection.is_closed():
                return
            self._connection = connection = await self._database.open_session_connection()
            with store_errors():
                await connection.execute("SELECT pg_advisory_lock($1)", self._key)


async def is_alive(session: WriteSession, holder: str | None) -> bool:
    """Whether the process behind `holder` still holds its lock."""
    key = (holder or "").rpartition(":")[2]
    if not key.isdigit():
        return False
    # Freed again with this transaction
    return not (await session.execute(select(func.pg_try_advisory_xact_lock(int(key))))).scalar_one()


async def take_turn(session: WriteSession, what: str) -> None:
    """Wait until no other transaction has this turn; it ends with the transaction."""
    key = func.hashtextextended(f"etl-river {what}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(key)))
