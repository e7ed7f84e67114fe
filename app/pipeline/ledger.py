"""Every run is recorded: opened under its lease, closed whatever happens."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog

from app.clock import monotonic
from app.db import checkpoints, replays, runs
from app.db.engine import Database
from app.db.errors import ContendedError
from app.db.locks import Presence
from app.errors import EtlError, RunCancelledError, SourceBusyError, StoreError, StoreUnavailableError
from app.pipeline.expectations import Complaint, Evidence, judge
from app.records import BY_HAND, Checkpoint, Counts, Outcome, RunReport, RunStatus, Traffic, Trigger
from app.sources.resource import ResourceSpec

log = structlog.get_logger()

CLOSE_PATIENCE_SECONDS: Final = 120.0
"""How long a run that failed waits for the database to come back, so as to say why."""
TAKEOVER_PATIENCE_SECONDS: Final = 2.0
"""How long a run waits for a lease that another process holds: PostgreSQL takes a moment to notice a kill."""
STOP_PATIENCE_SECONDS: Final = 3.0
"""The same for a run that was told to stop."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What is to be run, in which tick, and why."""

    source: ResourceSpec
    tick_id: UUID
    trigger: Trigger
    lease_seconds: float
    on_open: Callable[[int], None] | None = None
    """Is told the run's id as soon as it is recorded."""


@dataclass(slots=True)
class OpenRun:
    """A run in progress."""

    run_id: int
    tick_id: UUID
    source: ResourceSpec
    checkpoint: Checkpoint
    lease_seconds: float
    counts: Counts = field(default_factory=Counts)
    """Committed so far."""
    traffic: Traffic = field(default_factory=Traffic)
    not_modified_pages: int = 0
    resumed: bool = False
    """It goes on in the middle of a pass."""
    asks_for_changes: bool = False
    """It reads only what changed since."""
    bounded: bool = False
    """Its pass ended at its own bounds: there may be more at the source."""
    evidence: Evidence = field(default_factory=Evidence)
    """What it is judged by."""
    reads_source: bool = True
    """False: it works on what is here; `expect` has nothing to say about it."""
    input: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    """What `expect` did not find."""
    report: RunReport | None = None
    """Set when the run is closed."""

    @property
    def whole(self) -> bool:
        """It reads everything there is, from the first page to the last."""
        partly = self.resumed or self.bounded or self.asks_for_changes or self.not_modified_pages
        return self.reads_source and not partly

    @property
    def rest_is_done_by(self) -> str:
        """What does the rest of a run that was stopped."""
        return "the next run goes on from its last batch" if self.reads_source else "the same command does the rest"


@asynccontextmanager
async def open_run(order: RunOrder, *, database: Database, presence: Presence) -> AsyncIterator[OpenRun | None]:
    """
    Take the lease and record a run; None when another process holds the lease.

    An expected failure (`EtlError`) ends here, in the run's row; a bug is
    recorded and goes on; a cancelled run is closed as interrupted, shielded.
    """
    started = monotonic()
    run = None
    # A process that was killed a moment ago may still look alive
    while run is None and monotonic() - started < TAKEOVER_PATIENCE_SECONDS:
        run = await _open_whole(order, database=database, presence=presence)
        if run is None:
            await asyncio.sleep(0.1)
    if run is None:
        log.info(
            "run_skipped", source=order.source.name, resource=order.source.resource, reason="another process runs it"
        )
        yield None
        return
    run_id, checkpoint = run.run_id, run.checkpoint
    if order.on_open is not None:
        order.on_open(run_id)
    structlog.contextvars.bind_contextvars(source=order.source.name, run_id=run_id)
    log.info(
        "run_started",
        resource=order.source.resource,
        epoch=checkpoint.epoch,
        resumes_at_page=checkpoint.cursor.page,
    )
    error: BaseException | None = None
    try:
        yield run
    except EtlError as expected:
        error = expected
    except BaseException as unexpected:
        error = unexpected
        raise
    finally:
        run.report = _report(run, error, seconds=monotonic() - started)
        await _close(database, run, run.report, stopping=isinstance(error, asyncio.CancelledError))
        structlog.contextvars.unbind_contextvars("source", "run_id")


async def _open_whole(order: RunOrder, *, database: Database, presence: Presence) -> OpenRun | None:
    """To be told to stop does not tear it apart: a run that is recorded by then is closed, too."""
    opening = asyncio.create_task(_try_to_open(order, database=database, presence=presence))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError as stop:
        await asyncio.wait({opening}, timeout=STOP_PATIENCE_SECONDS)
        if not opening.done():
            opening.cancel()
        elif opening.exception() is None and (run := opening.result()) is not None:
            await _close(database, run, _report(run, stop, seconds=0.0), stopping=True)
        raise


async def _try_to_open(order: RunOrder, *, database: Database, presence: Presence) -> OpenRun | None:
    await presence.announce()
    async with database.write() as session:
        checkpoint = await checkpoints.take_lease(
            session,
            source=order.source.name,
            resource=order.source.resource,
            holder=presence.holder,
            lease_seconds=order.lease_seconds,
        )
        if checkpoint is None:
            return None
        source, chosen = order.source, order.source.backfill
        if order.trigger not in BY_HAND:
            await replays.drop_left_behind(
                session, source=source.name, resource=source.resource, mapping_hash=source.mapping_hash
            )
        run_id = await runs.open_run(
            session,
            checkpoint,
            tick_id=order.tick_id,
            trigger=order.trigger,
            partition=chosen.key if chosen else "",
        )
    return OpenRun(run_id, order.tick_id, order.source, checkpoint, order.lease_seconds)


def _report(run: OpenRun, error: BaseException | None, *, seconds: float) -> RunReport:
    status, outcome = _verdict(run, error)
    error_class, message = _explain(run, error)
    return RunReport(
        run_id=run.run_id,
        tick_id=run.tick_id,
        source=run.checkpoint.source,
        resource=run.checkpoint.resource,
        status=status,
        outcome=outcome,
        counts=run.counts,
        traffic=run.traffic,
        seconds=round(seconds, 3),
        error_class=error_class,
        error_message=None if message is None else run.source.secrets.hide(message),
        retry_after_seconds=error.retry_after_seconds if isinstance(error, SourceBusyError) else None,
        store_failed=isinstance(error, StoreError),
    )


def _verdict(run: OpenRun, error: BaseException | None) -> tuple[RunStatus, Outcome | None]:
    counts = run.counts
    if isinstance(error, asyncio.CancelledError):
        return "interrupted", None
    if isinstance(error, RunCancelledError):
        return "cancelled", None
    if error is not None:
        return ("partial" if counts.extracted else "failed"), None
    if not counts.balanced:
        return "failed", None
    if not run.reads_source:
        return "succeeded", "changed" if counts.written else "no_new_data"
    if counts.extracted or counts.vanished:
        outcome: Outcome = "changed" if counts.written else "no_new_data"
    elif run.not_modified_pages:
        return "succeeded", "not_modified"
    else:
        outcome = "no_new_data" if run.asks_for_changes else "empty"
    verdict = judge(run.source.table.expect, counts, run.evidence, complete=run.whole)
    run.complaints += verdict.complaints
    run.findings += [{"code": complaint.code, "detail": complaint.detail} for complaint in run.complaints]
    status = "suspect" if run.complaints and verdict.status == "succeeded" else verdict.status
    return status, outcome


def _explain(run: OpenRun, error: BaseException | None) -> tuple[str | None, str | None]:
    if isinstance(error, EtlError):
        return error.error_class, str(error)
    if isinstance(error, asyncio.CancelledError):
        return "system_error", f"stopped before it was complete; {run.rest_is_done_by}"
    if error is not None:
        return "system_error", f"unexpected {type(error).__name__}; the log has the traceback"
    if not run.counts.balanced:
        return (
            "system_error",
            f"{run.counts.extracted} records extracted, {run.counts.accounted} accounted for",
        )
    if run.complaints:
        return "data_error", "; ".join(complaint.detail for complaint in run.complaints)
    return None, None


async def _close(database: Database, run: OpenRun, report: RunReport, *, stopping: bool) -> None:
    """Write the end of a run and give back its lease, even while being cancelled."""
    patience = STOP_PATIENCE_SECONDS if stopping else CLOSE_PATIENCE_SECONDS
    closing = asyncio.create_task(_close_patiently(database, run, report, patience_seconds=patience))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        # Told to stop while closing: a moment more, then the next run's lease will close it as crashed
        await asyncio.wait({closing}, timeout=STOP_PATIENCE_SECONDS)
        closing.cancel()
        raise
    counts = {name: count for name in Counts.__slots__ if (count := getattr(report.counts, name))}
    level = logging.INFO if report.status == "succeeded" else logging.WARNING
    log.log(
        level,
        "run_finished",
        status=report.status,
        outcome=report.outcome,
        seconds=report.seconds,
        requests=report.traffic.requests,
        bytes_received=report.traffic.bytes_received,
        bytes_saved=report.traffic.bytes_saved,
        error_class=report.error_class,
        error=report.error_message,
        **counts,
    )


async def _close_patiently(database: Database, run: OpenRun, report: RunReport, *, patience_seconds: float) -> None:
    deadline = monotonic() + patience_seconds
    while True:
        try:
            async with asyncio.timeout(5), database.write() as session:
                await runs.close_run(
                    session,
                    report.run_id,
                    status=report.status,
                    outcome=report.outcome,
                    traffic=report.traffic,
                    error_class=report.error_class,
                    error_message=report.error_message,
                    input=run.input,
                    findings=run.findings,
                    profile={"whole": run.whole, "mapping": run.source.mapping_hash},
                    request_ledger=run.traffic.ledger.as_json(run.source.secrets.hide),
                )
                succeeded = report.status == "succeeded" and run.reads_source and run.source.backfill is None
                await checkpoints.release_lease(session, run.checkpoint, succeeded=succeeded)
            return
        except (StoreUnavailableError, ContendedError, TimeoutError) as error:
            if monotonic() > deadline:
                log.error("run_not_closed", reason=str(error))
                return
            log.warning("database_unavailable", doing="closing the run", reason=str(error))
            await asyncio.sleep(0.5)
