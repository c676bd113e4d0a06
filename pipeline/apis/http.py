"""Send requests to the APIs and read their answers within limits; one client for Steam, its store, Twitch and IGDB."""

import asyncio
import json
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Self

import httpx

from pipeline.apis.retry import Retries, RetryPolicy, call_with_retries
from pipeline.errors import PipelineError, Refused, Retryable, agree
from pipeline.logs import quiet_library_logs
from pipeline.settings import proxy_for
from schemas.events import ErrorCode

_UNFINISHED = (httpx.TimeoutException, httpx.ReadError, httpx.RemoteProtocolError)
"""Errors after a request went out: its answer may be too large for the server or for something between."""

_NEVER_SENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects)
"""Errors of a request that httpx does not send; all others are the network's, and may pass by themselves."""

_FINAL_STATUSES = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}


@dataclass(frozen=True)
class HttpLimits:
    """The limits of one HTTP answer: seconds to connect and for each read, seconds for all of it, bytes of its body."""

    timeout_seconds: float = 20.0
    """The time limit, in seconds, for connecting, for sending, and for each read."""

    answer_seconds: float = 120.0
    """The time limit, in seconds, for a whole answer: one that trickles stays below the limit of each read."""

    max_bytes: int = 2**25
    """The size limit, in bytes, of the body after it was unpacked."""


class HttpClient:
    """The HTTP client of one API: sends requests, returns whole answers, and follows no redirect."""

    def __init__(self, base_url: str, limits: HttpLimits, transport: httpx.AsyncBaseTransport | None = None) -> None:
        quiet_library_logs()
        self._limits = limits
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=limits.timeout_seconds,
            transport=transport or Network(),
            follow_redirects=False,
            headers={"User-Agent": "steam-library-import", "Accept": "application/json", "Accept-Encoding": "gzip"},
        )
        self.build_request = self._client.build_request

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def send(
        self, request: httpx.Request, code: ErrorCode, code_if_too_large: ErrorCode | None = None
    ) -> httpx.Response:
        """Send one request, and return its answer with the whole body, whatever the status.

        Raises:
            Retryable: There is no answer within the limits; of `code_if_too_large` (or else `code`) for one of too many
                bytes, of `code` for any other reason.
            Refused: `configuration`, for what does not pass by itself: a certificate that nobody trusts, a proxy that
                wants a password, an answer with the status 501.
        """
        host = request.url.host
        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                answer = await self._receive(request)
        except _TooLargeError:
            most = f"{self._limits.max_bytes:,}"
            says = f"{host} answers with more than {most} bytes. If that is right, set HTTP_MAX_BYTES higher."
            raise Retryable(code_if_too_large or code, says, is_too_large=True) from None
        except TimeoutError as error:
            seconds = self._limits.answer_seconds
            says = f"{host} did not finish its answer in {seconds:g} {agree(seconds, 'second')}. Try again later."
            raise Retryable(code, says, is_too_large=True) from error
        except httpx.RequestError as error:
            raise _network_error(host, code, error) from error
        if answer.status_code in _FINAL_STATUSES:
            says = f"{host} answers {answer.status_code} {answer.reason_phrase}, which is no answer of that API"
            raise Refused("configuration", f"{says}. Check the …_URL settings and HTTPS_PROXY.")
        return answer

    async def _receive(self, request: httpx.Request) -> httpx.Response:
        answer = await self._client.send(request, stream=True)
        try:
            body = await _read_body(answer, self._limits.max_bytes)
        finally:
            await answer.aclose()
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=body, request=request)


class ApiClient:
    """The base class of an API's client: a context manager that closes its connections.

    `retries` counts the requests that repeated another.
    """

    def __init__(self, http: HttpClient, api: str) -> None:
        self.retries = Retries(api)
        self._http = http

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.__aexit__(*exc_info)


def _network_error(host: str, code: ErrorCode, error: httpx.RequestError) -> PipelineError:
    """Return the error for a request without an answer: `configuration`, unless the cause may pass by itself."""
    tls = _tls_error(error)
    if tls is not None:
        cause = getattr(tls, "verify_message", "") or (tls.reason or str(tls)).replace("_", " ").lower()
        return Refused(
            "configuration",
            f"{host} has no certificate or encryption that this machine trusts: {cause}. Set SSL_CERT_FILE to a file "
            "with the certificate of the authority, as a company's proxy has its own, or correct HTTPS_PROXY.",
        )
    if isinstance(error, httpx.ProxyError) and re.match(r"4(?!08|29)\d\d|501", str(error)):
        return Refused(
            "configuration",
            f"The proxy for {host} answers {error!s:.100}. Correct HTTPS_PROXY: give http://user:password@host:port "
            "if it wants a password.",
        )
    if isinstance(error, _NEVER_SENT):
        return Refused("configuration", f"No request can be sent to {host}: {type(error).__name__}. Check its …_URL.")
    says = f"{host} did not answer: {type(error).__name__}. Check the network, and try again later."
    return Retryable(code, says, is_too_large=isinstance(error, _UNFINISHED))


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """Return the error of TLS that caused another one and does not pass by itself; None without one."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError) else error
        error = error.__cause__ or error.__context__
    return None


class _TooLargeError(Exception):
    """An answer has more bytes than the limit."""


async def _read_body(answer: httpx.Response, max_bytes: int) -> bytes:
    # httpx would unpack gzip in gzip too, and turn the 64 KB that it reads at once into gigabytes.
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", "gzip"):
        raise httpx.DecodingError("The answer has a Content-Encoding that was not asked for.", request=answer.request)
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise _TooLargeError
    return bytes(body)


class Network(httpx.AsyncBaseTransport):
    """The httpx transport that sends a request to its server, or through the proxy that the environment names."""

    def __init__(self) -> None:
        self._transports: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return its answer.

        Raises:
            Refused: `configuration`, for a proxy or certificate authorities that cannot be used.
        """
        proxy = proxy_for(request.url.scheme, request.url.host)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.AsyncHTTPTransport(verify=certificate_authorities(), proxy=proxy)
        return await self._transports[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections to all servers and proxies."""
        for transport in self._transports.values():
            await transport.aclose()


@cache
def certificate_authorities() -> ssl.SSLContext:
    """Return the TLS settings with the trusted authorities, made once per process, as reading them takes some 20 ms."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        raise Refused(
            "configuration",
            f"The certificate authorities that SSL_CERT_FILE names cannot be read: {error.strerror}. Correct "
            "SSL_CERT_FILE, or unset it.",
        ) from error


async def fetch_server_time(url: str, code: ErrorCode, policy: RetryPolicy, limits: HttpLimits) -> datetime | None:
    """Return a server's time, to the second, from its Date header (RFC 9110, 6.6.1), or None without that header."""
    async with HttpClient(url, limits) as http:
        answer = await call_with_retries(
            lambda: http.send(http.build_request("GET", url), code), policy, code, Retries()
        )
    try:
        return parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None


def decode_json(answer: httpx.Response) -> object:
    """Return the decoded JSON of an answer; None if it is `null`, is not JSON, or is too deeply nested."""
    try:
        decoded: object = json.loads(answer.content)
    except (ValueError, RecursionError):
        return None
    return decoded


def read_text(answer: httpx.Response) -> str:
    """Return the body of an answer as text, decoded as UTF-8 whatever encoding its header claims.

    Some encodings that Python knows, and a header may name, do not decode to text.
    """
    return answer.content.decode(errors="replace")


def retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds to wait by an answer's Retry-After (RFC 9110, 10.2.3); None if it has none that is valid."""
    text = answer.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


_UNKNOWN_ENDPOINT = re.compile(r"Endpoint [A-Z]+ /[\w/]+ not found")
"""IGDB's answer to a request of an endpoint that it does not have, in plain text."""


def describe_refusal(answer: httpx.Response) -> str:
    """Return the text of an error answer: IGDB's titles, causes and details, or else the status's standard reason.

    Other bodies are not quoted: a gateway's may repeat the Authorization header, as those of AWS do.
    """
    standard, text = answer.reason_phrase or "no reason given", read_text(answer)
    if _UNKNOWN_ENDPOINT.fullmatch(text):
        return text
    body = decode_json(answer)
    error = body[0] if isinstance(body, list) and body else body
    said = [error.get(name) for name in ("title", "cause", "details", "Message")] if isinstance(error, dict) else []
    return ", ".join(text[:200] for text in said if isinstance(text, str) and _is_quotable(text)) or standard


def _is_quotable(text: str) -> bool:
    return bool(text) and text.isprintable() and not re.search("authorization|bearer", text, re.IGNORECASE)
