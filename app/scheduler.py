"""The tick, and the loop that repeats it every ETL_INTERVAL seconds until it is told to stop."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal
from uuid import UUID, uuid4

import structlog

from app.clock import monotonic, utc_now
from app.db import runs
from app.db.search_index import ensure_search_index
from app.errors import EtlError, StoreError
from app.pipeline.ledger import RunOrder
from app.pipeline.progress import OnProgress
from app.pipeline.retention import prune_in_turn
from app.pipeline.run import run_source
from app.plan import Plan
from app.records import RunReport, Trigger
from app.resources import Resources
from app.sources.resource import ResourceSpec

log = structlog.get_logger()

MAX_SLEEP_SECONDS: Final = 30.0
STORE_RETRY_SECONDS: Final = 5.0
"""After a tick that our own database spoiled: it is likely to be back soon."""


HOUSEKEEPING_SECONDS: Final = 3600.0


@dataclass(slots=True)
class Tick:
    """One pass over the sources that are due."""

    tick_id: UUID
    reports: list[RunReport] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    """Sources that another process is running."""
    unopened: dict[str, EtlError] = field(default_factory=dict)
    """Sources whose run could not even be recorded, with the reason."""
    wrong_files: dict[str, str] = field(default_factory=dict)
    """Source files that were to be run and are wrong, with the faults of each."""
    seconds: float = 0.0

    @property
    def status(self) -> Literal["success", "partial", "failed", "locked"]:
        good = sum(report.status == "succeeded" for report in self.reports)
        bad = len(self.reports) - good + len(self.unopened)
        if bad:
            partly = good or any(report.status == "partial" for report in self.reports)
            return "partial" if partly else "failed"
        return "success" if good or not self.locked else "locked"

    @property
    def store_failed(self) -> bool:
        return any(report.store_failed for report in self.reports) or any(
            isinstance(error, StoreError) for error in self.unopened.values()
        )


async def run_tick(
    resources: Resources,
    sources: Sequence[ResourceSpec],
    *,
    trigger: Trigger,
    on_progress: OnProgress | None = None,
    on_open: Callable[[str, int], None] | None = None,
    tick_id: UUID | None = None,
) -> Tick:
    """
    Run the sources concurrently and in isolation: what happens to one does not touch the others.

    Args:
        on_open: is told the name of a resource and the id of its run, as soon as that is recorded.
    """
    tick = Tick(tick_id or uuid4())
    started = monotonic()
    log.info(
        "tick_started",
        tick_id=str(tick.tick_id),
        trigger=trigger,
        sources=[source.name for source in sources],
    )
    await close_orphans(resources)
    ended = {source.name: asyncio.Event() for source in sources}

    async def take_turn(source: ResourceSpec) -> None:
        try:
            # A child is asked for what its parent has: in one tick the parent comes first
            if source.parent in ended:
                await ended[source.parent].wait()
            opened = partial(on_open, source.name) if on_open else None
            order = RunOrder(source, tick.tick_id, trigger, resources.settings.schedule.lease_seconds, opened)
            async with resources.turns:
                await _run_one(resources, order, tick, on_progress)
        finally:
            ended[source.name].set()

    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(take_turn(source))
    tick.seconds = round(monotonic() - started, 3)
    log.info(
        "tick_finished",
        tick_id=str(tick.tick_id),
        status=tick.status,
        seconds=tick.seconds,
        runs={report.source: report.status for report in tick.reports},
    )
    return tick


async def _run_one(resources: Resources, order: RunOrder, tick: Tick, on_progress: OnProgress | None) -> None:
    source = order.source
    try:
        report = await run_source(
            order,
            database=resources.database,
            fetcher=resources.fetcher,
            presence=resources.presence,
            on_progress=on_progress,
        )
    except EtlError as error:
        log.error("run_not_opened", source=source.name, error_class=error.error_class, error=str(error))
        tick.unopened[source.name] = error
    except Exception as error:
        # A bug in one source's run must not take the others or the loop with it
        log.exception("run_broke", source=source.name)
        tick.unopened[source.name] = EtlError(f"unexpected {type(error).__name__}; the log has the traceback")
    else:
        if report is None:
            tick.locked.append(source.name)
        else:
            tick.reports.append(report)


async def close_orphans(resources: Resources) -> None:
    """Runs of processes that are gone are closed as crashed."""
    try:
        async with resources.database.write() as session:
            closed = await runs.close_orphans(session, lease_seconds=resources.settings.schedule.lease_seconds)
    except StoreError as error:
        log.warning("database_unavailable", doing="closing crashed runs", reason=str(error))
        return
    if closed:
        log.warning("runs_crashed", closed=closed)


@contextlib.asynccontextmanager
async def running_scheduler(resources: Resources) -> AsyncIterator[None]:
    """Tick in the background while the block runs; a run in progress is closed as interrupted when it ends."""
    resources.background.add(asyncio.create_task(_repeat(resources), name="scheduler"))
    try:
        yield
    finally:
        stopping = list(resources.background)
        for task in stopping:
            task.cancel()
        await asyncio.gather(*stopping, return_exceptions=True)


async def _repeat(resources: Resources) -> None:
    retry_seconds = min(resources.settings.schedule.interval_seconds, STORE_RETRY_SECONDS)
    while not await _prepared(resources):  # noqa: ASYNC110 -- nobody tells us when the database is back
        await asyncio.sleep(retry_seconds)
    plan = Plan(resources.catalog, default_interval_seconds=resources.settings.schedule.interval_seconds)
    ticks: set[asyncio.Task[None]] = set()
    try:
        await _remember_last_starts(resources, plan)
        while True:
            due = plan.take_due(utc_now())
            if due:
                ticks.add(asyncio.create_task(_tick(resources, due, plan)))
            # A while at most: the wall clock may be set
            wait = min(plan.seconds_to_next(utc_now()), MAX_SLEEP_SECONDS)
            if ticks:
                done, ticks = await asyncio.wait(ticks, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            else:
                await asyncio.sleep(wait)
    finally:
        for task in ticks:
            task.cancel()
        await asyncio.gather(*ticks, return_exceptions=True)


async def _tick(resources: Resources, due: Sequence[ResourceSpec], plan: Plan) -> None:
    settings = resources.settings.schedule
    ready = await _prepared(resources)
    tick = await run_tick(resources, due, trigger="schedule") if ready else None
    again: dict[str, float] = {}
    for spec in due:
        if tick is None or tick.store_failed:
            again[spec.name] = STORE_RETRY_SECONDS
        elif spec.name in tick.locked:
            # Whoever holds the lease may have died with it; by then it has expired
            again[spec.name] = settings.lease_seconds
    if tick is not None:
        # The source asked to be left alone for longer than a run may wait
        asked = {report.source: report.retry_after_seconds for report in tick.reports if report.retry_after_seconds}
        again |= asked
        plan.postpone(asked, utc_now())
    plan.finished(due, again, utc_now())
    # A tick leaves some hundred tasks and errors that hold each other; by itself the collector, told to leave
    # batches alone, would look at them only when they are tens of megabytes
    gc.collect(1)
    keep_house_soon(resources)


def keep_house_soon(resources: Resources) -> None:
    """Prune, and see to the search index, in the background; asked not more than once in HOUSEKEEPING_SECONDS."""
    if monotonic() < resources.may_keep_house_at:
        return
    resources.may_keep_house_at = monotonic() + HOUSEKEEPING_SECONDS
    task = asyncio.create_task(_keep_house(resources), name="housekeeping")
    resources.background.add(task)
    task.add_done_callback(resources.background.discard)


async def _keep_house(resources: Resources) -> None:
    try:
        await prune_in_turn(resources.database, resources.settings.retention)
    except StoreError as error:
        log.warning("prune_failed", reason=str(error))
    except Exception:
        log.exception("prune_failed", reason="unexpected")
    if resources.settings.database.search_index:
        try:
            await ensure_search_index(resources.database)
        except StoreError as error:
            log.warning("search_index_failed", reason=str(error))


async def _remember_last_starts(resources: Resources, plan: Plan) -> None:
    try:
        async with resources.database.read() as session:
            plan.remember(await runs.last_starts(session), utc_now())
    except StoreError as error:
        log.warning("database_unavailable", doing="reading when sources ran last", reason=str(error))


async def _prepared(resources: Resources) -> bool:
    try:
        return await resources.prepare_schema()
    except EtlError as error:
        log.error("schema_not_ready", reason=str(error))
        return False
