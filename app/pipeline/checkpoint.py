"""What a stored checkpoint may be trusted for, and how a batch moves it. Pure."""

from dataclasses import replace
from typing import Final

from app.pipeline.batches import Batch
from app.records import Checkpoint, Cursor
from app.sources.resource import ResourceSpec

SEVERAL: Final = "several"
"""Instead of a mapping's hash: no mapping is known to hold for all rows."""


def begin_pass(stored: Checkpoint, source: ResourceSpec) -> Checkpoint:
    """
    The checkpoint from which a run may start.

    Cursor and validators belong to one URL. A changed mapping makes every
    validator, hash and skip untrustworthy until a whole pass was normalized
    with it; a pass that began under another mapping begins again.
    """
    mapping_hash = source.mapping_hash
    other = other_mapping(stored, source)
    checkpoint = stored if other is None else replace(stored, mapping_hash=other)
    remapped = other is not None and (stored.cursor == Cursor() or stored.pass_mapping_hash != mapping_hash)
    if remapped or stored.request_hash != source.request_hash:
        checkpoint = replace(checkpoint, cursor=Cursor(), validators={}, state={})
    return replace(checkpoint, request_hash=source.request_hash, pass_mapping_hash=mapping_hash)


def begin_anew(checkpoint: Checkpoint, *, keeps_found: bool) -> Checkpoint:
    """
    The checkpoint as if nothing had been read yet; rows and mapping stay what they are.

    Args:
        keeps_found: what was found out about the source once is not found out again.
    """
    found = {name: checkpoint.state[name] for name in ("data_selector", "paginator") if name in checkpoint.state}
    return replace(checkpoint, cursor=Cursor(), validators={}, state=found if keeps_found else {})


def other_mapping(stored: Checkpoint, source: ResourceSpec) -> str | None:
    """
    The hash of another mapping with which rows of the table were normalized; None when there are none.

    A pass that did not complete left rows of the mapping it began with.
    """
    hashes = (stored.mapping_hash, stored.pass_mapping_hash)
    return next((one for one in hashes if one not in {None, source.mapping_hash}), None)


def may_replay(stored: Checkpoint, source: ResourceSpec, *, begun: bool) -> bool:
    """
    Whether a replay would make the checkpoint trustworthy again.

    Not where another body must be read anyway than the one that was (None: only a backfill read any), and not where
    a pass is already making up for what a replay could not reach.

    Args:
        begun: one was begun, and not completed.
    """
    if other_mapping(stored, source) is None or stored.request_hash not in {None, source.request_hash}:
        return False
    return begun or stored.pass_mapping_hash != source.mapping_hash


def while_replaying(stored: Checkpoint, source: ResourceSpec, *, whole: bool) -> Checkpoint:
    """
    The checkpoint from the first batch of a replay on: rows of two mappings are in the table.

    Args:
        whole: the replay will reach every row; otherwise no mapping is known to hold for all.
    """
    other = other_mapping(stored, source)
    if other is None:
        return stored
    if not whole:
        return replace(stored, mapping_hash=SEVERAL, pass_mapping_hash=SEVERAL)
    return replace(stored, mapping_hash=other, pass_mapping_hash=source.mapping_hash)


def after_replay(checkpoint: Checkpoint, source: ResourceSpec, *, reached_all: bool) -> Checkpoint:
    """
    The checkpoint once a replay of everything is complete.

    Args:
        reached_all: no row is left as another mapping made it; otherwise the next pass reads the source from its
            beginning.
    """
    if other_mapping(checkpoint, source) is None:
        return checkpoint
    if not reached_all:
        return replace(checkpoint, cursor=Cursor(), validators={}, state={})
    return replace(checkpoint, mapping_hash=source.mapping_hash, pass_mapping_hash=source.mapping_hash)


def must_remap(checkpoint: Checkpoint) -> bool:
    """Whether rows of another mapping may be in the table."""
    return checkpoint.mapping_hash not in {None, checkpoint.pass_mapping_hash}


def may_skip(checkpoint: Checkpoint) -> bool:
    """Whether what the last pass left can be relied on: there was one, and with this mapping."""
    return checkpoint.row_count > 0 and not must_remap(checkpoint)


def after_batch(checkpoint: Checkpoint, batch: Batch, *, proves_all: bool = True) -> Checkpoint:
    """
    Where the checkpoint stands once this batch is committed.

    Args:
        proves_all: a pass that ends with this batch need not be made again while the source stays as it is.
    """
    if batch.state is not None:
        checkpoint = replace(checkpoint, state=batch.state)
    if batch.last:
        return replace(
            checkpoint,
            cursor=Cursor(),
            validators=batch.validators if proves_all else {},
            mapping_hash=checkpoint.pass_mapping_hash,
        )
    if batch.after is None:
        return checkpoint
    return replace(checkpoint, cursor=batch.after, validators=batch.validators)
