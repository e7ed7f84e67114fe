"""`runs`: start them, look at them, ask them to stop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from app.db import run_reads, runs
from app.records import Trigger
from app.resources import Resources
from app.scheduler import Tick, run_tick
from app.sources.resource import ResourceSpec

OPENING_SECONDS: Final = 5.0
"""How long a caller waits to hear the ids of the runs that it started; a queue may be longer."""


@dataclass(slots=True)
class Started:
    """A tick that was begun in the background."""

    tick_id: UUID
    run_ids: dict[str, int] = field(default_factory=dict)
    """By resource: of those that are recorded by now."""
    running: dict[str, int | None] = field(default_factory=dict)
    """By resource: the run that is in the way; None when it has just ended."""
    reasons: dict[str, str] = field(default_factory=dict)
    """By resource: why its run could not be recorded."""


async def start(resources: Resources, specs: Sequence[ResourceSpec], *, trigger: Trigger = "command") -> Started:
    """Run resources in the background, and wait until they are recorded, but not for long."""
    started = Started(uuid4())
    opened = asyncio.Event()

    def on_open(name: str, run_id: int) -> None:
        started.run_ids[name] = run_id
        if len(started.run_ids) == len(specs):
            opened.set()

    task = asyncio.create_task(
        run_tick(resources, specs, trigger=trigger, tick_id=started.tick_id, on_open=on_open), name="tick"
    )
    resources.background.add(task)
    task.add_done_callback(resources.background.discard)
    waiting = asyncio.create_task(opened.wait())
    await asyncio.wait({task, waiting}, timeout=OPENING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done() and not task.cancelled():
        await _explain(resources, started, task.result())
    return started


async def _explain(resources: Resources, started: Started, tick: Tick) -> None:
    started.reasons = {name: str(error) for name, error in tick.unopened.items()}
    async with resources.database.read() as session:
        for name in tick.locked:
            started.running[name] = await run_reads.find_running(session, name)


async def cancel(resources: Resources, run_id: int) -> bool:
    """Ask a run to stop, whatever process runs it; False when it is not running."""
    async with resources.database.write() as session:
        return await runs.request_cancel(session, run_id)
