"""What the API answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, PlainSerializer

from app.records import Outcome, RefreshScope, RunStatus


def _with_z(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


Moment = Annotated[datetime, PlainSerializer(_with_z, return_type=str, when_used="json")]
"""In UTC, written with Z."""


class WrongFileItem(BaseModel):
    """A source file that nothing is read with until somebody mends it."""

    where: str
    name: str | None = Field(description="Of its source, as far as that can be told.")
    reason: str = Field(description="One line for each fault.")


class Health(BaseModel):
    status: Literal["healthy", "degraded", "unhealthy"] = Field(
        description="degraded: a source failed in the last tick or is stale, its file is wrong, or a write failed; "
        "unhealthy: no database."
    )
    db_connected: bool
    last_etl_run: Moment | None = Field(description="When the last tick ended, or began if it is running.")
    etl_status: Literal["never", "running", "success", "partial", "failed"]
    detail: str | None = Field(description="Why there is no database, or why it took no write; null when all is well.")
    stale_sources: list[str] = Field(description="Not brought up to date for longer than their `max_staleness`.")
    wrong_files: list[WrongFileItem]


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


class SourceItem(BaseModel):
    """One resource of one source; or a file that is wrong, with its `error`, and its name where that can be told."""

    name: str | None = Field(description="What `/data?source=` takes.")
    source: str | None
    where: str = Field(description="The source file.")
    resource: str | None
    type: Literal["rest_api", "csv", "rss", "webhook"] | None
    reads: str | None
    schedule: str | None
    breaker: str | None = Field(description="What is wrong with its host; null while it answers.")
    error: str | None = Field(description="What is wrong with its file; null while it is read with.")
    last_success_at: Moment | None = Field(description="When it was last brought up to date.")
    staleness_seconds: float | None = Field(description="How long ago that is.")
    max_staleness_seconds: float | None
    stale: bool


class CheckReport(BaseModel):
    """What a source answered to a request for its first page."""

    name: str
    ok: bool
    error: str | None
    error_class: str | None
    records: int
    more_pages: bool
    found: dict[str, Any] = Field(description="What was found out: records path, paginator, dialect, encoding, header.")
    keys_missing: int
    keys_repeated: int
    coerced: int
    rejected: dict[str, int] = Field(description="Records that would be rejected, by code.")
    filtered: int
    empty_columns: list[str] = Field(description="Mapped columns without a value in any record.")
    requests: int
    bytes_received: int


class PreviewedRow(BaseModel):
    """A record as received, and as it would be loaded."""

    source: str
    position: int
    raw: str
    source_id: str | None
    row: dict[str, Any] | None
    notes: list[dict[str, str]]
    becomes: str
    rejection: dict[str, Any] | None


class WaitingItem(BaseModel):
    """Rows of a resource that are absent at its source and still here."""

    source: str
    refused: str | None = Field(description="Why they were not deleted; null: they wait for a second pass.")
    count: int
    keys: list[str] = Field(description="The first hundred of them.")


class DeletesDecided(BaseModel):
    vanished: int = Field(description="Rows deleted.")
    runs: dict[str, int] = Field(description="By resource: the run that deleted them; none where nothing waited.")
    running: dict[str, int | None] = Field(description="By resource: the run that is in the way of deleting its rows.")


class RunSummary(BaseModel):
    """One resource extracted once. The counters balance: see `extracted`."""

    id: int
    tick_id: UUID
    source: str = Field(description="The resource's name in `/data?source=`.")
    resource: str
    trigger: str
    status: RunStatus
    outcome: Outcome | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    heartbeat_at: Moment | None
    cancel_requested_at: Moment | None
    pages: int
    extracted: int = Field(
        description="= inserted + updated + unchanged + filtered + duplicate + rejected + deleted + outdated"
    )
    inserted: int
    updated: int
    unchanged: int
    filtered: int
    duplicate: int
    rejected: int
    deleted: int
    outdated: int
    vanished: int
    coerced: int
    raw_rows: int
    requests: int
    retries: int
    bytes_received: int
    bytes_saved: int = Field(description="Of bodies that were not sent again: they had not changed.")
    wait_seconds: dict[str, float] | None
    error_class: str | None
    error_message: str | None


class RunDetail(RunSummary):
    input: dict[str, Any] | None = Field(description="Header, dialect and encoding of a file.")
    findings: list[Any] | None = Field(description="What was noticed.")
    request_ledger: dict[str, Any] | None = Field(
        description="The first and last 100 requests, without secrets; null until it is closed."
    )


class RunPage(BaseModel):
    runs: list[RunSummary]
    next_before: int | None = Field(description="Give it as `before` to get the next page.")


class RunsStarted(BaseModel):
    tick_id: UUID
    runs: dict[str, int] = Field(
        description="By resource: its run; a resource that waits for its turn is not here yet."
    )
    running: dict[str, int | None] = Field(description="By resource: the run that is in progress already.")


class RawVersion(BaseModel):
    """A record as it was received."""

    id: int
    kind: str
    payload: str = Field(description="Exactly what was received.")
    payload_encoding: str | None = Field(description="escape: PostgreSQL's decode(payload, 'escape') gives the bytes.")
    content_hash: str
    run_id: int
    page: int
    position: int = Field(description="The record's line in the file, or its number within the page.")
    disposition: str
    reject_code: str | None
    reject_field: str | None
    reject_detail: str | None
    notes: list[Any] | None = Field(description="What was coerced.")
    supersedes: int | None
    extracted_at: Moment


class RejectGroup(BaseModel):
    """Rejections of one kind: the same code, field and shape of the value."""

    fingerprint: str
    source: str
    code: str
    field: str | None
    count: int
    first_seen_at: Moment
    last_seen_at: Moment
    example: str | None
    example_source_id: str | None


class RejectedRecord(BaseModel):
    """A record as received, that could not be normalized."""

    id: int
    fingerprint: str
    source: str
    source_id: str | None
    reject_code: str
    reject_field: str | None
    reject_detail: str | None
    run_id: int
    page: int
    position: int = Field(description="The record's line in the file, or its number within the page.")
    extracted_at: Moment
    payload: str = Field(description="At most 2,000 characters of it.")
    payload_encoding: str | None


class ReplaySampleItem(BaseModel):
    """One raw row, as it is and as it would be."""

    raw_id: int
    source_id: str | None
    before: dict[str, Any]
    after: dict[str, Any]


class ReplayPreview(BaseModel):
    """What a replay would do with a resource's raw rows; each is counted once."""

    source: str
    rows: int
    unchanged: int = Field(description="Rows that stay rejected, too.")
    changed: int
    moved: int = Field(description="Rows that would have another key.")
    healed: int = Field(description="Rejected rows that would be loaded.")
    rejected: int = Field(description="Rows that would become rejected.")
    filtered: int
    deleted: int
    overtaken: int = Field(description="Rows that are older than what is there.")
    samples: dict[str, list[ReplaySampleItem]] = Field(description="Up to ten of each kind.")


class CheckpointItem(BaseModel):
    """Where a resource stands."""

    source: str
    place: dict[str, Any] | None = Field(description="Cursor value, page, record and byte; null: not read yet.")
    next_request: str | None = Field(description="Of a pass that is not complete; secrets are hidden.")
    found: dict[str, Any] = Field(description="What was found out about the source once.")
    row_count: int
    batch_seq: int = Field(description="One more with each batch.")
    mapping_is_current: bool = Field(description="False: rows are here that another mapping made.")
    succeeded_at: Moment | None
    held_by: str | None = Field(description="The process that runs it now.")
    lease_expires_at: Moment | None
    backfills: list[dict[str, Any]] = Field(description="Those that are not complete.")


class CheckpointMoved(BaseModel):
    source: str
    before: dict[str, Any]
    after: dict[str, Any]
    run_id: int | None = Field(description="The run that records it; null for a dry run.")


class RefreshItem(BaseModel):
    """What a refresh would begin with."""

    source: str
    scope: RefreshScope
    rows: int = Field(description="Served now, and until the pass is complete.")
    forgets: dict[str, Any]
    deletes: bool = Field(description="Rows that the pass does not bring are deleted at its end.")
    guard_ratio: float | None = Field(description="Unless they are a larger share than this.")
    last_read_at: Moment | None
