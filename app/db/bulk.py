"""Binary COPY through SQLAlchemy's own connection: many rows, one round trip, the session's transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.db.engine import WriteSession, driver_connection
from app.db.errors import store_errors


async def copy_rows(session: WriteSession, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """
    COPY rows into a table; columns not named take their defaults.

    Raises:
        KeyTakenError: a key is already there; the transaction is lost.
    """
    connection = await driver_connection(session)
    with store_errors():
        await connection.copy_records_to_table(table, columns=list(columns), records=rows)
