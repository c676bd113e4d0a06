"""What the APIs have in common: one client with time limits, and one way to repeat what a repetition can mend."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from pipeline.errors import Retryable

T = TypeVar("T")
MAX_WAIT_SECONDS = 60.0
"""Nobody is kept waiting for longer than this; an API that asks for more has the stage end, to be run again later."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Patience:
    """How many seconds an answer may take, how often to ask, and how many seconds to wait before the second time."""

    timeout_seconds: float = 20.0
    attempts: int = 5
    base_seconds: float = 1.0

    async def repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it does not raise `Retryable`; the last one is raised. Waits double, with jitter."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Retryable),
            stop=self._enough,
            wait=self._wait,
            before_sleep=_say_so,
            reraise=True,
        )

        async def attempt() -> T:
            return await call()

        return await retrying(attempt)

    def _enough(self, state: RetryCallState) -> bool:
        return state.attempt_number >= self.attempts or (_retry_after(state) or 0.0) > MAX_WAIT_SECONDS

    def _wait(self, state: RetryCallState) -> float:
        backoff = (wait_exponential(self.base_seconds) + wait_random(0, self.base_seconds))(state)
        return max(min(backoff, MAX_WAIT_SECONDS), _retry_after(state) or 0.0)


def _retry_after(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, Retryable) else None


def _say_so(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("retry", attempt=state.attempt_number, wait_seconds=round(state.upcoming_sleep, 2), error=str(error))


def open_client(
    base_url: str, patience: Patience, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client for one API: no redirects, one time limit for each step of a request."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=patience.timeout_seconds,
        transport=transport,
        headers={"User-Agent": "steam-library-import", "Accept": "application/json"},
    )


def retry_after(answer: httpx.Response) -> float | None:
    """Seconds the answer asks to wait, given as seconds or as a date (RFC 9110, 10.2.3)."""
    text = answer.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def decode(answer: httpx.Response) -> Any:  # noqa: ANN401 - JSON of others is anything, and each edge checks its shape
    """The answer's JSON; raises ValueError for anything that is none."""
    try:
        return answer.json()
    except RecursionError:
        raise ValueError("nested too deeply") from None
