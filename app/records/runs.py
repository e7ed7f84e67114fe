"""What is known of a run, and of a resource between two runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from app.records.extracted import Cursor, Validators
from app.records.requests import RequestLedger

RunStatus = Literal[
    "queued", "running", "succeeded", "partial", "suspect", "failed", "cancelled", "interrupted", "crashed"
]
Outcome = Literal["changed", "no_new_data", "not_modified", "empty"]
Trigger = Literal["schedule", "command", "replay", "backfill", "refresh", "checkpoint", "approval", "hook"]
BY_HAND: Final[tuple[Trigger, ...]] = ("replay", "checkpoint", "approval")
"""They ask no source for anything: alone they are no tick."""
HOOK: Final = "hook:"
"""Begins the partition of runs that take what is delivered: there may be one in each process, beside any other."""
RefreshScope = Literal["data", "state", "all"]
"""
state: what was learned about the source is forgotten. data: rows that it does not bring any more are deleted. all: both
of them.
"""
TickStatus = Literal["never", "running", "success", "partial", "failed"]


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
    """Overtaken by a later record of the same key in the same batch; or of a delivery that came before."""
    rejected: int = 0
    deleted: int = 0
    outdated: int = 0
    """Older than what is there, so refused."""
    coerced: int = 0
    """Loaded with a note; not part of the balance."""
    vanished: int = 0
    """
    Rows deleted because a complete pass did not bring them, or because a replay filtered their record or gave it
    another key; not part of the balance.
    """
    raw_rows: int = 0

    @property
    def written(self) -> int:
        """Rows of `normalized_data` that changed."""
        return self.inserted + self.updated + self.deleted + self.vanished

    @property
    def accounted(self) -> int:
        loaded = self.inserted + self.updated + self.deleted
        return loaded + self.unchanged + self.filtered + self.duplicate + self.rejected + self.outdated

    def add(self, other: "Counts") -> None:
        for item in fields(Counts):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    @property
    def balanced(self) -> bool:
        return self.extracted == self.accounted


@dataclass(slots=True)
class Traffic:
    """What a run asked of its source."""

    requests: int = 0
    retries: int = 0
    bytes_received: int = 0
    bytes_saved: int = 0
    """Of bodies that were not sent again, because they had not changed."""
    wait_seconds: dict[str, float] = field(default_factory=dict)
    """By reason: `retry`, `retry_after`."""
    ledger: RequestLedger = field(default_factory=RequestLedger, repr=False)

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
    state: Mapping[str, Any] = field(default_factory=dict)
    """The increment's progress, and what was found out about the source once."""


@dataclass(frozen=True, slots=True)
class BackfillRange:
    """Half-open: from `begin` on, and before `end`. Values of the cursor, as a checkpoint holds them."""

    begin: str
    end: str
    step_seconds: float | None = None
    """How much is asked for at a time; None: what the source's file says."""

    @property
    def key(self) -> str:
        """The partition of its own checkpoint."""
        return f"{self.begin}/{self.end}"


class ColumnFault(NamedTuple):
    """Rows that break what is expected of a column."""

    check: Literal["not_null", "unique"]
    column: str
    rows: int
    example: str
    """The key of one of them."""


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
    retry_after_seconds: float | None = None
    """The source asked to be left alone for so long: longer than a run waits."""
    store_failed: bool = False
    """Our own database was the reason: worth trying again soon."""

    def as_json(self) -> dict[str, Any]:
        """Without the requests: `etl runs show` has them."""
        tree = {**asdict(self), "tick_id": str(self.tick_id)}
        del tree["traffic"]["ledger"]
        return tree
