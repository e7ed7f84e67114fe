"""Whether a connection stays ours between two transactions: leases and temporary tables need that."""

from typing import Final

import asyncpg

from app.db.engine import Database
from app.db.errors import POOLED, store_errors
from app.errors import ConfigError

_MARK: Final = "SELECT set_config('etl_river.mark', $1, false), pg_backend_pid()"
_LOOK: Final = "SELECT coalesce(current_setting('etl_river.mark', true), ''), pg_backend_pid()"


async def require_sessions(database: Database) -> None:
    """
    Raises:
        ConfigError: DATABASE_URL leads through a pooler in transaction mode (pgbouncer, say).
        StoreUnavailableError: the database cannot be reached.
    """
    one = await database.open_session_connection()
    try:
        other = await database.open_session_connection()
        try:
            with store_errors():
                lent = await _is_lent(one, other)
        finally:
            other.terminate()
    finally:
        one.terminate()
    if lent:
        raise ConfigError(POOLED)


async def _is_lent(one: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """What one connection sets, another one sees; or the server behind it changes while the other is busy."""
    _, before = await one.fetchrow(_MARK, "one") or ("", 0)
    async with other.transaction():
        seen, _ = await other.fetchrow(_LOOK) or ("", 0)
        mark, after = await one.fetchrow(_LOOK) or ("", 0)
    return bool(seen == "one" or mark != "one" or before != after)
