"""How the APIs and S3 are reached, by a proxy or directly, and how they are not; docs/surroundings.md lists it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from traceback import format_exception

import pytest

from pipeline.apis.http import HttpLimits, certificate_authorities
from pipeline.errors import Refused, Retryable
from pipeline.settings import proxy_for
from pipeline.storage.store import AwsLimits, Store, open_store_at_url
from tests.support.apis import ONCE, open_steam
from tests.support.lambda_functions import NOWHERE
from tests.support.programs import SteamImport
from tests.support.servers import Authority, answering, free_port, http_answer
from tests.support.surroundings import handled

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
GOOD = http_answer("200 OK", "{}", "application/json")
Serve = Callable[[Authority], AbstractContextManager[int]]


@contextmanager
def silence() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*NAMES, *map(str.lower, NAMES), "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    certificate_authorities.cache_clear()
    yield
    certificate_authorities.cache_clear()


def ask(url: str, seconds: float = 1.5) -> None:
    async def steam() -> None:
        limits = HttpLimits(timeout_seconds=seconds)
        async with open_steam({"STEAM_API_URL": url, "STEAM_API_KEY": "key"}, ONCE, limits) as client:
            await client.resolve_vanity("somebody")

    asyncio.run(steam())


APIS: dict[str, tuple[Serve, str]] = {
    "API, unknown authority": (lambda ca: answering(GOOD, ca.issue("127.0.0.1")), "https://127.0.0.1"),
    "API, not TLS": (lambda _: answering(GOOD), "https://127.0.0.1"),
    "API, 501": (lambda _: answering(http_answer("501 Not Implemented")), "http://127.0.0.1"),
    "API, 503": (lambda _: answering(http_answer("503 Unavailable")), "http://127.0.0.1"),
    "API, closed": (lambda _: answering(None), "http://127.0.0.1"),
    "API, refused": (lambda _: nullcontext(free_port()), "http://127.0.0.1"),
    "API, not resolved": (lambda _: nullcontext(free_port()), "https://api.invalid"),
    "API, silent": (lambda _: silence(), "http://127.0.0.1"),
}


@pytest.mark.parametrize("case", APIS)
def test_an_api_that_is_not_reached(case: str, tmp_path: Path) -> None:
    serve, address = APIS[case]
    with serve(Authority(tmp_path)) as port:
        handled(case, lambda: ask(f"{address}:{port}"))


@pytest.mark.parametrize(
    ("case", "host", "days"), [("API, other host", "localhost", 1), ("API, expired", "127.0.0.1", -1)]
)
def test_a_certificate_that_does_not_fit(
    case: str, host: str, days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with answering(GOOD, authority.issue("127.0.0.1", days=days)) as port:
        handled(case, lambda: ask(f"https://{host}:{port}"))


def test_the_authority_of_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    body = '{"response":{"success":42}}'
    with answering(http_answer("200 OK", body, "application/json"), authority.issue("127.0.0.1")) as port:
        ask(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("case", "proxy"),
    [
        ("proxy wants a password", lambda: answering(http_answer("407 Proxy Authentication Required"))),
        ("proxy forbids", lambda: answering(http_answer("403 Forbidden"))),
        ("proxy is busy", lambda: answering(http_answer("503 Unavailable"))),
        ("proxy limits the rate", lambda: answering(http_answer("429 Too Many Requests"))),
        ("proxy is down", lambda: nullcontext(free_port())),
        ("proxy is no URL", lambda: nullcontext("nowhere")),
    ],
)
def test_a_proxy_that_does_not_lead_on(
    case: str, proxy: Callable[[], AbstractContextManager[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        handled(case, lambda: ask("https://api.invalid"))


def test_a_file_of_authorities_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    handled("no SSL_CERT_FILE", lambda: ask("https://127.0.0.1:1"))


def test_doctor_names_the_cause(steam_import: SteamImport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(GOOD, Authority(tmp_path).issue("127.0.0.1")) as port:
        monkeypatch.setenv("STEAM_API_URL", f"https://127.0.0.1:{port}")
        said = steam_import("doctor").out
    assert said.count("SSL_CERT_FILE") == 2


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A proxy that the environment names for everything, and that answers nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        for name in NAMES[:3]:
            monkeypatch.setenv(name, f"http://user:canary@127.0.0.1:{listener.getsockname()[1]}")
        yield listener


def s3(url: str) -> Store:
    return open_store_at_url("s3://bucket", region="eu-central-1", endpoint_url=url, aws_limits=AwsLimits(0.2, 1))


def heard(proxy: socket.socket) -> bytes:
    """The first line that somebody said to the proxy; empty if nobody called."""
    try:
        caller, _ = proxy.accept()
    except BlockingIOError:
        return b""
    with caller:
        return caller.recv(4_000).partition(b"\r\n")[0]


def test_hosts_elsewhere_are_reached_by_the_proxy(proxy: socket.socket) -> None:
    with pytest.raises(Retryable):
        ask("https://api.invalid", 0.2)
    assert heard(proxy) == b"CONNECT api.invalid:443 HTTP/1.1"
    with pytest.raises(Retryable) as raised:
        s3("https://s3.invalid").read("overrides.csv")
    assert heard(proxy).startswith(b"CONNECT s3.invalid:443")
    assert "canary" not in "".join(format_exception(raised.value))


def test_plain_http_goes_by_no_proxy(proxy: socket.socket) -> None:
    with pytest.raises(Retryable):
        ask(NOWHERE)
    with pytest.raises(Retryable):
        s3(NOWHERE).read("overrides.csv")
    assert heard(proxy) == b""


def test_a_host_of_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.amazonaws.com")
    assert proxy_for("https", "api.igdb.com") == "http://proxy.example:3128"
    assert proxy_for("https", "s3.amazonaws.com") is None


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("HTTPS_PROXY", "http://user:canary@127.0.0.1:99999"),
        ("ALL_PROXY", "foo://user:canary@127.0.0.1:1"),
        ("HTTPS_PROXY", "socks5://user:canary@127.0.0.1:1"),
        ("HTTPS_PROXY", "http://user:can/ary@127.0.0.1:1"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_configuration_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, f"{proxy}\n")
    for reach in (lambda: s3("https://s3.invalid"), lambda: ask("https://api.invalid")):
        with pytest.raises(Refused, match="HTTPS_PROXY") as refused:
            reach()
        assert refused.value.code == "configuration"
        assert "canary" not in "".join(format_exception(refused.value))
