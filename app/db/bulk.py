"""Binary COPY through SQLAlchemy's own connection: many rows, one round trip, the session's transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table

from app.db.copy_format import encode_rows
from app.db.engine import WriteSession, driver_connection
from app.db.errors import store_errors


async def copy_rows(
    session: WriteSession,
    table: Table,
    columns: Mapping[str, Sequence[Any]],
    **constants: Any,
) -> None:
    """
    COPY rows into a table; columns not named take their defaults.

    Args:
        columns: of the table, all of one length; None is NULL.
        constants: columns that have the same value in every row.

    Raises:
        KeyTakenError: a key is already there; the transaction is lost.
    """
    connection = await driver_connection(session)
    # In a thread: PostgreSQL is sent what it is ready for meanwhile, and readers are answered
    names, chunks = await asyncio.to_thread(_encode, table, columns, constants)
    with store_errors():
        await connection.copy_to_table(table.name, columns=names, source=_each(chunks), format="binary")


def _encode(
    table: Table, columns: Mapping[str, Sequence[Any]], constants: Mapping[str, Any]
) -> tuple[list[str], list[bytes]]:
    names, chunks = encode_rows(table, columns, constants)
    return names, list(chunks)


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
