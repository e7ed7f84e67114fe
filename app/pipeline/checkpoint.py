"""What a stored checkpoint may be trusted for, and how a batch moves it. Pure."""

from dataclasses import replace

from app.pipeline.batches import Batch
from app.records import Checkpoint, Cursor
from app.sources.resource import ResourceSpec


def begin_pass(stored: Checkpoint, source: ResourceSpec) -> Checkpoint:
    """
    The checkpoint from which a run may start.

    Cursor and validators belong to one URL. A changed mapping makes every
    validator, hash and skip untrustworthy until a whole pass was normalized
    with it; a pass that began under another mapping begins again.
    """
    mapping_hash = source.mapping_hash
    # A first pass that did not complete left rows of the mapping it began with
    held = stored.mapping_hash or stored.pass_mapping_hash
    checkpoint = replace(stored, mapping_hash=held if held != mapping_hash else stored.mapping_hash)
    remapped = held != mapping_hash and (stored.cursor == Cursor() or stored.pass_mapping_hash != mapping_hash)
    if remapped or stored.request_hash != source.request_hash:
        checkpoint = replace(checkpoint, cursor=Cursor(), validators={}, state={})
    return replace(checkpoint, request_hash=source.request_hash, pass_mapping_hash=mapping_hash)


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
