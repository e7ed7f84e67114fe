"""When a source is due next. Pure; times are UTC."""

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from app.sources.tables import Schedule


def first_due(schedule: Schedule, *, last_start: datetime | None, now: datetime) -> datetime:
    """
    When a source is due after the service has started.

    However many times were missed while it was down, they are one run, now. A
    source with a cron expression that never ran waits for its first time.

    Args:
        last_start: of its last run; None when there is none.
    """
    if schedule.cron is not None:
        return max(now, _next_cron(schedule, last_start)) if last_start else _next_cron(schedule, now)
    if schedule.interval is None or last_start is None:
        return now
    return max(now, last_start + timedelta(seconds=schedule.interval))


def next_due(
    schedule: Schedule, *, due: datetime, now: datetime, default_interval_seconds: float, rng: random.Random
) -> datetime:
    """
    When a source is due again.

    Args:
        due: when it was due this time.
        now: when it began.
    """
    jitter = timedelta(seconds=rng.uniform(0, schedule.jitter))
    if schedule.cron is not None:
        return _next_cron(schedule, now) + jitter
    interval = timedelta(seconds=schedule.interval or default_interval_seconds)
    # From the time it was due, so that jitter and waiting do not add up; what was missed is not made up for
    following = due + interval
    return max(following, now) + jitter


def _next_cron(schedule: Schedule, after: datetime) -> datetime:
    assert schedule.cron is not None
    # In the zone's own time, so that 02:30 means what a person there means by it, also when clocks change
    local = after.astimezone(ZoneInfo(schedule.timezone))
    return next(CronSim(schedule.cron, local)).astimezone(after.tzinfo)
