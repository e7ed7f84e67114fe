"""Batches of one run that are being written: side by side, committed in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, NamedTuple

from app.db.engine import Database
from app.db.errors import ContendedError, KeyTakenError
from app.errors import SourceError, StoreConflictError
from app.pipeline.stretches import OvertakenStretchError

MAX_FLIGHTS: Final = 5
"""Batches of one run being written at once: PostgreSQL works on some while others are encoded and sent."""

LEAST_FLIGHTS: Final = 3
"""At once, however little a run has committed."""

ROLL_BACK_SECONDS: Final = 3.0
"""For the server to take note that batches are given up; else it is silent, and whoever is told to stop cannot wait."""

Write = Callable[[asyncio.Task[None] | None], Coroutine[Any, Any, None]]
"""Writes a batch; it is given the batch before it, to commit after that."""


class _Flight(NamedTuple):
    task: asyncio.Task[None]
    keys: set[str]
    records: int
    is_spare: bool
    """On a connection that was to spare; else the one that each run is sure of."""


def flights_after(committed: int, records: int) -> int:
    """
    How many batches of so many records at most may be written at once by a run that has committed so many.

    With two more that are being made, they are what a kill takes back: a tenth of what is committed, or LEAST_FLIGHTS.
    """
    return min(max(committed // (10 * max(records, 1)) - 2, LEAST_FLIGHTS), MAX_FLIGHTS)


class Flights:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._flights: deque[_Flight] = deque()

    async def begin(self, write: Write, keys: set[str], *, records: int, committed: int) -> None:
        """
        Write a batch, once there is room, and a connection to spare for all but the first.

        Args:
            records: of the batch, those without a key among them.
            committed: records of this run.
        """
        most = flights_after(committed, max(records, *(flight.records for flight in self._flights), 0))
        while len(self._flights) >= most or (self._needs_spare() and self._database.spare.locked()):
            await self._first()
        before = self._flights[-1].task if self._flights else None
        is_spare = self._needs_spare()
        task = asyncio.create_task(self._fly(write, before, is_spare=is_spare))
        self._flights.append(_Flight(task, keys, records, is_spare))

    async def arrive(self) -> None:
        """All are committed."""
        while self._flights:
            await self._first()

    async def clear_of(self, keys: set[str]) -> None:
        """None that is being written has one of these keys."""
        while any(not keys.isdisjoint(flight.keys) for flight in self._flights):
            await self._first()

    async def cancel(self) -> None:
        for flight in self._flights:
            flight.task.cancel()
        tasks = [flight.task for flight in self._flights]
        if tasks and (await asyncio.wait(tasks, timeout=ROLL_BACK_SECONDS))[1]:
            self._database.give_up()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, write: Write, before: asyncio.Task[None] | None, *, is_spare: bool) -> None:
        async with self._database.spare if is_spare else nullcontext():
            await write(before)

    def _needs_spare(self) -> bool:
        return any(not flight.is_spare and not flight.task.done() for flight in self._flights)

    async def _first(self) -> None:
        await self._flights.popleft().task


@asynccontextmanager
async def open_flights(database: Database) -> AsyncIterator[Flights]:
    """
    All have arrived when the block ends.

    When it fails, those on their way are cancelled; unless it is for what the
    source sent: what came whole before that is kept.
    """
    flights = Flights(database)
    try:
        try:
            yield flights
        except (SourceError, OvertakenStretchError):
            await flights.arrive()
            raise
        await flights.arrive()
    finally:
        await flights.cancel()


async def follow(before: asyncio.Task[None] | None) -> None:
    """Wait until the batch before is committed; its failure is not this one's to mend."""
    try:
        if before is not None:
            await before
    except (KeyTakenError, ContendedError) as error:
        raise StoreConflictError(f"the batch before it failed: {error}") from error
