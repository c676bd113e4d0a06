"""Events that the Lambda functions refuse, and the secrets that they never tell."""

import json
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.errors import PipelineError
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
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
@pytest.mark.parametrize("event", [None, [{}], "user-1"])
def test_an_event_that_is_no_object_is_refused(deployed: Sandbox, handler: Handler, event: object) -> None:
    assert_bad_event(invoke(handler, event), "event")
    assert deployed.requests == []


@each_handler
def test_every_missing_key_is_named_at_once(deployed: Sandbox, handler: Handler) -> None:
    assert_bad_event(invoke(handler, {}), *EVENTS[handler])
    assert deployed.requests == []


@each_handler
@pytest.mark.parametrize("value", [None, 76561197960287930, ["x"]])
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


def test_optional_keys_of_an_event_may_be_null(deployed: Sandbox) -> None:
    assert deployed
    assert invoke(steam_import.handler, FETCH | {"timestamp": None, "run_id": None})["success"]


def test_unknown_keys_are_ignored_and_the_run_id_goes_into_the_manifest(deployed: Sandbox) -> None:
    assert deployed
    run_id = "arn:aws:states:eu-central-1:1:execution:import:7"
    event = FETCH | {"run_id": run_id, "timestamp": "20261123T031749Z", "retries": 3, "success": False}
    assert invoke(steam_import.handler, event)["success"]
    assert json.loads(body_of(RAW.replace(".csv", ".json")))["run_id"] == run_id


@pytest.mark.parametrize("fault", [None, Fault(status=403), Fault(kind="cut")], ids=["no fault", "refused", "cut"])
def test_secrets_are_in_no_response_exception_or_output(
    deployed: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: Fault | None,
) -> None:
    deployed.steam.key, deployed.twitch.client_secret = "CANARY-steam-key", "CANARY-igdb-secret"
    url = "postgresql://user:CANARY-password@127.0.0.1:1/x"
    for name, value in (deployed.environment | {"LOG_LEVEL": "DEBUG", "DATABASE_URL": url}).items():
        monkeypatch.setenv(name, value)
    put(RAW, RAW_CSV)
    put(ENRICHED, enriched_csv())
    if fault:
        deployed.faults.add(fault)
    told = []
    for handler, event in EVENTS.items():
        try:
            told.append(json.dumps(invoke(handler, event)))
        except PipelineError as error:
            told += format_exception(error)
    told += capfd.readouterr()
    told += [body_of(key).decode("latin-1") for key in written("")]
    assert [text for text in told if "CANARY" in text] == []
    assert deployed.asked("steam")
    assert deployed.asked("twitch")


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
