"""Repeat a call that may succeed later: how often, how long to wait, and when to stop asking an API that is down."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from pipeline.errors import Retryable
from schemas.events import ErrorCode

MAX_WAIT_SECONDS = 60.0
"""The longest wait between two calls, in seconds; if an API asks for a longer one, the call fails at once."""

T = TypeVar("T")
ShouldRetry = Callable[[Retryable, int], bool]
"""The type of a function that returns True if a call is to be repeated.

It takes the error, and how often the call has failed so far, 429s not counted.
"""

log = structlog.get_logger()


@dataclass(frozen=True)
class RetryPolicy:
    """The retry policy of a call: the number of attempts, the waits between them, and a deadline."""

    attempts: int = 5
    base_seconds: float = 1.0
    """The first wait, in seconds. Each further one doubles, and up to `base_seconds` are added at random."""

    rate_limit_factor: int = 1
    """The factor by which answers with status 429 may take more attempts than other failures."""

    deadline: float | None = None
    """The time of `time.monotonic` at which calling and waiting stop."""


@dataclass
class Retries:
    """A counter of the repeated requests to one API; `rate_limited` counts the ones repeated after a 429."""

    api: str = ""
    count: int = 0
    rate_limited: int = 0

    def note(self, error: Retryable, attempt: int, wait_seconds: float) -> None:
        """Count and log one repeated request, before its wait."""
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


@dataclass
class CircuitBreaker:
    """A counter of an API's failures in a row; from `limit` failures on it is open, and the API counts as down."""

    limit: int
    failures: int = 0

    @property
    def is_open(self) -> bool:
        """True if the API counts as down: it has failed `limit` times in a row."""
        return self.failures >= self.limit

    def note_failure(self) -> None:
        """Add one to the count of failures in a row."""
        self.failures += 1

    def note_success(self) -> None:
        """Set the count of failures to 0, after an answer; an open breaker closes."""
        self.failures = 0


async def call_with_retries(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    code: ErrorCode,
    retries: Retries,
    should_retry: ShouldRetry = lambda _error, _failures: True,
) -> T:
    """Make a call, repeat it while it raises `Retryable` and the policy allows, and return the call's result.

    The wait before a repetition is what the API asked for, or what the policy says if that is longer.

    Raises:
        Retryable: The error of the last call; or one with the given `code`, if the policy's deadline came first.
    """

    async def attempt() -> T:
        return await call()  # tenacity awaits nothing but a coroutine function

    repeat = AsyncRetrying(
        retry=retry_if_exception_type(Retryable),
        stop=_is_last_attempt(policy, should_retry),
        wait=lambda state: _seconds_to_wait(policy, state),
        before_sleep=lambda state: retries.note(_error_of(state), state.attempt_number, state.upcoming_sleep),
        reraise=True,
    )
    try:
        async with asyncio.timeout_at(policy.deadline):
            return await repeat(attempt)
    except TimeoutError:
        raise Retryable(code, "There is no time left for further requests. Run the stage again.") from None


def _is_last_attempt(policy: RetryPolicy, should_retry: ShouldRetry) -> Callable[[RetryCallState], bool]:
    failures = Counter[bool]()

    def is_last(state: RetryCallState) -> bool:
        error = _error_of(state)
        # Rate limits and other failures are counted apart: neither uses up the attempts of the other.
        is_limited = error.status == HTTPStatus.TOO_MANY_REQUESTS
        failures[is_limited] += 1
        return (
            failures[is_limited] >= policy.attempts * (policy.rate_limit_factor if is_limited else 1)
            or (error.retry_after or 0.0) > MAX_WAIT_SECONDS
            or not should_retry(error, failures[False])
        )

    return is_last


def _seconds_to_wait(policy: RetryPolicy, state: RetryCallState) -> float:
    backoff = (wait_exponential(policy.base_seconds) + wait_random(0, policy.base_seconds))(state)
    return max(min(backoff, MAX_WAIT_SECONDS), _error_of(state).retry_after or 0.0)


def _error_of(state: RetryCallState) -> Retryable:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Retryable):
        raise TypeError("only Retryable is repeated") from error
    return error
