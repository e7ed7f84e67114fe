"""The values that the rooms exchange. No behaviour that touches the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

RawKind = Literal["rest", "csv", "feed", "hook"]
Disposition = Literal["loaded", "rejected", "filtered", "overtaken", "deleted"]
RunStatus = Literal[
    "queued", "running", "succeeded", "partial", "suspect", "failed", "cancelled", "interrupted", "crashed"
]
Outcome = Literal["changed", "no_new_data", "not_modified", "empty"]
Trigger = Literal["schedule", "command"]
TickStatus = Literal["never", "running", "success", "partial", "failed"]


class Rejection(NamedTuple):
    """Why a record could not be normalized. A value, never an exception."""

    code: str
    field: str | None
    detail: str


class Note(NamedTuple):
    """What was coerced while normalizing: the value given could not be kept as it was."""

    field: str
    code: str
    given: str
    """The value as received, at most 100 characters of it."""


class Record(NamedTuple):
    """One record, cut from a page."""

    payload: str
    """Exactly what was received; a lone surrogate U+DC80..U+DCFF stands for a byte that is not UTF-8."""
    position: int
    """From 1: its line in the file, or its number within the page."""
    fields: Any
    """What the payload parsed to; None when `fault` says why it did not."""
    fault: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a pass over a resource goes on; the default is the beginning."""

    page: int = 0
    """Pages completed in this pass."""
    position: int = 0
    """Records (of an API) or lines (of a file) consumed in this pass."""
    page_token: str | None = None
    """The request that fetches the next page; None asks for the first."""
    byte_offset: int = 0
    """Bytes of the decompressed body consumed in this pass."""
    prefix_hash: str | None = None
    """Of those bytes: a pass goes on only in the same body."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What makes the next request for one body conditional (RFC 9110 §8.8)."""

    etag: str | None = None
    last_modified: str | None = None
    next_token: str | None = None
    """For a page of a walk: the request that followed it."""

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Page:
    """One response of an API, or one slice of a file."""

    number: int
    """From 1, within the pass."""
    records: Sequence[Record]
    after: Cursor
    """Where to go on once this page is committed."""
    last: bool = False
    """The pass is complete with this page."""
    not_modified: bool = False
    """The source said that nothing changed; there are no records."""
    body_bytes: int = 0
    validators: Mapping[str, Validators] = field(default_factory=dict)
    """By page token ('' for the first): to be saved with the data they describe, and not before."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """Header, dialect, encoding: what a reader of the payloads needs, once a run."""


Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # PostgreSQL's text cannot hold U+0000


class DataRecord(BaseModel):
    """A normalized record: what every source is brought to."""

    model_config = ConfigDict(extra="forbid")

    source_id: Annotated[Text, Field(min_length=1, max_length=2000)]
    """At most 2,000 characters: a B-tree entry holds 2,704 bytes."""
    name: Text = ""
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    description: Text | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class NormalizedRow(NamedTuple):
    """A DataRecord on its way into `normalized_data`."""

    id: int
    """Used when the key is new; a row that is there keeps its id."""
    source_id: str
    name: str
    value: float | None
    description: str | None
    created_at: datetime | None
    updated_at: datetime | None
    raw_id: int
    content_hash: bytes


class RawRow(NamedTuple):
    """A record on its way into a raw table."""

    id: int
    source_id: str | None
    payload: str
    content_hash: bytes
    page: int
    position: int
    disposition: Disposition = "loaded"
    payload_encoding: str | None = None
    """None: the payload is the text received. 'escape': PostgreSQL's decode(payload, 'escape') gives the bytes."""
    rejection: Rejection | None = None
    notes: tuple[Note, ...] = ()
    supersedes: int | None = None
    """The raw row that was this record's current version before."""


VersionKey = tuple[str | None, bytes]
"""A version of a record: its key, None if it has none, and the hash of its bytes."""


class CurrentRow(NamedTuple):
    """What `normalized_data` holds for a key now."""

    raw_id: int
    content_hash: bytes
    updated_at: datetime
    dated_by_source: bool
    """False: the source gives no time, `updated_at` is when we last saw it change."""


@dataclass(slots=True)
class Counts:
    """
    What became of the records of a batch or a run.

    Balance: extracted = inserted + updated + unchanged + filtered + duplicate
    + rejected + deleted + outdated.
    """

    pages: int = 0
    extracted: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    filtered: int = 0
    duplicate: int = 0
    """Overtaken by a later record of the same key in the same batch."""
    rejected: int = 0
    deleted: int = 0
    outdated: int = 0
    """Older than what is there, so refused."""
    coerced: int = 0
    """Loaded with a note; not part of the balance."""
    raw_rows: int = 0

    @property
    def written(self) -> int:
        """Rows of `normalized_data` that changed."""
        return self.inserted + self.updated + self.deleted

    @property
    def accounted(self) -> int:
        return self.written + self.unchanged + self.filtered + self.duplicate + self.rejected + self.outdated

    @property
    def balanced(self) -> bool:
        return self.extracted == self.accounted


@dataclass(slots=True)
class Traffic:
    """What a run asked of its source."""

    requests: int = 0
    retries: int = 0
    bytes_received: int = 0
    wait_seconds: dict[str, float] = field(default_factory=dict)
    """By reason: `retry`, `retry_after`."""

    def waited(self, reason: str, seconds: float) -> None:
        self.wait_seconds[reason] = round(self.wait_seconds.get(reason, 0.0) + seconds, 3)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored cursor, with the lease that allows moving it."""

    source: str
    resource: str
    holder: str
    epoch: int
    """One more each time the lease is taken; an older epoch writes nothing."""
    batch_seq: int
    """One more with each batch."""
    row_count: int
    """Rows of this resource in `normalized_data`, exact."""
    cursor: Cursor
    validators: Mapping[str, Validators]
    request_hash: str | None
    """Of the URL that cursor and validators belong to."""
    pass_mapping_hash: str | None
    """Of the mapping with which the pass at `cursor` began."""
    mapping_hash: str | None
    """Of the mapping with which the last complete pass was normalized."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """How one run ended."""

    run_id: int
    tick_id: UUID
    source: str
    resource: str
    status: RunStatus
    outcome: Outcome | None
    counts: Counts
    traffic: Traffic
    seconds: float
    error_class: str | None = None
    error_message: str | None = None
    store_failed: bool = False
    """Our own database was the reason: worth trying again soon."""
