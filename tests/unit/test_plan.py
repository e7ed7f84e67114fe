"""When a source is due, and that it is never given out twice at a time."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.plan import Plan
from app.sources.due import first_due, next_due
from app.sources.resource import ResourceSpec
from app.sources.tables import RestResource, Schedule

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def spec(name: str, **schedule: Any) -> ResourceSpec:
    return ResourceSpec(source=name, table=RestResource(name="x"), single=True, schedule=Schedule(**schedule))


def after(schedule: Schedule, *, due: datetime = NOW, now: datetime = NOW) -> datetime:
    return next_due(schedule, due=due, now=now, default_interval_seconds=900, rng=random.Random(1))


def names(found: list[ResourceSpec]) -> list[str]:
    return [one.name for one in found]


def test_without_a_schedule_a_source_is_due_at_once_and_then_with_each_tick() -> None:
    assert first_due(Schedule(), last_start=NOW - timedelta(seconds=1), now=NOW) == NOW
    assert after(Schedule()) == NOW + timedelta(seconds=900)


def test_an_interval_goes_on_over_a_restart_and_what_was_missed_is_one_run() -> None:
    hourly = Schedule(interval="PT1H")

    assert first_due(hourly, last_start=NOW - HOUR / 2, now=NOW) == NOW + HOUR / 2
    assert first_due(hourly, last_start=NOW - 7 * HOUR, now=NOW) == NOW
    assert after(hourly, due=NOW - 7 * HOUR, now=NOW) == NOW
    assert after(hourly, due=NOW - HOUR / 4, now=NOW) == NOW + HOUR * 3 / 4


def test_cron_means_the_time_of_its_zone() -> None:
    daily = Schedule(cron="15 6 * * *", timezone="Europe/Berlin")

    assert first_due(daily, last_start=None, now=NOW) == datetime(2026, 3, 11, 5, 15, tzinfo=UTC)
    assert first_due(daily, last_start=NOW - 48 * HOUR, now=NOW) == NOW
    # The clocks change on 29 March 2026
    assert after(daily, now=datetime(2026, 3, 29, 12, tzinfo=UTC)) == datetime(2026, 3, 30, 4, 15, tzinfo=UTC)


def test_a_time_that_the_change_of_clocks_skips_or_repeats_is_one_run() -> None:
    nightly = Schedule(cron="30 2 * * *", timezone="Europe/Berlin")
    berlin = ZoneInfo("Europe/Berlin")
    for day, hours in ((datetime(2026, 3, 28, 12, tzinfo=UTC), 72), (datetime(2026, 10, 24, 12, tzinfo=UTC), 72)):
        found, at = [], day
        while (at := after(nightly, now=at)) < day + timedelta(hours=hours):
            found.append(at)
        assert len({moment.astimezone(berlin).date() for moment in found}) == len(found) == 3


def test_jitter_is_drawn_anew_and_bounded() -> None:
    jittered = Schedule(interval="PT1H", jitter="PT5M")
    rng = random.Random(1)
    drawn = {next_due(jittered, due=NOW, now=NOW, default_interval_seconds=1, rng=rng) for _ in range(50)}

    assert len(drawn) > 40
    assert all(NOW + HOUR <= moment <= NOW + HOUR + timedelta(minutes=5) for moment in drawn)


def test_what_runs_is_not_given_out_again_until_it_is_finished() -> None:
    plan = Plan([spec("a"), spec("b", interval="PT1H")], default_interval_seconds=60)

    both = plan.take_due(NOW)
    assert names(both) == ["a", "b"]
    assert plan.take_due(NOW + 2 * HOUR) == []

    plan.finished(both[:1], {}, NOW + 2 * HOUR)
    assert names(plan.take_due(NOW + 2 * HOUR)) == ["a"]


def test_a_failed_one_is_tried_sooner_and_a_busy_one_left_alone() -> None:
    plan = Plan([spec("a", interval="PT1H"), spec("b", interval="PT1M")], default_interval_seconds=60)
    taken = plan.take_due(NOW)

    plan.postpone({"b": 1800}, NOW)
    plan.finished(taken, {"a": 5, "b": 1800}, NOW)

    assert plan.seconds_to_next(NOW) == pytest.approx(5)
    assert names(plan.take_due(NOW + timedelta(seconds=5))) == ["a"]
    assert plan.take_due(NOW + timedelta(minutes=29)) == []
    assert names(plan.take_due(NOW + timedelta(minutes=30))) == ["b"]


def test_an_empty_plan_waits_for_nothing() -> None:
    assert Plan([], default_interval_seconds=60).seconds_to_next(NOW) == float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": "PT1H", "cron": "* * * * *"},
        {"interval": 3600},
        {"interval": "1h"},
        {"interval": "PT0S"},
        {"cron": "every day"},
        {"cron": "61 * * * *"},
        {"cron": "* * * * *", "timezone": "Mars/Olympus"},
    ],
)
def test_a_wrong_schedule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"interval|cron|timezone|duration|unit"):
        Schedule(**wrong)
