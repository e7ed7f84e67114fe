"""`deletes`: what passes found absent and did not delete; approve or discard it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from app.db import absences
from app.pipeline.approval import delete_waiting
from app.pipeline.ledger import RunOrder
from app.records import RunReport
from app.resources import Resources
from app.sources.resource import ResourceSpec


@dataclass(frozen=True, slots=True)
class WaitingDeletes:
    source: str
    refused: str | None
    """Why they were not deleted; None: they wait for a second pass that misses them."""
    count: int
    """At most 100,000."""
    keys: Sequence[str]
    """The first of them."""


async def waiting(resources: Resources, specs: Sequence[ResourceSpec], *, at_most: int = 100) -> list[WaitingDeletes]:
    """What waits, resource by resource; with up to `at_most` keys each."""
    found = []
    async with resources.database.read() as session:
        for spec in specs:
            held = await absences.read_waiting(session, source=spec.name, resource=spec.resource)
            keys: list[str] = held["keys"]
            if keys:
                found.append(WaitingDeletes(spec.name, held["refused"], len(keys), keys[:at_most]))
    return found


async def approve(resources: Resources, specs: Sequence[ResourceSpec]) -> dict[str, RunReport | None]:
    """Delete what waits, by resource, each in a run of its own; None where another process is running it."""
    waits = {item.source for item in await waiting(resources, specs)}
    lease_seconds = resources.settings.schedule.lease_seconds
    tick_id = uuid4()
    return {
        spec.name: await delete_waiting(
            RunOrder(spec, tick_id, "approval", lease_seconds),
            database=resources.database,
            presence=resources.presence,
        )
        for spec in specs
        if spec.name in waits
    }


async def discard(resources: Resources, specs: Sequence[ResourceSpec]) -> None:
    """Keep the rows; the next complete pass that misses them asks again."""
    async with resources.database.write() as session:
        for spec in specs:
            await absences.write_waiting(session, source=spec.name, resource=spec.resource, keys=(), refused=None)
