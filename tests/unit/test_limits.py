"""Tokens and places, with a clock that the test moves."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.db.engine import Database
from app.errors import SourceUnavailableError
from app.extract.limits import Bucket, Limiter, Limiters
from app.extract.rate_headers import Budget
from app.sources.limits import RateLimit


class Time:
    """A clock and its sleepers."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking each sleeper at its moment."""
        end = self.now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end + 1e-6:
            at, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self.now = max(self.now, end)

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


class Crowd:
    """Requests that note when they began; each holds its place until let go."""

    def __init__(self, time: Time) -> None:
        self.began: list[tuple[str, float]] = []
        self.waited: list[float] = []
        self._time = time
        self._start = time.now
        self._go = asyncio.Event()
        self._go.set()
        self.tasks: list[asyncio.Task[None]] = []

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def ask(self, limiter: Limiter, name: str = "") -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(self._ask(limiter, name)))
        return self.tasks[-1]

    async def _ask(self, limiter: Limiter, name: str) -> None:
        async with limiter.slot() as waited:
            self.waited.append(round(waited, 6))
            self.began.append((name, round(self._time.now - self._start, 6)))
            await self._go.wait()

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.began]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def limit(requests: int = 10, **options: object) -> RateLimit:
    return RateLimit.model_validate({"requests": requests, **options})


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def limiters(time: Time) -> Limiters:
    return Limiters(clock=time.clock, sleep=time.sleep)


@given(
    requests=st.integers(1, 1000),
    per=st.floats(0.1, 3600),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 10) | st.just(0.0), max_size=80),
)
def test_no_window_holds_more_than_the_burst_and_the_rate(
    requests: int, per: float, burst: int, pauses: list[float]
) -> None:
    now = 0.0
    bucket = Bucket(requests=requests, per_seconds=per, burst=burst, clock=lambda: now)
    taken: list[float] = []
    for pause in pauses:
        # In units of a token's time, so that rests and rushes both happen
        now += pause * per / requests
        if bucket.wait_seconds() == 0:
            bucket.take()
            taken.append(now)

    for first, last in itertools.combinations(range(len(taken)), 2):
        span = taken[last] - taken[first]
        assert last - first + 1 <= burst + requests * span / per + 1e-6


@given(requests=st.integers(1, 1000), per=st.floats(0.1, 3600), burst=st.integers(1, 50))
def test_who_waits_as_told_gets_the_whole_rate(requests: int, per: float, burst: int) -> None:
    now = 0.0
    bucket = Bucket(requests=requests, per_seconds=per, burst=burst, clock=lambda: now)
    for _ in range(burst + 20):
        now += bucket.wait_seconds()
        assert bucket.wait_seconds() == 0
        bucket.take()

    assert now == pytest.approx(20 * per / requests)


async def test_after_the_burst_requests_go_at_the_rate(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(10, burst=2)), Crowd(time)
    for _ in range(5):
        crowd.ask(limiter)
    await time.advance(1)

    assert crowd.times == [0, 0, 0.1, 0.2, 0.3]
    assert crowd.waited == [0, 0, 0.1, 0.2, 0.3]


async def test_a_place_is_waited_for_and_the_waiting_is_told(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(1000, concurrency=2)), Crowd(time)
    crowd.hold()
    for _ in range(3):
        crowd.ask(limiter)
    await time.advance(5)
    before = list(crowd.times)
    crowd.release()
    await time.settle()

    assert before == [0, 0]
    assert crowd.waited == [0, 0, 5]


async def test_first_come_first_served(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(10, burst=1, concurrency=3)), Crowd(time)
    for name in "abcdefgh":
        crowd.ask(limiter, name)
        await time.settle()
    await time.advance(2)

    assert "".join(name for name, _ in crowd.began) == "abcdefgh"


async def test_a_cancelled_waiter_costs_the_others_nothing(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(10, burst=1)), Crowd(time)
    for name in "abcd":
        crowd.ask(limiter, name)
    await time.advance(0.05)
    crowd.tasks[1].cancel()
    crowd.tasks[2].cancel()
    await time.advance(1)

    assert crowd.began == [("a", 0), ("d", 0.1)]


@given(st.lists(st.tuples(st.integers(0, 11), st.floats(0, 0.3)), max_size=8))
def test_whoever_is_cancelled_no_token_and_no_place_is_lost(cancels: list[tuple[int, float]]) -> None:
    async def scene() -> None:
        time = Time()
        limiter, crowd = Limiters(clock=time.clock, sleep=time.sleep).of("a", limit(10, burst=2)), Crowd(time)
        for _ in range(12):
            crowd.ask(limiter)
        for number, pause in cancels:
            await time.advance(pause)
            crowd.tasks[number].cancel()
        await time.advance(60)
        served = len(crowd.began)
        rested = Crowd(time)
        for _ in range(7):
            rested.ask(limiter)
        await time.advance(60)

        assert all(task.done() for task in crowd.tasks)
        assert all(at >= (number - 1) * 0.1 - 1e-6 for number, at in enumerate(crowd.times))
        assert served >= 12 - len({number for number, _ in cancels})
        assert rested.times == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4, 0.5])

    asyncio.run(scene())


async def test_sources_of_one_bucket_share_it(time: Time, limiters: Limiters) -> None:
    crowd = Crowd(time)
    shared = limit(10, burst=1, bucket="crm")
    for name in ("a", "b"):
        for _ in range(2):
            crowd.ask(limiters.of(name, shared), name)
    crowd.ask(limiters.of("crm", limit(10, burst=1)), "alone")
    await time.advance(1)

    assert sorted(at for name, at in crowd.began if name != "alone") == [0, 0.1, 0.2, 0.3]
    assert ("alone", 0) in crowd.began


async def test_the_slowest_limit_of_a_bucket_holds_until_it_is_gone(time: Time, limiters: Limiters) -> None:
    crowd = Crowd(time)
    fast = limiters.of("a", limit(100, burst=1, bucket="crm"))
    limiters.of("b", limit(10, burst=1, bucket="crm"))
    for _ in range(3):
        crowd.ask(fast)
    await time.advance(1)
    limiters.of("b", None)
    for _ in range(3):
        crowd.ask(fast)
    await time.advance(1)

    assert crowd.times == [0, 0.1, 0.2, 1.0, 1.01, 1.02]


async def test_a_changed_limit_gives_no_second_burst(time: Time, limiters: Limiters) -> None:
    crowd = Crowd(time)
    for _ in range(2):
        crowd.ask(limiters.of("a", limit(1, burst=2)))
    await time.settle()
    crowd.ask(limiters.of("a", limit(1, burst=2, concurrency=9)))
    await time.advance(5)

    assert crowd.times == [0, 0, 1]


async def test_without_a_limit_only_places_are_waited_for(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", None), Crowd(time)
    limiter.learn(Budget(0, 60))
    crowd.hold()
    for _ in range(9):
        crowd.ask(limiter)
    await time.advance(1)

    assert crowd.times == [0] * 4
    await crowd.end()


@pytest.mark.parametrize(
    ("budget", "times"),
    [
        (Budget(0, 30), [30, 30.01, 30.02]),
        (Budget(9, 30), [0, 30 / 9, 60 / 9]),
        (Budget(10, 30), [0, 0.01, 0.02]),
        (Budget(9, 0.01), [0, 0.01, 0.02]),
        (Budget(400, 4000, 5000), [0, 10, 20]),
        (Budget(0, 0), [0, 0.01, 0.02]),
    ],
)
async def test_little_that_is_left_is_spread_over_its_time(
    budget: Budget, times: list[float], time: Time, limiters: Limiters
) -> None:
    limiter, crowd = limiters.of("a", limit(100, burst=1)), Crowd(time)
    limiter.learn(budget)
    for _ in range(3):
        crowd.ask(limiter)
    await time.advance(60)

    assert crowd.times == pytest.approx(times, abs=1e-5)


async def test_a_budget_that_came_back_ends_the_slowness(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(100, burst=1)), Crowd(time)
    limiter.learn(Budget(1, 100))
    limiter.learn(Budget(99, 100))
    for _ in range(3):
        crowd.ask(limiter)
    await time.advance(1)

    assert crowd.times == [0, 0.01, 0.02]


async def test_headers_can_be_disregarded(time: Time, limiters: Limiters) -> None:
    limiter, crowd = limiters.of("a", limit(100, respect_headers=False)), Crowd(time)
    limiter.learn(Budget(0, 60))
    crowd.ask(limiter)
    await time.advance(1)

    assert crowd.times == [0]


async def test_a_wait_longer_than_agreed_ends_the_turn(time: Time, limiters: Limiters) -> None:
    limiter = limiters.of("a", limit(), longest_seconds=300)
    limiter.learn(Budget(0, 3600))

    with pytest.raises(SourceUnavailableError) as error:
        async with limiter.slot():
            pass

    assert error.value.retry_after_seconds == 3600


async def test_without_a_database_each_process_keeps_the_limit_by_itself(time: Time) -> None:
    database = Database("postgresql://etl@127.0.0.1:1/etl", connect_timeout_seconds=1)
    limiters = Limiters(database, clock=time.clock, sleep=time.sleep)
    limiter, crowd = limiters.of("a", limit(10, burst=2, bucket="crm")), Crowd(time)
    with capture_logs() as logs:
        for _ in range(4):
            crowd.ask(limiter)
        await until(lambda: len(crowd.began) == 2)
        await time.advance(1)
    await limiters.close()
    await database.close()

    assert crowd.times == [0, 0, 0.1, 0.2]
    assert [(line["event"], line["log_level"], line["bucket"]) for line in logs] == [
        ("bucket_unavailable", "warning", "crm")
    ]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)
