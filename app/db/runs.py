"""`etl_runs`: one row per run, and what can be said over all of them."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import Table, Update, bindparam, case, func, insert, literal, not_, select, update

from app.db.engine import ReadSession, WriteSession
from app.db.models import EtlRun
from app.db.results import changed_rows
from app.records import BY_HAND, HOOK, Checkpoint, Counts, Outcome, RunStatus, Traffic, Trigger

_CRASHED: Final[Mapping[str, Any]] = {
    "status": "crashed",
    "error_class": "system_error",
    "error_message": literal("the process ended without closing this run; ")
    + case(
        (EtlRun.trigger == "replay", "what it committed stays, and the same replay does the rest"),
        (EtlRun.trigger == "hook", "each delivery that was answered with success is here"),
        else_="the next run goes on from its last batch",
    ),
}


async def open_run(
    session: WriteSession, checkpoint: Checkpoint, *, tick_id: UUID, trigger: Trigger, partition: str = ""
) -> int:
    """
    Record that a run begins; a run of the same resource that its process left open is closed as crashed.

    Whoever holds the lease knows that no other run of the resource is alive; but of what takes deliveries, which
    needs no lease.
    """
    is_hook = EtlRun.partition.startswith(HOOK)
    await session.execute(
        update(EtlRun)
        .where(
            EtlRun.source == checkpoint.source,
            EtlRun.resource == checkpoint.resource,
            EtlRun.status.in_(("queued", "running")),
            EtlRun.partition == partition if partition.startswith(HOOK) else not_(is_hook),
        )
        .values(finished_at=func.coalesce(EtlRun.heartbeat_at, EtlRun.created_at), **_CRASHED)
    )
    statement = insert(EtlRun).values(
        tick_id=tick_id,
        source=checkpoint.source,
        resource=checkpoint.resource,
        partition=partition,
        trigger=trigger,
        status="running",
        holder=checkpoint.holder,
        epoch=checkpoint.epoch,
        created_at=func.clock_timestamp(),
        started_at=func.clock_timestamp(),
        heartbeat_at=func.clock_timestamp(),
    )
    return (await session.execute(statement.returning(EtlRun.id))).scalar_one()


async def add_counts(session: WriteSession, run_id: int, counts: Counts) -> bool:
    """Add one batch's counters, in the batch's transaction; False when the run has been closed meanwhile."""
    added = {f"more_{name}": count for name, count in asdict(counts).items()}
    status = (await session.execute(_adding(), {"of_run": run_id, **added})).scalar_one()
    return bool(status == "running")


@cache
def _adding() -> Update:
    """Made once: each batch sends it."""
    table = cast("Table", EtlRun.__table__)
    added = {item.name: table.c[item.name] + bindparam(f"more_{item.name}") for item in fields(Counts)}
    return (
        update(table)
        .where(table.c.id == bindparam("of_run"))
        .values({"heartbeat_at": func.clock_timestamp(), **added})
        .returning(table.c.status)
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
        .where(EtlRun.id == run_id, EtlRun.status.in_(("queued", "running")), EtlRun.trigger != "hook")
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
    request_ledger: Mapping[str, Any],
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
            request_ledger=dict(request_ledger),
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
        .values(finished_at=EtlRun.heartbeat_at, **_CRASHED),
    )


async def last_starts(session: ReadSession) -> dict[str, datetime]:
    """When the last run of each resource began, by the resource's name; not one that leaves the live pass alone."""
    statement = (
        select(EtlRun.source, func.max(EtlRun.started_at))
        .where(EtlRun.started_at.is_not(None), EtlRun.trigger.not_in((*BY_HAND, "backfill", "hook")))
        .group_by(EtlRun.source)
    )
    return {source: started_at for source, started_at in await session.execute(statement) if started_at is not None}
