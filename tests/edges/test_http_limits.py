"""What a hostile or broken server may send: nothing of it is followed, unpacked or waited for without a limit."""

import asyncio
import gzip
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.apis.http import authorities, cause, decode, open_client, send, text
from pipeline.apis.igdb import Igdb, Token
from pipeline.apis.igdb_queries import Query
from pipeline.apis.rate_limit import Rhythm
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam
from pipeline.apis.steam_store import SteamStore
from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings

MOST, ROWS = 10_000, 1_000
LIMITED = RetryPolicy(1.0, 1, 0.01, answer_seconds=0.3, answer_bytes=MOST, answer_rows=ROWS)

Answer = Callable[[httpx.Request], httpx.Response]
Asking = Callable[[str], Coroutine[None, None, None]]


class Stream(httpx.AsyncByteStream):
    """A body without end, and how much of it was taken."""

    def __init__(self, chunk: bytes, seconds: float = 0.0) -> None:
        self._chunk = chunk
        self._seconds = seconds
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self._seconds)
            self.taken += len(self._chunk)
            yield self._chunk


def ask(answer: Answer) -> httpx.Response:
    async def asking() -> httpx.Response:
        async with open_client("https://api.example", LIMITED, httpx.MockTransport(answer)) as client:
            return await send(client, "igdb_unavailable", "GET", "games")

    return asyncio.run(asking())


def refusal(answer: Answer) -> Retryable:
    with pytest.raises(Retryable) as raised:
        ask(answer)
    return raised.value


def packed(body: bytes, packing: str = "gzip") -> Answer:
    return lambda _: httpx.Response(200, stream=httpx.ByteStream(body), headers={"Content-Encoding": packing})


def test_an_answer_as_large_as_it_may_be_is_read_packed_or_not() -> None:
    body = b"x" * MOST
    assert ask(lambda _: httpx.Response(200, content=body)).content == body
    assert ask(packed(gzip.compress(body))).content == body


def test_an_answer_that_says_it_is_larger_is_not_read() -> None:
    stream = Stream(b"x")
    refused = refusal(lambda _: httpx.Response(200, stream=stream, headers={"Content-Length": str(MOST + 1)}))
    assert stream.taken == 0
    assert refused.is_too_much
    assert refused.message == (
        "api.example answers too much. The answer is larger than 10,000 bytes. "
        "If that is right, set HTTP_MAX_BYTES higher."
    )


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}], ids=["unannounced", "announced as less"])
def test_an_endless_answer_is_read_to_the_limit_and_no_further(headers: dict[str, str]) -> None:
    stream = Stream(b"x" * 1_000)
    refusal(lambda _: httpx.Response(200, stream=stream, headers=headers))
    assert stream.taken == MOST + 1_000


def test_an_answer_that_trickles_for_ever_is_given_up() -> None:
    refused = refusal(lambda _: httpx.Response(200, stream=Stream(b"x", seconds=0.01)))
    assert refused.message == "api.example did not answer: ReadTimeout. Look at the network, and try again later."


def test_a_bomb_is_unpacked_no_further_than_the_limit() -> None:
    assert "larger than 10,000 bytes" in refusal(packed(gzip.compress(b"\0" * 50_000_000))).message


@pytest.mark.parametrize("packing", ["br", "zstd", "deflate", "gzip, gzip", "x" * 9_000])
def test_what_nobody_asked_for_is_not_unpacked(packing: str) -> None:
    assert "DecodingError" in refusal(packed(gzip.compress(b"{}"), packing)).message


def test_what_is_not_packed_as_it_says_is_no_answer() -> None:
    assert "DecodingError" in refusal(packed(b"{}")).message


def test_an_error_page_in_an_encoding_of_no_text_can_be_quoted() -> None:
    page = httpx.Response(500, content=b"\xffzz", headers={"Content-Type": "text/html; charset=hex"})
    assert (text(page), cause(page)) == ("\ufffdzz", "\ufffdzz")


AWKWARD = 'canary/with+"quotes,%signs'


@pytest.mark.parametrize("status", [302, 307, 400, 401, 500])
@pytest.mark.parametrize(
    "written",
    [
        str,
        quote,
        quote_plus,
        lambda secret: quote(quote(secret, safe=""), safe=""),
        json.dumps,
        lambda secret: json.dumps(json.dumps(secret)[1:-1]),
        lambda secret: json.dumps(secret).replace("/", "\\/"),
        lambda secret: quote(secret, safe="").lower(),
        lambda secret: "".join(f"\\u{ord(sign):04X}" for sign in secret),
    ],
    ids=[
        "raw",
        "quoted",
        "for a form",
        "quoted twice",
        "JSON",
        "JSON in JSON",
        "JSON of PHP",
        "quoted small",
        "JSON in ASCII",
    ],
)
def test_a_refusal_that_quotes_a_secret_is_read_without_it(status: int, written: Callable[[str], str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, text=f"You sent {written(AWKWARD)}, {request.headers['X-Sent']}")

    async def asking(**request: Any) -> httpx.Response:
        async with open_client("https://api.example", LIMITED, httpx.MockTransport(answer)) as client:
            return await send(client, "igdb_unavailable", "POST", "token", **request)

    for sent, headers in (
        ({"client_secret": AWKWARD}, {}),
        ({}, {"Authorization": f"Bearer {AWKWARD}"}),
    ):
        answered = asyncio.run(asking(data=sent, headers=headers | {"X-Sent": "and more"}))
        assert text(answered).replace('"', "") == "You sent ***, and more"


@pytest.mark.parametrize("sign", ["\\", "%", "u", "25"])
def test_no_page_makes_the_search_for_a_secret_long(sign: str) -> None:
    started = time.monotonic()
    for page in (sign * 5_000, "\\" * 5_000, "%25" * 1_500, "\\u" * 2_500):
        headers = {"Authorization": f"Bearer {sign * 30}x"}
        transport = httpx.MockTransport(lambda _, page=page: httpx.Response(500, text=page))

        async def asking(transport: httpx.MockTransport = transport, headers: dict[str, str] = headers) -> None:
            async with open_client("https://api.example", LIMITED, transport) as client:
                await client.get("games", headers=headers)

        asyncio.run(asking())
    assert time.monotonic() - started < 2


def test_json_is_read_however_deep_real_answers_are_and_no_deeper() -> None:
    assert decode(httpx.Response(200, content=b"[" * 32 + b"]" * 32))
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(httpx.Response(200, content=b'{"a":' * 33 + b"[]" + b"}" * 33))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b" " * (MOST + 1), r"Steam .* answers too much.*HTTP_MAX_BYTES"),
        (b"{}," * ROWS, r"Steam .* answers too much.*HTTP_MAX_ROWS"),
        (b"[]," * ROWS, r"Steam .* answers too much.*HTTP_MAX_ROWS"),
        (b"1," * ROWS, "list of games is malformed"),
    ],
    ids=["bytes", "objects", "lists", "numbers"],
)
def test_too_large_an_answer_of_steam_is_a_bad_one(body: bytes, says: str) -> None:
    games = b'{"response":{"game_count":0,"games":[' + body + b"1]}}"

    async def asking() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=games))
        async with Steam("key", "https://api.example", LIMITED, transport) as steam:
            await steam.fetch_owned_games("76561197960287930")

    with pytest.raises(PipelineError, match=says) as raised:
        asyncio.run(asking())
    assert raised.value.code == "steam_bad_answer"


def test_too_large_an_answer_of_igdb_is_asked_for_in_halves() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "token.example":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 5_000})
        asked = request.content.count(b'"') // 2
        return httpx.Response(200, content=b"[]" + b" " * (asked * 100))

    async def asking() -> list[int]:
        igdb = Igdb(
            "id",
            "secret",
            base_url="https://api.example",
            token_url="https://token.example",
            patience=LIMITED,
            rhythm=Rhythm(0.001),
            transport=httpx.MockTransport(answer),
        )
        async with igdb:
            answers = await igdb.fetch_external_games(range(1, 201))
        return [len(part.unanswered) for part in answers]

    assert asyncio.run(asking()) == [0, 0, 0, 0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["https://evil.example/", "http://api.example/games", "//evil.example", "/elsewhere"])
def test_no_redirect_is_followed(status: int, to: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"Location": to})

    assert ask(answer).status_code == status
    assert asked == ["https://api.example/games"]


class Greeting(BaseHTTPRequestHandler):
    """Answers anybody who trusts it, and remembers that."""

    trusted: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.trusted.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[str]:
    """A server of this machine with a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    both = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem)
    (tmp_path / "both.pem").write_bytes(both)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    server = HTTPServer(("127.0.0.1", 0), Greeting)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def ask_steam(url: str) -> None:
    async with Steam("key", url, LIMITED) as steam:
        await steam.resolve_vanity("somebody")


async def ask_steam_store(url: str) -> None:
    async with SteamStore(url, LIMITED) as store:
        (answer,) = await store.fetch_items([620])
        assert answer.error is not None
        raise answer.error


async def ask_twitch(url: str) -> None:
    async with Igdb("id", "secret", base_url="https://igdb.invalid", token_url=url, patience=LIMITED) as igdb:
        await igdb.count(ONE_GAME)


async def ask_igdb(url: str) -> None:
    token = Token("token", inf)
    async with Igdb(
        "id", "secret", base_url=url, token_url="https://twitch.invalid", patience=LIMITED, token=token
    ) as igdb:
        await igdb.count(ONE_GAME)


ONE_GAME = Query("games", "id", "id = 1")
EVERYBODY = pytest.mark.parametrize("asking", [ask_steam, ask_steam_store, ask_twitch, ask_igdb])


def outcome(asking: Asking, url: str) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        asyncio.run(asking(url))
    return raised.value


@EVERYBODY
def test_tls_is_verified_and_nothing_switches_that_off(
    impostor: str, monkeypatch: pytest.MonkeyPatch, asking: Asking
) -> None:
    for name in (
        "PYTHONHTTPSVERIFY",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "SSL_NO_VERIFY",
        "HTTPX_VERIFY",
        "VERIFY",
    ):
        monkeypatch.setenv(name, "0")
    Greeting.trusted.clear()
    assert "did not answer: ConnectError" in outcome(asking, impostor).message
    assert Greeting.trusted == []
    assert [name for name in Settings.model_fields if "verif" in name or "tls" in name or "ssl" in name] == []


@EVERYBODY
@pytest.mark.parametrize("named", ["/nowhere", __file__], ids=["missing", "none"])
def test_authorities_that_cannot_be_read_are_a_configuration(
    monkeypatch: pytest.MonkeyPatch, asking: Asking, named: str
) -> None:
    authorities.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", named)
    refused = outcome(asking, "https://api.invalid")
    assert (refused.code, "SSL_CERT_FILE" in refused.message) == ("configuration", True)
