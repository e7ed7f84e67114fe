"""What the store promises its callers."""

import asyncpg
import pytest
from sqlalchemy import text

from app.db.engine import Database
from app.db.errors import store_errors
from app.db.ids import IdBlock, normalized_ids, raw_ids
from app.db.models import ID_BLOCK_SIZE
from app.errors import ConfigError, StoreError, StoreUnavailableError
from tests.databases import with_database


async def test_a_read_session_cannot_write(database: Database) -> None:
    with pytest.raises(StoreError, match="read-only"):
        async with database.read() as session:
            await session.execute(text("DELETE FROM etl_runs"))


async def test_a_write_session_rolls_back_when_its_block_fails(database: Database, sql: asyncpg.Connection) -> None:
    async def fail_in_the_middle() -> None:
        async with database.write() as session:
            await session.execute(text("INSERT INTO etl_checkpoint (source, resource) VALUES ('a', 'b')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_in_the_middle()

    assert await sql.fetchval("SELECT count(*) FROM etl_checkpoint") == 0


async def test_a_database_that_is_not_there_is_a_configuration_error(dsn: str) -> None:
    database = Database(with_database(dsn, "no_such_database"))

    with pytest.raises(ConfigError, match="DATABASE_URL"):
        await database.ping()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://u:p@127.0.0.1:1/x", connect_timeout_seconds=1)

    with pytest.raises(StoreUnavailableError) as raised:
        await database.ping()

    assert "p@" not in str(raised.value)


async def test_sslmode_in_the_url_means_what_libpq_says(dsn: str) -> None:
    joined = dsn + ("&" if "?" in dsn else "?") + "sslmode=disable"
    database = Database(joined)

    await database.ping()
    await database.close()

    with pytest.raises(ConfigError, match="sslmode"):
        await Database(joined.replace("disable", "no-such-mode")).ping()


@pytest.mark.parametrize("open_ids", [raw_ids, normalized_ids])
async def test_ids_of_two_writers_never_meet(database: Database, open_ids: object) -> None:
    assert callable(open_ids)
    one, two = open_ids(database), open_ids(database)
    assert isinstance(one, IdBlock)
    assert isinstance(two, IdBlock)
    taken: list[int] = []

    for count in (1, ID_BLOCK_SIZE - 1, 3, 2 * ID_BLOCK_SIZE):
        for block in (one, two):
            await block.reserve(count)
            taken += block.take(count)

    assert len(set(taken)) == len(taken) == 2 * (3 * ID_BLOCK_SIZE + 3)


async def test_more_ids_than_were_reserved_are_not_given(database: Database) -> None:
    ids = raw_ids(database)
    await ids.reserve(1)

    with pytest.raises(IndexError):
        ids.take(ID_BLOCK_SIZE + 1)


async def test_the_sequences_step_by_whole_blocks(sql: asyncpg.Connection) -> None:
    steps = await sql.fetch(
        "SELECT seqincrement FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE relname ~ 'row_ids'"
    )

    assert [row["seqincrement"] for row in steps] == [ID_BLOCK_SIZE, ID_BLOCK_SIZE]


async def test_a_connection_that_the_driver_finds_in_another_state_is_lost() -> None:
    """Seen when a backend was terminated between two statements: asyncpg raises neither of its usual errors."""
    with pytest.raises(StoreUnavailableError, match="connection was lost"), store_errors():
        raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")


async def test_all_connections_are_given_up_though_one_was_terminated_before(database: Database) -> None:
    terminated, *others = [await database.open_session_connection() for _ in range(4)]
    terminated.terminate()
    database.give_up()
    assert all(connection.is_closed() for connection in others)
