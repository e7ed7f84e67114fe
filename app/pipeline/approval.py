"""Delete what a pass found absent and a guard refused to delete: a run of its own, that asks the source nothing."""

from app.db import absences, checkpoints, runs
from app.db.engine import Database
from app.db.locks import Presence
from app.pipeline.ledger import RunOrder, open_run
from app.records import Counts, RunReport


async def delete_waiting(order: RunOrder, *, database: Database, presence: Presence) -> RunReport | None:
    """
    Returns:
        How it ended; None when another process is running the resource.

    Raises:
        StoreError: the run could not even be opened.
    """
    source = order.source
    async with open_run(order, database=database, presence=presence) as run:
        if run is None:
            return None
        run.reads_source = False
        async with database.write() as session:
            waiting = await absences.read_waiting(session, source=source.name, resource=source.resource)
            await absences.set_aside(session, source=source.name, source_ids=waiting["keys"])
            counts = Counts(
                vanished=await absences.delete_absent(
                    session,
                    source=source.name,
                    run_id=run.run_id,
                    kind=source.raw_kind,
                    hard=source.table.deletes.mode == "hard",
                )
            )
            await absences.write_waiting(session, source=source.name, resource=source.resource, keys=(), refused=None)
            await runs.add_counts(session, run.run_id, counts)
            checkpoint = await checkpoints.move_checkpoint(
                session, run.checkpoint, run.checkpoint, new_rows=-counts.vanished, wrote=counts.written > 0
            )
        run.checkpoint = checkpoint
        run.counts.add(counts)
    return run.report
