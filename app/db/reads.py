"""What the API reads of runs and checkpoints. Every function takes a ReadSession: one snapshot, no writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, case, func, select

from app.db.engine import ReadSession
from app.db.models import EtlCheckpoint, EtlRun
from app.db.retention import TOTALS
from app.records import BY_HAND, TickStatus


async def read_successes(session: ReadSession) -> dict[str, datetime]:
    """When each resource was last brought up to date, by its name; those that never were are missing."""
    table = EtlCheckpoint
    statement = select(table.source, table.succeeded_at).where(table.kind == "cursor", table.succeeded_at.is_not(None))
    return {source: moment for source, moment in await session.execute(statement) if moment is not None}


@dataclass(frozen=True, slots=True)
class TickSummary:
    """The newest tick."""

    status: TickStatus
    at: datetime | None
    """When it ended, or began if it is running."""


_OPEN = EtlRun.status.in_(("queued", "running"))
_GOOD = EtlRun.status == "succeeded"
_POLLED = EtlRun.trigger != "hook"
"""Deliveries are counted by the row, not as ticks: their runs are as long as an interval."""


async def read_last_tick(session: ReadSession) -> TickSummary:
    def newest_of(*wanted: ColumnElement[bool]) -> ScalarSelect[UUID]:
        return select(EtlRun.tick_id).where(*wanted).order_by(EtlRun.created_at.desc()).limit(1).scalar_subquery()

    # A run of deliveries is open nearly always; it says something only where nothing is polled, and once it is closed
    newest = func.coalesce(
        newest_of(EtlRun.trigger.not_in((*BY_HAND, "hook"))), newest_of(EtlRun.trigger == "hook", ~_OPEN)
    )
    row = (
        await session.execute(
            select(
                func.count(),
                func.count().filter(_OPEN),
                func.count().filter(_GOOD),
                func.min(EtlRun.created_at),
                func.max(EtlRun.finished_at),
            ).where(EtlRun.tick_id == newest)
        )
    ).one()
    runs, running, good, began_at, ended_at = row
    if runs == 0:
        return TickSummary("never", None)
    if running:
        return TickSummary("running", began_at)
    return TickSummary("success" if good == runs else "partial" if good else "failed", ended_at)


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all ticks."""

    records: int
    """Rows extracted."""
    seconds: float
    ticks: int
    last_success_at: datetime | None
    """End of the last tick in which every run succeeded."""
    last_failure_at: datetime | None
    last_failure_reason: str | None


async def read_totals(session: ReadSession) -> Totals:
    ticks = (
        select(
            func.sum(EtlRun.extracted).filter(EtlRun.trigger != "replay").label("records"),
            func.extract(
                "epoch", func.max(EtlRun.finished_at).filter(_POLLED) - func.min(EtlRun.created_at).filter(_POLLED)
            ).label("seconds"),
            func.bool_or(_POLLED).label("is_tick"),
            case((func.bool_and(_GOOD), func.max(EtlRun.finished_at))).label("success_at"),
        )
        .group_by(EtlRun.tick_id)
        .having(func.bool_or(EtlRun.trigger.not_in(BY_HAND)))
        .subquery()
    )
    records, seconds, count, success_at = (
        await session.execute(
            select(
                func.coalesce(func.sum(ticks.c.records), 0),
                func.coalesce(func.sum(ticks.c.seconds), 0.0),
                func.count().filter(ticks.c.is_tick),
                func.max(ticks.c.success_at),
            )
        )
    ).one()
    failure = (
        await session.execute(
            select(EtlRun.finished_at, EtlRun.source, EtlRun.error_message, EtlRun.status)
            .where(~_GOOD, ~_OPEN)
            .order_by(EtlRun.finished_at.desc())
            .limit(1)
        )
    ).one_or_none()
    totals = Totals(
        records=int(records),
        seconds=float(seconds),
        ticks=count,
        last_success_at=success_at,
        last_failure_at=failure.finished_at if failure else None,
        last_failure_reason=f"{failure.source}: {failure.error_message or failure.status}" if failure else None,
    )
    pruned = (await session.execute(select(EtlCheckpoint.state).where(EtlCheckpoint.kind == TOTALS))).scalar()
    return _with_pruned(totals, pruned) if pruned else totals


def _with_pruned(totals: Totals, pruned: Mapping[str, Any]) -> Totals:
    """The totals of the ticks that are here, and of those that were pruned."""
    success_at, failure_at = (
        datetime.fromisoformat(at) if (at := pruned[name]) else None for name in ("last_success_at", "last_failure_at")
    )
    failed_later = failure_at is not None and (totals.last_failure_at is None or failure_at > totals.last_failure_at)
    return Totals(
        records=totals.records + int(pruned["records"]),
        seconds=totals.seconds + float(pruned["seconds"]),
        ticks=totals.ticks + int(pruned["ticks"]),
        last_success_at=max(filter(None, (totals.last_success_at, success_at)), default=None),
        last_failure_at=failure_at if failed_later else totals.last_failure_at,
        last_failure_reason=pruned["last_failure_reason"] if failed_later else totals.last_failure_reason,
    )
