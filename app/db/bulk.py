"""Binary COPY through SQLAlchemy's own connection: many rows, one round trip, the session's transaction."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import Table

from app.db.copy_format import encode_rows
from app.db.engine import COMMAND_TIMEOUT, WriteSession, driver_connection
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
        StoreUnavailableError: the connection ended, or took not everything within its command timeout.
    """
    connection = await driver_connection(session)
    names, chunks = encode_rows(table, columns, constants)
    with store_errors():
        async with _while_it_takes(session, connection):
            await connection.copy_to_table(table.name, columns=names, source=_each(chunks), format="binary")


@asynccontextmanager
async def _while_it_takes(session: WriteSession, connection: asyncpg.Connection) -> AsyncIterator[None]:
    """
    Fail what is sent inside once the connection ends, or when the time for a command is over.

    asyncpg 0.32 waits for ever for room in its send buffer: neither its deadline nor the end of the connection is
    noticed there.
    """
    loop = asyncio.get_running_loop()
    lost = False

    def ended(_: object) -> None:
        nonlocal lost
        lost = True
        if not deadline.expired():
            deadline.reschedule(loop.time())

    try:
        async with asyncio.timeout(session.info[COMMAND_TIMEOUT]) as deadline:
            connection.add_termination_listener(ended)
            yield
    except TimeoutError:
        # What waits for it to answer a cancelled COPY would have no deadline either
        connection.remove_termination_listener(ended)
        connection.terminate()
        await session.invalidate()
        if lost:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of a COPY") from None
        raise
    finally:
        connection.remove_termination_listener(ended)


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
