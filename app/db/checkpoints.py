"""`etl_checkpoint`, kind `cursor`: the lease on a resource, and the compare-and-set that moves its cursor."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Literal, cast

from sqlalchemy import ColumnElement, Table, Update, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.engine import ReadSession, WriteSession
from app.db.fingerprints import pack_fingerprints, unpack_fingerprints
from app.db.locks import is_alive
from app.db.models import EtlCheckpoint
from app.db.results import changed_rows
from app.errors import StoreConflictError
from app.records import Checkpoint, Cursor, Fingerprints, Validators

KIND: Final = "cursor"
_TABLE: Final = cast("Table", EtlCheckpoint.__table__)


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


@dataclass(frozen=True, slots=True)
class Standing:
    """A checkpoint with what is known around it."""

    checkpoint: Checkpoint
    held_by: str | None
    """The process whose lease holds."""
    lease_expires_at: datetime | None
    succeeded_at: datetime | None


async def read_standing(session: ReadSession, *, source: str, resource: str) -> Standing | None:
    """None: nothing was read of it yet."""
    held = EtlCheckpoint.lease_expires_at > func.clock_timestamp()
    found = (await session.execute(select(EtlCheckpoint, held).where(*_key(source, resource)))).one_or_none()
    if found is None:
        return None
    row, is_held = found
    holder, until = (row.holder, row.lease_expires_at) if is_held else (None, None)
    return Standing(_checkpoint(row, ""), holder, until, row.succeeded_at)


async def renew_lease(session: WriteSession, checkpoint: Checkpoint, *, lease_seconds: float) -> bool:
    """False when the lease has been taken over."""
    statement = _held().values(**_lease_times(lease_seconds))
    return await changed_rows(session, statement, _lease_of(checkpoint)) == 1


async def release_lease(session: WriteSession, checkpoint: Checkpoint, *, succeeded: bool) -> None:
    """
    Give the lease back; nothing happens when it has been taken over.

    Args:
        succeeded: the resource is as its source has it, as of now.
    """
    as_of = {"succeeded_at": func.clock_timestamp()} if succeeded else {}
    await session.execute(_held().values(holder=None, lease_expires_at=None, **as_of), _lease_of(checkpoint))


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
    wrote: bool,
    fingerprints: Fingerprints | Literal["keep"] | None = None,
) -> Checkpoint:
    """
    Move the checkpoint: the last statement of a batch, a compare-and-set on epoch and batch number.

    Args:
        wrote: the batch changed, or may have changed, rows of `normalized_data`.
        fingerprints: "keep" leaves those that are there.

    Raises:
        StoreConflictError: the lease was taken over, or the checkpoint is not
            where this run left it; the whole batch must roll back.
    """
    values = place_values(after) | {
        "validators": {token: asdict(value) for token, value in after.validators.items()},
        "mapping_hash": after.mapping_hash,
        "pass_mapping_hash": after.pass_mapping_hash,
    }
    if fingerprints != "keep":
        values["fingerprints"] = pack_fingerprints(fingerprints)
    given = {f"to_{name}": value for name, value in values.items()}
    return await _count_batch(session, before, after, new_rows, _of_batch(*values, wrote=wrote), given)


async def count_batch(
    session: WriteSession, before: Checkpoint, after: Checkpoint, *, new_rows: int, wrote: bool
) -> Checkpoint:
    """
    The same for rows that did not come from where the checkpoint stands: it stays there.

    Raises:
        StoreConflictError: see `move_checkpoint`.
    """
    # Should nothing have been read live yet: of these rows it is known with which mapping they were made
    known = func.coalesce(EtlCheckpoint.pass_mapping_hash, bindparam("known"))
    statement = _of_batch(wrote=wrote).values(pass_mapping_hash=known)
    return await _count_batch(session, before, after, new_rows, statement, {"known": after.pass_mapping_hash})


async def _count_batch(
    session: WriteSession,
    before: Checkpoint,
    after: Checkpoint,
    new_rows: int,
    statement: Update,
    values: Mapping[str, Any],
) -> Checkpoint:
    given = {**_lease_of(before), "before_seq": before.batch_seq, "new_rows": new_rows, **values}
    if await changed_rows(session, statement, given) != 1:
        raise StoreConflictError(
            f"{before.source}.{before.resource}: lost its lease (epoch {before.epoch}) to another process; "
            "this batch was not written"
        )
    return replace(after, batch_seq=before.batch_seq + 1, row_count=before.row_count + new_rows)


async def ensure_checkpoint(session: WriteSession, *, source: str, resource: str, hashes: Mapping[str, str]) -> None:
    """
    The resource has a checkpoint from now on, be it one from which nothing was read.

    Args:
        hashes: of its request and its mapping, by column, for a new one.
    """
    made = insert(EtlCheckpoint).values(source=source, resource=resource, kind=KIND, epoch=0, **hashes)
    await session.execute(made.on_conflict_do_nothing())


async def count_delivered(
    session: WriteSession, *, source: str, resource: str, new_rows: int, wrote: bool, as_of: bool
) -> None:
    """
    Count what was delivered, without a lease: whoever reads the source beside it stays where it is.

    Args:
        as_of: the resource is as its source has it, as of now.
    """
    version = {"data_version": func.gen_random_uuid()} if wrote else {}
    moment = {"succeeded_at": func.clock_timestamp()} if as_of else {}
    await session.execute(
        update(EtlCheckpoint)
        .where(*_key(source, resource))
        .values(row_count=EtlCheckpoint.row_count + new_rows, updated_at=func.now(), **version, **moment)
    )


def place_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where it stands, and in which body."""
    return asdict(checkpoint.cursor) | {"state": dict(checkpoint.state), "request_hash": checkpoint.request_hash}


def place_of(row: EtlCheckpoint) -> dict[str, Any]:
    """The same, read."""
    cursor = Cursor(row.page, row.position, row.page_token, row.byte_offset, row.prefix_hash)
    return {"cursor": cursor, "state": row.state or {}, "request_hash": row.request_hash}


def _key(source: str, resource: str) -> tuple[ColumnElement[bool], ...]:
    table = EtlCheckpoint
    return (table.source == source, table.resource == resource, table.partition == "", table.kind == KIND)


def _held() -> Update:
    """Of the checkpoint that `_lease_of` names, while that lease holds."""
    held = _TABLE.c
    return update(_TABLE).where(
        held.source == bindparam("held_source"),
        held.resource == bindparam("held_resource"),
        held.partition == "",
        held.kind == KIND,
        held.epoch == bindparam("held_epoch"),
        held.holder == bindparam("held_by"),
    )


def _lease_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "held_source": checkpoint.source,
        "held_resource": checkpoint.resource,
        "held_epoch": checkpoint.epoch,
        "held_by": checkpoint.holder,
    }


@cache
def _of_batch(*names: str, wrote: bool) -> Update:
    """One batch more, and these columns; made once: each batch sends it, and making it took a millisecond or two."""
    held = _TABLE.c
    # Drawn, not counted on: after a restore the numbers come again, with other rows
    version = {"data_version": func.gen_random_uuid()} if wrote else {}
    return (
        _held()
        .where(held.batch_seq == bindparam("before_seq"))
        .values(
            batch_seq=held.batch_seq + 1,
            row_count=held.row_count + bindparam("new_rows"),
            updated_at=func.now(),
            **version,
            **{name: bindparam(f"to_{name}", type_=held[name].type) for name in names},
        )
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
        validators={token: Validators(**value) for token, value in (row.validators or {}).items()},
        pass_mapping_hash=row.pass_mapping_hash,
        mapping_hash=row.mapping_hash,
        **place_of(row),
    )
