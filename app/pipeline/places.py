"""Where a run begins to read, and what its batches move: the live checkpoint, or a backfill's own."""

from dataclasses import replace
from typing import Literal

from app.db import backfills, checkpoints
from app.db.engine import Database, WriteSession
from app.errors import ConfigError
from app.pipeline.checkpoint import begin_anew, begin_pass, other_mapping
from app.pipeline.ledger import OpenRun
from app.records import Checkpoint, Fingerprints


async def begin(run: OpenRun, database: Database) -> Checkpoint:
    """
    The checkpoint from which a run reads; nothing is written.

    Raises:
        ConfigError: a backfill would mix its rows with those of another mapping.
    """
    source = run.source
    if source.backfill is None:
        checkpoint = begin_pass(run.checkpoint, source)
        return begin_anew(checkpoint, keeps_found=source.refresh == "data") if source.refresh else checkpoint
    live = run.checkpoint
    if other_mapping(live, source) is not None:
        raise ConfigError(
            f"{source.name}: rows of another mapping are here, and raw does not hold what it takes to replay them; "
            f"`etl run {source.name}` reads them again, and then a backfill may add to them"
        )
    async with database.read() as session:
        stored = await backfills.read_backfill(session, live, source.backfill)
    if stored is not None and stored.request_hash == source.request_hash:
        return replace(stored, pass_mapping_hash=source.mapping_hash)
    anew = begin_anew(live, keeps_found=live.request_hash is not None)
    return replace(anew, request_hash=source.request_hash, pass_mapping_hash=source.mapping_hash)


async def move(
    session: WriteSession,
    run: OpenRun,
    after: Checkpoint,
    *,
    new_rows: int,
    wrote: bool,
    complete: bool,
    fingerprints: Fingerprints | Literal["keep"] | None,
) -> Checkpoint:
    """
    Move what this run moves: the last statements of a batch, under the lease's epoch.

    Args:
        wrote: rows of `normalized_data` changed.
        complete: the pass ends with this batch.

    Raises:
        StoreConflictError: see `app.db.checkpoints.move_checkpoint`.
    """
    chosen = run.source.backfill
    if chosen is None:
        return await checkpoints.move_checkpoint(
            session, run.checkpoint, after, new_rows=new_rows, wrote=wrote, fingerprints=fingerprints
        )
    if complete:
        await backfills.drop_backfill(session, after, chosen)
    else:
        await backfills.write_backfill(session, after, chosen)
    return await checkpoints.count_batch(session, run.checkpoint, after, new_rows=new_rows, wrote=wrote)
