"""How long ago a resource was brought up to date, and whether that is too long."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.sources.catalog import WrongFile
from app.sources.resource import ResourceSpec


@dataclass(frozen=True, slots=True)
class Freshness:
    last_success_at: datetime | None
    staleness_seconds: float | None
    max_staleness_seconds: float | None
    stale: bool


def freshness(spec: ResourceSpec, last_success_at: datetime | None, *, since: datetime, now: datetime) -> Freshness:
    """
    Args:
        since: when the service started: one that never succeeded has the same time to do so.
    """
    allowed = spec.schedule.max_staleness
    age_seconds = (now - (last_success_at or since)).total_seconds()
    stale = allowed is not None and age_seconds > allowed
    return Freshness(last_success_at, _staleness(last_success_at, now), allowed, stale)


def freshness_of_wrong(file: WrongFile, successes: Mapping[str, datetime], *, now: datetime) -> Freshness:
    """Of the resource that was brought up to date last: which there are, and how old they may be, is in the file."""
    own = [at for name, at in successes.items() if name.partition(".")[0] == file.name]
    last_success_at = max(own, default=None)
    return Freshness(last_success_at, _staleness(last_success_at, now), None, stale=False)


def _staleness(last_success_at: datetime | None, now: datetime) -> float | None:
    return None if last_success_at is None else round(max(0.0, (now - last_success_at).total_seconds()), 3)
