"""IGDB's rate limits: requests in any sliding second, and requests open at once."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Gate:
    """Admits 4 requests in any second and 8 at once (IGDB documentation, "Rate Limits").

    A refused request does not count, and a request exactly one second after another is not in the same second.
    A multiquery is one request.
    """

    per_second: int = 4
    open_at_once: int = 8
    _admitted: deque[float] = field(default_factory=deque)
    _open: int = 0

    @contextmanager
    def passing(self, at: float) -> Iterator[bool]:
        """Yield whether a request that arrived `at` (seconds) is admitted; it counts as open until the block ends."""
        while self._admitted and at - self._admitted[0] >= 1:
            self._admitted.popleft()
        if len(self._admitted) >= self.per_second or self._open >= self.open_at_once:
            yield False
            return
        self._admitted.append(at)
        self._open += 1
        try:
            yield True
        finally:
            self._open -= 1


def busiest_second(times: Sequence[float]) -> int:
    """Return the largest number of arrivals (seconds, any order) within any window of less than one second."""
    busiest, window = 0, deque[float]()
    for at in sorted(times):
        window.append(at)
        while at - window[0] >= 1:
            window.popleft()
        busiest = max(busiest, len(window))
    return busiest
