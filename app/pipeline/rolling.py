"""The run of what is delivered: one row in etl_runs for all that comes within an interval."""

from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

import structlog

from app.clock import monotonic
from app.db import checkpoints, runs
from app.db.engine import Database
from app.errors import StoreError
from app.records import HOOK, Checkpoint, Counts, Cursor, Traffic
from app.sources.resource import ResourceSpec

log = structlog.get_logger()


@dataclass(slots=True)
class Run:
    """One that is open."""

    run_id: int
    ends_at: float
    """Of the monotonic clock."""
    counts: Counts = field(default_factory=Counts)
    traffic: Traffic = field(default_factory=Traffic)


class RollingRun:
    """
    Args:
        holder: this process; another one that receives has a run of its own.
        seconds: how long one lasts.
    """

    def __init__(self, spec: ResourceSpec, database: Database, holder: str, *, seconds: float) -> None:
        self._spec = spec
        self._database = database
        self._holder = holder
        self._seconds = seconds
        self._run: Run | None = None

    async def open(self) -> Run:
        """The one that is open, or a new one."""
        if self._run is not None:
            return self._run
        spec = self._spec
        checkpoint = Checkpoint(spec.name, spec.resource, self._holder, 0, 0, 0, Cursor(), {}, None, None, None)
        hashes = {"request_hash": spec.request_hash, "mapping_hash": spec.mapping_hash}
        async with self._database.write() as session:
            await checkpoints.ensure_checkpoint(session, source=spec.name, resource=spec.resource, hashes=hashes)
            run_id = await runs.open_run(
                session, checkpoint, tick_id=uuid4(), trigger="hook", partition=f"{HOOK}{self._holder}"
            )
        log.info("run_started", source=spec.name, run_id=run_id, resource=spec.resource, trigger="hook")
        self._run = Run(run_id, monotonic() + self._seconds)
        return self._run

    def forget(self) -> None:
        """It is closed already, by another process."""
        self._run = None

    async def keep(self, *, silent: bool) -> None:
        """
        Give a sign of life, or close it when its time is over.

        Args:
            silent: nothing was written meanwhile, which would have been one.
        """
        if self._run is None:
            return
        if monotonic() >= self._run.ends_at:
            await self.close()
        elif silent:
            with suppress(StoreError):
                async with self._database.write() as session:
                    await runs.beat(session, self._run.run_id)

    async def close(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        balanced = run.counts.balanced
        try:
            async with self._database.write() as session:
                await runs.close_run(
                    session,
                    run.run_id,
                    status="succeeded" if balanced else "failed",
                    outcome="changed" if run.counts.written else "no_new_data",
                    traffic=run.traffic,
                    error_class=None if balanced else "system_error",
                    error_message=None if balanced else "records delivered are not all accounted for",
                    input={},
                    findings=[],
                    profile={"mapping": self._spec.mapping_hash},
                    request_ledger={},
                )
        except StoreError as error:
            # Without a sign of life it will be closed as crashed
            log.warning("run_not_closed", source=self._spec.name, run_id=run.run_id, reason=str(error))
        else:
            log.info("run_finished", source=self._spec.name, run_id=run.run_id, extracted=run.counts.extracted)
