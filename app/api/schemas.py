"""What the API answers."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer


def _with_z(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_with_z, return_type=str, when_used="json")]
"""In UTC, written with Z."""


class Item(BaseModel):
    """One normalized record."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    source: str
    source_id: str
    name: str
    value: float | None
    description: str | None
    created_at: Moment
    updated_at: Moment


class DataPage(BaseModel):
    data: list[Item]
    total: int = Field(description="Rows that match, exactly.")
    page: int
    page_size: int
    has_more: bool
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page, at any depth alike fast.")


class Health(BaseModel):
    status: Literal["healthy", "degraded", "unhealthy"] = Field(
        description="degraded: a source failed in the last tick; unhealthy: no database."
    )
    db_connected: bool
    last_etl_run: Moment | None = Field(description="When the last tick ended, or began if it is running.")
    etl_status: Literal["never", "running", "success", "partial", "failed"]


class Stats(BaseModel):
    total_records_processed: int = Field(description="Rows extracted, over all ticks.")
    total_duration_seconds: float
    last_success: Moment | None = Field(description="End of the last tick in which every source succeeded.")
    last_failure: Moment | None
    last_failure_reason: str | None
    run_count: int = Field(description="Ticks.")


class Liveness(BaseModel):
    status: Literal["alive"]


class Readiness(BaseModel):
    status: Literal["ready"]


class ProblemDetail(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
