"""Ids taken in blocks, so that a batch knows its ids before it is written."""

from sqlalchemy import Sequence, func, select

from app.db.engine import Database
from app.db.models import ID_BLOCK_SIZE, normalized_row_ids, raw_row_ids


class IdBlock:
    """
    Ids from one sequence, for one writer.

    A run that dies leaves a gap; an id is never given twice.
    """

    def __init__(self, database: Database, sequence: Sequence) -> None:
        self._database = database
        self._sequence = sequence
        self._free: list[range] = []
        self._blocks = 1

    async def reserve(self, count: int) -> None:
        """Make it possible to take `count` ids without a query."""
        missing = count - sum(map(len, self._free))
        if missing <= 0:
            return
        blocks = max(-(-missing // ID_BLOCK_SIZE), self._blocks)
        # A long run asks for more at a time, up to 160,000 ids; a short one leaves no large gap
        self._blocks = min(2 * blocks, 16)
        statement = select(self._sequence.next_value()).select_from(func.generate_series(1, blocks))
        async with self._database.write() as session:
            for first in (await session.execute(statement)).scalars():
                self._free.append(range(first, first + ID_BLOCK_SIZE))

    def take(self, count: int) -> list[int]:
        """
        The next ids, ascending.

        Raises:
            IndexError: more are taken than were reserved.
        """
        taken: list[int] = []
        while len(taken) < count:
            part = self._free.pop(0)
            wanted = count - len(taken)
            taken += part[:wanted]
            if len(part) > wanted:
                self._free.insert(0, part[wanted:])
        return taken


def raw_ids(database: Database) -> IdBlock:
    return IdBlock(database, raw_row_ids)


def normalized_ids(database: Database) -> IdBlock:
    return IdBlock(database, normalized_row_ids)
