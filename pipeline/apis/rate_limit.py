"""Limit the rate of requests to an API: slow down when it refuses, and speed up again while it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from secrets import randbelow
from weakref import WeakKeyDictionary

MAX_INTERVAL_SECONDS = 4.0
"""The longest time between requests of an account, in seconds: at it, sixteen of them share what IGDB allows one."""

RECOVERY_PER_ANSWER = 0.25
"""The requests a second that each answer adds to an account's lowered rate."""


class RateLimiter:
    """The rate limiter of one API: at most `requests_per_second`, evenly spaced, and `max_open` open requests at once.

    That rate is the account's. Of the `processes` that send requests for it, each has an even share; a refusal is meant
    for all of them, so the waits after it, and the steps back to the share, are as many times longer and smaller.

    A refusal halves the rate, and an answer adds a quarter of a request a second (additive increase, multiplicative
    decrease), so that processes which share one account find their shares. Clients of one process share the limiter
    itself, also from one event loop to the next. aiolimiter spaces requests as evenly, but at a fixed rate.
    """

    def __init__(self, requests_per_second: float, max_open: int, processes: int = 1) -> None:
        self._shortest = processes / requests_per_second
        self._longest = max(MAX_INTERVAL_SECONDS * processes, self._shortest)
        self._recovery = RECOVERY_PER_ANSWER / processes
        self._interval = self._shortest
        self._max_open = max_open
        self._last_at = -inf
        # Processes that start together do not send their first requests together.
        self._first_after = self._shortest * randbelow(1_000) / 1_000 if processes > 1 else 0.0
        self._slowed_at = -inf
        # Locks and semaphores of asyncio belong to one event loop; a warm Lambda function has one an invocation.
        self._by_loop = WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[asyncio.Semaphore, asyncio.Lock]]()

    @property
    def requests_per_second(self) -> float:
        """The current rate of this process, in requests a second, up to its share of the account's."""
        return 1 / self._interval

    @asynccontextmanager
    async def acquire(self, prepare: Callable[[], Awaitable[object]] | None = None) -> AsyncIterator[None]:
        """Wait until a request may be sent, then run the block, during which the request counts as open.

        `prepare` is awaited when the request's turn has come; the next request is spaced from when it is done.
        """
        may_open, in_turn = self._of_this_loop()
        async with may_open:
            async with in_turn:
                if self._last_at == -inf:
                    await asyncio.sleep(self._first_after)
                wait = self._seconds_until_turn()
                while wait > 0:
                    await asyncio.sleep(wait)
                    wait = self._seconds_until_turn()  # a refusal may have lowered the rate meanwhile
                if prepare:
                    await prepare()
                self._last_at = _now()
            yield

    def slow_down(self) -> None:
        """Halve the rate, after a refusal; the refusals within one second have one cause, and count once."""
        now = _now()
        if now - self._slowed_at > 1.0:
            self._slowed_at = now
            self._interval = min(self._interval * 2, self._longest)

    def speed_up(self) -> None:
        """Raise the rate after an answer, by 0.25 requests a second of the account, up to this process's share."""
        self._interval = max(self._shortest, 1 / (self.requests_per_second + self._recovery))

    def _of_this_loop(self) -> tuple[asyncio.Semaphore, asyncio.Lock]:
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._by_loop[loop] = asyncio.Semaphore(self._max_open), asyncio.Lock()
        return self._by_loop[loop]

    def _seconds_until_turn(self) -> float:
        return self._last_at + self._interval - _now()


def _now() -> float:
    """Return the event loop's time, which is the same for all loops of a process."""
    return asyncio.get_running_loop().time()
