"""What is copied in our own encoding is what PostgreSQL then holds."""

from datetime import UTC
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Table

from app.db.bulk import copy_rows
from app.db.copy_format import CHUNK_ROWS
from app.db.engine import Database
from app.db.models import NormalizedData, RawApiData
from app.errors import StoreError

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
MOMENTS = st.datetimes(timezones=st.just(UTC))
BIGINTS = st.integers(-(2**63), 2**63 - 1)
ROW = st.tuples(
    BIGINTS,
    st.none() | st.floats(allow_nan=False),
    MOMENTS,
    st.none() | MOMENTS,
    TEXTS,
    st.none() | TEXTS,
    st.binary(max_size=40),
)
COLUMNS = ("raw_id", "value", "created_at", "deleted_at", "name", "description", "content_hash")


def normalized_table() -> Table:
    return NormalizedData.metadata.tables["normalized_data"]


@given(rows=st.lists(ROW, min_size=1, max_size=20), source=TEXTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_value_of_every_type_comes_back(
    database: Database, sql: asyncpg.Connection, rows: list[tuple[Any, ...]], source: str
) -> None:
    await sql.execute("TRUNCATE normalized_data")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(COLUMNS)}
    columns |= {"id": list(range(len(rows))), "source_id": [str(at) for at in range(len(rows))]}

    async with database.write() as session:
        await copy_rows(session, normalized_table(), columns, source=source, run_id=-1)

    held = await sql.fetch(f"SELECT {', '.join(COLUMNS)} FROM normalized_data ORDER BY id")
    assert [tuple(row) for row in held] == rows
    assert await sql.fetchval("SELECT DISTINCT (source, run_id)::text FROM normalized_data") == str(
        await sql.fetchval("SELECT ($1::text, -1::bigint)::text", source)
    )


@pytest.mark.parametrize("count", [1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS])
async def test_no_row_is_lost_where_chunks_meet(database: Database, sql: asyncpg.Connection, count: int) -> None:
    payloads = [f'{{"id": {at}, "text": "{"x" * (at % 5000)}"}}' for at in range(count)]
    columns: dict[str, list[Any]] = {
        "id": list(range(count)),
        "page": [1] * count,
        "position": [2**31 - 1] * count,
        "payload": payloads,
        "content_hash": [b""] * count,
        "notes": [None if at % 3 else '{"at": 1.10}' for at in range(count)],
    }

    async with database.write() as session:
        await copy_rows(session, RawApiData.metadata.tables["raw_api_data"], columns, source="s", run_id=1)

    held = await sql.fetch("SELECT payload::text, notes->>'at' AS at FROM raw_api_data ORDER BY id")
    assert [row["payload"] for row in held] == payloads
    assert [row["at"] for row in held] == [None if at % 3 else "1.10" for at in range(count)]


async def test_a_chunk_that_cannot_be_encoded_leaves_the_connection_usable(database: Database) -> None:
    columns: dict[str, list[Any]] = {"id": [1], "raw_id": [1], "source_id": ["\udc80"], "content_hash": [b""]}

    with pytest.raises((StoreError, UnicodeEncodeError)):
        async with database.write() as session:
            await copy_rows(session, normalized_table(), columns, source="s", run_id=1)

    await database.ping()
