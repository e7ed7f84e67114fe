"""A COPY ends when its connection does, and in time, also while PostgreSQL takes nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest

from app.db.bulk import copy_rows
from app.db.copy_format import CHUNK_ROWS
from app.db.engine import Database
from app.db.models import RawApiData
from app.errors import StoreUnavailableError

ROWS = 10 * CHUNK_ROWS
"""Of 10 KB: each chunk of them is more than a socket's buffers hold."""
_COPYING = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND wait_event = 'relation'"


async def _copy(database: Database) -> None:
    columns: dict[str, Sequence[Any]] = {
        "id": list(range(ROWS)),
        "page": [1] * ROWS,
        "position": list(range(ROWS)),
        "payload": [f'{{"text": "{"x" * 10_000}"}}'] * ROWS,
        "content_hash": [b""] * ROWS,
        "notes": [None] * ROWS,
    }
    async with database.write() as session:
        await copy_rows(session, RawApiData.metadata.tables["raw_api_data"], columns, source="s", run_id=1)


@pytest.fixture(autouse=True)
async def _in_the_way(dsn: str) -> AsyncIterator[None]:
    """A lock that lets a COPY begin and take nothing."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute("LOCK TABLE raw_api_data IN ACCESS EXCLUSIVE MODE")
        yield
    await connection.close()


async def test_a_copy_whose_connection_ends_fails_at_once(database: Database, sql: asyncpg.Connection) -> None:
    copying = asyncio.create_task(_copy(database))
    while not await sql.fetchval(f"SELECT count(*) {_COPYING}"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)

    await sql.execute(f"SELECT pg_terminate_backend(pid) {_COPYING}")

    assert (await asyncio.wait([copying], timeout=10))[0], "still waiting"
    with pytest.raises(StoreUnavailableError) as raised:
        copying.result()
    assert raised.value.reason == "the connection to the database was lost"
    await database.ping()


async def test_a_copy_that_is_not_taken_in_time_fails(dsn: str) -> None:
    database = Database(dsn, command_timeout_seconds=1)

    copying = asyncio.create_task(_copy(database))

    assert (await asyncio.wait([copying], timeout=10))[0], "still waiting"
    with pytest.raises(StoreUnavailableError) as raised:
        copying.result()
    assert raised.value.reason == "the database does not answer in time"
    await database.ping()
    await database.close()
