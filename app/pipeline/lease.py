"""A run works only while its lease holds."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from app.clock import monotonic
from app.db import checkpoints, runs
from app.db.engine import Database
from app.db.errors import ContendedError
from app.errors import RunCancelledError, StoreConflictError, StoreUnavailableError
from app.pipeline.ledger import OpenRun

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
"""How often a run looks whether it is to stop."""


async def while_leased(work: Coroutine[Any, Any, None], run: OpenRun, database: Database) -> None:
    """
    Do the work of a run, and keep its lease meanwhile.

    Raises:
        StoreConflictError: the lease was taken over; the work was stopped.
    """
    await _alongside(work, _keep_lease(run, database))


async def _keep_lease(run: OpenRun, database: Database) -> None:
    """
    Renew the lease three times in its life, until cancelled; look in between whether somebody wants the run to stop.

    Raises:
        StoreConflictError: it was taken over; this run must stop.
        RunCancelledError: somebody does.
    """
    renewed_at = monotonic()
    while True:
        await asyncio.sleep(min(run.lease_seconds / 3, LOOK_SECONDS))
        try:
            async with database.read() as session:
                if await runs.is_cancel_requested(session, run.run_id):
                    raise RunCancelledError(f"cancelled; {run.rest_is_done_by}")
            if monotonic() - renewed_at < run.lease_seconds / 3:
                continue
            renewed_at = monotonic()
            async with database.write() as session:
                # The run's row first, then the checkpoint's: the order in which a batch locks them
                await runs.beat(session, run.run_id)
                held = await checkpoints.renew_lease(session, run.checkpoint, lease_seconds=run.lease_seconds)
        except (StoreUnavailableError, ContendedError) as error:
            # The next batch will find out by itself, and its epoch keeps it honest
            log.warning("heartbeat_failed", reason=str(error))
            continue
        if not held:
            raise StoreConflictError(
                f"{run.checkpoint.source}: lost its lease (epoch {run.checkpoint.epoch}) to another process"
            )


async def _alongside(main: Coroutine[Any, Any, None], side: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end; should `side`, which only ends by failing, fail first, stop `main` and raise that."""
    tasks = [asyncio.create_task(main), asyncio.create_task(side)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            tasks[1].result()
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
