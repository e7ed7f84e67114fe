"""
What /data may be asked: one model, which checks a request and describes itself to OpenAPI.

FastAPI would look at each of the parameters by itself in every request, which
takes longer than to read a page.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.api.columns import describe_filters
from app.db.data_query import Filter
from app.operations.numbers import IN_DIGITS
from app.operations.patterns import CURSOR, FIELDS, NO_NUL, SORT, STALENESS
from app.operations.questions import read_filters

Count = Literal["exact", "estimated", "none"]


class RowParameters(BaseModel):
    """Which rows, what of them and in which order: of whatever answers with rows."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: str | None = Field(None, max_length=200, pattern=NO_NUL)
    search: str | None = Field(
        None, max_length=200, pattern=NO_NUL, description="Substring of name or description, case-insensitive."
    )
    sort: str | None = Field(
        None, pattern=SORT, description="Columns, `-` before those that descend: `-updated_at,id`."
    )
    fields: str | None = Field(None, pattern=FIELDS, description="Only these columns: `id,name,value`.")
    include_deleted: bool = Field(
        default=False,
        description="Rows that their source deleted, too; each row then has `deleted_at`, null where it is there.",
    )
    max_staleness: str | None = Field(
        None,
        pattern=STALENESS,
        description="503 rather than older data than this: seconds, or ISO 8601 such as PT15M.",
    )


class DataParameters(RowParameters):
    page: Annotated[int, Field(ge=1, description="From 1; ignored when a cursor is given."), IN_DIGITS] = 1
    page_size: Annotated[int, Field(ge=1, le=100), IN_DIGITS] = 10
    count: Count = Field(
        "exact",
        description="How `total` is found where it must be counted: with a filter or a search. See `total_is`.",
    )
    cursor: str | None = Field(None, pattern=CURSOR, description="`next_cursor` of the page before.")


class DataRequest:
    """The parameters of a request, the conditions on columns among them."""

    def __init__(self, request: Request) -> None:
        self.given: list[tuple[str, str]] = request.query_params.multi_items()
        try:
            self.parameters = DataParameters.model_validate(dict(self.given))
        except ValidationError as error:
            raise RequestValidationError(
                [{**item, "loc": ("query", *item["loc"])} for item in error.errors()]
            ) from None
        self.filters: tuple[Filter, ...] = read_filters(self.given, others=DataParameters.model_fields)


async def read_request(request: Request) -> DataRequest:
    """
    Raises:
        RequestValidationError: a parameter is wrong.
        QuestionError: a condition is.
    """
    return DataRequest(request)


DataRequestDep = Annotated[DataRequest, Depends(read_request)]


def described_parameters() -> list[Mapping[str, Any]]:
    """For a route's `openapi_extra`."""
    properties = DataParameters.model_json_schema()["properties"]
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema.pop("description", "")}
        for name, schema in properties.items()
    ]
    return [*parameters, describe_filters()]
