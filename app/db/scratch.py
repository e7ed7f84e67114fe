"""Databases that live as long as an experiment."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from app.clock import monotonic
from app.db.dsn import with_database
from app.db.engine import Database
from app.db.errors import store_errors
from app.db.migrate import upgrade
from app.errors import StoreUnavailableError

PREFIX: Final = "etl_prove_"
SETTLE_SECONDS: Final = 30.0


class Scratch:
    """
    Makes databases with our schema and no rows, beside the one that a DSN names, and drops them.

    Args:
        dsn: of an account that may create databases.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._template = f"{PREFIX}{secrets.token_hex(6)}"
        self._made = 0

    async def prepare(self) -> None:
        """
        Raises:
            ConfigError: this account may not create databases.
        """
        await self._execute(f"CREATE DATABASE {self._template} TEMPLATE template0")
        database = Database(with_database(self._dsn, self._template))
        try:
            await upgrade(database)
        finally:
            await database.close()

    async def drop(self) -> None:
        await self._execute(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The DSN of a new one."""
        self._made += 1
        name = f"{self._template}_{self._made}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield with_database(self._dsn, name)
        finally:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        with store_errors():
            connection = await asyncpg.connect(self._dsn)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()


@asynccontextmanager
async def open_scratch(dsn: str) -> AsyncIterator[Scratch]:
    scratch = Scratch(dsn)
    try:
        await scratch.prepare()
        yield scratch
    finally:
        await scratch.drop()


async def settle(connection: asyncpg.Connection) -> None:
    """
    Wait until nobody else is connected to this database: PostgreSQL takes a moment to notice a death.

    Raises:
        StoreUnavailableError: somebody stays.
    """
    began = monotonic()
    while await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend')"
    ):
        if monotonic() - began > SETTLE_SECONDS:
            raise StoreUnavailableError(f"a killed process is still connected after {SETTLE_SECONDS:.0f} s")
        await asyncio.sleep(0.02)
