"""`/data/{id}` and `/data/{id}/lineage`: one row, and what it was made of."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from app.api.data_page import Item
from app.api.deps import ReadSessionDep, ResourcesDep
from app.api.etags import etag_of, validated_response
from app.api.headers import VALIDATOR_HEADERS, validated_responses
from app.api.operator import LOCKED, Inspector
from app.api.problems import ProblemError, problem_responses
from app.api.schemas import RawVersion
from app.db.lineage import find_row
from app.operations.lineage import trace
from app.operations.numbers import IN_DIGITS

router = APIRouter(prefix="/data/{row_id}", tags=["data"])

RowId = Annotated[int, Path(ge=1, le=2**63 - 1), IN_DIGITS]


class RequestReport(BaseModel):
    """The request that brought a record."""

    asked: dict[str, Any] | None = Field(description="As the run's request ledger has it, without secrets.")
    reason: str | None = Field(description="Why it is not told.")
    resource_url: str | None = Field(description="What the resource reads now; null when no source describes it.")


class LineageReport(BaseModel):
    row: dict[str, Any]
    received: RawVersion | None = Field(description="Null when it was pruned.")
    run: dict[str, Any] | None = Field(description="The run that brought it; null when it was pruned.")
    normalized_by: dict[str, Any] | None = Field(
        description="The run that made the row as it is served, and the version of its mapping: the same run, or a "
        "replay since; null when it was pruned."
    )
    request: RequestReport
    earlier: list[RawVersion] = Field(description="Versions before it, newest first.")
    set_aside: list[RawVersion] = Field(description="Versions that were not loaded, with the reason.")


_MISSING = problem_responses(_404="No such row.")


@router.get("", response_model=Item, responses=validated_responses(VALIDATOR_HEADERS) | _MISSING)
async def get_row(row_id: RowId, session: ReadSessionDep, request: Request) -> Response:
    """One normalized record."""
    row = await find_row(session, row_id=row_id)
    if row is None or row["deleted_at"] is not None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no row {row_id}" + (", it was deleted" if row else ""))
    body = Item.model_validate(row).model_dump_json().encode()
    return validated_response(body, etag_of(body), {}, asked=request.headers)


@router.get("/lineage", dependencies=[Inspector], responses=LOCKED)
async def get_lineage(row_id: RowId, session: ReadSessionDep, resources: ResourcesDep) -> LineageReport:
    """The bytes as received, where they stood, what brought them, what was coerced, and earlier versions."""
    found = await trace(session, resources.catalog, row_id=row_id)
    if found is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no row {row_id}")
    return LineageReport(**asdict(found))
