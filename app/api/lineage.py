"""`/data/{id}` and `/data/{id}/lineage`: one row, and what it was made of."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from app.api.deps import ReadSessionDep
from app.api.operator import LOCKED, Inspector
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import Item, LineageReport
from app.db.lineage import find_row
from app.operations.lineage import trace

router = APIRouter(prefix="/data/{row_id}", tags=["data"])

RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]
_MISSING = problem_responses(_404="No such row.")


@router.get("", responses=_MISSING)
async def get_row(row_id: RowId, session: ReadSessionDep) -> Item:
    """One normalized record."""
    row = await find_row(session, row_id=row_id)
    if row is None or row["deleted_at"] is not None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no row {row_id}" + (", it was deleted" if row else ""))
    return Item.model_validate(row)


@router.get("/lineage", dependencies=[Inspector], responses=LOCKED)
async def get_lineage(row_id: RowId, session: ReadSessionDep) -> LineageReport:
    """The bytes as received, where they stood, the run that brought them, what was coerced, and earlier versions."""
    found = await trace(session, row_id=row_id)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no row {row_id}")
    return LineageReport(**asdict(found))
