"""Whether a proxy is asked, and which: by httpx for the APIs, and by botocore for S3."""

import asyncio
import socket
from collections.abc import Iterator
from traceback import format_exception

import pytest

from pipeline.apis.http import HttpLimits
from pipeline.errors import Refused, Retryable
from pipeline.settings import proxy_for
from pipeline.storage.store import AwsLimits, Store, open_store_at_url
from tests.support.apis import ONCE, open_steam
from tests.support.lambda_functions import NOWHERE

AT_ONCE = HttpLimits(timeout_seconds=0.2)
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *map(str.lower, NAMES)):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A proxy that the environment names for everything, and that answers nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        for name in NAMES[:3]:
            monkeypatch.setenv(name, f"http://user:canary@127.0.0.1:{listener.getsockname()[1]}")
        yield listener


async def ask_steam(url: str) -> None:
    async with open_steam({"STEAM_API_URL": url, "STEAM_API_KEY": "key"}, ONCE, AT_ONCE) as steam:
        await steam.resolve_vanity("somebody")


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
        asyncio.run(ask_steam("https://api.invalid"))
    assert heard(proxy) == b"CONNECT api.invalid:443 HTTP/1.1"
    with pytest.raises(Retryable) as raised:
        s3("https://s3.invalid").read("overrides.csv")
    assert heard(proxy).startswith(b"CONNECT s3.invalid:443")
    assert "canary" not in "".join(format_exception(raised.value))


def test_plain_http_goes_by_no_proxy(proxy: socket.socket) -> None:
    with pytest.raises(Retryable):
        asyncio.run(ask_steam(NOWHERE))
    with pytest.raises(Retryable):
        s3(NOWHERE).read("overrides.csv")
    assert heard(proxy) == b""


def test_a_host_of_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.amazonaws.com")
    assert proxy_for("https", "api.igdb.com") == "http://proxy.example:3128"
    assert proxy_for("https", "s3.amazonaws.com") is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:canary@127.0.0.1:99999",
        "foo://user:canary@127.0.0.1:1",
        "socks5://user:canary@127.0.0.1:1",
        "http://user:can/ary@127.0.0.1:1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_configuration_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, f"{proxy}\n")
    for ask in (lambda: s3("https://s3.invalid"), lambda: asyncio.run(ask_steam("https://api.invalid"))):
        with pytest.raises(Refused, match="HTTPS_PROXY") as refused:
            ask()
        assert refused.value.code == "configuration"
        assert "canary" not in "".join(format_exception(refused.value))
