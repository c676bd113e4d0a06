"""A backfill by its state machine: the real handler in moto's interpreter, and the command line's report."""

from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl
import pytest

from handlers import backfill, catalogue
from pipeline import clients
from pipeline.errors import Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from pipeline.storage.keys import backfill_key
from schemas.backfill import Report
from tests.support.backfills import add_accounts, imported_games, new_operator, user_list, without_effort
from tests.support.databases import NewDatabase
from tests.support.deployment import deployed_functions, execute, map_runs
from tests.support.lambda_functions import Handler, Remaining, invoke, put, written
from tests.support.stores import BUCKET

OF_EVERY_RESPONSE = {"success", "error", "error_code", "rejected"}
KEYS = OF_EVERY_RESPONSE | {"step", "run_id", "shard", "shards", "bucket", "shards_key", "report", "stats"}
LIST = f"s3://{BUCKET}/users.csv"


def taking_turns() -> dict[str, Handler]:
    """The functions of a backfill; as many as there are shards would each have a process, and here they share one."""
    turn = Lock()

    def one_at_a_time(handler: Handler, event: object, context: object) -> dict[str, Any]:
        with turn:
            return handler(event, context)

    functions = {"BackfillFunction": backfill.handler, "CatalogueFunction": catalogue.handler}
    return {name: partial(one_at_a_time, handler) for name, handler in functions.items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_state_machine_and_the_command_line_give_one_report(
    deployed: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One shard fails for good, and one fails twice."""
    shards = 3
    accounts = add_accounts(deployed.world, 2 * shards, 3)
    users = user_list(accounts)
    bad, slow = accounts[2:4], accounts[0]
    deployed.faults.add(Fault(service="steam", when=lambda query: any(one in query for one in bad), status=500))
    put(LIST, users)
    url = new_database(2026)
    monkeypatch.setenv("DATABASE_URL", url)
    clients.open_database(Settings.read()).ensure_users([f"user-{number}" for number in range(2 * shards)])
    unlucky = deployed.faults.add(Fault(service="steam", when=lambda query: slow in query, status=500, times=4))
    deployed.faults.add(Fault(service="steam", when=lambda query: accounts[1] in query, status=500, times=4))
    with deployed_functions(taking_turns()) as functions:
        ended = execute("backfill", {"users": LIST, "shard_size": 2}, run_id="run-1", retries=2, seconds=500)
    assert unlucky.times == 0
    assert ended.status == "SUCCEEDED", ended
    assert ended.output["report"] == f"s3://{BUCKET}/backfills/run-1/report.json"
    fetches = [event["shard"] for event in functions.events["BackfillFunction"] if event["step"] == "fetch"]
    assert (fetches.count(0), fetches.count(1), len(fetches)) == (3, 3, shards + 4)
    body = clients.open_store(Settings.read()).read(backfill_key("run-1", "report.json"))
    by_machine = Report.model_validate_json(body or b"")
    assert (by_machine.users["done"], by_machine.users["failed"]) == (2 * shards - 2, 2)

    other = new_operator(deployed, tmp_path, new_database(2026), 2 * shards)
    by_hand = other.run(other.plan(users, 2, run_id="run-1"))
    assert without_effort(by_hand) == without_effort(by_machine)
    assert imported_games(url).equals(imported_games(str(other.settings.database_url.get_secret_value())))  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_backfill_of_200_shards_of_which_60_fail_ends_with_a_report_that_names_them(
    deployed: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, failing = 200, 60
    accounts = add_accounts(deployed.world, shards, 2)
    bad = set(accounts[:failing])
    deployed.faults.add(Fault(service="steam", when=lambda query: any(one in query for one in bad), status=500))
    put(LIST, user_list(accounts))
    monkeypatch.setenv("DATABASE_URL", new_database(2026))
    monkeypatch.setenv("STEAM_REQUESTS_PER_SECOND", "1000")
    clients.open_database(Settings.read()).ensure_users([f"user-{number}" for number in range(shards)])
    with deployed_functions(taking_turns()):
        ended = execute("backfill", {"users": LIST, "shard_size": 1}, run_id="run-1", retries=0, seconds=500)
        failed = [run["itemCounts"]["failed"] for run in map_runs(ended)]
    assert (ended.status, failed) == ("SUCCEEDED", [failing] * 3), ended
    store = clients.open_store(Settings.read())
    report = Report.model_validate_json(store.read(backfill_key("run-1", "report.json")) or b"")
    assert (report.users["done"], report.users["failed"]) == (shards - failing, failing)
    outcomes = pl.read_csv(store.read(backfill_key("run-1", "outcomes.csv")) or b"", infer_schema=False)
    named = outcomes.filter(pl.col("outcome") == "failed")
    assert set(named["steam_id64"]) == bad
    assert named["error"].str.contains("steam_unavailable").all()
    # moto's interpreter writes only the manifest of each map; AWS lists the shards in files beside it.
    manifests = [key for key in written("backfills/run-1/map/") if key.endswith("/manifest.json")]
    assert len(manifests) == 3


def test_an_event_that_cannot_be_carried_out_gets_an_error_and_every_key(deployed: Sandbox) -> None:
    for event in (
        {},
        {"step": "fetch", "run_id": "run-1"},
        {"step": "fetch", "run_id": "run-1", "shard": 0},
        {"step": "plan", "run_id": "run-1", "users": f"s3://{BUCKET}/nothing.csv"},
        {"step": "plan", "run_id": "run-1"},
        {"step": "report", "run_id": "run-1"},
    ):
        response = invoke(backfill.handler, event)
        assert (response["success"], response["error_code"]) == (False, "bad_event"), event
        assert response.keys() == KEYS
    assert deployed.requests == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "run_id",
            ["", "..", "../run-2", "/run-1", "run/1", "run%2f1", "run-1\0", "run-1\n", "r" * 81, "r\u0443n", None, 1],
        ),
        ("shard", [-1, 0.5, 1e300, 10**30, "0", "../0", "", True, None, [0], {"0": 0}]),
        ("shard_size", [0, -1, 1_001, 10**30, "200", True, [200]]),
        ("step", ["", "dance", "LOAD", "load\0", 'load"; where id = 1;', None, 1, ["load"], {}]),
        ("users", ["s3://elsewhere/users.csv", "/etc/passwd", "../users.csv", f"s3://{BUCKET}/../x.csv", 1, ["x.csv"]]),
        ("users", [f"s3://{BUCKET}/{key}" for key in ("imports/u/t-raw.csv", "catalogue/apps.parquet", "a\nb.csv")]),
    ],
)
def test_no_value_of_an_event_reaches_beyond_its_run(deployed: Sandbox, key: str, values: list[object]) -> None:
    good = (
        {"step": "fetch", "run_id": "run-1", "shard": 0}
        if key in ("shard", "step")
        else {"step": "plan", "run_id": "run-1"}
    )
    for value in values:
        response = backfill.handler({**good, "users": LIST, key: value}, None)
        assert response["error_code"] in ("bad_event", "location_refused"), value
    assert deployed.requests == []
    assert written("backfills/") == {}


def test_a_step_is_refused_where_the_step_before_it_is_not_done(deployed: Sandbox) -> None:
    put(LIST, user_list(add_accounts(deployed.world, 1, 0)))
    assert invoke(backfill.handler, {"step": "plan", "run_id": "run-2", "users": LIST})["shards"] == 1
    response = invoke(backfill.handler, {"step": "enrich", "run_id": "run-2", "shard": 0})
    assert response["error_code"] == "checkpoint_invalid"
    assert "the step before enrich is not done" in response["error"]
    beyond = invoke(backfill.handler, {"step": "fetch", "run_id": "run-2", "shard": 1})
    assert (beyond["error_code"], deployed.requests) == ("bad_event", [])


def test_near_the_time_limit_of_its_function_a_step_raises_so_that_it_is_run_again(deployed: Sandbox) -> None:
    put(LIST, user_list(add_accounts(deployed.world, 1, 1)))
    run = {"run_id": "run-3"}
    assert invoke(backfill.handler, run | {"step": "plan", "users": LIST})["success"]
    fetch = run | {"step": "fetch", "shard": 0}
    with pytest.raises(Retryable, match="steam_unavailable: There was no time"):
        backfill.handler(fetch, Remaining(seconds=5))
    assert backfill.handler(fetch, Remaining(seconds=60))["success"]
    deployed.requests.clear()
    lacking = {"apps": 1, "pending": 1}
    assert backfill.handler(run | {"step": "catalogue"}, Remaining(seconds=5))["stats"] == lacking
    with pytest.raises(Retryable, match="igdb_unavailable: There is no time left"):
        catalogue.handler({"step": "look_up"}, Remaining(seconds=5))
    assert deployed.asked("igdb") == []
    assert catalogue.handler({"step": "look_up"}, Remaining(seconds=60))["success"]
    assert backfill.handler(run | {"step": "catalogue"}, None)["stats"] == lacking | {"pending": 0}


def test_shards_that_are_fetched_at_once_share_the_rate_of_steam(
    deployed: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(LIST, user_list(add_accounts(deployed.world, 1, 1)))
    assert invoke(backfill.handler, {"step": "plan", "run_id": "run-2", "users": LIST})["shards"] == 1
    opened: list[int] = []
    open_steam = clients.open_steam

    def open_and_tell(settings: Settings) -> Any:
        opened.append(settings.steam_processes)
        return open_steam(settings)

    monkeypatch.setattr(clients, "open_steam", open_and_tell)
    event = {"step": "fetch", "run_id": "run-2", "shard": 0, "fetch_concurrency": 5}
    assert invoke(backfill.handler, event)["success"]
    assert opened == [5]
