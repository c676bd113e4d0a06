"""How fast to ask: never faster than a limit allows, slower when told so, and gradually as fast again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

SLOWEST_SECONDS = 4.0
"""At this rate sixteen processes share what IGDB allows one account."""

RECOVERY = 0.25


@dataclass
class Rhythm:
    """How fast, and when the last request went; kept by whoever uses it for longer than one client lives.

    aiolimiter spaces requests as evenly, but at a rate that is fixed when it is made.
    """

    seconds: float
    interval: float = 0.0
    last_at: float = -inf
    slowed_at: float = -inf
    owed: int = 0

    def __post_init__(self) -> None:
        self.interval = self.seconds


class Pace:
    """One request every so many seconds at most, `open_requests` of them at once.

    A refusal halves the rate, an answer adds a quarter of a request a second to it, up to the rate it began with
    (additive increase, multiplicative decrease): so processes that share one account find their shares.
    """

    def __init__(self, rhythm: Rhythm, open_requests: int) -> None:
        self._rhythm = rhythm
        self._turn = asyncio.Lock()
        self._open = asyncio.Semaphore(open_requests)

    @asynccontextmanager
    async def slots(self, number: int = 1) -> AsyncIterator[None]:
        """The place of a request that counts as so many: so many slots after the one before, and before the next."""
        async with self._open:
            async with self._turn:
                # Looked at again after each wait: a refusal may have come meanwhile.
                while (wait := self._seconds_until(number)) > 0:  # noqa: ASYNC110 - time, not an event, is awaited
                    await asyncio.sleep(wait)
                self._rhythm.last_at, self._rhythm.owed = _now(), number
            yield

    def _seconds_until(self, slots: int) -> float:
        return self._rhythm.last_at + max(slots, self._rhythm.owed) * self._rhythm.interval - _now()

    def slow_down(self) -> None:
        """Halve the rate; of the refusals of one second only the first counts, for they have one cause."""
        now = _now()
        if now - self._rhythm.slowed_at > 1.0:
            self._rhythm.slowed_at = now
            self._rhythm.interval = min(self._rhythm.interval * 2, SLOWEST_SECONDS)

    def speed_up(self) -> None:
        """Come a step nearer to the full rate."""
        self._rhythm.interval = max(self._rhythm.seconds, 1 / (1 / self._rhythm.interval + RECOVERY))


def _now() -> float:
    """The loop's clock, which is the same for all loops of a process."""
    return asyncio.get_running_loop().time()
