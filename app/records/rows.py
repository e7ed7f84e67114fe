"""What goes into the tables."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from app.records.extracted import Note, Rejection

RawKind = Literal["rest", "csv", "feed", "hook"]
Disposition = Literal["loaded", "rejected", "filtered", "overtaken", "deleted", "repeated"]

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
    delivery_key: list[str | None] = field(default_factory=list)
    """The same."""

    def __len__(self) -> int:
        return len(self.id)


@dataclass(slots=True)
class DeletedRows:
    """Rows of `normalized_data` that the source deleted, column by column."""

    source_id: list[str] = field(default_factory=list)
    raw_id: list[int] = field(default_factory=list)
    """The record that says so."""
    content_hash: list[bytes] = field(default_factory=list)
    updated_at: list[datetime | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source_id)


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
    delivery_key: str | None = None


VersionKey = tuple[str | None, bytes]
"""One version of a record: its key (None if it has none) and the hash of its bytes."""


class CurrentRow(NamedTuple):
    """What `normalized_data` holds for a key now."""

    raw_id: int
    content_hash: bytes
    updated_at: datetime
    dated_by_source: bool
    """False: the source gives no time, `updated_at` is when we last saw it change."""
    deleted: bool = False
