"""Look up what a run is judged by, before it is closed."""

from app.db.engine import Database
from app.db.evidence import find_column_faults, read_earlier_volumes
from app.pipeline.expectations import Evidence
from app.pipeline.ledger import OpenRun


async def gather_evidence(run: OpenRun, database: Database) -> Evidence:
    """Only what its `expect` asks for."""
    source, expect = run.source, run.source.table.expect
    columns = [name for name in expect.unique if name != "source_id"]
    compares = run.whole and (expect.volume_drop is not None or expect.volume_rise is not None)
    if not (compares or expect.not_null or columns):
        return Evidence(run.checkpoint.row_count)
    async with database.read() as session:
        return Evidence(
            run.checkpoint.row_count,
            await read_earlier_volumes(session, source=source.name, resource=source.resource) if compares else (),
            await find_column_faults(session, source=source.name, not_null=expect.not_null, unique=columns),
        )
