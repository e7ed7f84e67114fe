"""
The index that a search needs in a large table: trigrams of name and description (PostgreSQL's pg_trgm).

It is no part of the schema: not every server has the extension, not every
account may install it, and a first load is faster without it. So it is made
beside the work, once there are rows enough for it to matter.
"""

from typing import Final

import asyncpg
import structlog

from app.clock import monotonic
from app.db.engine import Database
from app.db.errors import store_errors

log = structlog.get_logger()

MIN_ROWS: Final = 50_000
"""Fewer are searched without an index in some 50 ms."""
LOCK: Final = 4_715_210_012
"""Key of the advisory lock under which it is made: one process makes it."""
NAME: Final = "normalized_data_search_idx"

_STATE: Final = """
SELECT (SELECT coalesce(sum(row_count), 0) FROM etl_checkpoint WHERE kind = 'cursor')::bigint AS rows,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS available,
       (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)) AS valid
"""


async def ensure_search_index(database: Database, *, min_rows: int = MIN_ROWS) -> bool:
    """
    Make it where it can be made and there are rows enough; readers and writers go on meanwhile.

    Returns:
        Whether it is there.

    Raises:
        StoreError: the database cannot be reached, or refused; what was begun is begun anew the next time.
    """
    connection = await database.open_session_connection()
    try:
        with store_errors():
            state = await connection.fetchrow(_STATE, NAME)
            assert state is not None
            if state["valid"] or not state["available"] or state["rows"] < min_rows:
                return bool(state["valid"])
            return await _make(connection, rows=state["rows"])
    finally:
        # Told to stop, it does not wait for the server: that ends the statement when it notices
        connection.terminate()


async def _make(connection: asyncpg.Connection, *, rows: int) -> bool:
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        return False
    began = monotonic()
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning("search_index_refused", reason=f"{error}; as a superuser: CREATE EXTENSION pg_trgm")
        return False
    # One that was not completed is there, and of no use
    await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
    await connection.execute(
        f"CREATE INDEX CONCURRENTLY {NAME} ON normalized_data USING gin (name gin_trgm_ops, description gin_trgm_ops)",
        timeout=24 * 3600.0,
    )
    log.info("search_index_made", rows=rows, seconds=round(monotonic() - began, 1))
    return True
