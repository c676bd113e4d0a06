"""What a store of S3 raises when it is not reached or set up wrongly; docs/surroundings.md lists the cases."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import boto3
import pytest
from moto.core import set_initial_no_auth_action_count

from pipeline.clients import secret_provider, secret_value
from pipeline.errors import Refused
from pipeline.settings import Settings
from pipeline.storage.store import AwsLimits, Store, open_store_at_url
from tests.support.programs import SteamImport
from tests.support.servers import Authority, answering, free_port, http_answer
from tests.support.stores import BUCKET, REGION, local_s3
from tests.support.surroundings import ends_as, handled

KEY = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "CA_BUNDLE", "ENDPOINT_URL"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def open_store(url: str = f"s3://{BUCKET}", endpoint_url: str | None = None, region: str = REGION) -> Store:
    return open_store_at_url(url, region=region, endpoint_url=endpoint_url, aws_limits=AwsLimits(1, 1))


def write(url: str = f"s3://{BUCKET}", endpoint_url: str | None = None) -> None:
    open_store(url, endpoint_url).write("imports/x.csv", b"x")


def set_all(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


ANSWERS = {
    "S3, expired": ("400", "ExpiredToken"),
    "S3, clock": ("403", "RequestTimeTooSkewed"),
    "S3, clock ahead": ("403", "RequestInTheFuture"),
    "S3, wrong key": ("403", "InvalidAccessKeyId"),
    "S3, wrong secret": ("403", "SignatureDoesNotMatch"),
    "S3, region": ("400", "AuthorizationHeaderMalformed"),
    "S3, circle": ("301", "PermanentRedirect"),
    "S3, 501": ("501", "NotImplemented"),
    "S3, slow down": ("503", "SlowDown"),
    "S3, 500": ("500", "InternalError"),
}
SENTENCE = "A header you provided implies functionality that is not implemented."


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_of_s3_that_is_no_success(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, KEY)
    status, code = ANSWERS[case]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{SENTENCE}</Message></Error>"
    with answering(http_answer(f"{status} X", body, "application/xml")) as port:
        handled(case, lambda: write(endpoint_url=f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSignatureException", "Signature expired: 20261126T010000Z is now earlier than 20261126T015500Z"),
        ("InvalidSignatureException", "Signature not yet current: 20261126T030000Z is still later than 20261126T02"),
        ("SignatureDoesNotMatch", "Signature expired: 20261126T010000Z is now earlier than 20261126T015500Z"),
    ],
)
def test_a_clock_that_is_off_is_told_of_other_services_too(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"__type": code, "message": message})
    with answering(http_answer("400 X", body, "application/x-amz-json-1.1")) as port:
        set_all(monkeypatch, KEY | {"AWS_ENDPOINT_URL_SECRETS_MANAGER": f"http://127.0.0.1:{port}"})
        arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:key"
        settings = Settings(steam_api_key_secret_arn=arn, retry_attempts=1)
        secret_provider.cache_clear()
        handled("secret, clock", lambda: secret_value(settings, "steam_api_key"))
    secret_provider.cache_clear()


SERVERS: dict[str, tuple[Callable[[Path], AbstractContextManager[int]], str]] = {
    "S3, refused": (lambda _: nullcontext(free_port()), "http"),
    "S3, closed": (lambda _: answering(None), "http"),
    "S3, not TLS": (lambda _: answering(http_answer("200 OK")), "https"),
    "S3, unknown authority": (
        lambda folder: answering(http_answer("200 OK"), Authority(folder).issue("127.0.0.1")),
        "https",
    ),
}


@pytest.mark.parametrize("case", SERVERS)
def test_a_server_that_is_not_reached(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, KEY)
    serve, scheme = SERVERS[case]
    with serve(tmp_path) as port:
        handled(case, lambda: write(endpoint_url=f"{scheme}://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda store: store.read("imports/x.csv"), id="read"),
        pytest.param(lambda store: store.delete("imports/x.csv"), id="delete"),
        pytest.param(lambda store: store.list("imports/"), id="list"),
        pytest.param(lambda store: store.replace("imports/x.csv", b"x", None), id="replace"),
    ],
)
def test_every_use_of_a_server_that_is_not_reached_ends_alike(
    use: Callable[[Store], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, KEY)
    store = open_store(endpoint_url=f"http://127.0.0.1:{free_port()}")
    handled("S3, refused", lambda: use(store))


def test_a_bundle_of_authorities_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, KEY | {"AWS_CA_BUNDLE": "/nowhere/ca.pem"})
    with answering(http_answer("200 OK"), Authority(tmp_path).issue("127.0.0.1")) as port:
        handled("S3, no CA bundle", lambda: write(endpoint_url=f"https://127.0.0.1:{port}"))


def test_a_proxy_that_does_not_lead_on(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, KEY | {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"})
    handled("S3, proxy down", lambda: write(endpoint_url="https://s3.invalid"))
    with answering(http_answer("407 Proxy Authentication Required")) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        handled("S3, proxy", lambda: write(endpoint_url="https://s3.invalid"))


SSO = "sso_start_url=https://x.invalid\nsso_region=eu-central-1\nsso_account_id=1\nsso_role_name=r\n"
CREDENTIALS: dict[str, tuple[str, dict[str, str]]] = {
    "S3, no credentials": ("", {}),
    "S3, half credentials": ("", {"AWS_ACCESS_KEY_ID": "id"}),
    "S3, no program": ("[default]\ncredential_process = /nowhere/program\n", {}),
    "S3, program fails": ("[default]\ncredential_process = /bin/sh -c false\n", {}),
    "S3, program prints text": ("[default]\ncredential_process = /bin/echo hello\n", {}),
    "S3, no token file": (
        "",
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"},
    ),
    "S3, not logged in": (f"[default]\n{SSO}", {}),
    "S3, no profile": ("", KEY | {"AWS_PROFILE": "nobody"}),
    "S3, broken config": ("[default\nx", KEY),
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_credentials_that_are_not_there(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration, settings = CREDENTIALS[case]
    (tmp_path / "config").write_text(configuration)
    set_all(monkeypatch, settings | {"AWS_CONFIG_FILE": str(tmp_path / "config")})
    handled(case, lambda: write(endpoint_url=f"http://127.0.0.1:{free_port()}"))


def test_a_bucket_that_is_not_there_or_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with local_s3():
        handled("S3, no bucket", lambda: write("s3://no-such-bucket"))
        iam = boto3.client("iam", region_name=REGION)
        iam.create_user(UserName="nobody")
        key = iam.create_access_key(UserName="nobody")["AccessKey"]
        set_all(monkeypatch, {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]})
        set_initial_no_auth_action_count(0)(lambda: handled("S3, denied", write))()


@pytest.mark.parametrize(
    ("case", "url"),
    [
        ("S3, ARN", "s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/imports/prefix"),
        ("S3, ARN", "arn:aws:s3:eu-central-1:123456789012:accesspoint/imports"),
        ("S3, ARN", "arn:aws:s3:::bucket"),
        ("S3, typo", "s3:/typo"),
    ],
)
def test_a_url_that_is_no_store(case: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handled(case, lambda: write(url))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        pytest.param("s3://", {}, id="no bucket"),
        pytest.param("s3://two words", {}, id="no name of a bucket"),
        pytest.param(f"s3://{BUCKET}", {"endpoint_url": "nonsense"}, id="no endpoint"),
        pytest.param(f"s3://{BUCKET}", {"region": "no region"}, id="no region"),
    ],
)
def test_invalid_settings_of_aws_are_a_configuration_error(
    url: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, KEY)
    with pytest.raises(Refused, match=url) as refused:
        open_store(url, **settings).write("imports/x.csv", b"x")
    assert refused.value.code == "configuration"


def test_an_endpoint_without_encryption_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    handled("S3, unencrypted", lambda: write(endpoint_url="http://s3.example"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example")
    handled("S3, unencrypted", write)


class Unconditional(BaseHTTPRequestHandler):
    """An S3 that ignores the conditions of writes."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("X-Amz-Decoded-Content-Length", self.headers["Content-Length"])))
        self.objects[self.path] = body
        self.answer(b"")

    def do_GET(self) -> None:
        if "list-type" in self.path:
            keys = (path.rpartition("/")[2] for path in self.objects)
            listed = "".join(f'<Contents><Key>{key}</Key><ETag>"x"</ETag></Contents>' for key in keys)
            self.answer(f"<ListBucketResult>{listed}</ListBucketResult>".encode())
        else:
            self.answer(self.objects[self.path])

    def do_DELETE(self) -> None:
        self.objects.clear()
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_doctor_finds_a_server_that_ignores_conditions(
    steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unconditional) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        calculation = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required", "AWS_REGION": REGION}
        set_all(monkeypatch, KEY | calculation | {"STORE_URL": f"s3://{BUCKET}", "AWS_ENDPOINT_URL_S3": address})
        ended = steam_import("doctor")
        server.shutdown()
    ends_as("S3, no conditions", ended._replace(err=ended.out))
