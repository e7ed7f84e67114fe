"""How the batches of a run become transactions: each its own, or all of them one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from app.db.engine import Database, ReadSession, WriteSession
from app.db.errors import store_errors


class Transactions:
    """
    The transactions of one run.

    Args:
        held: a connection whose temporary tables outlive a transaction; the last batch is written on it.
        altogether: all batches are one transaction on it: readers see nothing before the last.
    """

    def __init__(self, database: Database, held: AsyncConnection | None = None, *, altogether: bool = False) -> None:
        assert held is not None or not altogether
        self._database = database
        self._held = held
        self.altogether = altogether
        self._open: AsyncSession | None = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ReadSession]:
        """A session that sees what the batches before have written."""
        if self.altogether:
            async with self.writing(last=False) as session:
                yield ReadSession(session)
        else:
            async with self._database.read() as session:
                yield session

    @asynccontextmanager
    async def writing(self, *, last: bool) -> AsyncIterator[WriteSession]:
        """
        The session of one batch.

        Args:
            last: of the pass.
        """
        if self._held is None or not (last or self.altogether):
            async with self._database.write() as session:
                yield session
            return
        session = WriteSession(self._open or self._database.writing_session(self._held))
        self._open = session
        try:
            with store_errors():
                yield session
                if last or not self.altogether:
                    await session.commit()
                    self._open = None
        except BaseException:
            await self.roll_back()
            raise

    @asynccontextmanager
    async def aside(self) -> AsyncIterator[WriteSession]:
        """The held connection's session, for its temporary tables."""
        async with self.writing(last=not self.altogether) as session:
            yield session

    async def roll_back(self) -> None:
        if self._open is not None:
            session, self._open = self._open, None
            await session.close()


@asynccontextmanager
async def open_transactions(database: Database, *, hold: bool, altogether: bool) -> AsyncIterator[Transactions]:
    """
    Args:
        hold: keep one connection for the length of the block.
        altogether: see `Transactions`.

    Raises:
        StoreUnavailableError: no connection can be had.
    """
    if not hold:
        yield Transactions(database)
        return
    with store_errors():
        connection = await database.engine.connect()
    transactions = Transactions(database, connection, altogether=altogether)
    try:
        yield transactions
    finally:
        await transactions.roll_back()
        await connection.invalidate()  # its temporary tables go with it
        await connection.close()
