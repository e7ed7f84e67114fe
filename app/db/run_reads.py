"""What is told of runs: a page of them, newest first, or one with all it knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import exists, or_, select

from app.db.engine import ReadSession
from app.db.models import EtlCheckpoint, EtlRun, NormalizedData, RawApiData, RawCsvData

_OPEN: Final = ("queued", "running")
_HEAVY: Final = {"input", "findings", "profile", "request_ledger"}


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs, newest first."""

    source: str | None = None
    status: str | None = None
    tick_id: UUID | None = None
    before: int | None = None
    """The id of the last run already seen."""
    limit: int = 20


async def read_runs(session: ReadSession, query: RunQuery) -> Sequence[dict[str, Any]]:
    """One more than `limit`, where there is one."""
    table = EtlRun.__table__
    statement = select(*(column for column in table.columns if column.name not in _HEAVY))
    if query.source is not None:
        statement = statement.where(EtlRun.source == query.source)
    if query.status is not None:
        statement = statement.where(EtlRun.status == query.status)
    if query.tick_id is not None:
        statement = statement.where(EtlRun.tick_id == query.tick_id)
    if query.before is not None:
        statement = statement.where(EtlRun.id < query.before)
    rows = await session.execute(statement.order_by(EtlRun.id.desc()).limit(query.limit + 1))
    return [dict(row) for row in rows.mappings()]


async def read_run(session: ReadSession, run_id: int) -> dict[str, Any] | None:
    rows = await session.execute(select(EtlRun.__table__).where(EtlRun.id == run_id))
    row = rows.mappings().one_or_none()
    return None if row is None else dict(row)


async def find_running(session: ReadSession, source: str) -> int | None:
    """The run of a resource that is in progress."""
    wanted = (EtlRun.source == source, EtlRun.status.in_(_OPEN), EtlRun.trigger != "hook")
    statement = select(EtlRun.id).where(*wanted).order_by(EtlRun.id.desc())
    return (await session.execute(statement.limit(1))).scalar_one_or_none()


async def was_seen(session: ReadSession, source: str) -> bool:
    """Whether anything here is of a resource of that name, which may be described no more."""
    tables = (EtlCheckpoint, EtlRun, NormalizedData, RawApiData, RawCsvData)
    found: bool = (
        await session.execute(select(or_(*(exists().where(one.source == source) for one in tables))))
    ).scalar_one()
    return found
