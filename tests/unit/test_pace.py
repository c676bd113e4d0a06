import asyncio
import selectors
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from pipeline.apis.rate_limit import RECOVERY, SLOWEST_SECONDS, Pace, Rhythm

Use = Callable[[Pace, Callable[..., Awaitable[None]]], Awaitable[None]]


class Clock(selectors.DefaultSelector):
    """Lets the time that a loop would wait pass at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop by that clock."""

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def sent(*uses: Use, seconds: float = 1.0, open_requests: int = 8, answered_after: float = 0.0) -> list[float]:
    """When each request goes out, of uses that come one after the other and share a rhythm."""
    at: list[float] = []
    rhythm = Rhythm(seconds)

    async def run(use: Use) -> None:
        pace = Pace(rhythm, open_requests)

        async def request(slots: int = 1) -> None:
            async with pace.slots(slots):
                at.append(round(asyncio.get_running_loop().time(), 3))
                await asyncio.sleep(answered_after)

        await use(pace, request)

    with asyncio.Runner(loop_factory=Loop) as runner:
        for use in uses:
            runner.run(run(use))
    return at


def test_requests_are_spaced_evenly_from_the_first_on() -> None:
    async def use(_pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        await asyncio.gather(*(request() for _ in range(6)))

    assert sent(use) == [0, 1, 2, 3, 4, 5]


def test_after_a_pause_there_is_nothing_to_make_up_for() -> None:
    async def use(_pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        await request()
        await asyncio.sleep(10)
        await asyncio.gather(request(), request(), request())

    assert sent(use) == [0, 10, 11, 12]


def test_whoever_comes_next_keeps_the_rhythm_of_whoever_was_before() -> None:
    async def use(_pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        await asyncio.gather(request(), request(2))

    assert sent(use, use) == [0, 2, 4, 6]


def test_a_request_that_counts_as_many_has_their_time_before_and_behind_it() -> None:
    async def use(_pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        for slots in (1, 4, 1, 1, 2, 4):
            await request(slots)

    assert sent(use) == [0, 4, 8, 9, 11, 15]


def test_a_refusal_halves_the_rate() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        await request()
        await request()
        pace.slow_down()
        await request()
        await request()

    assert sent(use) == [0, 1, 3, 5]


def test_a_refusal_counts_for_those_that_wait_already() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        waiting = asyncio.gather(request(), request(), request())
        await asyncio.sleep(0.5)
        pace.slow_down()
        await waiting

    assert sent(use) == [0, 2, 4]


def test_of_the_refusals_of_one_second_the_first_counts() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        for _ in range(10):
            pace.slow_down()
            await asyncio.sleep(0.1)
        await request()
        await request()
        pace.slow_down()
        await request()

    assert sent(use) == [1, 3, 7]


def test_answers_bring_the_rate_back_step_by_step_and_no_further() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        pace.slow_down()
        for _ in range(6):
            await request()
            pace.speed_up()

    at = sent(use)
    rates = [1 / (later - earlier) for earlier, later in pairwise(at)]
    assert rates == pytest.approx([min(1.0, 0.5 + RECOVERY * answers) for answers in range(1, 6)], abs=0.001)


def test_the_rate_never_falls_below_the_slowest() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        for _ in range(20):
            pace.slow_down()
            await asyncio.sleep(2)
        await request()
        await request()

    assert sent(use) == [40, 40 + SLOWEST_SECONDS]


@pytest.mark.parametrize(("open_requests", "at"), [(1, [0, 10, 20, 30]), (2, [0, 1, 10, 11]), (4, [0, 1, 2, 3])])
def test_no_more_requests_are_open_than_may_be(open_requests: int, at: list[float]) -> None:
    async def use(_pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        await asyncio.gather(*(request() for _ in range(4)))

    assert sent(use, open_requests=open_requests, answered_after=10) == at


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def use(pace: Pace, request: Callable[..., Awaitable[None]]) -> None:
        with pytest.raises(KeyError):
            async with pace.slots():
                raise KeyError
        await request()

    assert sent(use, open_requests=1) == [1]
