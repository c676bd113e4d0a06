"""What the APIs have in common: one client with time limits, and one way to repeat what a repetition can mend."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from pipeline.errors import Retryable
from schemas.events import ErrorCode

T = TypeVar("T")
MAX_WAIT_SECONDS = 60.0
"""Nobody is kept waiting for longer than this; an API that asks for more has the stage end, to be run again later."""

PATIENCE_WITH_LIMITS = 4
"""A rate limit is waited out so many times longer than a failure: it always ends, and others may share it."""

_GIVEN_UP = (httpx.TimeoutException, httpx.ReadError, httpx.RemoteProtocolError)
"""Of a request that went out: perhaps its answer takes too long, or is too large for something between us."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Patience:
    """How many seconds an answer may take, how often to ask, and how many seconds to wait before the second time."""

    timeout_seconds: float = 20.0
    attempts: int = 5
    base_seconds: float = 1.0
    attempts_of_too_much: int | None = None
    """How often to ask for what may be too much at once, where it can be asked for in parts instead."""

    async def repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it does not raise `Retryable`; the last one is raised. Waits double, with jitter."""
        met = Counter[bool]()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Retryable),
            stop=lambda state: self._enough(state, met),
            wait=self._wait,
            before_sleep=_say_so,
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


def _error(state: RetryCallState) -> Retryable | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, Retryable) else None


def _retry_after(state: RetryCallState) -> float:
    error = _error(state)
    return error.retry_after or 0.0 if error else 0.0


def _say_so(state: RetryCallState) -> None:
    log.warning(
        "retry", attempt=state.attempt_number, wait_seconds=round(state.upcoming_sleep, 2), error=str(_error(state))
    )


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


async def send(
    client: httpx.AsyncClient,
    code: ErrorCode,
    method: str,
    url: str,
    **request: Any,  # noqa: ANN401 - httpx's own arguments
) -> httpx.Response:
    """One request; no answer is `Retryable`, of this code."""
    try:
        return await client.request(method, url, **request)
    except httpx.RequestError as error:
        host = httpx.URL(url).host or client.base_url.host
        raise Retryable(
            code,
            f"{host} did not answer: {type(error).__name__}. Look at the network, and try again later.",
            is_too_much=isinstance(error, _GIVEN_UP),
        ) from error


async def fetch_time(url: str, code: ErrorCode, patience: Patience) -> datetime | None:
    """The time at a server, to the second: every answer is dated, whatever it says (RFC 9110, 6.6.1); None if not."""
    async with open_client(url, patience) as client:
        answer = await patience.repeat(lambda: send(client, code, "GET", url))
    try:
        return parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None


def cause(answer: httpx.Response) -> str:
    """What an error says: IGDB's are a list of `{title, cause}` or an object with `message`, a gateway's any text."""
    try:
        body = decode(answer)
    except ValueError:
        return answer.text[:80].strip() or answer.reason_phrase
    error = body[0] if isinstance(body, list) and body else body
    if not isinstance(error, Mapping):
        return answer.reason_phrase
    said = [str(error[key])[:200] for key in ("title", "cause", "message") if error.get(key)]
    return ", ".join(said) or answer.reason_phrase


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
