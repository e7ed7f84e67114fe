"""`etl_runs`: one row per run, and what can be said over all of them."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from app.db.engine import ReadSession, WriteSession
from app.db.models import EtlRun
from app.db.results import changed_rows
from app.records import Checkpoint, Counts, Outcome, RunStatus, Traffic, Trigger


async def open_run(session: WriteSession, checkpoint: Checkpoint, *, tick_id: UUID, trigger: Trigger) -> int:
    """
    Record that a run begins; a run of the same resource that its process left open is closed as crashed.

    Whoever holds the lease knows that no other run of the resource is alive.
    """
    await session.execute(
        update(EtlRun)
        .where(
            EtlRun.source == checkpoint.source,
            EtlRun.resource == checkpoint.resource,
            EtlRun.status.in_(("queued", "running")),
        )
        .values(
            status="crashed",
            finished_at=func.coalesce(EtlRun.heartbeat_at, EtlRun.created_at),
            error_class="system_error",
            error_message="the process ended without closing this run; the next run goes on from its last batch",
        )
    )
    statement = insert(EtlRun).values(
        tick_id=tick_id,
        source=checkpoint.source,
        resource=checkpoint.resource,
        trigger=trigger,
        status="running",
        holder=checkpoint.holder,
        epoch=checkpoint.epoch,
        created_at=func.clock_timestamp(),
        started_at=func.clock_timestamp(),
        heartbeat_at=func.clock_timestamp(),
    )
    return (await session.execute(statement.returning(EtlRun.id))).scalar_one()


async def add_counts(session: WriteSession, run_id: int, counts: Counts) -> None:
    """Add one batch's counters, in the batch's transaction."""
    added: dict[str, Any] = {name: getattr(EtlRun, name) + count for name, count in asdict(counts).items() if count}
    await session.execute(
        update(EtlRun).where(EtlRun.id == run_id).values(heartbeat_at=func.clock_timestamp(), **added)
    )


async def keep_input(
    session: WriteSession,
    run_id: int,
    input: Mapping[str, Any],  # noqa: A002 -- the column's name
) -> None:
    """With the first rows: they cannot be read again without it, should the run never be closed."""
    await session.execute(update(EtlRun).where(EtlRun.id == run_id).values(input=dict(input)))


async def beat(session: WriteSession, run_id: int) -> None:
    await session.execute(update(EtlRun).where(EtlRun.id == run_id).values(heartbeat_at=func.clock_timestamp()))


async def request_cancel(session: WriteSession, run_id: int) -> bool:
    """Ask a run to stop; False when it is not running."""
    statement = (
        update(EtlRun)
        .where(EtlRun.id == run_id, EtlRun.status.in_(("queued", "running")))
        .values(cancel_requested_at=func.coalesce(EtlRun.cancel_requested_at, func.clock_timestamp()))
    )
    return await changed_rows(session, statement) == 1


async def is_cancel_requested(session: ReadSession, run_id: int) -> bool:
    statement = select(EtlRun.cancel_requested_at.is_not(None)).where(EtlRun.id == run_id)
    return bool((await session.execute(statement)).scalar_one_or_none())


async def close_run(
    session: WriteSession,
    run_id: int,
    *,
    status: RunStatus,
    outcome: Outcome | None,
    traffic: Traffic,
    error_class: str | None,
    error_message: str | None,
    input: Mapping[str, Any],  # noqa: A002 -- the column's name
    findings: list[Any],
    profile: Mapping[str, Any],
) -> None:
    """Record how a run ended; a run that was closed already (as crashed, by a successor) stays as it is."""
    await session.execute(
        update(EtlRun)
        .where(EtlRun.id == run_id, EtlRun.status == "running")
        .values(
            status=status,
            outcome=outcome,
            finished_at=func.clock_timestamp(),
            heartbeat_at=func.clock_timestamp(),
            requests=traffic.requests,
            retries=traffic.retries,
            bytes_received=traffic.bytes_received,
            bytes_saved=traffic.bytes_saved,
            wait_seconds=traffic.wait_seconds,
            error_class=error_class,
            error_message=error_message,
            input=dict(input),
            findings=findings,
            profile=dict(profile),
        )
    )


async def close_orphans(session: WriteSession, *, lease_seconds: float) -> int:
    """Close runs that gave no sign of life for a lease: their process is gone or has been fenced off."""
    return await changed_rows(
        session,
        update(EtlRun)
        .where(
            EtlRun.status.in_(("queued", "running")),
            EtlRun.heartbeat_at < func.clock_timestamp() - timedelta(seconds=lease_seconds),
        )
        .values(
            status="crashed",
            finished_at=EtlRun.heartbeat_at,
            error_class="system_error",
            error_message="the process ended without closing this run; the next run goes on from its last batch",
        ),
    )


async def last_starts(session: ReadSession) -> dict[str, datetime]:
    """When the last run of each resource began, by the resource's name; a replay asks its source for nothing."""
    statement = (
        select(EtlRun.source, func.max(EtlRun.started_at))
        .where(EtlRun.started_at.is_not(None), EtlRun.trigger != "replay")
        .group_by(EtlRun.source)
    )
    return {source: started_at for source, started_at in await session.execute(statement) if started_at is not None}
