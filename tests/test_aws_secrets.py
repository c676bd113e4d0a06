"""Secrets that settings name by ARN, of a Secrets Manager and an SSM in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import boto3
import pytest
from moto import mock_aws

from pipeline.aws_secrets import read_secret
from pipeline.errors import Refused, Retryable
from pipeline.settings import Settings
from tests.lambda_fixtures import REGION, set_only

CANARY = "canary-0123456789abcdef"
NOWHERE = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:nowhere"


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    set_only(monkeypatch, {})
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        yield
    read_secret.cache_clear()


def secret(value: str) -> str:
    arn: str = boto3.client("secretsmanager", region_name=REGION).create_secret(Name="s", SecretString=value)["ARN"]
    return arn


def parameter(value: str) -> str:
    ssm = boto3.client("ssm", region_name=REGION)
    ssm.put_parameter(Name="/steam-import/database", Value=value, Type="SecureString")
    return str(ssm.get_parameter(Name="/steam-import/database")["Parameter"]["ARN"])


def test_a_secret_is_read_where_its_arn_says() -> None:
    settings = Settings.read(steam_api_key_secret_arn=secret(f"{CANARY}\n"), database_url_secret_arn=parameter(CANARY))
    assert settings.steam_api_key is not None
    assert settings.database_url is not None
    assert settings.steam_api_key.get_secret_value() == CANARY
    assert settings.database_url.get_secret_value() == CANARY
    assert CANARY not in f"{settings!r}"


def test_what_is_no_secret_but_lies_there_too_is_read() -> None:
    assert Settings.read(igdb_client_id_secret_arn=secret("an-id")).igdb_client_id == "an-id"


def test_a_value_of_its_own_wins_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAM_API_KEY", "own")
    settings = Settings.read(steam_api_key_secret_arn=NOWHERE)
    assert settings.steam_api_key is not None
    assert settings.steam_api_key.get_secret_value() == "own"


def test_a_secret_is_read_once_a_process() -> None:
    arn = secret(CANARY)
    first = Settings.read(steam_api_key_secret_arn=arn)
    boto3.client("secretsmanager", region_name=REGION).delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert Settings.read(steam_api_key_secret_arn=arn) == first


@pytest.mark.parametrize(
    ("arn", "says"),
    [
        pytest.param("steam-key", "is no ARN of a secret", id="a name"),
        pytest.param(f"arn:aws:s3:{REGION}:123456789012:secret:x", "is no ARN of a secret", id="another service"),
        pytest.param(NOWHERE, "ResourceNotFoundException", id="no secret"),
        pytest.param(f"arn:aws:ssm:{REGION}:123456789012:parameter/x", "ParameterNotFound", id="no parameter"),
    ],
)
def test_what_cannot_be_read_is_a_configuration_that_names_the_setting(arn: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        Settings.read(steam_api_key_secret_arn=arn)
    assert refused.value.code == "configuration"
    assert "STEAM_API_KEY_SECRET_ARN" in refused.value.message


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(Refused, match="holds no text"):
        Settings.read(igdb_client_secret_secret_arn=secret(" "))


def test_an_aws_that_does_not_answer_may_answer_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Retryable, match="STEAM_API_KEY_SECRET_ARN"):
        Settings.read(steam_api_key_secret_arn=NOWHERE)


def test_without_an_arn_boto3_is_not_imported() -> None:
    code = "import sys; from pipeline.settings import Settings; Settings.read(); sys.exit('boto3' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0  # noqa: S603 - our own words
