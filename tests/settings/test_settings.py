"""Settings: where they are read, what they refuse, and that secrets in them stay secret."""

from pathlib import Path
from traceback import format_exception

import pytest

from pipeline.errors import Refused
from pipeline.settings import Settings, require_encrypted

CANARY = "canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_setting_is_the_environment_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", "savepoint-imports")
    monkeypatch.setenv("RETRY_ATTEMPTS", "3")
    settings = Settings.read()
    assert (settings.s3_bucket, settings.retry_attempts) == ("savepoint-imports", 3)


def test_the_environment_wins_over_the_file_and_an_option_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("S3_BUCKET=file\nAWS_REGION=file\nSTORE_URL=file\nUNKNOWN=file\n", encoding="utf-8")
    monkeypatch.setenv("AWS_REGION", "environment")
    monkeypatch.setenv("STORE_URL", "environment")
    settings = Settings.read(store_url="option", s3_bucket=None)
    assert (settings.s3_bucket, settings.aws_region, settings.store_url) == ("file", "environment", "option")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEAM_API_KEY", "")
    monkeypatch.setenv("RETRY_ATTEMPTS", "")
    settings = Settings.read()
    assert (settings.steam_api_key, settings.retry_attempts) == (None, 5)


def test_all_missing_settings_are_named_at_once_with_where_to_get_them() -> None:
    with pytest.raises(Refused) as refused:
        Settings.read().require("steam_api_key", "igdb_client_id", "igdb_client_secret", "database_url", "store")
    message = refused.value.message
    assert refused.value.code == "configuration"
    names = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "DATABASE_URL", "S3_BUCKET", "STORE_URL")
    assert [name for name in names if name not in message] == []
    assert "https://steamcommunity.com/dev/apikey" in message
    assert "https://dev.twitch.tv/console/apps" in message


def test_only_what_a_stage_needs_is_required() -> None:
    Settings.read(steam_api_key=CANARY, s3_bucket="bucket").require("steam_api_key", "store")


def test_every_wrong_setting_is_named_and_no_value_shown() -> None:
    with pytest.raises(Refused) as refused:
        Settings.read(retry_attempts=CANARY, http_timeout_seconds=0, log_level="LOUD", catalogue_ttl_days=-1)
    message = str(refused.value)
    assert refused.value.code == "configuration"
    names = ("RETRY_ATTEMPTS", "HTTP_TIMEOUT_SECONDS", "LOG_LEVEL", "CATALOGUE_TTL_DAYS")
    assert [name for name in names if name not in message] == []
    assert CANARY not in message
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["steam_api_key", "igdb_client_id", "igdb_client_secret", "database_url"])
@pytest.mark.parametrize("sign", ["\n", " ", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_a_key_that_cannot_travel_is_refused_and_not_shown(name: str, sign: str) -> None:
    with pytest.raises(Refused, match=name.upper()) as refused:
        Settings.read(**{name: f"{CANARY}{sign}"})
    assert CANARY not in "".join(format_exception(refused.value))


def test_secrets_print_as_stars() -> None:
    settings = Settings.read(
        steam_api_key=CANARY, igdb_client_secret=CANARY, database_url=f"postgresql://u:{CANARY}@host/database"
    )
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert CANARY not in shown
    assert "***" in shown
    assert settings.steam_api_key is not None
    assert settings.steam_api_key.get_secret_value() == CANARY


@pytest.mark.parametrize(
    ("given", "store"),
    [
        pytest.param({}, None, id="neither"),
        pytest.param({"s3_bucket": "bucket"}, "s3://bucket", id="bucket"),
        pytest.param({"store_url": "./data"}, "./data", id="directory"),
        pytest.param({"s3_bucket": "bucket", "store_url": "s3://other/prefix"}, "s3://other/prefix", id="URL wins"),
    ],
)
def test_the_store_is_the_url_or_else_the_bucket(given: dict[str, str], store: str | None) -> None:
    assert Settings.read(**given).store == store


ADDRESSES = ("steam_api_url", "steam_store_api_url", "igdb_api_url", "twitch_token_url", "aws_endpoint_url_s3")


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_address_has_to_be_encrypted(name: str) -> None:
    with pytest.raises(Refused, match=rf"{name.upper()}.*https://"):
        Settings.read(**{name: "http://api.example"})


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://10.0.0.1", id="another machine in this network"),
        pytest.param("http://127.0.0.1.evil.example", id="loopback as the begin of a name"),
        pytest.param("http://127.0.0.1@evil.example/", id="loopback as a user"),
        pytest.param("https://user:password@api.example", id="password"),
        pytest.param("ftp://127.0.0.1", id="another scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https://api.example\n", id="newline"),
        pytest.param("https://a:99999", id="port beyond 65535"),
        pytest.param("https://a..b", id="a name with an empty part"),
    ],
)
def test_an_address_that_is_unusable_or_unencrypted_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https://") as refused:
        require_encrypted(url)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example:8443/v4", "https://api.example:8443/v4"),
        ("http://127.0.0.1:9000/steam", "http://127.0.0.1:9000/steam"),
        ("http://localhost", "http://localhost"),
        ("http://[::1]:1/", "http://[::1]:1"),
        ("HTTPS://minio_1.Example:65535/v4/oauth2?x=%20", "https://minio_1.example:65535/v4/oauth2?x=%20"),
        ("http://127.0.0.1\\@evil.example", "http://127.0.0.1/@evil.example"),
    ],
)
def test_an_encrypted_address_or_one_of_this_machine_is_normalised(url: str, normalised: str) -> None:
    assert require_encrypted(url) == normalised


@pytest.mark.parametrize("name", ["http_answer_seconds", "http_max_bytes", "file_max_bytes"])
def test_there_is_no_way_to_have_no_limit(name: str) -> None:
    with pytest.raises(Refused, match=name.upper()):
        Settings.read(**{name: 0})
