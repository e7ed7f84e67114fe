"""`GET /stats`: over all ticks."""

from fastapi import APIRouter

from app.api.deps import ReadSessionDep
from app.api.problems import problem_responses
from app.api.schemas import Stats
from app.db.reads import read_totals

router = APIRouter(tags=["stats"])


@router.get("/stats", responses=problem_responses(_503="The database cannot be reached."))
async def get_stats(session: ReadSessionDep) -> Stats:
    totals = await read_totals(session)
    return Stats(
        total_records_processed=totals.records,
        total_duration_seconds=round(totals.seconds, 3),
        last_success=totals.last_success_at,
        last_failure=totals.last_failure_at,
        last_failure_reason=totals.last_failure_reason,
        run_count=totals.ticks,
    )
