"""How long ago a resource was brought up to date, and whether that is too long."""

from dataclasses import dataclass
from datetime import datetime

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
    return Freshness(
        last_success_at,
        None if last_success_at is None else round(max(0.0, age_seconds), 3),
        allowed,
        allowed is not None and age_seconds > allowed,
    )
