"""`etl_checkpoint`, kind `backfill`: where a backfill stands that is not complete; `partition` is its range."""

from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.checkpoints import place_of, place_values
from app.db.engine import ReadSession, WriteSession
from app.db.models import EtlCheckpoint
from app.db.results import changed_rows
from app.records import BackfillRange, Checkpoint, Cursor

KIND: Final = "backfill"
Begun = tuple[BackfillRange, Cursor]
"""One that is not complete, and where it goes on."""


async def read_backfill(session: ReadSession, live: Checkpoint, chosen: BackfillRange) -> Checkpoint | None:
    """The live checkpoint with the place that this backfill reached; None when it did not begin."""
    row = (await session.execute(select(EtlCheckpoint).where(*_key(live, chosen)))).scalar_one_or_none()
    return None if row is None else replace(live, validators={}, **place_of(row))


async def read_unfinished(session: ReadSession, *, source: str, resource: str) -> list[Begun]:
    """Backfills that did not complete, the one that moved last first."""
    table = EtlCheckpoint
    statement = (
        select(table)
        .where(table.source == source, table.resource == resource, table.kind == KIND)
        .order_by(table.updated_at.desc())
    )
    found = []
    for row in (await session.execute(statement)).scalars():
        held = row.state or {}
        begin, end = held["range"]
        found.append((BackfillRange(begin, end, held.get("step_seconds")), place_of(row)["cursor"]))
    return found


async def write_backfill(session: WriteSession, checkpoint: Checkpoint, chosen: BackfillRange) -> None:
    values = place_values(checkpoint)
    values["state"] |= {"range": [chosen.begin, chosen.end], "step_seconds": chosen.step_seconds}
    values["updated_at"] = func.now()
    table = EtlCheckpoint
    await session.execute(
        insert(table)
        .values(source=checkpoint.source, resource=checkpoint.resource, partition=chosen.key, kind=KIND, **values)
        .on_conflict_do_update(index_elements=[table.source, table.resource, table.partition, table.kind], set_=values)
    )


async def drop_backfill(session: WriteSession, checkpoint: Checkpoint, chosen: BackfillRange) -> None:
    await session.execute(delete(EtlCheckpoint).where(*_key(checkpoint, chosen)))


async def drop_unfinished(session: WriteSession, *, source: str, resource: str) -> int:
    """Forget where its backfills stand; how many they were. One that is running goes on, and writes its place anew."""
    table = EtlCheckpoint
    return await changed_rows(
        session, delete(table).where(table.source == source, table.resource == resource, table.kind == KIND)
    )


def _key(checkpoint: Checkpoint, chosen: BackfillRange) -> tuple[ColumnElement[bool], ...]:
    table = EtlCheckpoint
    return (
        table.source == checkpoint.source,
        table.resource == checkpoint.resource,
        table.partition == chosen.key,
        table.kind == KIND,
    )
