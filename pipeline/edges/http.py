"""What the APIs have in common: one client with time limits, and how answers and refusals are read."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from pipeline.edges.patience import Patience
from pipeline.errors import Retryable
from schemas.events import ErrorCode

_GIVEN_UP = (httpx.TimeoutException, httpx.ReadError, httpx.RemoteProtocolError)
"""Of a request that went out: perhaps its answer takes too long, or is too large for something between us."""


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
