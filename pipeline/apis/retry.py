"""How often an API had to be asked again.

One way to repeat what a repetition can mend, for every edge.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from pipeline.errors import Retryable
from schemas.events import ErrorCode

log = structlog.get_logger()


@dataclass
class Retries:
    """Requests to one API that repeat another; `rate_limited` of them because it answered 429."""

    api: str = ""
    count: int = 0
    rate_limited: int = 0

    def note(self, error: Retryable, attempt: int, wait_seconds: float) -> None:
        """Count and log one, before it is waited for."""
        self.count += 1
        self.rate_limited += error.status == HTTPStatus.TOO_MANY_REQUESTS
        log.warning(
            "retry",
            api=self.api,
            error_code=error.code,
            status=error.status,
            attempt=attempt,
            wait_seconds=round(wait_seconds, 2),
            error=error.message,
        )

    def __add__(self, other: Self) -> "Retries":
        return Retries("", self.count + other.count, self.rate_limited + other.rate_limited)


T = TypeVar("T")

MAX_WAIT_SECONDS = 60.0
"""Nobody is kept waiting for longer than this; an API that asks for more has the stage end, to be run again later."""

PATIENCE_WITH_LIMITS = 4
"""A rate limit is waited out so many times longer than a failure: it always ends, and others may share it."""


@dataclass(frozen=True)
class RetryPolicy:
    """How many seconds an answer may take, how often to ask, and how many seconds to wait before the second time."""

    timeout_seconds: float = 20.0
    attempts: int = 5
    base_seconds: float = 1.0
    attempts_of_too_much: int | None = None
    """How often to ask for what may be too much at once, where it can be asked for in parts instead."""
    deadline: float | None = None
    """When to stop asking and waiting, in seconds of `time.monotonic`."""

    answer_seconds: float = 120.0
    """How long one answer may take in all; `timeout_seconds` is for each step, and an endless one has no last step."""

    answer_bytes: int = 2**25
    """How large one answer may be, unpacked."""

    answer_rows: int = 200_000
    """How many objects and lists one answer may hold: each takes some hundred bytes where the answer has two."""

    retries: Retries = field(default_factory=Retries, compare=False)

    async def repeat(self, code: ErrorCode, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it does not raise `Retryable`; the last one is raised. Waits double, with jitter.

        Raises:
            Retryable: Of this code, if the deadline comes first.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self._repeat(call)
        except TimeoutError:
            raise Retryable(code, "There is no time left to ask. Run the stage again.") from None

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        met = Counter[bool]()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Retryable),
            stop=lambda state: self._enough(state, met),
            wait=self._wait,
            before_sleep=self._note,
            reraise=True,
        )

        async def attempt() -> T:
            return await call()

        return await retrying(attempt)

    def _enough(self, state: RetryCallState, met: Counter[bool]) -> bool:
        """Rate limits and failures are counted apart: one does not make the other last."""
        error = _error(state)
        is_too_often = error is not None and error.is_too_often
        met[is_too_often] += 1
        attempts = self.attempts * PATIENCE_WITH_LIMITS if is_too_often else self.attempts
        if error and error.is_too_much and self.attempts_of_too_much:
            attempts = min(attempts, self.attempts_of_too_much)
        return met[is_too_often] >= attempts or _retry_after(state) > MAX_WAIT_SECONDS

    def _wait(self, state: RetryCallState) -> float:
        backoff = (wait_exponential(self.base_seconds) + wait_random(0, self.base_seconds))(state)
        return max(min(backoff, MAX_WAIT_SECONDS), _retry_after(state))

    def _note(self, state: RetryCallState) -> None:
        if error := _error(state):
            self.retries.note(error, state.attempt_number, state.upcoming_sleep)


def _error(state: RetryCallState) -> Retryable | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Retryable) else None


def _retry_after(state: RetryCallState) -> float:
    error = _error(state)
    return error.retry_after or 0.0 if error else 0.0
