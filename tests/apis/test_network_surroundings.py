"""How Steam, or any other API, is not reached; docs/surroundings.md lists it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from pipeline.apis.http import HttpLimits, certificate_authorities
from tests.support.apis import ONCE, open_steam
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
    certificate_authorities.cache_clear()
    yield
    certificate_authorities.cache_clear()


def ask(url: str) -> None:
    async def steam() -> None:
        limits = HttpLimits(timeout_seconds=1.5)
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
