"""What the APIs have in common: one client with limits, and how answers and refusals are read."""

import asyncio
import re
import ssl
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, cast
from urllib.parse import parse_qs

import httpx

from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Refused, Retryable
from pipeline.logs import quiet_library_logs
from pipeline.settings import proxy_for
from schemas.events import ErrorCode

DEEPEST = 32
"""Nesting of an answer's JSON; real ones have 5, so this is no setting. What is nested for ever can be read, but not be
written or shown."""

BACKSLASH = ord("\\")


class TooLarge(httpx.RequestError):
    """The answer is larger than its `Patience` allows; it was not read to its end, or not decoded."""

    def __init__(self, most: int, of_what: str, setting: str) -> None:
        super().__init__(f"The answer is larger than {most:,} {of_what}. If that is right, set {setting} higher.")


_GIVEN_UP = (httpx.TimeoutException, httpx.ReadError, httpx.RemoteProtocolError, TooLarge)
"""Of a request that went out: perhaps its answer takes too long, or is too large for us or something between."""


class _Client(httpx.AsyncClient):
    """Reads every answer whole, within the limits of its patience."""

    def __init__(self, patience: RetryPolicy, **options: Any) -> None:  # noqa: ANN401 - httpx's own arguments
        super().__init__(timeout=patience.timeout_seconds, **options)
        self._patience = patience

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:  # noqa: ANN401 - the same
        try:
            async with asyncio.timeout(self._patience.answer_seconds):
                answer = await super().send(request, **options | {"stream": True})
                try:
                    body = await _body(answer, self._patience.answer_bytes)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise httpx.ReadTimeout("The answer does not end.", request=request) from None
        _check_rows(body, self._patience.answer_rows)
        body = body if answer.is_success else _redacted(body, request)
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=body, request=answer.request)


@cache
def authorities() -> ssl.SSLContext:
    """Whom all clients of a process believe: to read them takes some 20 ms."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise Refused(
            "configuration", f"The authorities that SSL_CERT_FILE names cannot be read: {error.strerror}. Mend that."
        ) from error


class Network(httpx.AsyncBaseTransport):
    """The way to any server, straight or by the proxy that the environment names for it.

    Raises:
        Refused: `configuration`, for a proxy or authorities that cannot be used.
    """

    def __init__(self) -> None:
        self._ways: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it that way."""
        proxy = proxy_for(request.url.scheme, request.url.host)
        if proxy not in self._ways:
            self._ways[proxy] = httpx.AsyncHTTPTransport(verify=authorities(), proxy=proxy)
        return await self._ways[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        for way in self._ways.values():
            await way.aclose()


def open_client(
    base_url: str, patience: RetryPolicy, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client for one API: no redirects, answers within the limits of `patience`."""
    quiet_library_logs()
    return _Client(
        patience,
        base_url=base_url,
        transport=transport or Network(),
        follow_redirects=False,
        # Only what `_body` unpacks, which httpx would do without a limit.
        headers={"User-Agent": "steam-library-import", "Accept": "application/json", "Accept-Encoding": "gzip"},
    )


async def _body(answer: httpx.Response, most: int) -> bytes:
    """The body, unpacked; raises `TooLarge` before there is more of it in memory than that."""
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip"):
        raise httpx.DecodingError(f"The answer is packed by {packing[:40]}, which nobody asked for.")
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and float(length) > most:
        raise TooLarge(most, "bytes", "HTTP_MAX_BYTES")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if packing == "gzip" else None
    body = bytearray()
    async for chunk in cast("httpx.AsyncByteStream", answer.stream):
        body += _unpacked(unpack, chunk, most + 1 - len(body)) if unpack else chunk
        if len(body) > most:
            raise TooLarge(most, "bytes", "HTTP_MAX_BYTES")
    return bytes(body)


def _check_rows(body: bytes, most: int) -> None:
    """Raises `TooLarge` for more objects and lists than that, before there is one of them in memory."""
    if body.count(b"{") + body.count(b"[") > most:
        raise TooLarge(most, "objects and lists", "HTTP_MAX_ROWS")


def _redacted(body: bytes, request: httpx.Request) -> bytes:
    """A refusal without the secrets of its request, for it may quote them, and is quoted by ours."""
    is_form = request.headers.get("Content-Type") == "application/x-www-form-urlencoded"
    sent = parse_qs(request.content).get(b"client_secret", []) if is_form else []
    for secret in (*sent, request.headers.get("Authorization", "").removeprefix("Bearer ").encode()):
        body = _written(secret).sub(b"***", body.replace(secret, b"***")) if secret else body
    return body


def _written(secret: bytes) -> re.Pattern[bytes]:
    """A secret, each of its signs as URLs and JSON have it, or JSON in JSON."""
    return re.compile(b"".join(map(_sign, secret)), re.IGNORECASE)


def _sign(sign: int) -> bytes:
    # Atomic: what one sign matched is not tried anew, or some pages would take for ever.
    return rb"(?>%%(?:25)?%02x|\\{1,2}u%04x|\\{0,%d}\x%02x)" % (sign, sign, 1 if sign == BACKSLASH else 3, sign)


def _unpacked(unpack: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
    try:
        return unpack.decompress(chunk, most)
    except zlib.error:
        raise httpx.DecodingError("The answer is not packed as it says.") from None


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
        raise Retryable(code, no_answer(host, error), is_too_much=isinstance(error, _GIVEN_UP)) from error


def no_answer(whom: str, error: httpx.RequestError) -> str:
    """The sentence for a request that got no answer, or a larger one than is read."""
    if isinstance(error, TooLarge):
        return f"{whom} answers too much. {error}"
    return f"{whom} did not answer: {type(error).__name__}. Look at the network, and try again later."


async def fetch_time(url: str, code: ErrorCode, patience: RetryPolicy) -> datetime | None:
    """The time at a server, to the second: every answer is dated, whatever it says (RFC 9110, 6.6.1); None if not."""
    async with open_client(url, patience) as client:
        answer = await patience.repeat(code, lambda: send(client, code, "GET", url))
    try:
        return parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None


def cause(answer: httpx.Response) -> str:
    """What an error says: IGDB's are a list of `{title, cause}` or an object with `message`, a gateway's any text."""
    try:
        body = decode(answer)
    except ValueError:
        return text(answer)[:80].strip() or answer.reason_phrase
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


def text(answer: httpx.Response) -> str:
    """The body as text, whatever encoding it claims: Python knows some, like `hex`, that are no text's."""
    return answer.content.decode(errors="replace")


def decode(answer: httpx.Response) -> Any:  # noqa: ANN401 - JSON of others is anything, and each edge checks its shape
    """The answer's JSON; raises ValueError for anything that is none, or is nested more than `DEEPEST` times."""
    try:
        decoded = answer.json()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [decoded]
    for _ in range(DEEPEST):
        level = [part for whole in level for part in _parts(whole) if isinstance(part, dict | list)]
        if not level:
            return decoded
    raise ValueError("nested too deeply")


def _parts(whole: object) -> Iterable[object]:
    if isinstance(whole, dict):
        return whole.values()
    return whole if isinstance(whole, list) else ()
