"""Whatever a hostile or broken server sends is not followed, unpacked or waited for without a limit."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from pipeline.apis.http import (
    HttpClient,
    HttpLimits,
    certificate_authorities,
    decode_json,
    describe_refusal,
    read_text,
    retry_after,
)
from pipeline.errors import PipelineError, Retryable
from pipeline.sandbox.faults import Fault, Kind
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World

MAX_BYTES = 10_000
LIMITS = HttpLimits(max_bytes=MAX_BYTES)
Answer = Callable[[httpx.Request], httpx.Response]


class Endless(httpx.AsyncByteStream):
    """A body without end; `taken` says how much of it was read."""

    def __init__(self, chunk: bytes, seconds: float = 0.0) -> None:
        self._chunk = chunk
        self._seconds = seconds
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self._seconds)
            self.taken += len(self._chunk)
            yield self._chunk


def get(answer: Answer | None, url: str = "https://api.example", limits: HttpLimits = LIMITS) -> httpx.Response:
    async def send() -> httpx.Response:
        async with HttpClient(url, limits, httpx.MockTransport(answer) if answer else None) as http:
            return await http.send(http.build_request("GET", "games"), "steam_unavailable", "steam_bad_answer")

    return asyncio.run(send())


def error_of(answer: Answer | None, url: str = "https://api.example", limits: HttpLimits = LIMITS) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        get(answer, url, limits)
    return raised.value


def packed(body: bytes, encoding: str = "gzip") -> Answer:
    return lambda _: httpx.Response(200, stream=httpx.ByteStream(body), headers={"Content-Encoding": encoding})


def test_an_answer_as_large_as_the_limit_is_read_packed_or_not() -> None:
    body = b"x" * MAX_BYTES
    assert get(lambda _: httpx.Response(200, content=body)).content == body
    assert get(packed(gzip.compress(body))).content == body


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}], ids=["unannounced", "announced as less"])
def test_an_endless_answer_is_read_to_the_limit_and_no_further(headers: dict[str, str]) -> None:
    body = Endless(b"x" * 1_000)
    error = error_of(lambda _: httpx.Response(200, stream=body, headers=headers))
    assert isinstance(error, Retryable)
    assert (body.taken, error.code, error.is_too_large) == (MAX_BYTES + 1_000, "steam_bad_answer", True)
    assert error.message == (
        "api.example answers with more than 10,000 bytes. If that is right, set HTTP_MAX_BYTES higher."
    )


def test_an_answer_that_trickles_is_given_up_after_the_time_for_a_whole_answer() -> None:
    trickling = Endless(b"x", seconds=0.01)
    error = error_of(lambda _: httpx.Response(200, stream=trickling), limits=HttpLimits(answer_seconds=0.3))
    assert error.code == "steam_unavailable"
    assert error.message == "api.example did not finish its answer in 0.3 seconds. Try again later."


def test_the_limit_holds_for_the_unpacked_answer() -> None:
    assert error_of(packed(gzip.compress(b"\0" * 5_000_000))).code == "steam_bad_answer"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(b"{}", "gzip", id="not packed as it says"),
        pytest.param(gzip.compress(b"{}"), "br", id="another encoding"),
        pytest.param(gzip.compress(gzip.compress(b"{}")), "gzip, gzip", id="packed twice"),
    ],
)
def test_only_gzip_is_unpacked(body: bytes, encoding: str) -> None:
    assert "DecodingError" in error_of(packed(body, encoding)).message


@pytest.mark.parametrize("kind", ["reset", "cut", "stall"])
def test_an_answer_that_does_not_come_whole_is_an_error_that_names_the_host(kind: Kind) -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(Fault(kind=kind))
        error = error_of(None, sandbox.environment["STEAM_API_URL"], HttpLimits(timeout_seconds=0.3))
    assert isinstance(error, Retryable)
    assert error.message.startswith("127.0.0.1 did not answer: ")
    assert error.is_too_large


def test_no_redirect_is_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"Location": "https://evil.example/"})

    assert get(answer).status_code == 307
    assert asked == ["https://api.example/games"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html></html>", id="page"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested 100,000 times"),
        pytest.param(b"9" * 10_000, id="10,000 digits"),
    ],
)
def test_a_body_that_is_not_json_is_nothing(body: bytes) -> None:
    assert decode_json(httpx.Response(200, content=body)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("7", 7, id="seconds"),
        pytest.param("9" * 400, float("inf"), id="400 digits"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0, id="date in the past"),
        pytest.param("soon", None, id="word"),
        pytest.param("Wed, 21 Oct 2015 07:28:00", None, id="date without zone"),
        pytest.param(f"Wed, 21 Oct 2015 07:28:00 +{'9' * 20}", None, id="zone of 20 digits"),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_anything_else_is_ignored(text: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": text})) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after(httpx.Response(429, headers={"Retry-After": date})) == pytest.approx(90, abs=3)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('[{"title":"' + "x" * 9_000 + '"}]', "x" * 200),
        ('{"message":"no such token: SECRET"}', "Bad Request"),
        ('[{"title":["SECRET"]}]', "Bad Request"),
        ('{"Message":"not valid in Authorization: Bearer SECRET"}', "Bad Request"),
        ("[]", "Bad Request"),
        ("<html>SECRET</html>", "Bad Request"),
    ],
)
def test_of_refusals_only_igdbs_own_list_of_errors_is_quoted(body: str, says: str) -> None:
    assert describe_refusal(httpx.Response(400, text=body)) == says


def test_a_page_that_claims_an_encoding_of_no_text_can_be_read() -> None:
    page = httpx.Response(500, content=b"\xffzz", headers={"Content-Type": "text/html; charset=hex"})
    assert read_text(page) == "\ufffdzz"


def test_a_file_without_certificate_authorities_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate_authorities.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    error = error_of(None, "https://api.invalid")
    assert (error.code, "SSL_CERT_FILE" in error.message) == ("configuration", True)
