"""A host that fails is left alone; one probe decides."""

from datetime import UTC, datetime, timedelta

import pytest

from app.errors import SourceUnavailableError
from app.extract.breaker import Breaker, Breakers

START = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker("api.test:80", clock=time.clock, now=time.now)


def fail(breaker: Breaker, times: int = 5) -> None:
    for _ in range(times):
        breaker.check()
        breaker.failed("connection refused")


def refused(breaker: Breaker) -> float:
    """How long the breaker says to wait."""
    with pytest.raises(SourceUnavailableError) as error:
        breaker.check()
    assert error.value.retry_after_seconds is not None
    return error.value.retry_after_seconds


def test_five_failures_in_a_row_open_it(breaker: Breaker, time: Time) -> None:
    fail(breaker, 4)
    breaker.check()
    time.seconds = 3
    fail(breaker, 1)

    assert refused(breaker) == 30.0
    assert breaker.state().state == "open"


def test_the_refusal_says_which_host_since_when_and_when_next(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 12

    with pytest.raises(SourceUnavailableError) as error:
        breaker.check()

    assert str(error.value) == (
        "api.test:80 is not asked: 5 failures in a row since 2026-01-01T00:00:00+00:00, "
        "the last: connection refused; next try in 18 s"
    )
    assert breaker.state().since == START
    assert breaker.state().next_try_at == START + timedelta(seconds=30)


@pytest.mark.parametrize("status", [200, 304, 400, 404, 429])
def test_an_answer_below_500_starts_the_count_anew(status: int, breaker: Breaker) -> None:
    fail(breaker, 4)
    breaker.answered(status)
    fail(breaker, 4)

    breaker.check()
    assert breaker.state().state == "closed"


def test_a_server_error_is_the_hosts_failure(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.answered(503)

    assert refused(breaker) == 30.0
    assert breaker.state().reason == "HTTP 503"


def test_one_probe_passes_after_the_cool_down(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 30

    assert breaker.state().state == "half_open"
    breaker.check()
    refused(breaker)


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 30
    breaker.check()
    breaker.answered(200)

    breaker.check()
    breaker.check()
    assert breaker.state().state == "closed"
    fail(breaker, 4)
    breaker.check()


def test_each_failed_probe_doubles_the_cool_down_up_to_ten_minutes(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    waits = []
    for _ in range(7):
        waits.append(refused(breaker))
        time.seconds += waits[-1]
        fail(breaker, 1)

    assert waits == [30, 60, 120, 240, 480, 600, 600]


def test_a_success_forgets_the_doubling(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 30
    fail(breaker, 1)
    time.seconds = 90
    breaker.check()
    breaker.answered(200)
    fail(breaker)

    assert refused(breaker) == 30.0


def test_a_cancelled_probe_lets_the_next_one_pass(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 30
    breaker.check()
    breaker.abandoned()

    breaker.check()
    refused(breaker)


def test_a_probe_of_which_nothing_is_heard_ends_by_itself(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 30
    breaker.check()
    time.seconds = 60

    breaker.check()


def test_failures_of_requests_sent_before_it_opened_change_nothing(breaker: Breaker, time: Time) -> None:
    fail(breaker)
    time.seconds = 10
    breaker.failed("timed out")

    assert refused(breaker) == 20.0
    assert breaker.state().failures == 5


def test_each_host_has_its_own(time: Time) -> None:
    breakers = Breakers(clock=time.clock, now=time.now)
    fail(breakers.of("http://user:hunter2@Down.test:81/a?b=c"))

    assert breakers.of("http://down.test:81/other").state().state == "open"
    breakers.of("http://down.test:82/").check()
    breakers.of("http://[broken").check()
    assert [state.host for state in breakers.states()] == ["down.test:81"]
