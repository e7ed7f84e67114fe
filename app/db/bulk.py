"""Binary COPY through SQLAlchemy's own connection: many rows, one round trip, the session's transaction."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Table

from app.db.copy_format import encode_rows
from app.db.engine import WriteSession, driver_connection
from app.db.errors import store_errors


async def copy_rows(
    session: WriteSession,
    table: Table,
    columns: Mapping[str, Sequence[Any]],
    *,
    into: str | None = None,
    **constants: Any,
) -> None:
    """
    COPY rows into a table; columns not named take their defaults.

    Args:
        columns: of the table, all of one length; None is NULL.
        into: the name of another table with the same columns.
        constants: columns that have the same value in every row.

    Raises:
        KeyTakenError: a key is already there; the transaction is lost.
    """
    connection = await driver_connection(session)
    names, chunks = encode_rows(table, columns, constants)
    with store_errors():
        await connection.copy_to_table(into or table.name, columns=names, source=_each(chunks), format="binary")


async def _each(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
