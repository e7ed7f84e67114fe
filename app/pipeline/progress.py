"""What a run tells of itself while it works."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import structlog

from app.pipeline.batches import Batch
from app.pipeline.ledger import OpenRun
from app.records import Counts

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """After a batch: what the run has done so far."""

    source: str
    counts: Counts
    body_bytes: int
    size_bytes: int | None
    """Of the whole body; None when nobody knows."""
    complete: bool


OnProgress = Callable[[Progress], None]


def tell_batch(run: OpenRun, batch: Batch, counts: Counts, *, seconds: float) -> None:
    """Log a batch that was committed."""
    for page, records in batch.parts:
        log.debug("page_landed", page=page, rows=len(records))
    shown = {name: count for name, count in asdict(counts).items() if count}
    log.info(
        "checkpoint_moved",
        batch_seq=run.checkpoint.batch_seq,
        position=run.checkpoint.cursor.position,
        seconds=round(seconds, 3),
        **shown,
    )
