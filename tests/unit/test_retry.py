"""When a request is tried again, when the turn ends, and what Retry-After means."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SourceUnavailableError
from app.extract.retry import Decision, RetryPolicy, is_retriable, parse_retry_after
from app.sources.limits import Retry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("2.", 2.0),
        ("+5", 5.0),
        ("0", 0.0),
        ("-5", None),
        ("-0", None),
        ("1e3", None),
        ("1,5", None),
        ("5 s", None),
        ("99999999", 99999999.0),
        ("999999999", 999999999.0),
        (str(EPOCH + 90), 90.0),
        (f"{EPOCH + 90}.5", 90.5),
        (str(EPOCH - 90), 0.0),
        (str((EPOCH + 90) * 1000), 90.0),
        ("9" * 15, 999999999.0),
        ("9" * 400, 999999999.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60.0),
        ("Thu Jan  1 00:01:00 2026", 60.0),
        ("Wed Dec 31 23:59:00 2025", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Wednesday, 01-Jan-76 00:00:00 GMT", 1577836800.0),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60.0),
        ("Thu, 32 Jan 2026 00:01:00 GMT", None),
        ("Thu Foo  1 00:01:00 2026", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_in_all_its_forms(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "retriable"), [(408, True), (429, True), (500, True), (599, True), (404, False), (304, False)]
)
def test_a_class_of_statuses_stands_for_all_of_them(status: int, *, retriable: bool) -> None:
    assert is_retriable(status, (408, 425, 429, "5xx")) is retriable
    assert RetryPolicy.of(Retry()).is_retriable(status) is retriable


def test_a_class_is_only_there_when_named() -> None:
    assert not is_retriable(503, (429, "4xx"))
    assert is_retriable(404, (429, "4xx"))


@pytest.mark.parametrize(
    ("asked", "attempt", "elapsed", "decision"),
    [
        (None, 1, 0.0, Decision("retry", 2.0)),
        (None, 2, 0.0, Decision("retry", 4.0)),
        (None, 4, 0.0, Decision("retry", 10.0)),
        (None, 5, 0.0, Decision("give_up")),
        (None, 1, 99.0, Decision("give_up")),
        (0.0, 1, 0.0, Decision("retry", 0.0)),
        (20.0, 1, 80.0, Decision("retry", 20.0)),
        (20.0, 1, 80.1, Decision("reschedule", 20.0)),
        (20.0, 5, 0.0, Decision("give_up")),
        (50.0, 1, 0.0, Decision("retry", 50.0)),
        (50.1, 1, 0.0, Decision("reschedule", 50.1)),
        (50.1, 5, 0.0, Decision("reschedule", 50.1)),
        (86400.0 * 3650, 1, 0.0, Decision("reschedule", 86400.0 * 3650)),
    ],
)
def test_a_turn_goes_on_or_ends_with_a_reason(
    asked: float | None, attempt: int, elapsed: float, decision: Decision
) -> None:
    policy = RetryPolicy.of(
        Retry.model_validate(
            {
                "max_elapsed": "PT1M40S",
                "backoff_factor": 2,
                "max_delay": "PT10S",
                "jitter": "none",
                "max_retry_after": "PT50S",
            }
        )
    )
    error = SourceUnavailableError("x", retry_after_seconds=asked)

    assert policy.decide(error, attempt=attempt, elapsed_seconds=elapsed, rng=random.Random(1)) == decision


def test_retry_after_can_be_disregarded() -> None:
    policy = RetryPolicy.of(Retry(respect_retry_after=False, jitter="none"))

    decision = policy.decide(
        SourceUnavailableError("x", retry_after_seconds=9999), attempt=1, elapsed_seconds=0, rng=random.Random(1)
    )

    assert decision == Decision("retry", 1.0)


@given(attempt=st.integers(1, 30), elapsed=st.floats(0, 1000), seed=st.integers())
def test_a_wait_is_within_its_ceiling_and_its_budget(attempt: int, elapsed: float, seed: int) -> None:
    policy, error = RetryPolicy(max_attempts=20), SourceUnavailableError("x")

    decision = policy.decide(error, attempt=attempt, elapsed_seconds=elapsed, rng=random.Random(seed))

    if decision.action == "give_up":
        assert attempt >= 20 or elapsed > policy.max_elapsed_seconds - policy.max_delay_seconds
    else:
        ceiling = min(policy.max_delay_seconds, policy.backoff_factor_seconds * 2 ** (attempt - 1))
        assert 0 <= decision.seconds <= ceiling
        assert elapsed + decision.seconds <= policy.max_elapsed_seconds


def test_waits_are_spread() -> None:
    policy, error, rng = RetryPolicy(), SourceUnavailableError("x"), random.Random(1)

    assert len({policy.decide(error, attempt=3, elapsed_seconds=0, rng=rng).seconds for _ in range(50)}) == 50


@given(st.text())
def test_no_retry_after_raises(header: str) -> None:
    seconds = parse_retry_after(header, now=NOW)

    assert seconds is None or seconds >= 0
