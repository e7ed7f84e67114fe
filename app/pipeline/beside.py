"""Deliveries, polls and replays of one resource beside each other: none undoes what another has just written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.db.engine import Database
from app.db.locks import take_turn
from app.pipeline.flights import follow
from app.sources.resource import ResourceSpec


def turn_of(source: ResourceSpec) -> str:
    """What all that write rows of a resource with a webhook take turns for."""
    return f"hook {source.name}"


@asynccontextmanager
async def undisturbed(
    source: ResourceSpec, database: Database, *, before: asyncio.Task[None] | None = None
) -> AsyncIterator[bool]:
    """
    No delivery is written while the block runs: what it looks up is still so when it writes.

    Nothing is held up where a resource has no webhook.

    Args:
        before: the batch before, which takes the same turn.

    Returns:
        Whether what was looked up before may have changed.
    """
    if source.webhook is None:
        yield False
        return
    await follow(before)
    # A transaction of its own, which ends after that of the block
    async with database.write() as session:
        await take_turn(session, turn_of(source))
        yield True
