"""What the Lambda functions make of events that are no good, and what they never tell."""

import json
import logging
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.errors import PipelineError
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.databases import NewDatabase
from tests.support.lambda_functions import (
    ACCOUNT,
    ENRICHED,
    RAW,
    RAW_CSV,
    USER,
    Handler,
    body_of,
    enriched_csv,
    invoke,
    put,
    written,
)

FETCH: dict[str, Any] = {"user_id": USER, "steam_id64": ACCOUNT}
EVENTS: dict[Handler, dict[str, Any]] = {
    steam_import.handler: FETCH,
    igdb_enrichment.handler: {"user_id": USER, "s3_location": RAW},
    database_import.handler: {"user_id": USER, "s3_enriched_location": ENRICHED},
}
HANDLERS = {"fetch": steam_import.handler, "enrich": igdb_enrichment.handler, "load": database_import.handler}
HOSTILE = ("", "..", "../user-2", "user-1/../user-2", "user-1/", "a b", "u" * 65, "user-1\n", "üser", "%2e%2e", "a\0")

each_handler = pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)


def assert_bad_event(response: dict[str, Any], *names: str) -> None:
    assert (response["success"], response["error_code"]) == (False, "bad_event")
    assert [name for name in names if name not in response["error"]] == []
    assert written() == {}


@each_handler
@pytest.mark.parametrize("event", [None, [], [{}], "user-1", 7, True])
def test_an_event_that_is_no_object_is_refused(deployed: Sandbox, handler: Handler, event: object) -> None:
    assert_bad_event(invoke(handler, event), "event")
    assert deployed.requests == []


@each_handler
def test_every_missing_key_is_named_at_once(deployed: Sandbox, handler: Handler) -> None:
    assert_bad_event(invoke(handler, {}), *EVENTS[handler])
    assert deployed.requests == []


@each_handler
@pytest.mark.parametrize("value", [None, 76561197960287930, 7.5, True, ["x"], {"x": 1}])
def test_a_value_of_another_type_is_refused_and_its_key_named(
    deployed: Sandbox, handler: Handler, value: object
) -> None:
    keys = list(EVENTS[handler])
    assert_bad_event(invoke(handler, dict.fromkeys(keys, value)), *keys)
    assert deployed.requests == []


@each_handler
def test_a_user_id_that_could_leave_its_folder_is_refused(deployed: Sandbox, handler: Handler) -> None:
    for user_id in HOSTILE:
        assert_bad_event(invoke(handler, EVENTS[handler] | {"user_id": user_id}), "user_id")
    assert deployed.requests == []


@each_handler
def test_half_a_surrogate_pair_is_refused_and_never_repeated(
    deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, handler: Handler
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    for key, value in EVENTS[handler].items():
        response = invoke(handler, EVENTS[handler] | {key: value + "\ud83c"})
        assert response["error_code"] in {"bad_event", "bad_steam_id", "location_refused"}
        assert response["error"].isprintable()
    assert deployed.requests == []


@pytest.mark.parametrize("timestamp", ["20261123T031749Z", "2026-11-23T03:17:49Z", "2026-11-23T05:17:49+02:00"])
def test_a_timestamp_in_either_form_names_the_files(deployed: Sandbox, timestamp: str) -> None:
    assert deployed
    assert invoke(steam_import.handler, FETCH | {"timestamp": timestamp})["s3_location"] == RAW


@pytest.mark.parametrize("timestamp", ["", "yesterday", "../20261123T031749Z", 1763867869, "2026-13-01T00:00:00Z", []])
def test_a_timestamp_that_is_none_is_refused(deployed: Sandbox, timestamp: object) -> None:
    assert_bad_event(invoke(steam_import.handler, FETCH | {"timestamp": timestamp}), "timestamp")
    assert deployed.requests == []


def test_null_for_what_an_event_may_leave_out_is_as_good_as_nothing(deployed: Sandbox) -> None:
    assert deployed
    assert invoke(steam_import.handler, FETCH | {"timestamp": None, "run_id": None})["success"]


def test_unknown_keys_are_ignored_and_the_run_id_goes_into_the_manifest(deployed: Sandbox) -> None:
    assert deployed
    run_id = "arn:aws:states:eu-central-1:1:execution:import:7"
    event = FETCH | {"run_id": run_id, "timestamp": "20261123T031749Z", "retries": 3, "success": False}
    assert invoke(steam_import.handler, event)["success"]
    assert json.loads(body_of(RAW.replace(".csv", ".json")))["run_id"] == run_id


def test_any_form_of_steam_id_is_fetched(deployed: Sandbox) -> None:
    account_id = int(ACCOUNT) - 76561197960265728
    forms = (
        f"[U:1:{account_id}]",
        f"https://steamcommunity.com/profiles/{ACCOUNT}/",
        "https://steamcommunity.com/id/four-apps",
        "four-apps",
        f"STEAM_0:{account_id % 2}:{account_id // 2}",
    )
    for steam_id in forms:
        assert invoke(steam_import.handler, FETCH | {"steam_id64": steam_id})["game_count"] == 4
    assert deployed.world.accounts[ACCOUNT].vanity == "four-apps"


CANARIES = ("CANARY-steam-key", "CANARY-igdb-secret", "CANARY-token", "CANARY-password")
FAULTS = {
    "no fault": None,
    "refused credentials": Fault(status=403),
    "rate limit": Fault(status=429),
    "down": Fault(status=503),
    "reset": Fault(kind="reset"),
    "cut": Fault(kind="cut"),
    "no JSON": Fault(kind="not_json"),
}


OFTEN = ("no fault", "refused credentials", "cut")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=name, marks=() if name in OFTEN else pytest.mark.slow) for name, fault in FAULTS.items()],
)
def test_secrets_are_in_no_response_log_exception_or_file(
    deployed: Sandbox,
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: Fault | None,
) -> None:
    caplog.set_level(logging.DEBUG)
    deployed.steam.key, deployed.twitch.client_secret = CANARIES[:2]
    settings = deployed.environment | {"LOG_LEVEL": "DEBUG"}
    settings["DATABASE_URL"] = new_database(2026).replace("://postgres:@", f"://postgres:{CANARIES[3]}@")
    assert CANARIES[3] in settings["DATABASE_URL"]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    put(RAW, RAW_CSV)
    put(ENRICHED, enriched_csv())
    if fault:
        deployed.faults.add(fault)
    told = [*outcomes(), *capfd.readouterr(), *map(str, map(logging.LogRecord.getMessage, caplog.records))]
    told += [body_of(key).decode("latin-1") for key in written("")]
    assert [text for text in told if "CANARY" in text] == []
    assert len(deployed.asked("steam")) >= 1
    assert len(deployed.asked("twitch")) >= 1


def test_a_token_is_in_no_response_or_log(deployed: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    deployed.faults.add(Fault(service="twitch", status=200, body='{"access_token":"CANARY-token","expires_in":5000}'))
    put(RAW, RAW_CSV)
    told = [json.dumps(invoke(igdb_enrichment.handler, EVENTS[igdb_enrichment.handler])), *capfd.readouterr()]
    assert "bad_igdb_credentials" in told[0]
    assert [text for text in told if "CANARY" in text] == []


def outcomes() -> list[str]:
    """What each handler says, or raises."""
    told = []
    for handler, event in EVENTS.items():
        try:
            told.append(json.dumps(invoke(handler, event)))
        except PipelineError as error:
            told += format_exception(error)
    return told


def test_a_setting_of_another_type_is_named_and_not_quoted(
    deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert deployed
    (tmp_path / ".env").write_text("RETRY_ATTEMPTS=CANARY\nHTTP_TIMEOUT_SECONDS=-1\n")
    for name in ("RETRY_ATTEMPTS", "HTTP_TIMEOUT_SECONDS"):
        monkeypatch.delenv(name)
    response = invoke(steam_import.handler, FETCH)
    assert response["error_code"] == "configuration"
    assert "RETRY_ATTEMPTS" in response["error"]
    assert "HTTP_TIMEOUT_SECONDS" in response["error"]
    assert "CANARY" not in response["error"]
