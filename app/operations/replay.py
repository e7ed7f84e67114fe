"""`replay`: normalize raw rows again, asking no source for anything; or show what that would change."""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from app.db import run_reads
from app.db.rejects import read_members
from app.errors import ConfigError, EtlError
from app.operations.runs import OPENING_SECONDS, Started
from app.pipeline.ledger import RunOrder
from app.pipeline.replay import OnReplayed, ReplayDone, preview_replay, replay_source
from app.records import Replayed, ReplayRange
from app.resources import Resources
from app.sources.resource import ResourceSpec


async def rejected_for(resources: Resources, specs: Sequence[ResourceSpec], fingerprint: str) -> list[ResourceSpec]:
    """
    Those of the resources that have records rejected for this reason.

    Raises:
        ConfigError: none has.
    """
    async with resources.database.read() as session:
        found = [spec for spec in specs if await read_members(session, fingerprint, source=spec.name, at_most=1)]
    if not found:
        raise ConfigError(f"{', '.join(spec.name for spec in specs)}: nothing is rejected for reason {fingerprint}")
    return found


async def preview(
    resources: Resources, specs: Sequence[ResourceSpec], chosen: ReplayRange, *, on_progress: OnReplayed | None = None
) -> dict[str, Replayed]:
    """
    What a replay would do, by resource; nothing is written.

    Raises:
        ConfigError: a mapping does not fit.
    """
    database = resources.database
    return {spec.name: await preview_replay(spec, chosen, database=database, on_progress=on_progress) for spec in specs}


async def replay(
    resources: Resources, specs: Sequence[ResourceSpec], chosen: ReplayRange, *, on_progress: OnReplayed | None = None
) -> dict[str, ReplayDone | None]:
    """Replay resources one after the other, each in a run of its own; None where another process runs it."""
    tick_id = uuid4()
    return {spec.name: await _one(resources, spec, chosen, tick_id, on_progress=on_progress) for spec in specs}


async def start(resources: Resources, specs: Sequence[ResourceSpec], chosen: ReplayRange) -> Started:
    """The same in the background; wait until the runs are recorded, but not for long."""
    started = Started(uuid4())
    settled = asyncio.Semaphore(0)

    async def one(spec: ResourceSpec) -> None:
        def on_open(run_id: int) -> None:
            started.run_ids[spec.name] = run_id
            settled.release()

        try:
            if await _one(resources, spec, chosen, started.tick_id, on_open=on_open) is None:
                async with resources.database.read() as session:
                    started.running[spec.name] = await run_reads.find_running(session, spec.name)
        except EtlError as error:
            started.reasons[spec.name] = str(error)
        if spec.name not in started.run_ids:
            settled.release()

    for spec in specs:
        task = asyncio.create_task(one(spec), name="replay")
        resources.background.add(task)
        task.add_done_callback(resources.background.discard)
    try:
        async with asyncio.timeout(OPENING_SECONDS):
            for _ in specs:
                await settled.acquire()
    except TimeoutError:
        pass
    return started


async def _one(
    resources: Resources,
    spec: ResourceSpec,
    chosen: ReplayRange,
    tick_id: UUID,
    *,
    on_open: Callable[[int], None] | None = None,
    on_progress: OnReplayed | None = None,
) -> ReplayDone | None:
    async with resources.turns:
        return await replay_source(
            RunOrder(spec, tick_id, "replay", resources.settings.schedule.lease_seconds, on_open),
            chosen,
            database=resources.database,
            presence=resources.presence,
            by_hand=True,
            on_progress=on_progress,
        )
