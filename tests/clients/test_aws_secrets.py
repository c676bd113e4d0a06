"""Secrets that settings name by ARN, of a Secrets Manager and an SSM in this process."""

import logging
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from traceback import format_exception

import boto3
import pytest
from moto import mock_aws

from pipeline.api import list_runs
from pipeline.cli.local import with_sandbox
from pipeline.clients import cached_secrets, reread_secrets, secret_provider, secret_value
from pipeline.errors import Refused, Retryable
from pipeline.settings import Settings
from tests.support.programs import set_only
from tests.support.stores import REGION

CANARY = "canary-0123456789abcdef"
NOWHERE = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:nowhere"


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    set_only(monkeypatch, {})
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        yield
    secret_provider.cache_clear()
    cached_secrets.cache_clear()


def secret(value: str) -> str:
    arn: str = boto3.client("secretsmanager", region_name=REGION).create_secret(Name="s", SecretString=value)["ARN"]
    return arn


def parameter(value: str) -> str:
    ssm = boto3.client("ssm", region_name=REGION)
    ssm.put_parameter(Name="/steam-import/database", Value=value, Type="SecureString")
    return str(ssm.get_parameter(Name="/steam-import/database")["Parameter"]["ARN"])


def read(arn: str, **settings: object) -> str:
    """The Steam key that lies there."""
    return secret_value(Settings.read(steam_api_key_secret_arn=arn, **settings), "steam_api_key")


def refusal(arn: str, **settings: object) -> str:
    with pytest.raises(Refused) as refused:
        read(arn, **settings)
    assert refused.value.code == "configuration"
    assert "STEAM_API_KEY_SECRET_ARN" in refused.value.message
    return "".join(format_exception(refused.value))


def test_a_secret_is_read_where_its_arn_says() -> None:
    settings = Settings.read(steam_api_key_secret_arn=secret(f"{CANARY}\n"), database_url_secret_arn=parameter(CANARY))
    settings.require("steam_api_key", "database_url")
    assert secret_value(settings, "steam_api_key") == CANARY
    assert secret_value(settings, "database_url") == CANARY
    assert CANARY not in f"{settings!r}"


def test_a_value_of_its_own_wins_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAM_API_KEY", "own")
    assert read(NOWHERE) == "own"


def test_a_secret_is_cached_until_it_is_read_anew() -> None:
    arn = secret("before")
    assert not reread_secrets()
    assert read(arn) == "before"
    boto3.client("secretsmanager", region_name=REGION).put_secret_value(SecretId=arn, SecretString="after")
    assert read(arn) == "before"
    assert reread_secrets()
    assert read(arn) == "after"
    assert not reread_secrets()


def test_without_powertools_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aws_lambda_powertools.utilities.parameters", None)
    assert 'pip install "steam-library-import[lambda]"' in refusal(NOWHERE)


@pytest.mark.parametrize(
    ("arn", "says"),
    [
        pytest.param(NOWHERE, "ResourceNotFoundException", id="no secret"),
        pytest.param(f"arn:aws:ssm:{REGION}:123456789012:parameter/x", "ParameterNotFound", id="no parameter"),
    ],
)
def test_what_cannot_be_read_is_a_configuration_that_names_the_setting(arn: str, says: str) -> None:
    assert says in refusal(arn)


@pytest.mark.parametrize("pasted", [CANARY, f"arn:aws:s3:{REGION}:123456789012:secret:{CANARY}", f"{NOWHERE} {CANARY}"])
def test_what_is_no_arn_is_not_quoted_as_it_may_be_the_secret(pasted: str) -> None:
    said = refusal(pasted)
    assert "is not the ARN of a secret" in said
    assert CANARY not in said


@pytest.mark.parametrize("value", [" ", '{"key": "x"}', "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_secret_that_no_header_can_hold_is_refused_and_not_quoted(value: str) -> None:
    said = refusal(secret(value))
    assert "holds no text" in said
    assert value == " " or value not in said


@pytest.mark.parametrize("url", ["http://aws.example", f"http://user:{CANARY}@[::1", f"https://user:{CANARY}@ho st/"])
def test_secrets_are_not_asked_for_in_the_clear_nor_at_nonsense(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    said = refusal(NOWHERE)
    assert "https://" in said
    assert CANARY not in said


def test_an_aws_that_does_not_answer_may_answer_later_and_is_waited_for_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        passing = mock_aws(config={"core": {"passthrough": {"urls": [".*127.0.0.1.*"]}}})
        with passing, pytest.raises(Retryable, match="STEAM_API_KEY_SECRET_ARN"):
            read(NOWHERE, retry_attempts=1, http_timeout_seconds=0.2)
        assert time.monotonic() - started < 2


def test_nothing_is_asked_for_until_a_client_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAM_API_KEY_SECRET_ARN", NOWHERE)
    monkeypatch.setenv("DATABASE_URL_SECRET_ARN", NOWHERE)
    assert list_runs("data").is_empty()


def test_the_demo_leaves_the_configured_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_SECRET_ARN", NOWHERE)
    with with_sandbox(Settings.read()) as (demo, _):
        assert not demo.has("database_url")


def test_the_debug_log_of_the_libraries_is_off_before_anything_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    arn = secret(CANARY)
    for name in ("", "botocore", "urllib3"):
        caplog.set_level(1, name)
    caplog.clear()
    assert read(arn) == CANARY
    assert [record for record in caplog.records if record.levelno < logging.WARNING] == []


def test_without_an_arn_botocore_is_not_imported() -> None:
    code = "import sys; from pipeline.settings import Settings; Settings.read(); sys.exit('botocore' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0  # noqa: S603 - our own words
