import asyncio
import selectors
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from pipeline.apis.rate_limit import MAX_INTERVAL_SECONDS, RECOVERY_PER_ANSWER, RateLimiter

Request = Callable[..., Awaitable[None]]
Use = Callable[[RateLimiter, Request], Awaitable[None]]


class Clock:
    """The time of several event loops."""

    now = 0.0


class Selector(selectors.DefaultSelector):
    """Lets the time that a loop would wait pass at once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        self._clock.now += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop by that clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__(Selector(clock))

    def time(self) -> float:
        return self._clock.now


def sent(
    *uses: Use, per_second: float = 1.0, max_open: int = 8, answered_after: float = 0.0, processes: int = 1
) -> list[float]:
    """When each request goes out, of uses of one limiter that come one after the other, each in a loop of its own."""
    at: list[float] = []
    limiter = RateLimiter(per_second, max_open, processes)
    clock = Clock()

    async def request(prepare: Callable[[], Awaitable[object]] | None = None) -> None:
        async with limiter.acquire(prepare):
            at.append(round(asyncio.get_running_loop().time(), 3))
            await asyncio.sleep(answered_after)

    async def run(use: Use) -> None:
        await use(limiter, request)

    for use in uses:
        with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
            runner.run(run(use))
    return at


def test_requests_are_spaced_evenly_and_after_a_pause_there_is_nothing_to_make_up_for() -> None:
    async def use(_limiter: RateLimiter, request: Request) -> None:
        await asyncio.gather(*(request() for _ in range(4)))
        await asyncio.sleep(10)
        await asyncio.gather(request(), request(), request())

    assert sent(use) == [0, 1, 2, 3, 13, 14, 15]


def test_a_limiter_keeps_its_rate_from_one_event_loop_to_the_next() -> None:
    async def use(_limiter: RateLimiter, request: Request) -> None:
        await asyncio.gather(request(), request())

    assert sent(use, use) == [0, 1, 2, 3]


def test_requests_that_wait_for_what_the_first_needs_do_not_leave_together_when_it_is_there() -> None:
    async def use(_limiter: RateLimiter, request: Request) -> None:
        await asyncio.gather(request(lambda: asyncio.sleep(5)), request(), request())

    assert sent(use) == [5, 6, 7]


def test_a_refusal_halves_the_rate_of_requests_that_wait_already_too() -> None:
    async def use(limiter: RateLimiter, request: Request) -> None:
        waiting = asyncio.gather(request(), request(), request())
        await asyncio.sleep(0.5)
        limiter.slow_down()
        await waiting

    assert sent(use) == [0, 2, 4]


def test_the_refusals_of_one_second_count_once() -> None:
    async def use(limiter: RateLimiter, request: Request) -> None:
        for _ in range(10):
            limiter.slow_down()
            await asyncio.sleep(0.1)
        await request()
        await request()
        limiter.slow_down()
        await request()

    assert sent(use) == [1, 3, 7]


def test_answers_bring_the_rate_back_step_by_step_and_no_further() -> None:
    async def use(limiter: RateLimiter, request: Request) -> None:
        limiter.slow_down()
        for _ in range(6):
            await request()
            limiter.speed_up()

    at = sent(use)
    rates = [1 / (later - earlier) for earlier, later in pairwise(at)]
    assert rates == pytest.approx([min(1.0, 0.5 + RECOVERY_PER_ANSWER * answers) for answers in range(1, 6)], abs=0.001)


@pytest.mark.parametrize(
    ("per_second", "interval"), [(1.0, MAX_INTERVAL_SECONDS), pytest.param(0.05, 20, id="set below it")]
)
def test_refusals_do_not_slow_requests_down_below_the_slowest_rate(per_second: float, interval: float) -> None:
    async def use(limiter: RateLimiter, request: Request) -> None:
        for _ in range(20):
            limiter.slow_down()
            await asyncio.sleep(2)
        await request()
        await request()

    first, second = sent(use, per_second=per_second)
    assert second - first == interval


@pytest.mark.parametrize(("max_open", "at"), [(1, [0, 10, 20, 30]), (2, [0, 1, 10, 11]), (4, [0, 1, 2, 3])])
def test_no_more_requests_are_open_than_the_limit(max_open: int, at: list[float]) -> None:
    async def use(_limiter: RateLimiter, request: Request) -> None:
        await asyncio.gather(*(request() for _ in range(4)))

    assert sent(use, max_open=max_open, answered_after=10) == at


def test_a_process_keeps_to_its_share_of_the_accounts_rate_from_a_random_time_on() -> None:
    async def use(_limiter: RateLimiter, request: Request) -> None:
        await asyncio.gather(request(), request(), request())

    at = sent(use, per_second=10, processes=25)
    assert 0 <= at[0] < 2.5
    assert [later - at[0] for later in at] == pytest.approx([0, 2.5, 5], abs=0.01)


def test_a_refusal_is_meant_for_all_processes_so_that_each_backs_off_for_longer_than_its_share() -> None:
    limiter = RateLimiter(10, 8, processes=25)

    async def use(_limiter: RateLimiter, _request: Request) -> None:
        for _ in range(8):
            await asyncio.sleep(2)
            limiter.slow_down()

    sent(use)
    assert 25 * limiter.requests_per_second == pytest.approx(1 / MAX_INTERVAL_SECONDS)
    limiter.speed_up()
    assert 25 * limiter.requests_per_second == pytest.approx(1 / MAX_INTERVAL_SECONDS + RECOVERY_PER_ANSWER)
