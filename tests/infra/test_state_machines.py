"""The state machine of one user's import: what is committed, and what it does with the three handlers."""

import re
from collections.abc import Iterator
from math import sqrt
from typing import Any

import pytest

from handlers import catalogue, database_import, igdb_enrichment, steam_import
from pipeline.errors import Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.databases import NewDatabase, rows_of
from tests.support.deployment import Throttled, definition, deployed_functions, execute, transitions
from tests.support.lambda_functions import ACCOUNT, USER, Handler, written

FETCH, ENRICH, LOOK_UP, LOAD = FUNCTIONS = (
    "SteamImportFunction",
    "IgdbEnrichmentFunction",
    "CatalogueFunction",
    "DatabaseImportFunction",
)
HANDLERS: dict[str, Handler] = {
    FETCH: steam_import.handler,
    ENRICH: igdb_enrichment.handler,
    LOOK_UP: catalogue.handler,
    LOAD: database_import.handler,
}
INPUT = {"user_id": USER, "steam_id64": ACCOUNT}
FETCHED = {"success": True, "error": None, "error_code": None, "s3_location": "raw"}
ENRICHED = {"success": True, "error": None, "error_code": None, "s3_enriched_location": "enriched"}
LOOKED_UP = {"success": True, "error": None, "error_code": None, "step": "look_up"}
LOADED = {"success": True, "error": None, "error_code": None, "stats": {"games_created": 1}}
LONGEST_LAMBDA_SECONDS = 900
MOST_THROTTLES = 90
MOST_TRANSITIONS = 20
NONE = dict.fromkeys(("first", "second", "third"))


@pytest.fixture
def url_2026(deployed: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    assert deployed
    url = new_database(2026)
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def answering(*answers: dict[str, Any] | Exception) -> Handler:
    """A function that gives these answers, and the last of them for ever."""
    left = list(answers)

    def handler(_event: object, _context: object) -> dict[str, Any]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler


def enriched(pending: int) -> dict[str, Any]:
    return ENRICHED | {"stats": {"pending": pending}}


def dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a definition."""
    if isinstance(tree, dict):
        yield tree
    if isinstance(tree, dict | list):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from dicts(branch)


@pytest.mark.parametrize("name", ["import", "backfill"])
def test_every_task_retries_what_may_pass_by_itself_and_has_a_limit(name: str) -> None:
    assert all(
        retrier.get("JitterStrategy") == "FULL"
        for state in dicts(definition(name))
        for retrier in state.get("Retry", [])
    )
    tasks = [state for state in dicts(definition(name)) if ":lambda:" in state.get("Resource", "")]
    assert len(tasks) >= len(FUNCTIONS)
    # A look-up of an import that fails is followed by a wait and another join.
    tasks = [task for task in tasks if name == "backfill" or "CatalogueFunction" not in task["Resource"]]
    for task in tasks:
        retried = {error: retrier for retrier in task["Retry"] for error in retrier["ErrorEquals"]}
        assert retried["Retryable"].items() >= {"IntervalSeconds": 60, "BackoffRate": 2}.items()
        assert retried["Lambda.TooManyRequestsException"]["MaxAttempts"] == MOST_THROTTLES
        assert "Lambda.ServiceException" in retried
        assert not {"States.ALL", "States.TaskFailed", "Exception"} & retried.keys()
        assert task["TimeoutSeconds"] == LONGEST_LAMBDA_SECONDS


def test_a_fetch_of_a_backfill_outlasts_the_daily_limit_of_steam() -> None:
    states = definition("backfill")["States"]
    retrier = states["Fetch"]["ItemProcessor"]["States"]["FetchShard"]["Retry"][0]
    assert retrier["ErrorEquals"] == ["Retryable"]
    waits = [min(60 * 2**attempt, retrier["MaxDelaySeconds"]) for attempt in range(retrier["MaxAttempts"])]
    # Jitter draws each wait evenly between nothing and the whole: four standard deviations below the mean of the sum.
    assert sum(waits) / 2 - 4 * sqrt(sum(wait**2 for wait in waits) / 12) > 24 * 60 * 60


@pytest.mark.parametrize("name", ["import", "backfill"])
def test_all_tries_after_throttles_fit_into_the_execution(name: str) -> None:
    machine = definition(name)
    throttled = [
        retrier
        for state in dicts(machine)
        for retrier in state.get("Retry", [])
        if retrier["ErrorEquals"] == ["Lambda.TooManyRequestsException"]
    ]
    for retrier in throttled:
        waits = (retrier["IntervalSeconds"] * retrier["BackoffRate"] ** attempt for attempt in range(MOST_THROTTLES))
        assert sum(min(wait, retrier["MaxDelaySeconds"]) for wait in waits) < machine["TimeoutSeconds"]


@pytest.mark.parametrize("name", ["import", "backfill"])
def test_a_definition_has_a_limit_and_leaves_only_its_functions_to_the_deployment(name: str) -> None:
    machine = definition(name)
    assert machine["TimeoutSeconds"] > LONGEST_LAMBDA_SECONDS
    assert "${" not in str(machine)


STAND_INS = {
    FETCH: answering(FETCHED),
    ENRICH: answering(enriched(pending=1)),
    LOOK_UP: answering(LOOKED_UP),
    LOAD: answering(LOADED),
}


def test_a_library_is_imported_under_one_timestamp_and_one_run_id(url_2026: str) -> None:
    with deployed_functions(HANDLERS) as functions:
        ended = execute("import", INPUT, run_id="run-1")
    assert ended.status == "SUCCEEDED"
    answers = {"success": True, "error": None, "error_code": None, "run_id": "run-1"}
    assert ended.output.items() >= (INPUT | answers).items()
    assert len(rows_of(url_2026, "ImportedGame")) == ended.output["fetch"]["game_count"] == 4
    assert ended.output["load"]["stats"]["games_created"] == 2
    (event,), (enrich, again), (look_up,), (load,) = (functions.events[name] for name in FUNCTIONS)
    assert enrich == again
    assert look_up == {"step": "look_up", "run_id": "run-1"}
    same = {"user_id": USER, "timestamp": event["timestamp"], "run_id": "run-1"}
    assert event == same | {"steam_id64": ACCOUNT}
    assert enrich == same | {"s3_location": ended.output["fetch"]["s3_location"], "look_up": False}
    assert load == same | {"s3_enriched_location": ended.output["enrich"]["s3_enriched_location"]}


def test_a_private_library_ends_the_execution_without_failing_it(deployed: Sandbox) -> None:
    deployed.world.accounts |= {World.PRIVATE_ACCOUNT: World.recorded().accounts[World.PRIVATE_ACCOUNT]}
    with deployed_functions(HANDLERS) as functions:
        ended = execute("import", INPUT | {"steam_id64": World.PRIVATE_ACCOUNT})
    assert ended.status == "SUCCEEDED"
    refused = {"success": False, "error_code": "private_library", "enrich": None, "load": None}
    assert ended.output.items() >= refused.items()
    assert ended.output["error"] == ended.output["fetch"]["error"]
    assert "Game details" in ended.output["error"]
    assert list(functions.events) == [FETCH]


@pytest.mark.parametrize("stage", [ENRICH, LOAD])
def test_what_a_later_stage_refuses_is_the_answer_too(bucket: str, stage: str) -> None:
    assert bucket
    refusal = answering({"success": False, "error": "Why.", "error_code": "checkpoint_invalid", "stats": None})
    with deployed_functions(STAND_INS | {stage: refusal}) as functions:
        ended = execute("import", INPUT)
    assert ended.status == "SUCCEEDED"
    assert ended.output.items() >= {"success": False, "error": "Why.", "error_code": "checkpoint_invalid"}.items()
    assert list(functions.events)[-1] == stage


def test_an_outage_of_igdb_is_outlasted_and_a_stage_overwrites_its_own_output(
    deployed: Sandbox, url_2026: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRY_ATTEMPTS", "1")
    deployed.faults.add(Fault(service="igdb", path="/external_games", status=503, times=1))
    deployed.faults.add(Fault(service="igdb", path="/games", status=503, times=1))
    with deployed_functions(HANDLERS) as functions:
        ended = execute("import", INPUT)
    assert ended.output["success"] is True
    assert ended.output["enrich"]["stats"]["pending"] == 0
    assert [len(functions.events[name]) for name in FUNCTIONS] == [1, 4, 3, 1]
    keys = [re.sub(r"\d{8}T\d{6}Z", "time", key.removeprefix(f"imports/{USER}/")) for key in written()]
    assert sorted(keys) == [
        "time-enriched.csv",
        "time-enriched.json",
        "time-loaded.json",
        "time-raw.csv",
        "time-raw.json",
    ]
    assert len(rows_of(url_2026, "Game")) == 2
    assert written("catalogue/wanted/") == {}


def test_a_library_whose_apps_the_catalogue_knows_is_not_looked_up(bucket: str) -> None:
    assert bucket
    with deployed_functions(STAND_INS | {ENRICH: answering(enriched(pending=0))}) as functions:
        ended = execute("import", INPUT)
    assert ended.output.items() >= {"success": True, "look_ups": NONE, "note": None, "load": LOADED}.items()
    assert [len(functions.events[name]) for name in FUNCTIONS] == [1, 1, 0, 1]


THROTTLED = Throttled("Rate Exceeded.")


@pytest.mark.parametrize(
    "look_up",
    [
        pytest.param(LOOKED_UP, id="done"),
        pytest.param(THROTTLED, id="busy"),
        pytest.param(Retryable("igdb_unavailable", "Later."), id="IGDB is down"),
        pytest.param({"success": False, "error": "Why.", "error_code": "bad_igdb_credentials"}, id="refused"),
    ],
)
def test_what_is_pending_after_four_rounds_is_loaded_so_whatever_the_look_up_says(
    bucket: str, look_up: dict[str, Any] | Exception
) -> None:
    assert bucket
    with deployed_functions(STAND_INS | {LOOK_UP: answering(look_up)}) as functions:
        ended = execute("import", INPUT)
    assert ended.output.items() >= {"success": True, "enrich": enriched(pending=1), "load": LOADED}.items()
    assert [len(functions.events[name]) for name in FUNCTIONS] == [1, 4, 3, 1]
    assert "1 of the games are PENDING" in ended.output["note"]
    assert transitions(ended) < MOST_TRANSITIONS


def test_a_busy_look_up_is_waited_for_15_seconds_and_longer_if_it_is_still_busy() -> None:
    states = definition("import")["States"]
    look_ups = [state for state in states.values() if "CatalogueFunction" in state.get("Resource", "")]
    assert len(look_ups) == len(NONE)
    for look_up, seconds in zip(look_ups, (15, 130, 120), strict=True):
        (busy, *_) = look_up["Catch"]
        assert busy["ErrorEquals"] == ["Lambda.TooManyRequestsException"]
        assert states[busy["Next"]].items() >= {"Type": "Wait", "Seconds": seconds, "Next": "EnrichAgain"}.items()


def test_a_join_that_fails_in_a_later_round_leaves_the_import_a_success_with_a_note(bucket: str) -> None:
    assert bucket
    with deployed_functions(STAND_INS | {ENRICH: answering(enriched(pending=1), KeyError("appid"))}):
        ended = execute("import", INPUT)
    assert ended.output.items() >= {"success": True, "enrich": enriched(pending=1), "load": LOADED}.items()
    assert "A later round, for games that are PENDING, failed with KeyError" in ended.output["note"]


def test_a_join_that_is_refused_in_a_later_round_leaves_the_import_a_success_with_a_note(bucket: str) -> None:
    assert bucket
    refused = {
        "success": False,
        "s3_enriched_location": None,
        "stats": None,
        "error": "Why.",
        "error_code": "bad_event",
    }
    with deployed_functions(STAND_INS | {ENRICH: answering(enriched(pending=1), refused)}) as functions:
        ended = execute("import", INPUT)
    assert ended.output.items() >= {"success": True, "enrich": enriched(pending=1), "load": LOADED}.items()
    assert "was refused: Why." in ended.output["note"]
    (load,) = functions.events[LOAD]
    assert load["s3_enriched_location"] == "enriched"


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(enriched(pending=1), id="pending"),
        pytest.param(KeyError("appid"), id="outage"),
        pytest.param(ENRICHED | {"success": False, "error": "Why.", "error_code": "bad_event"}, id="refusal"),
    ],
)
def test_no_note_says_that_a_library_is_loaded_whose_load_is_refused(
    bucket: str, later: dict[str, Any] | Exception
) -> None:
    assert bucket
    refused = {"success": False, "error": "No such user.", "error_code": "user_not_found", "stats": None}
    rounds = answering(enriched(pending=1), later)
    with deployed_functions(STAND_INS | {ENRICH: rounds, LOAD: answering(refused)}):
        ended = execute("import", INPUT)
    assert ended.output.items() >= {"success": False, "error_code": "user_not_found", "load": refused}.items()
    assert "PENDING" in ended.output["note"]
    assert "loaded" not in ended.output["note"]


@pytest.mark.parametrize("stage", [FETCH, ENRICH])
def test_an_error_that_outlasts_its_retries_fails_the_execution_by_its_name(bucket: str, stage: str) -> None:
    assert bucket
    failing = answering(Retryable("store_unavailable", "S3 does not answer."))
    with deployed_functions(STAND_INS | {stage: failing}) as functions:
        ended = execute("import", INPUT)
    assert (ended.status, ended.error) == ("FAILED", "Retryable")
    assert "store_unavailable: S3 does not answer." in (ended.cause or "")
    assert len(functions.events[stage]) == 2


def test_a_bug_is_not_retried(bucket: str) -> None:
    assert bucket
    with deployed_functions({FETCH: answering(KeyError("appid"))}) as functions:
        ended = execute("import", INPUT)
    assert (ended.status, ended.error) == ("FAILED", "KeyError")
    assert len(functions.events[FETCH]) == 1
