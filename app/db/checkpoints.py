"""`etl_checkpoint`, kind `cursor`: the lease on a resource, and the compare-and-set that moves its cursor."""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.engine import ReadSession, WriteSession
from app.db.fingerprints import pack_fingerprints, unpack_fingerprints
from app.db.locks import is_alive
from app.db.models import EtlCheckpoint
from app.db.results import changed_rows
from app.errors import StoreConflictError
from app.records import Checkpoint, Cursor, Fingerprints, Validators

KIND: Final = "cursor"


async def take_lease(
    session: WriteSession, *, source: str, resource: str, holder: str, lease_seconds: float
) -> Checkpoint | None:
    """
    Take the lease on a resource, with its checkpoint as it stands.

    Returns:
        None when another process holds it: its lease has not expired, and its
        advisory lock says that it lives.
    """
    table = EtlCheckpoint
    lease = (
        await session.execute(
            select(table.holder, table.lease_expires_at > func.clock_timestamp())
            .where(*_key(source, resource))
            .with_for_update()
        )
    ).one_or_none()
    if lease is not None and lease[1] and await is_alive(session, lease[0]):
        return None

    times = _lease_times(lease_seconds)
    taken = (
        await session.execute(
            insert(table)
            .values(source=source, resource=resource, kind=KIND, epoch=1, holder=holder, **times)
            .on_conflict_do_update(
                index_elements=[table.source, table.resource, table.partition, table.kind],
                set_={"epoch": table.epoch + 1, "holder": holder, **times},
            )
            .returning(table)
        )
    ).scalar_one()
    return _checkpoint(taken, holder)


async def read_checkpoint(session: ReadSession, *, source: str, resource: str) -> Checkpoint | None:
    """The checkpoint as it stands, without its lease: nothing can be moved by it."""
    row = (await session.execute(select(EtlCheckpoint).where(*_key(source, resource)))).scalar_one_or_none()
    return None if row is None else _checkpoint(row, "")


async def renew_lease(session: WriteSession, checkpoint: Checkpoint, *, lease_seconds: float) -> bool:
    """False when the lease has been taken over."""
    return await changed_rows(session, _held(checkpoint).values(**_lease_times(lease_seconds))) == 1


async def release_lease(session: WriteSession, checkpoint: Checkpoint, *, succeeded: bool) -> None:
    """
    Give the lease back; nothing happens when it has been taken over.

    Args:
        succeeded: the resource is as its source has it, as of now.
    """
    as_of = {"succeeded_at": func.clock_timestamp()} if succeeded else {}
    await session.execute(_held(checkpoint).values(holder=None, lease_expires_at=None, **as_of))


async def read_fingerprints(session: ReadSession, checkpoint: Checkpoint) -> Fingerprints | None:
    """What the last complete pass over a file left there; None when that is nothing."""
    held = await session.scalar(select(EtlCheckpoint.fingerprints).where(*_key(checkpoint.source, checkpoint.resource)))
    return unpack_fingerprints(held)


async def move_checkpoint(
    session: WriteSession,
    before: Checkpoint,
    after: Checkpoint,
    *,
    new_rows: int,
    fingerprints: Fingerprints | Literal["keep"] | None = None,
) -> Checkpoint:
    """
    Move the checkpoint: the last statement of a batch, a compare-and-set on epoch and batch number.

    Args:
        fingerprints: "keep" leaves those that are there.

    Raises:
        StoreConflictError: the lease was taken over, or the checkpoint is not
            where this run left it; the whole batch must roll back.
    """
    table = EtlCheckpoint
    statement = (
        _held(before)
        .where(table.batch_seq == before.batch_seq)
        .values(
            **asdict(after.cursor),
            batch_seq=before.batch_seq + 1,
            row_count=table.row_count + new_rows,
            validators={token: asdict(value) for token, value in after.validators.items()},
            request_hash=after.request_hash,
            mapping_hash=after.mapping_hash,
            pass_mapping_hash=after.pass_mapping_hash,
            state=dict(after.state),
            updated_at=func.now(),
        )
    )
    if fingerprints != "keep":
        statement = statement.values(fingerprints=pack_fingerprints(fingerprints))
    if await changed_rows(session, statement) != 1:
        raise StoreConflictError(
            f"{before.source}.{before.resource}: lost its lease (epoch {before.epoch}) to another process; "
            "this batch was not written"
        )
    return replace(after, batch_seq=before.batch_seq + 1, row_count=before.row_count + new_rows)


def _key(source: str, resource: str) -> tuple[ColumnElement[bool], ...]:
    table = EtlCheckpoint
    return (table.source == source, table.resource == resource, table.partition == "", table.kind == KIND)


def _held(checkpoint: Checkpoint) -> Update:
    table = EtlCheckpoint
    return update(table).where(
        *_key(checkpoint.source, checkpoint.resource),
        table.epoch == checkpoint.epoch,
        table.holder == checkpoint.holder,
    )


def _lease_times(lease_seconds: float) -> dict[str, Any]:
    now = func.clock_timestamp()  # the database's clock: the only one that all processes share
    return {"heartbeat_at": now, "lease_expires_at": now + timedelta(seconds=lease_seconds)}


def _checkpoint(row: EtlCheckpoint, holder: str) -> Checkpoint:
    return Checkpoint(
        source=row.source,
        resource=row.resource,
        holder=holder,
        epoch=row.epoch,
        batch_seq=row.batch_seq,
        row_count=row.row_count,
        cursor=Cursor(row.page, row.position, row.page_token, row.byte_offset, row.prefix_hash),
        validators={token: Validators(**value) for token, value in (row.validators or {}).items()},
        request_hash=row.request_hash,
        pass_mapping_hash=row.pass_mapping_hash,
        mapping_hash=row.mapping_hash,
        state=row.state or {},
    )
