"""What the tables say about a run that is to be judged."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, or_, select

from app.db.engine import ReadSession
from app.db.models import EtlRun, NormalizedData
from app.records import ColumnFault

RUNS_COMPARED: Final = 10


async def read_earlier_volumes(session: ReadSession, *, source: str, resource: str) -> list[int]:
    """
    Records that the last complete passes of a resource brought, newest first; at most RUNS_COMPARED.

    Those that were suspect count, too: what stays so becomes usual.
    """
    statement = (
        select(EtlRun.extracted)
        .where(
            EtlRun.source == source,
            EtlRun.resource == resource,
            EtlRun.status.in_(("succeeded", "suspect")),
            EtlRun.profile["whole"].as_boolean(),
        )
        .order_by(EtlRun.id.desc())
        .limit(RUNS_COMPARED)
    )
    return list((await session.execute(statement)).scalars())


async def find_column_faults(
    session: ReadSession, *, source: str, not_null: Sequence[str], unique: Sequence[str]
) -> list[ColumnFault]:
    """Look at the rows that are served."""
    table, found = NormalizedData, []
    served = (table.source == source, table.deleted_at.is_(None))
    for name in not_null:
        statement = select(func.count(), func.min(table.source_id)).where(*served, _is_empty(name))
        rows, example = (await session.execute(statement)).one()
        if rows:
            found.append(ColumnFault("not_null", name, rows, example))
    for name in unique:
        column = getattr(table, name)
        groups = (
            select(func.count().label("rows"), func.min(table.source_id).label("example"))
            .where(*served, ~_is_empty(name))
            .group_by(column)
            .having(func.count() > 1)
            .subquery()
        )
        rows, example = (await session.execute(select(func.sum(groups.c.rows), func.min(groups.c.example)))).one()
        if rows:
            found.append(ColumnFault("unique", name, int(rows), example))
    return found


def _is_empty(name: str) -> ColumnElement[bool]:
    column: ColumnElement[bool] = getattr(NormalizedData, name)
    return or_(column.is_(None), column == "") if name != "value" else column.is_(None)
