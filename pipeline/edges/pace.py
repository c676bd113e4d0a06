"""How fast to ask: never faster than a limit allows, slower when told so, and gradually as fast again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiolimiter import AsyncLimiter

SLOWEST_SECONDS = 8.0
RECOVERY = 0.1


class Pace:
    """One request every `seconds` at most, `open_requests` of them at once.

    A refusal halves the rate, an answer adds a tenth of a request a second to it, up to the rate it began with
    (additive increase, multiplicative decrease): so processes that share one account find their shares.
    """

    def __init__(self, seconds: float, open_requests: int) -> None:
        self._limiter = AsyncLimiter(1, seconds)
        self._seconds = seconds
        self._interval = seconds
        self._slowed_at = 0.0
        self._owed = 0
        self._turn = asyncio.Lock()
        self._open = asyncio.Semaphore(open_requests)

    @asynccontextmanager
    async def slots(self, number: int = 1) -> AsyncIterator[None]:
        """The place of a request that counts as so many: so many slots after the one before, and before the next."""
        async with self._open:
            async with self._turn:
                for _ in range(max(number, self._owed)):
                    await self._limiter.acquire()
                    await asyncio.sleep(self._interval - self._seconds)
                self._owed = number
            yield

    def slow_down(self) -> None:
        """Halve the rate; of the refusals of one second only the first counts, for they have one cause."""
        now = time.monotonic()
        if now - self._slowed_at > 1.0:
            self._slowed_at = now
            self._interval = min(self._interval * 2, SLOWEST_SECONDS)

    def speed_up(self) -> None:
        """Come a step nearer to the full rate."""
        self._interval = max(self._seconds, 1 / (1 / self._interval + RECOVERY))
