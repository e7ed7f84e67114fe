"""The values that the rooms exchange. No behaviour that touches the world."""

from collections.abc import Mapping
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


def is_storable(text: str) -> bool:
    """Whether PostgreSQL's text can hold it: no U+0000, no lone surrogate."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


@dataclass(slots=True)
class Records:
    """Records cut from a page, column by column: a million of them cost no million objects."""

    payloads: list[str] = field(default_factory=list)
    """Exactly what was received; a lone surrogate U+DC80..U+DCFF stands for a byte that is not UTF-8."""
    positions: list[int] = field(default_factory=list)
    """From 1: the record's line in the file, or its number within the page."""
    fields: list[Any] = field(default_factory=list)
    """What the payload parsed to; None where it did not."""
    faults: dict[int, Rejection] = field(default_factory=dict)
    """By index: why a payload cannot be used as it is."""

    def __len__(self) -> int:
        return len(self.payloads)

    def append(self, payload: str, position: int, fields: Any, fault: Rejection | None) -> None:
        if fault is not None:
            self.faults[len(self.payloads)] = fault
        self.payloads.append(payload)
        self.positions.append(position)
        self.fields.append(fields)

    def part(self, start: int, end: int) -> "Records":
        faults = {at - start: fault for at, fault in self.faults.items() if start <= at < end}
        return Records(self.payloads[start:end], self.positions[start:end], self.fields[start:end], faults)


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
    records: Records
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
Key = Annotated[Text, Field(min_length=1, max_length=2000)]  # a B-tree entry holds 2,704 bytes
Number = Annotated[float, Field(allow_inf_nan=False)]


class DataRecord(BaseModel):
    """A normalized record: what every source is brought to."""

    model_config = ConfigDict(extra="forbid")

    source_id: Key
    name: Text = ""
    value: Number | None = None
    description: Text | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


@dataclass(slots=True)
class NormalizedRows:
    """DataRecords on their way into `normalized_data`, column by column."""

    id: list[int] = field(default_factory=list)
    """Used where the key is new; a row that is there keeps its id."""
    raw_id: list[int] = field(default_factory=list)
    source_id: list[str] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    description: list[str | None] = field(default_factory=list)
    created_at: list[datetime | None] = field(default_factory=list)
    """None: when we first saw it."""
    updated_at: list[datetime | None] = field(default_factory=list)
    """None: when we last saw it change."""
    content_hash: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.id)


@dataclass(slots=True)
class PlainRawRows:
    """Loaded records that were new, each the only one of its key: the many, column by column."""

    id: list[int] = field(default_factory=list)
    source_id: list[str] = field(default_factory=list)
    payload: list[str] = field(default_factory=list)
    content_hash: list[bytes] = field(default_factory=list)
    page: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    notes: list[tuple[Note, ...] | None] = field(default_factory=list)
    """Empty when no row has any."""

    def __len__(self) -> int:
        return len(self.id)


class RawRow(NamedTuple):
    """A record on its way into a raw table, with something to be said about it."""

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
"""One version of a record: its key (None if it has none) and the hash of its bytes."""


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
