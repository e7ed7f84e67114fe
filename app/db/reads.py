"""What the API reads. Every function takes a ReadSession: one snapshot, no writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, case, func, or_, select, tuple_

from app.db.engine import ReadSession
from app.db.models import EtlCheckpoint, EtlRun, NormalizedData
from app.records import TickStatus

_SERVED = (
    NormalizedData.id,
    NormalizedData.source,
    NormalizedData.source_id,
    NormalizedData.name,
    NormalizedData.value,
    NormalizedData.description,
    NormalizedData.created_at,
    NormalizedData.updated_at,
)


@dataclass(frozen=True, slots=True)
class DataQuery:
    """Which rows of `normalized_data`, in the order (source, id)."""

    source: str | None = None
    search: str | None = None
    """Substring of name or description, case-insensitive."""
    limit: int = 10
    offset: int = 0
    after: tuple[str, int] | None = None
    """(source, id) of the last row already seen; instead of `offset`."""


async def read_data(
    session: ReadSession, query: DataQuery
) -> Sequence[Row[int, str, str, str, float | None, str | None, datetime, datetime]]:
    """One row more than `limit`, where there is one: the page's has_more."""
    table = NormalizedData
    statement = select(*_SERVED).where(*_conditions(query)).order_by(table.source, table.id).limit(query.limit + 1)
    if query.after is not None:
        statement = statement.where(tuple_(table.source, table.id) > tuple_(*query.after))
    elif query.offset:
        statement = statement.offset(query.offset)
    return (await session.execute(statement)).all()


@dataclass(frozen=True, slots=True)
class Extent:
    """How far an answer reaches, in rows and in time."""

    total: int
    """Rows that the query has, exactly."""
    as_of: datetime | None
    """Every resource that it covers was up to date then, or later; None while one never was."""


async def read_extent(session: ReadSession, query: DataQuery) -> Extent:
    """
    Read what the loader counted, committed with the rows themselves; count(*) is paid for a search only.
    """
    table = EtlCheckpoint
    statement = select(
        func.coalesce(func.sum(table.row_count), 0),
        case((func.bool_and(table.succeeded_at.is_not(None)), func.min(table.succeeded_at))),
    ).where(table.kind == "cursor")
    if query.source is not None:
        statement = statement.where(table.source == query.source)
    total, as_of = (await session.execute(statement)).one()
    if query.search is not None:
        counted = select(func.count()).select_from(NormalizedData).where(*_conditions(query))
        total = (await session.execute(counted)).scalar_one()
    return Extent(int(total), as_of)


async def read_successes(session: ReadSession) -> dict[str, datetime]:
    """When each resource was last brought up to date, by its name; those that never were are missing."""
    table = EtlCheckpoint
    statement = select(table.source, table.succeeded_at).where(table.kind == "cursor", table.succeeded_at.is_not(None))
    return {source: moment for source, moment in await session.execute(statement) if moment is not None}


def _conditions(query: DataQuery) -> list[ColumnElement[bool]]:
    table = NormalizedData
    conditions: list[ColumnElement[bool]] = [table.deleted_at.is_(None)]
    if query.source is not None:
        conditions.append(table.source == query.source)
    if query.search is not None:
        conditions.append(
            or_(
                table.name.icontains(query.search, autoescape=True),
                table.description.icontains(query.search, autoescape=True),
            )
        )
    return conditions


@dataclass(frozen=True, slots=True)
class TickSummary:
    """The newest tick."""

    status: TickStatus
    at: datetime | None
    """When it ended, or began if it is running."""


_OPEN = EtlRun.status.in_(("queued", "running"))
_GOOD = EtlRun.status == "succeeded"


async def read_last_tick(session: ReadSession) -> TickSummary:
    newest = select(EtlRun.tick_id).order_by(EtlRun.created_at.desc()).limit(1).scalar_subquery()
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
            func.extract("epoch", func.max(EtlRun.finished_at) - func.min(EtlRun.created_at)).label("seconds"),
            case((func.bool_and(_GOOD), func.max(EtlRun.finished_at))).label("success_at"),
        )
        .group_by(EtlRun.tick_id)
        .subquery()
    )
    records, seconds, count, success_at = (
        await session.execute(
            select(
                func.coalesce(func.sum(ticks.c.records), 0),
                func.coalesce(func.sum(ticks.c.seconds), 0.0),
                func.count(),
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
    return Totals(
        records=int(records),
        seconds=float(seconds),
        ticks=count,
        last_success_at=success_at,
        last_failure_at=failure.finished_at if failure else None,
        last_failure_reason=f"{failure.source}: {failure.error_message or failure.status}" if failure else None,
    )
