"""Each Lambda function's responses, for success and for every error code of the contract.

User ids and locations that are refused have a table in tests/test_isolation.py.
"""

import json
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from handlers import catalogue, database_import, igdb_enrichment, steam_import
from pipeline.errors import PipelineError
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.steam import BLOCKED
from pipeline.sandbox.world import World
from tests.support.databases import fetch, url_of
from tests.support.lambda_functions import (
    ACCOUNT,
    ENRICHED,
    NOWHERE,
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

Arrange = Callable[[Sandbox, pytest.MonkeyPatch], object]

FETCH: dict[str, Any] = {"user_id": USER, "steam_id64": ACCOUNT, "timestamp": "20261123T031749Z"}
ENRICH = {"user_id": USER, "s3_location": RAW}
LOAD = {"user_id": USER, "s3_enriched_location": ENRICHED}
REFUSED_TOKEN = '{"access_token":"refused","expires_in":5000}'
EVENTS: dict[Handler, dict[str, Any]] = {
    steam_import.handler: {"user_id": USER, "steam_id64": ACCOUNT},
    igdb_enrichment.handler: ENRICH,
    database_import.handler: LOAD,
}
IN_TIME = EVENTS | {steam_import.handler: FETCH}
"""The same events, all of one import."""

HANDLERS = {"fetch": steam_import.handler, "enrich": igdb_enrichment.handler, "load": database_import.handler}
OWN_KEYS: dict[Handler, tuple[str, ...]] = {
    steam_import.handler: ("s3_location", "game_count"),
    igdb_enrichment.handler: ("s3_enriched_location", "stats"),
    database_import.handler: ("stats",),
}
each_handler = pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)


def nothing(_sandbox: Sandbox, _monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def fault(**what: Any) -> Arrange:
    return lambda sandbox, _: sandbox.faults.add(Fault(**what))


def setting(name: str, value: str) -> Arrange:
    return lambda _, monkeypatch: monkeypatch.setenv(name, value)


def unset(name: str) -> Arrange:
    return lambda _, monkeypatch: monkeypatch.delenv(name)


def holding(location: str, body: str | bytes) -> Arrange:
    return lambda *_: put(location, body)


def raw(text: str, instead: str) -> Arrange:
    return holding(RAW, RAW_CSV.replace(text, instead))


def enriched(text: str, instead: str) -> Arrange:
    return holding(ENRICHED, enriched_csv().replace(text, instead))


def in_a_database_without_tables(_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", re.sub(r"/\w+\?", "/postgres?", os.environ["DATABASE_URL"]))


class Failing(NamedTuple):
    """An error code, and words that its sentence must hold."""

    code: str
    says: str
    arrange: Arrange = nothing
    event: dict[str, Any] | None = None


@pytest.fixture
def url_2026(postgres_server: str, templates: dict[Any, str]) -> str:
    """A database that these tests leave as it is."""
    return url_of(postgres_server, templates[2026])


def written_but_failures() -> dict[str, str]:
    """The users' own files, without the records of why a stage failed."""
    return {key: etag for key, etag in written().items() if not key.endswith("-failed.json")}


def assert_fails(handler: Handler, event: object, case: Failing) -> None:
    """The response is the contract's, its sentence holds the words, and the users' files are as they were."""
    before = written_but_failures()
    response = invoke(handler, event)
    error = response.pop("error")
    failed = {"success": False, "error_code": case.code, "rejected": None}
    assert response == failed | dict.fromkeys(OWN_KEYS[handler])
    assert case.says in error
    assert written_but_failures() == before


def assert_raises_retryable(handler: Handler, event: object, case: Failing) -> None:
    """What Lambda reports as errorType and errorMessage is what Step Functions retries by."""
    before = written_but_failures()
    with pytest.raises(PipelineError) as raised:
        invoke(handler, event)
    assert type(raised.value).__name__ == "Retryable"
    assert str(raised.value).startswith(f"{case.code}: ")
    assert case.says in str(raised.value)
    # Lambda sends the trace along: it ends where the handlers raise the error, however deep it came from.
    *_, module, last = traceback.extract_tb(raised.value.__traceback__)
    assert (Path(module.filename).parent.name, last.name) == ("handlers", "respond")
    assert written_but_failures() == before


def test_the_three_functions_chained_answer_as_the_contract_says(
    deployed: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deployed
    monkeypatch.setenv("DATABASE_URL", database_url)
    done = {"success": True, "error": None, "error_code": None, "rejected": 0}
    fetched = invoke(steam_import.handler, FETCH)
    assert fetched == done | {"s3_location": RAW, "game_count": 4}
    enriched = invoke(igdb_enrichment.handler, {"user_id": USER, "s3_location": fetched["s3_location"]})
    stats = enriched.pop("stats")
    assert enriched == done | {"s3_enriched_location": ENRICHED}
    assert stats.items() >= {"processed": 4, "matched": 2, "unmatched": 1, "filtered": 1, "pending": 0}.items()
    event = {"user_id": USER, "s3_enriched_location": enriched["s3_enriched_location"]}
    loaded = invoke(database_import.handler, event)
    created = loaded.pop("stats")
    assert loaded == done
    new = {"imported_games_created": 4, "games_created": 2, "library_items_created": 2}
    assert created.items() >= (new | {"imported_games_updated": 0, "games_updated": 0}).items()


def test_an_empty_library_passes_through_all_three_functions(
    imported: Sandbox,
) -> None:
    imported.world.accounts[ACCOUNT].games.clear()
    assert invoke(steam_import.handler, FETCH).items() >= {"success": True, "game_count": 0, "rejected": 0}.items()
    stats = invoke(igdb_enrichment.handler, ENRICH)["stats"]
    assert stats.items() >= dict.fromkeys(("processed", "matched", "unmatched", "filtered", "pending"), 0).items()
    assert set(invoke(database_import.handler, LOAD)["stats"].values()) == {0}


FAILURES: dict[str, dict[str, Failing]] = {
    "fetch": {
        "17 digits": Failing("bad_steam_id", "76561197960265729", event=FETCH | {"steam_id64": "10000000000000000"}),
        "no key": Failing("configuration", "STEAM_API_KEY", unset("STEAM_API_KEY")),
        "no bucket": Failing("configuration", "no-such-bucket", setting("S3_BUCKET", "no-such-bucket")),
        "a refused key": Failing("bad_steam_key", "STEAM_API_KEY", setting("STEAM_API_KEY", "0" * 32)),
        "a private profile": Failing(
            "private_library", "Game details", event=FETCH | {"steam_id64": World.PRIVATE_ACCOUNT}
        ),
        "private game details": Failing(
            "private_library", "Game details", event=FETCH | {"steam_id64": World.HIDDEN_ACCOUNT}
        ),
        "no such account": Failing("account_not_found", "Check", event=FETCH | {"steam_id64": World.UNKNOWN_ACCOUNT}),
        "a block": Failing("steam_blocked", "Wait", fault(status=403, body=BLOCKED)),
    },
    "enrich": {
        "no client id": Failing("configuration", "IGDB_CLIENT_ID", unset("IGDB_CLIENT_ID")),
        "a wrong client id": Failing("bad_igdb_credentials", "invalid client", setting("IGDB_CLIENT_ID", "wrong")),
        "a token that is refused": Failing(
            "bad_igdb_credentials", "just minted", fault(service="twitch", status=200, body=REFUSED_TOKEN)
        ),
        "another user's location": Failing("location_refused", "user-2", event=ENRICH | {"user_id": "user-2"}),
        "another user's rows": Failing("location_refused", "user-2", raw(f"\n{USER}", "\nuser-2")),
        "no such file": Failing(
            "checkpoint_invalid", "no such", event=ENRICH | {"s3_location": RAW.replace("17", "18")}
        ),
        "a file cut off": Failing("checkpoint_invalid", "cut off", holding(RAW, RAW_CSV[:-50])),
    },
    "load": {
        "no database": Failing("configuration", "DATABASE_URL", unset("DATABASE_URL")),
        "an unknown status": Failing("configuration", "PLAYING", setting("STATUS_PLAYED", "FINISHED")),
        "another user's location": Failing("location_refused", "user-2", event=LOAD | {"user_id": "user-2"}),
        "another user's rows": Failing("location_refused", "user-2", enriched("\nuser-1", "\nuser-2")),
        "a wrong value": Failing("checkpoint_invalid", "match_status", enriched("MATCHED", "PERHAPS")),
        "a file cut off": Failing("checkpoint_invalid", "cut off", holding(ENRICHED, enriched_csv()[:-9])),
        "no tables": Failing("schema_mismatch", "Apply", in_a_database_without_tables),
        "an unknown user": Failing(
            "user_not_found",
            "user-9",
            holding(ENRICHED.replace(USER, "user-9"), enriched_csv().replace("user-1", "user-9")),
            {"user_id": "user-9", "s3_enriched_location": ENRICHED.replace(USER, "user-9")},
        ),
    },
}
RETRIES: dict[str, dict[str, Failing]] = {
    "fetch": {
        "429": Failing("steam_rate_limited", "429", fault(status=429)),
        "503": Failing("steam_unavailable", "503", fault(status=503)),
        "reset": Failing("steam_unavailable", "did not answer", fault(kind="reset")),
        "not JSON": Failing("steam_bad_answer", "JSON", fault(kind="html")),
        "short": Failing("steam_bad_answer", "5", fault(status=200, body='{"response":{"game_count":5}}')),
        "no profile of who shows nothing": Failing(
            "steam_unavailable",
            "503",
            fault(path="GetPlayerSummaries", status=503),
            FETCH | {"steam_id64": World.PRIVATE_ACCOUNT},
        ),
        "no store": Failing("store_unavailable", "S3", setting("AWS_ENDPOINT_URL_S3", NOWHERE)),
    },
    "enrich": {
        "IGDB is down": Failing("igdb_unavailable", "503", fault(service="igdb", status=503)),
        "IGDB answers 429": Failing("igdb_unavailable", "429", fault(service="igdb", status=429)),
        "IGDB answers no JSON": Failing("igdb_unavailable", "JSON", fault(service="igdb", kind="not_json")),
        "Twitch is down": Failing("igdb_unavailable", "503", fault(service="twitch", status=503)),
        "no store": Failing("store_unavailable", "S3", setting("AWS_ENDPOINT_URL_S3", NOWHERE)),
    },
    "load": {
        "no database": Failing(
            "database_unavailable", "127.0.0.1", setting("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
        ),
        "no store": Failing("store_unavailable", "S3", setting("AWS_ENDPOINT_URL_S3", NOWHERE)),
    },
}


def of_each_stage(table: dict[str, dict[str, Failing]]) -> pytest.MarkDecorator:
    """The cases of a table, each with the handler of its stage."""
    cases = [
        pytest.param(HANDLERS[stage], case, id=f"{stage}: {name}")
        for stage, named in table.items()
        for name, case in named.items()
    ]
    return pytest.mark.parametrize(("handler", "case"), cases)


@pytest.fixture
def imported(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, url_2026: str) -> Sandbox:
    """The files of an earlier import, a database without rows, and two accounts that show no games."""
    recorded = World.recorded().accounts
    deployed.world.accounts |= {account: recorded[account] for account in (World.PRIVATE_ACCOUNT, World.HIDDEN_ACCOUNT)}
    monkeypatch.setenv("DATABASE_URL", url_2026)
    put(RAW, RAW_CSV)
    put(ENRICHED, enriched_csv())
    return deployed


@of_each_stage(FAILURES)
def test_a_stage_that_cannot_work_says_why_and_leaves_everything_as_it_was(
    imported: Sandbox, monkeypatch: pytest.MonkeyPatch, url_2026: str, handler: Handler, case: Failing
) -> None:
    case.arrange(imported, monkeypatch)
    assert_fails(handler, case.event or IN_TIME[handler], case)
    assert fetch(url_2026, 'SELECT 1 FROM "ImportedGame" UNION ALL SELECT 1 FROM "Game"').is_empty()


@of_each_stage(RETRIES)
def test_a_stage_that_may_go_through_later_raises_retryable(
    imported: Sandbox, monkeypatch: pytest.MonkeyPatch, handler: Handler, case: Failing
) -> None:
    monkeypatch.setenv("RETRY_ATTEMPTS", "1")
    case.arrange(imported, monkeypatch)
    assert_raises_retryable(handler, case.event or IN_TIME[handler], case)


INVALID_EVENTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "null": lambda _: None,
    "a list": lambda event: [event],
    "no keys": lambda _: {},
    "numbers": lambda event: dict.fromkeys(event, 76561197960287930),
}


@each_handler
@pytest.mark.parametrize("invalid", INVALID_EVENTS.values(), ids=INVALID_EVENTS)
def test_an_invalid_event_is_refused_before_any_request_and_every_key_at_fault_is_named(
    deployed: Sandbox, handler: Handler, invalid: Callable[[dict[str, Any]], object]
) -> None:
    event = invalid(EVENTS[handler])
    response = invoke(handler, event)
    assert (response["success"], response["error_code"]) == (False, "bad_event")
    faults = {key for key in EVENTS[handler] if isinstance(event, dict) and event.get(key) != EVENTS[handler][key]}
    assert {key for key in EVENTS[handler] if f"{key}:" in response["error"]} == faults
    assert (written(), deployed.requests) == ({}, [])


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


def test_unknown_keys_are_ignored_and_optional_ones_may_be_null(deployed: Sandbox) -> None:
    assert deployed
    run_id = "arn:aws:states:eu-central-1:1:execution:import:7"
    assert invoke(steam_import.handler, FETCH | {"run_id": run_id, "retries": 3, "success": False})["success"]
    assert json.loads(body_of(RAW.replace(".csv", ".json")))["run_id"] == run_id
    assert invoke(steam_import.handler, FETCH | {"timestamp": None, "run_id": None})["success"]


@pytest.mark.parametrize(
    ("handler", "missing"),
    [
        pytest.param(steam_import.handler, {"STEAM_API_KEY", "S3_BUCKET"}, id="fetch"),
        pytest.param(igdb_enrichment.handler, {"IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "S3_BUCKET"}, id="enrich"),
        pytest.param(database_import.handler, {"DATABASE_URL", "S3_BUCKET"}, id="load"),
    ],
)
def test_all_unset_settings_of_a_stage_are_named_at_once_and_no_others(
    deployed: Sandbox, monkeypatch: pytest.MonkeyPatch, handler: Handler, missing: set[str]
) -> None:
    needed = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "S3_BUCKET", "DATABASE_URL")
    for name in needed:
        monkeypatch.delenv(name, raising=False)
    response = invoke(handler, EVENTS[handler])
    assert response["error_code"] == "configuration"
    assert {name for name in needed if name in response["error"]} == missing
    assert deployed.requests == []


def test_a_join_needs_no_secret_and_the_look_up_answers_it(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    put(RAW, RAW_CSV)
    with monkeypatch.context() as without:
        for name in ("IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET"):
            without.delenv(name)
        joined = invoke(igdb_enrichment.handler, ENRICH | {"look_up": False, "run_id": "run-1"})
        assert joined["stats"].items() >= {"processed": 1, "pending": 1}.items()
        assert list(written("catalogue/wanted/")) == ["catalogue/wanted/run-1.csv"]
        refused = invoke(igdb_enrichment.handler, ENRICH)
        assert refused["error_code"] == "configuration"
        assert '"look_up": false' in refused["error"]
        assert invoke(catalogue.handler, {"step": "look_up"})["error_code"] == "configuration"
    assert deployed.requests == []
    assert invoke(catalogue.handler, {"step": "look_up"}) == {
        "success": True,
        "error": None,
        "error_code": None,
        "rejected": None,
        "step": "look_up",
        "stats": {"files": 1, "apps": 1, "unanswered": 0},
    }
    assert written("catalogue/wanted/") == {}
    assert invoke(igdb_enrichment.handler, ENRICH | {"look_up": False})["stats"]["matched"] == 1


def test_the_catalogue_is_synced_and_compacted(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    invoke(igdb_enrichment.handler, ENRICH | {"look_up": False})
    synced = invoke(catalogue.handler, {"step": "sync"})["stats"]
    assert synced.items() >= {"synced": 2, "files": 1, "unanswered": 0}.items()
    assert written("catalogue/wanted/") == {}
    assert invoke(catalogue.handler, {"step": "compact"})["stats"]["apps"] == 2
    assert written("catalogue/new/") == {}
    refused = invoke(catalogue.handler, {"step": "dance"})
    assert (refused["success"], refused["error_code"]) == (False, "bad_event")
    assert deployed.asked("store")
