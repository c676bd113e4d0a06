"""What a function keeps from one invocation to the next, and how it ends before its time is up."""

import time
from collections.abc import Iterator

import boto3
import pytest

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.clients import cached_secrets, secret_provider
from pipeline.errors import Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.databases import NewDatabase, url_of
from tests.support.lambda_functions import (
    ACCOUNT,
    ENRICHED,
    RAW,
    RAW_CSV,
    USER,
    Remaining,
    enriched_csv,
    invoke,
    put,
)
from tests.support.stores import REGION

EVENT = {"user_id": USER, "s3_location": RAW}


def enrich_one_more(appid: int) -> dict[str, object]:
    put(RAW, RAW_CSV.replace(",620,", f",{appid},"))
    return invoke(igdb_enrichment.handler, EVENT)


def test_invocations_share_the_four_requests_a_second_and_one_token(
    deployed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IGDB_REQUESTS_PER_SECOND")  # the default leaves room for the time that a request is under way
    for appid in range(999_100, 999_106):
        assert enrich_one_more(appid)["success"] is True
    assert len(deployed.asked("igdb")) == 6
    assert deployed.busiest_second("igdb") <= 4
    assert deployed.tokens_minted == 1


def test_a_token_of_another_secret_is_not_used(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert enrich_one_more(999_100)["success"] is True
    monkeypatch.setenv("IGDB_CLIENT_SECRET", deployed.environment["IGDB_CLIENT_ID"])
    assert enrich_one_more(999_101)["error_code"] == "bad_igdb_credentials"


def test_near_its_time_limit_an_enrichment_leaves_the_rest_pending(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    deployed.faults.add(Fault(service="igdb", path="/games", kind="stall"))
    started = time.monotonic()
    response = igdb_enrichment.handler(EVENT, Remaining(seconds=32))
    assert time.monotonic() - started < 9
    assert response["success"] is True
    assert response["stats"]["pending"] == 1
    deployed.faults.clear()
    assert igdb_enrichment.handler(EVENT, Remaining(seconds=60))["stats"]["matched"] == 1


def test_an_enrichment_without_any_answer_in_time_raises_retryable(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    with pytest.raises(Retryable, match="igdb_unavailable: There is no time left"):
        igdb_enrichment.handler(EVENT, Remaining(seconds=5))
    assert deployed.asked("igdb") == []


@pytest.fixture
def secrets(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The ARNs of all secrets in AWS, by setting; no setting has a value of its own."""
    manager = boto3.client("secretsmanager", region_name=REGION)
    arns = {}
    values = deployed.environment | {"DATABASE_URL": "postgresql://postgres@127.0.0.1/not-there"}
    for name in ("STEAM_API_KEY", "IGDB_CLIENT_SECRET", "DATABASE_URL"):
        arns[name] = manager.create_secret(Name=name, SecretString=values[name])["ARN"]
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_SECRET_ARN", arns[name])
    yield arns
    for arn in arns.values():
        manager.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    secret_provider.cache_clear()
    cached_secrets.cache_clear()


def rotate(arn: str, value: str) -> None:
    boto3.client("secretsmanager", region_name=REGION).put_secret_value(SecretId=arn, SecretString=value)


def test_a_rotated_steam_key_is_read_anew(deployed: Sandbox, secrets: dict[str, str]) -> None:
    event = {"user_id": USER, "steam_id64": ACCOUNT}
    assert invoke(steam_import.handler, event)["success"]
    deployed.steam.key = "1" * 32
    assert invoke(steam_import.handler, event)["error_code"] == "bad_steam_key"
    rotate(secrets["STEAM_API_KEY"], deployed.steam.key)
    assert invoke(steam_import.handler, event)["success"]


def test_a_rotated_client_secret_is_read_anew(deployed: Sandbox, secrets: dict[str, str]) -> None:
    deployed.twitch.client_secret = "rotated"
    assert enrich_one_more(999_100)["error_code"] == "bad_igdb_credentials"
    rotate(secrets["IGDB_CLIENT_SECRET"], deployed.twitch.client_secret)
    assert enrich_one_more(999_100)["success"]


def test_a_rotated_database_url_is_read_anew(
    secrets: dict[str, str], postgres_server: str, new_database: NewDatabase
) -> None:
    put(ENRICHED, enriched_csv())
    event = {"user_id": USER, "s3_enriched_location": ENRICHED}
    rotate(secrets["DATABASE_URL"], url_of(postgres_server, "not_there"))
    assert invoke(database_import.handler, event)["error_code"] == "configuration"
    rotate(secrets["DATABASE_URL"], new_database(2026))
    assert invoke(database_import.handler, event)["success"]
