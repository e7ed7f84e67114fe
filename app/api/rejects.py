"""`/rejects`: records that could not be normalized, by what is wrong with them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.api.deps import ReadSessionDep
from app.api.operator import LOCKED, Inspector
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import RejectedRecord, RejectGroup
from app.db.rejects import read_groups, read_members

router = APIRouter(prefix="/rejects", tags=["rejects"], dependencies=[Inspector])

_WRONG = problem_responses(_422="A parameter is wrong.")


@router.get("", responses=LOCKED | _WRONG)
async def list_rejects(
    session: ReadSessionDep, source: Annotated[str | None, Query(max_length=200)] = None
) -> list[RejectGroup]:
    """What is wrong with the records that nothing has made good since: one group for each kind."""
    if source and "\x00" in source:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "source: a NUL character is in no name")
    return [RejectGroup(**row) for row in await read_groups(session, source=source or None)]


@router.get("/{fingerprint}", responses=LOCKED | _WRONG)
async def list_members(
    fingerprint: Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")],
    session: ReadSessionDep,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The id of the last record already seen.")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[RejectedRecord]:
    """The records of one kind as received, the oldest first."""
    rows = await read_members(session, fingerprint, after=after, at_most=limit)
    return [RejectedRecord(**row) for row in rows]
