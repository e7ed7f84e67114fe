"""Batches in the air: how many at once, on whose connections, and in which order they are done with."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.pipeline.flights import Flights, flights_after


class Writes:
    """Batches that are written when told; how many are on their way."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended = [asyncio.Event() for _ in range(20)]

    def __getitem__(self, number: int) -> Any:
        async def write(before: asyncio.Task[None] | None) -> None:
            self.begun.append(number)
            await self.ended[number].wait()

        return write


def flights_with(spare: int) -> Flights:
    return Flights(SimpleNamespace(spare=asyncio.Semaphore(spare)))  # type: ignore[arg-type]


async def begun(flights: Flights, writes: Writes, *numbers: int, records: int = 1) -> list[int]:
    """Which of them are begun, though none ends."""
    for number in numbers:
        try:
            async with asyncio.timeout(0.05):
                await flights.begin(writes[number], {str(number)}, records=records, committed=10**6)
        except TimeoutError:
            break
        await asyncio.sleep(0)
    return writes.begun


@pytest.mark.parametrize(
    ("committed", "records", "most"),
    [(0, 1_000, 3), (250_000, 5_000, 3), (300_000, 5_000, 4), (350_000, 5_000, 5), (10**8, 5_000, 5), (7_000, 100, 5)],
)
def test_what_a_kill_takes_back_is_a_tenth_of_what_is_committed(committed: int, records: int, most: int) -> None:
    assert flights_after(committed, records) == most
    assert most == 3 or (most + 2) * records <= committed / 10


async def test_five_are_written_at_once_where_connections_are_to_spare() -> None:
    flights, writes = flights_with(spare=9), Writes()
    assert await begun(flights, writes, *range(8)) == [0, 1, 2, 3, 4]


async def test_small_batches_do_not_join_large_ones_that_are_a_tenth_already() -> None:
    flights, writes = flights_with(spare=9), Writes()
    assert await begun(flights, writes, 0, 1, 2, records=20_000) == [0, 1, 2]
    assert await begun(flights, writes, 3, 4, records=1) == [0, 1, 2]


@pytest.mark.parametrize("spare", [0, 1, 3])
async def test_without_connections_to_spare_each_run_has_one(spare: int) -> None:
    first, second = flights_with(spare), Writes()
    other = Flights(first._database)
    writes = Writes()
    assert await begun(first, writes, *range(8)) == list(range(1 + spare))
    assert await begun(other, second, 0, 1) == [0]


async def test_what_has_ended_leaves_its_connection_to_others_before_its_run_goes_on() -> None:
    flights, writes, second = flights_with(spare=1), Writes(), Writes()
    other = Flights(flights._database)
    assert await begun(flights, writes, 0, 1) == [0, 1]
    writes.ended[0].set()
    writes.ended[1].set()
    await asyncio.sleep(0.01)
    assert await begun(other, second, 0, 1) == [0, 1]
