"""The index for search: made beside the work, where the server has pg_trgm and there are rows enough."""

import asyncio

import asyncpg
import pytest

from app.db.engine import Database
from app.db.search_index import LOCK, NAME, ensure_search_index

STATE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"


@pytest.fixture(autouse=True)
async def rows(sql: asyncpg.Connection) -> None:
    if not await sql.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')"):
        pytest.skip("this server has no pg_trgm")
    await sql.execute(
        "INSERT INTO normalized_data (id, raw_id, run_id, source, source_id, name, content_hash)"
        " SELECT n, 0, 0, 's', n::text, 'name ' || md5(n::text), '' FROM generate_series(1, 20000) AS n"
    )
    await sql.execute("INSERT INTO etl_checkpoint (source, resource, row_count) VALUES ('s', 'r', 20000)")


async def test_it_is_made_once_and_a_search_uses_it(database: Database, sql: asyncpg.Connection) -> None:
    assert await ensure_search_index(database, min_rows=20_000)
    made = await sql.fetchval("SELECT to_regclass($1)::oid", NAME)
    await sql.execute("ANALYZE normalized_data")

    assert await ensure_search_index(database, min_rows=20_000)

    assert await sql.fetchval("SELECT to_regclass($1)::oid", NAME) == made
    found = await sql.fetch(
        "EXPLAIN SELECT FROM normalized_data WHERE name ILIKE '%abcdef%' OR description ILIKE '%abcdef%'"
    )
    assert any(NAME in row[0] for row in found)


async def test_few_rows_need_none(database: Database, sql: asyncpg.Connection) -> None:
    assert not await ensure_search_index(database, min_rows=20_001)
    assert await sql.fetchval(STATE, NAME) is None


async def test_one_that_was_not_completed_is_made_anew(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("CREATE EXTENSION pg_trgm")
    await sql.execute(f"CREATE INDEX {NAME} ON normalized_data (name)")
    await sql.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)", NAME)

    assert await ensure_search_index(database, min_rows=1)

    assert await sql.fetchval(STATE, NAME) is True
    assert "gin" in await sql.fetchval("SELECT indexdef FROM pg_indexes WHERE indexname = $1", NAME)


async def test_while_another_process_makes_it_nobody_else_does(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("SELECT pg_advisory_lock($1)", LOCK)

    assert not await ensure_search_index(database, min_rows=1)
    assert await sql.fetchval(STATE, NAME) is None


async def test_writers_go_on_while_it_is_made(database: Database, sql: asyncpg.Connection) -> None:
    making = asyncio.create_task(ensure_search_index(database, min_rows=1))
    written = 0
    while not making.done():
        await sql.execute("UPDATE normalized_data SET value = 1 WHERE source = 's' AND id = $1", written + 1)
        written += 1
        await asyncio.sleep(0)

    assert await making
    assert written > 3
