"""What a replay reads, decides and tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from app.records.extracted import Note, Rejection
from app.records.rows import Disposition

KEY_TAKEN: Final = Rejection(
    "key_taken",
    "source_id",
    "another record has its key; a replay whose mapping tells the two apart loads this one, too",
)

FINGERPRINT: Final = r"^[0-9a-f]{12}$"
"""How the reason of a rejection is written."""

ReplayKind = Literal[
    "unchanged", "changed", "moved", "healed", "rejected", "filtered", "deleted", "overtaken"
]  # fmt: skip
SAMPLES: Final = 10
"""Of each kind, in a preview."""


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Which raw rows; by default all that say what is there now."""

    since: datetime | None = None
    """Landed at this moment or later."""
    until: datetime | None = None
    """Landed before this moment."""
    run_id: int | None = None
    """Landed by this run."""
    source_ids: tuple[str, ...] = ()
    rejected: bool = False
    """Only those that are rejected."""
    fingerprint: str | None = None
    """Only those that are rejected for this reason, see `app.db.rejects`."""

    @property
    def is_whole(self) -> bool:
        return self == ReplayRange()

    def as_json(self) -> dict[str, Any]:
        """What tells one range from another."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
            "run_id": self.run_id,
            "source_ids": sorted(self.source_ids),
            "rejected": self.rejected,
            **({"fingerprint": self.fingerprint} if self.fingerprint else {}),
        }


class LandedRow(NamedTuple):
    """A raw row, as it is stored."""

    id: int
    run_id: int
    source_id: str | None
    payload: str
    payload_encoding: str | None
    content_hash: bytes
    disposition: Disposition
    rejection: Rejection | None
    notes: list[Any] | None


class HeldRow(NamedTuple):
    """What `normalized_data` holds for a key now, values and all."""

    raw_id: int
    content_hash: bytes
    name: str
    value: float | None
    description: str | None
    created_at: datetime
    updated_at: datetime
    dated_by_source: bool
    deleted: bool


class RawVerdict(NamedTuple):
    """What a raw row is said to be from now on; its payload and hash never change."""

    id: int
    source_id: str | None
    disposition: Disposition
    rejection: Rejection | None = None
    notes: tuple[Note, ...] = ()


class ReplaySample(NamedTuple):
    """One raw row, before and after."""

    raw_id: int
    source_id: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(slots=True)
class Replayed:
    """What a replay did, or would do: each raw row is counted once."""

    rows: int = 0
    """Raw rows read."""
    unchanged: int = 0
    """Rejected ones that stay rejected, too."""
    changed: int = 0
    moved: int = 0
    """They have another key now."""
    healed: int = 0
    """They were rejected."""
    rejected: int = 0
    """They were not."""
    filtered: int = 0
    deleted: int = 0
    overtaken: int = 0
    """Older than what is there."""
    samples: dict[ReplayKind, list[ReplaySample]] = field(default_factory=dict)

    def add(self, kind: ReplayKind, count: int = 1) -> None:
        self.rows += count
        setattr(self, kind, getattr(self, kind) + count)
