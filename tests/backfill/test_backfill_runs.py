"""Backfills from the plan to the report: outcomes, what is loaded again, resuming, limits, and the replay."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline import list_runs, read_backfill
from pipeline.backfill.outcomes import outcomes_of_fetch
from pipeline.backfill.plan import require_plan
from pipeline.backfill.report import read_last_loaded, read_report, write_report
from pipeline.backfill.runner import PROGRESS_LABELS, reset_for_replay, run_backfill
from pipeline.backfill.shards import StepResult, list_shards
from pipeline.backfill.steps import stops_backfill
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.keys import LAST_LOADED, backfill_key
from pipeline.storage.versioned import to_parquet
from schemas.backfill import FetchedUsers
from schemas.frames import as_text, conform, dtypes
from schemas.library import RawLibrary
from tests.support.backfills import (
    Operator,
    add_accounts,
    imported_games,
    new_operator,
    operator_without_database,
    user_list,
)
from tests.support.databases import NewDatabase, execute, rows_of

USERS, GAMES = 4, 12


@pytest.fixture
def world() -> World:
    return World.recorded()


@pytest.fixture
def accounts(sandbox: Sandbox) -> list[str]:
    return add_accounts(sandbox.world, USERS, GAMES)


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    return new_database(2026)


@pytest.fixture
def operator(sandbox: Sandbox, tmp_path: Path, url: str) -> Operator:
    return new_operator(sandbox, tmp_path, url, USERS)


@pytest.fixture
def fetcher(sandbox: Sandbox, tmp_path: Path) -> Operator:
    return operator_without_database(sandbox, tmp_path)


def test_every_user_has_one_outcome_and_every_row_is_accounted_for(
    operator: Operator, sandbox: Sandbox, accounts: list[str], url: str
) -> None:
    sandbox.world.add_owned(accounts[0], 2**40, "=1+1")
    sandbox.faults.add(Fault(when=lambda query: accounts[1] in query, status=500))
    users = user_list(
        [*accounts[:3], World.PRIVATE_ACCOUNT],
        f"empty,{World.EMPTY_ACCOUNT}",
        f"gone,{World.UNKNOWN_ACCOUNT}",
        f"nobody,{accounts[3]}",
        "=bad(),76561197960287930",
        f"user-2,{accounts[2]}",
    )
    report = operator.backfill(users, size=10)
    outcomes = operator.outcomes(report.run_id)
    assert {user: row["outcome"] for user, row in outcomes.items() if row["outcome"] != "done"} == {
        "user-1": "failed",
        "user-3": "private",
        "empty": "empty",
        "gone": "not_found",
        "nobody": "failed",
        "'=bad()": "rejected",
        "user-2": "rejected",
    }
    assert outcomes["nobody"]["error"].startswith("user_not_found")
    assert outcomes["user-1"]["error"].startswith("steam_unavailable")
    assert (outcomes["user-0"]["rows"], outcomes["user-0"]["rejected"]) == (str(GAMES + 1), "1")
    assert report.is_complete
    by_outcome = {"done": 2, "empty": 1, "private": 1, "not_found": 1, "failed": 2, "rejected": 2}
    assert report.users == {"total": 9, **by_outcome}
    for counts in report.stages.values():
        assert counts["rows"] == sum(
            counts.get(name, 0) for name in ("kept", "matched", "unmatched", "filtered", "pending", "rejected")
        )
    assert imported_games(url)["user_id"].unique().sort().to_list() == ["user-0", "user-2"]
    rejected = operator.store.read(backfill_key(report.run_id, "rejected.csv"))
    assert rejected is not None
    assert b",'=1+1," in rejected
    assert b"appid: not Int32" in rejected


def test_the_same_list_again_loads_only_what_changed_into_the_same_database(
    operator: Operator, accounts: list[str], sandbox: Sandbox, url: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    users = user_list(accounts)
    first = operator.backfill(users, size=USERS)
    before = rows_of(url, "ImportedGame")
    sandbox.world.accounts[accounts[3]].games[0]["playtime_forever"] += 60
    second = operator.backfill(users, size=USERS)
    assert second.run_id != first.run_id
    assert second.stages["load"]["unchanged"] == (USERS - 1) * GAMES
    assert second.written == {"imported_games_updated": 1}
    assert len(set(rows_of(url, "ImportedGame")) - set(before)) == 1
    assert operator.outcomes(second.run_id) == operator.outcomes(first.run_id)

    full = operator.run(operator.plan(users, size=USERS, is_full=True))
    assert (full.stages["load"]["unchanged"], full.written) == (0, {})

    execute(url, """UPDATE "user" SET id = 'another' WHERE id = 'user-1'""")
    third = operator.backfill(users, size=USERS)
    assert operator.outcomes(third.run_id)["user-1"]["error"].startswith("user_not_found")
    elsewhere = new_operator(sandbox, tmp_path, new_database(2025), USERS)
    with pytest.raises(Refused, match="--full") as refusal:
        elsewhere.backfill(users, size=USERS)
    assert refusal.value.code == "configuration"


def test_a_report_that_is_written_again_undoes_nothing_that_was_loaded_since(
    operator: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    plan = require_plan(operator.store, operator.backfill(user_list(accounts[:1])).run_id)
    old = read_last_loaded(operator.store).with_columns(last_loaded_at=pl.lit("2026-01-01T00:00:00Z"))
    later = old.with_columns(
        last_loaded_digest=pl.lit("of another list"), last_loaded_at=pl.lit("2999-01-01T00:00:00Z")
    )
    for loaded, digest in ((old, old["last_loaded_digest"].item()), (later, "of another list")):
        operator.store.write(LAST_LOADED, to_parquet(loaded, "last_loaded"))
        write_report(operator.store, plan)
        assert read_last_loaded(operator.store)["last_loaded_digest"].to_list() == [digest]
    assert len(sandbox.asked("steam")) == 1


def test_an_override_and_a_pending_row_have_a_user_loaded_again(
    operator: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    users = user_list(accounts[:2])
    sandbox.faults.add(Fault(service="igdb", path="games", when=lambda body: "where id" in body, status=503))
    first = operator.backfill(users)
    assert first.stages["enrich"]["pending"] > 0
    sandbox.faults.clear()
    second = operator.backfill(users)
    assert second.stages["enrich"]["pending"] == 0
    assert second.stages["load"]["unchanged"] < 2 * GAMES
    appid = sandbox.world.accounts[accounts[0]].games[0]["appid"]
    operator.store.write("overrides.csv", f"appid,action,igdb_id,note\n{appid},ignore,,\n".encode())
    plan = operator.plan(users)
    third = operator.run(plan)
    owners = sum(appid in {row["appid"] for row in sandbox.world.accounts[one].games} for one in accounts[:2])
    assert third.stages["load"]["unchanged"] == (2 - owners) * GAMES
    assert third.stages["enrich"]["filtered"] > second.stages["enrich"]["filtered"]

    operator.store.delete("overrides.csv")
    assert reset_for_replay(operator.store, plan, list_shards(operator.store, plan)) == 1
    again = operator.run(plan, ["enrich", "load"])
    assert again.stages["load"]["unchanged"] == 0


def test_a_shard_whose_users_are_lost_stops_no_other_and_is_named_in_the_report(
    fetcher: Operator, accounts: list[str]
) -> None:
    plan = fetcher.plan(user_list(accounts), size=2)
    fetcher.store.delete(list_shards(fetcher.store, plan)[1].shard.users_key)
    with pytest.raises(Failed, match=r"do not add up .*4 users were listed, 2 have an outcome") as lost:
        fetcher.run(plan, ["fetch", "enrich"])
    assert lost.value.code == "checkpoint_invalid"
    report = read_report(fetcher.store, plan.run_id)
    assert report is not None
    assert report.failures[1].startswith("shard 1: ")
    assert report.shards["enrich"] == 1


@pytest.mark.parametrize(
    ("error", "is_stopping"),
    [
        (Refused("bad_steam_key", ""), True),
        (Refused("configuration", ""), True),
        (Refused("bad_steam_id", ""), False),
        (Failed("steam_blocked", ""), True),
        (Failed("schema_mismatch", ""), True),
        (Failed("account_not_found", ""), False),
        (Failed("checkpoint_invalid", ""), False),
        (Retryable("steam_rate_limited", ""), True),
        (Retryable("store_unavailable", ""), True),
        (Retryable("steam_unavailable", ""), False),
        (Retryable("database_unavailable", ""), False),
        (Retryable("database_unavailable", "", is_cancelled=True), True),
    ],
    ids=str,
)
def test_an_error_stops_the_backfill_where_every_shard_would_meet_it(
    error: PipelineError, *, is_stopping: bool
) -> None:
    assert stops_backfill(error) == is_stopping


def test_the_limit_of_a_day_stops_the_run_which_goes_on_tomorrow(
    fetcher: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    plan = fetcher.plan(user_list(accounts), size=2)
    with pytest.raises(Refused, match="--shard-size"):
        fetcher.changed(steam_requests_per_day=1).run(plan, ["fetch"])
    for _ in range(2):
        with pytest.raises(Retryable, match="Go on tomorrow"):
            fetcher.changed(steam_requests_per_day=3).run(plan, ["fetch"])
        assert len(sandbox.asked("steam")) == 2
    assert fetcher.run(plan, ["fetch"]).shards["fetch"] == 2
    assert len(sandbox.asked("steam")) == 4


def test_a_lasting_rate_limit_stops_the_run_and_loses_nothing(
    fetcher: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    plan = fetcher.plan(user_list(accounts), size=1)
    limit = sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[3] in query, status=429))
    with pytest.raises(Retryable) as stop:
        fetcher.run(plan, ["fetch"])
    assert stop.value.code == "steam_rate_limited"
    sandbox.faults.remove(limit)
    asked = {record.params["steamid"] for record in sandbox.asked("steam") if record.status == 200}
    sandbox.requests.clear()
    assert fetcher.run(plan, ["fetch"]).shards["fetch"] == USERS
    assert {record.params["steamid"] for record in sandbox.asked("steam")} == set(accounts) - asked


def test_bad_shards_stop_no_other_and_are_tried_again(
    operator: Operator, accounts: list[str], sandbox: Sandbox, url: str
) -> None:
    """Steam does not answer about the user of one shard, and a rule of the database refuses the user of another."""
    users = user_list(accounts[:3])
    sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[1] in query, status=500))
    execute(url, """ALTER TABLE "ImportedGame" ADD CONSTRAINT "ours" CHECK ("userId" <> 'user-2')""")
    report = operator.backfill(users, size=1)
    assert not report.is_complete
    assert (report.users["done"], report.users["failed"]) == (1, 2)
    of_steam, of_database = report.failures
    assert of_steam.startswith("shard 1: steam_unavailable")
    assert of_database.startswith("shard 2: schema_mismatch")
    assert '"ours"' in of_database
    assert imported_games(url)["user_id"].unique().to_list() == ["user-0"]
    sandbox.faults.clear()
    execute(url, 'ALTER TABLE "ImportedGame" DROP CONSTRAINT "ours"')
    again = operator.backfill(users, size=1)
    assert (again.run_id, again.users["done"], again.failures) == (report.run_id, 3, [])


def test_a_replay_looks_up_pending_rows_without_asking_steam(
    operator: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(service="igdb", path="games", when=lambda body: "where id" in body, status=503))
    plan = operator.plan(user_list(accounts[:2]), size=1)
    assert operator.run(plan).stages["enrich"]["pending"] > 0
    sandbox.faults.clear()
    sandbox.requests.clear()
    assert reset_for_replay(operator.store, plan) == 2
    report = operator.run(plan, ["enrich", "load"])
    assert report.stages["enrich"]["pending"] == 0
    assert report.is_complete
    assert sandbox.asked("steam") == []
    assert reset_for_replay(operator.store, plan) == 0


def test_a_replay_loads_rejected_rows_that_conform_today(operator: Operator, accounts: list[str], url: str) -> None:
    plan = operator.plan(user_list(accounts), size=USERS)
    operator.run(plan, ["fetch"])
    files = list_shards(operator.store, plan)[0]
    manifest = files.require_manifest("fetch")
    rows = files.rows(manifest, RawLibrary)
    rejected = as_text(rows.head(2)).with_columns(rejected_check=pl.lit("name: a rule of yesterday"))
    users = conform(files.outcomes(manifest).select(dtypes(FetchedUsers).names()), FetchedUsers)
    accepted = conform(rows.slice(2), RawLibrary)
    result = StepResult(outcomes_of_fetch(users, accepted, rejected), accepted, rejected)
    begun = manifest.started_at - timedelta(days=8)
    old = files.commit(replace(files.start_step("fetch"), started_at=begun, finished_at=begun), result)
    assert operator.run(plan).stages["fetch"]["rejected"] == 2
    assert reset_for_replay(operator.store, plan) == 1
    assert files.require_manifest("fetch").rejected is None
    times = [(one.started_at, one.finished_at) for one in (old, files.require_manifest("fetch"))]
    assert times == [(begun, begun)] * 2, "the load takes the end of the fetch for the time at which Steam was asked"
    report = operator.run(plan, ["enrich", "load"])
    assert (report.stages["fetch"]["rejected"], report.stages["enrich"]["rows"]) == (0, USERS * GAMES)
    assert imported_games(url).height == USERS * GAMES


def test_answers_of_429_are_counted_by_step(fetcher: Operator, accounts: list[str], sandbox: Sandbox) -> None:
    for service in ("steam", "igdb"):
        sandbox.faults.add(Fault(service=service, status=429, times=1))
    report = fetcher.run(fetcher.plan(user_list(accounts[:2])), ["fetch", "enrich"])
    limited = {step: effort.rate_limited for step, effort in report.effort.items()}
    assert limited == {"fetch": 1, "catalogue": 1, "enrich": 0, "load": 0}
    assert report.effort["fetch"].requests == 3


def test_shards_load_what_imports_one_by_one_would_and_ask_once_about_each_app(
    operator: Operator, accounts: list[str], url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The progress bars are full at the end, and the backfill is listed and read."""
    last: dict[str, tuple[int, int]] = {}

    def show(label: str, done: int, total: int) -> None:
        assert done >= last.get(label, (0, total))[0]
        last[label] = done, total

    plan = operator.plan(user_list([*accounts, World.PRIVATE_ACCOUNT]))
    report = asyncio.run(run_backfill(operator.settings, plan, show))
    assert [last[label] for label in PROGRESS_LABELS.values()] == [(USERS + 1, USERS + 1)] * len(PROGRESS_LABELS)
    assert [label for label, (done, total) in last.items() if done != total] == []
    rows = imported_games(url)
    assert rows.height == USERS * GAMES
    owned = sandbox.world.accounts[accounts[3]].games
    of_one = rows.filter(pl.col("user_id") == "user-3").select("appid", "playtime").rows()
    assert of_one == sorted((row["appid"], row["playtime_forever"]) for row in owned)
    assert len([record for record in sandbox.asked("igdb") if "external_games" in record.path]) == 1
    (run,) = list_runs(str(tmp_path)).to_dicts()
    assert (run["kind"], run["run_id"], run["users"], run["is_ended"]) == ("backfill", report.run_id, USERS + 1, True)
    assert (run["stages"], run["rows"], run["rejected"]) == (["fetch", "enrich", "load"], USERS * GAMES, 0)
    assert run["matched"] == report.stages["enrich"]["matched"]
    read = read_backfill(report.run_id, str(tmp_path))
    assert read.outcomes["outcome"].to_list() == ["done"] * USERS + ["private"]
    assert read.outcomes["rows"].sum() == USERS * GAMES
    steps = read.efforts.group_by("step", maintain_order=True).agg(pl.len(), pl.col("users", "requests").sum())
    assert steps.select("step", "len", "users").rows() == [
        ("catalogue", 1, 0),
        *((step, 2, USERS + 1) for step in ("fetch", "enrich", "load")),
    ]
    assert steps["requests"].sum() == run["requests"]
