"""What changed since: which value to ask from, and what a checkpoint may hold afterwards."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.errors import SourceMalformedError
from app.extract.increments import SAFETY_SECONDS, Increment, Progress
from app.extract.scopes import scopes
from app.records import Records
from app.sources.rest import Endpoint, Incremental

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def increment(progress: Progress | None = None, **spec: Any) -> Increment:
    return Increment(Incremental(**{"cursor_path": "at", **spec}), progress or Progress(), NOW)


def records(*values: Any) -> Records:
    fields = [{"at": value} if value is not None else {} for value in values]
    return Records([""] * len(fields), list(range(1, len(fields) + 1)), list(fields))


def test_the_first_pass_begins_at_the_initial_value() -> None:
    assert increment(initial_value="2026-01-01T00:00:00Z").values == {"incremental.start_value": "2026-01-01T00:00:00Z"}
    assert increment().values == {}


def test_the_next_pass_begins_a_lookback_before_the_checkpoint_and_never_before_the_initial_value() -> None:
    held = Progress("2026-03-01T00:10:00+00:00")

    assert increment(held, lookback_window="PT15M").start == datetime(2026, 2, 28, 23, 55, tzinfo=UTC)
    assert increment(held, lookback_window="P30D", initial_value="2026-02-25T00:00:00Z").start == datetime(
        2026, 2, 25, tzinfo=UTC
    )
    # Nothing lies before the year 1
    first = increment(Progress("0001-01-01T00:00:00+00:00"), lookback_window="PT15M")
    assert first.start == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("style", "written"),
    [
        ("iso8601", "2026-03-01T00:00:00Z"),
        ("date", "2026-03-01"),
        ("unix", "1772323200"),
        ("unix_ms", "1772323200000"),
        ("%d/%m/%Y %H:%M", "01/03/2026 00:00"),
    ],
)
def test_a_moment_is_asked_for_and_read_as_the_source_writes_it(style: str, written: str) -> None:
    one = increment(Progress("2026-03-01T00:00:00+00:00"), cursor_format=style)
    assert one.values["incremental.start_value"] == written

    one.read(records(written))
    assert one.progress_after(last=True).value == "2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("style", "value"),
    [
        ("%d/%m/%Y", "2026-03-02T00:00:00.000+00:00"),
        ("unix", "2026-03-02T01:00:00+01:00"),
        ("date", "1772409600"),
        ("date", 1772409600),
    ],
)
def test_records_may_write_times_otherwise_than_requests_do(style: str, value: str | int) -> None:
    one = increment(Progress("2026-03-01T00:00:00+00:00"), cursor_format=style)

    one.read(records(value))

    assert one.progress_after(last=True).value == "2026-03-02T00:00:00+00:00"


@pytest.mark.parametrize("value", ["2026", "soon"])
def test_digits_that_are_no_seconds_are_no_time(value: str) -> None:
    one = increment(Progress("2026-03-01T00:00:00+00:00"), cursor_format="%d/%m/%Y")

    one.read(records(value))

    assert one.progress_after(last=True).value == "2026-03-01T00:00:00+00:00"


def test_an_unordered_pass_moves_the_checkpoint_only_at_its_end() -> None:
    one = increment(Progress("2026-03-01T00:00:00+00:00"))
    one.read(records("2026-03-05T00:00:00Z", "2026-03-02T00:00:00Z"))

    halfway = one.progress_after(last=False)
    assert halfway == Progress("2026-03-01T00:00:00+00:00", pending="2026-03-05T00:00:00+00:00")

    resumed = increment(halfway)
    resumed.read(records("2026-03-03T00:00:00Z"))
    assert resumed.progress_after(last=True) == Progress("2026-03-05T00:00:00+00:00")


def test_an_ascending_pass_moves_it_with_every_page_until_the_order_breaks() -> None:
    one = increment(row_order="asc")
    one.read(records("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"))
    assert one.progress_after(last=False).value == "2026-03-03T00:00:00+00:00"

    one.read(records("2026-03-05T00:00:00Z", "2026-03-04T00:00:00Z"))
    assert not one.ordered
    assert one.progress_after(last=False) == Progress(None, pending="2026-03-05T00:00:00+00:00")


def test_a_checkpoint_stays_behind_the_start_of_its_run() -> None:
    one = increment()
    one.read(records("2030-01-01T00:00:00Z"))

    assert one.progress_after(last=True).value == (NOW - timedelta(seconds=SAFETY_SECONDS)).isoformat()


def test_a_checkpoint_never_goes_back() -> None:
    one = increment(Progress("2026-03-05T00:00:00+00:00"), lookback_window="P10D")
    one.read(records("2026-03-01T00:00:00Z"))

    assert one.progress_after(last=True).value == "2026-03-05T00:00:00+00:00"
    assert increment(Progress("5"), cursor_type="integer").progress_after(last=True).value == "5"


def test_integers_are_compared_as_integers() -> None:
    one = increment(Progress("9"), cursor_type="integer")
    one.read(records(10, "11", 2))

    assert one.progress_after(last=True).value == "11"


@pytest.mark.parametrize("bad", ["yesterday", True, [1], 10**30])
def test_a_value_of_another_type_is_missing(bad: Any) -> None:
    found = records(bad, "2026-03-01T00:00:00Z")
    one = increment(on_cursor_value_missing="exclude")
    one.read(found)
    assert found.filtered == {0}

    with pytest.raises(SourceMalformedError, match="record 1 has no datetime"):
        increment(on_cursor_value_missing="raise").read(records(bad))

    kept = records(bad)
    increment().read(kept)
    assert kept.filtered == set()


def test_a_checkpoint_in_the_future_is_noticed() -> None:
    assert increment(Progress("2026-03-11T00:00:00+00:00")).begins_in_the_future
    assert not increment(Progress("2026-03-10T00:00:00+00:00")).begins_in_the_future


@pytest.mark.parametrize(
    ("begin", "step", "first", "alone"),
    [
        # All of them at once would be more than memory holds
        ("0001-01-01T00:00:00Z", "PT1S", datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC), False),
        # And there is no year 10,000
        ("9999-12-30T00:00:00Z", "P7D", datetime(9999, 12, 31, tzinfo=UTC), True),
    ],
)
async def test_windows_are_made_one_by_one_up_to_the_end(begin: str, step: str, first: datetime, alone: bool) -> None:
    spec = Incremental(cursor_path="at", initial_value=begin, end_value="9999-12-31T00:00:00Z", step=step)
    endpoint = Endpoint(path="things", params={"until": "{incremental.end_value}"}, incremental=spec)
    one = Increment(spec, Progress(), NOW)

    scope, last = await anext(scopes(endpoint, one, values_of=lambda _: {}, begin="", read_parents=None))

    assert (scope.window_end, last) == (first, alone)
