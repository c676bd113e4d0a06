"""Many users at once: plan, shards, resume, report."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from pipeline import list_runs, read_backfill
from pipeline.backfill.plan import shards_of
from pipeline.backfill.replay import reopen
from pipeline.errors import Failed, Refused, Retryable
from pipeline.layout import SEEN, backfill_key
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.backfills import Operator, crowd, imported, listed, operator, without_effort
from tests.database_fixtures import NewDatabase, rows_of
from tests.stores import names

USERS, GAMES = 7, 12


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    world = World.recorded()
    with Sandbox(world, limits=False) as running:
        yield running


@pytest.fixture
def accounts(sandbox: Sandbox) -> list[str]:
    return crowd(sandbox.world, USERS, GAMES)


@pytest.fixture
def url(new_database: NewDatabase) -> str:
    return new_database(2026)


@pytest.fixture
def here(sandbox: Sandbox, tmp_path: Path, url: str) -> Operator:
    return operator(sandbox, tmp_path, url, USERS)


def test_every_user_ends_in_one_outcome_and_the_books_balance(
    here: Operator, sandbox: Sandbox, accounts: list[str], url: str
) -> None:
    sandbox.world.add_owned(accounts[0], 2**40, "No appid can be so large")
    sandbox.faults.add(Fault(when=lambda query: accounts[1] in query, status=500))
    users = listed(
        [*accounts[:5], World.PRIVATE_ACCOUNT, World.EMPTY_ACCOUNT],
        f"gone,{World.UNKNOWN_ACCOUNT}",
        f"nobody,{accounts[6]}",
        "=bad(),76561197960287930",
        f"user-2,{accounts[2]}",
    )
    report = here.backfill(users)
    outcomes = here.outcomes(report.run_id)
    assert {user: row["outcome"] for user, row in outcomes.items() if row["outcome"] != "done"} == {
        "user-1": "failed",
        "user-5": "private",
        "user-6": "empty",
        "gone": "not_found",
        "nobody": "failed",
        "'=bad()": "rejected",
        "user-2": "rejected",
    }
    assert outcomes["nobody"]["error"].startswith("user_not_found")
    assert outcomes["user-1"]["error"].startswith("steam_unavailable")
    assert (outcomes["user-0"]["rows"], outcomes["user-0"]["rejected"]) == (str(GAMES + 1), "1")
    assert report.is_complete
    assert report.users == {
        "total": 11,
        "done": 4,
        "empty": 1,
        "private": 1,
        "not_found": 1,
        "failed": 2,
        "rejected": 2,
    }
    for counts in report.stages.values():
        assert counts["rows"] == sum(
            counts.get(name, 0) for name in ("kept", "matched", "unmatched", "filtered", "pending", "rejected")
        )
    assert imported(url)["user_id"].unique().sort().to_list() == ["user-0", "user-2", "user-3", "user-4"]
    rejected = here.store.read(backfill_key(report.run_id, "rejected.csv"))
    assert rejected is not None
    assert b"appid: not Int32" in rejected


def test_a_backfill_loads_what_imports_one_by_one_would(
    here: Operator, accounts: list[str], url: str, sandbox: Sandbox
) -> None:
    here.backfill(listed(accounts))
    rows = imported(url)
    assert rows.height == USERS * GAMES
    owned = sandbox.world.accounts[accounts[4]].games
    of_one = rows.filter(pl.col("user_id") == "user-4").select("appid", "playtime").rows()
    assert of_one == sorted((row["appid"], row["playtime_forever"]) for row in owned)


def test_all_shards_together_ask_once_about_each_app(here: Operator, accounts: list[str], sandbox: Sandbox) -> None:
    here.backfill(listed(accounts), size=1)
    asked = [record for record in sandbox.asked("igdb") if "external_games" in record.path]
    assert len(asked) == 1
    assert len(sandbox.asked("steam")) == USERS


def test_the_same_list_again_loads_only_what_changed(
    here: Operator, accounts: list[str], sandbox: Sandbox, url: str
) -> None:
    first = here.backfill(listed(accounts))
    before = rows_of(url, "ImportedGame")
    sandbox.world.accounts[accounts[3]].games[0]["playtime_forever"] += 60
    second = here.backfill(listed(accounts))
    assert second.run_id != first.run_id
    assert second.stages["load"]["unchanged"] == (USERS - 1) * GAMES
    assert second.written == {"imported_games_updated": 1}
    assert len(set(rows_of(url, "ImportedGame")) - set(before)) == 1
    assert here.outcomes(second.run_id) == here.outcomes(first.run_id)


def test_an_override_and_a_pending_row_have_a_user_loaded_again(
    here: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(service="igdb", path="games", when=lambda body: "where id" in body, status=503))
    first = here.backfill(listed(accounts))
    assert first.stages["enrich"]["pending"] > 0
    sandbox.faults.clear()
    second = here.backfill(listed(accounts))
    assert second.stages["enrich"]["pending"] == 0
    assert second.stages["load"]["unchanged"] < USERS * GAMES
    appid = sandbox.world.accounts[accounts[0]].games[0]["appid"]
    here.store.write("overrides.csv", f"appid,action,igdb_id,note\n{appid},ignore,,\n".encode())
    third = here.backfill(listed(accounts))
    owners = sum(appid in {row["appid"] for row in sandbox.world.accounts[one].games} for one in accounts)
    assert third.stages["load"]["unchanged"] == (USERS - owners) * GAMES
    assert third.stages["enrich"]["filtered"] > second.stages["enrich"]["filtered"]


def test_a_full_backfill_loads_everything(here: Operator, accounts: list[str]) -> None:
    here.backfill(listed(accounts))
    report = here.go(here.plan(listed(accounts), is_full=True))
    assert report.stages["load"]["unchanged"] == 0
    assert report.written == {}


def test_what_was_left_out_has_to_be_in_this_database(
    here: Operator, accounts: list[str], new_database: NewDatabase, sandbox: Sandbox, tmp_path: Path
) -> None:
    here.backfill(listed(accounts))
    elsewhere = operator(sandbox, tmp_path, new_database(2025), USERS)
    with pytest.raises(Refused, match="--full") as refusal:
        elsewhere.backfill(listed(accounts))
    assert refusal.value.code == "configuration"


def test_a_backfill_goes_on_where_it_stopped(here: Operator, accounts: list[str], sandbox: Sandbox) -> None:
    down = sandbox.faults.add(Fault(service="igdb", status=500))
    with pytest.raises(Retryable):
        here.backfill(listed(accounts))
    plan = here.plan(listed(accounts))
    assert here.outcomes(plan.run_id)["user-0"]["outcome"] == "failed"
    sandbox.faults.remove(down)
    sandbox.requests.clear()
    report = here.backfill(listed(accounts))
    assert (report.run_id, report.is_complete, report.users["done"]) == (plan.run_id, True, USERS)
    assert sandbox.asked("steam") == []


@pytest.mark.parametrize("damage", ["csv", "manifest", "users"])
def test_a_shard_that_is_not_whole_is_done_again(
    here: Operator, accounts: list[str], sandbox: Sandbox, damage: str
) -> None:
    plan = here.plan(listed(accounts))
    here.go(plan, ["fetch"])
    files = shards_of(here.store, plan)[1]
    fetched = files.require("fetch")
    if damage == "csv":
        assert fetched.file is not None
        here.store.write(fetched.file.key, b"half of it")
    elif damage == "manifest":
        here.store.write(files.shard.manifest_key("fetch"), b"{")
    else:
        body = here.store.read(files.shard.users_key)
        assert body is not None
        here.store.write(files.shard.users_key, body.rpartition(b"\nuser-5")[0] + b"\n")
    sandbox.requests.clear()
    if damage == "users":
        with pytest.raises(Failed, match="do not balance"):
            here.go(plan)
    else:
        assert here.go(plan).users["done"] == USERS
    assert len(sandbox.asked("steam")) == (2 if damage == "users" else 3)


def test_a_row_of_any_other_user_is_refused(here: Operator, accounts: list[str], url: str) -> None:
    plan = here.plan(listed(accounts))
    here.go(plan, ["fetch", "enrich"])
    one, other = shards_of(here.store, plan)[:2]
    record = one.require("enrich")
    rows = other.text(other.require("enrich").file)  # type: ignore[arg-type]
    stolen = one.commit(one.begin("enrich"), one.outcomes(record), rows=rows)
    assert stolen.file is not None
    report = here.go(plan)
    assert [failure.partition(":")[0] for failure in report.failures] == ["shard 0"]
    assert "location_refused" in report.failures[0]
    assert "user-0" not in imported(url)["user_id"].to_list()


def test_a_limit_of_the_day_stops_cleanly_and_tomorrow_goes_on(
    here: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    poor = here.changed(steam_requests_per_day=4)
    for _ in range(2):
        with pytest.raises(Retryable, match="Go on tomorrow"):
            poor.backfill(listed(accounts[:6]))
        assert len(sandbox.asked("steam")) == 3
    assert here.backfill(listed(accounts[:6])).users["done"] == 6
    assert len(sandbox.asked("steam")) == 6


def test_a_rate_limit_that_lasts_stops_the_run_and_loses_nothing(
    here: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    limit = sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[6] in query, status=429))
    with pytest.raises(Retryable) as stop:
        here.backfill(listed(accounts), size=1)
    assert stop.value.code == "steam_rate_limited"
    sandbox.faults.remove(limit)
    asked = {record.params["steamid"] for record in sandbox.asked("steam") if record.status == 200}
    sandbox.requests.clear()
    report = here.backfill(listed(accounts), size=1)
    assert {record.params["steamid"] for record in sandbox.asked("steam")} == set(accounts) - asked
    assert report.users["done"] == USERS


def test_one_bad_shard_stops_no_other_and_is_tried_again(here: Operator, accounts: list[str], sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[6] in query, status=500))
    report = here.backfill(listed(accounts))
    assert not report.is_complete
    assert (report.users["done"], report.users["failed"]) == (6, 1)
    assert report.failures[0].startswith("shard 2: steam_unavailable")
    sandbox.faults.clear()
    again = here.backfill(listed(accounts))
    assert (again.run_id, again.users["done"], again.failures) == (report.run_id, USERS, [])


def test_replay_mends_what_was_pending_without_asking_steam(
    here: Operator, accounts: list[str], sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(service="igdb", path="games", when=lambda body: "where id" in body, status=503))
    plan = here.plan(listed(accounts))
    assert here.go(plan).stages["enrich"]["pending"] > 0
    sandbox.faults.clear()
    sandbox.requests.clear()
    assert reopen(here.store, plan) == 3
    report = here.go(plan, ["enrich", "load"])
    assert report.stages["enrich"]["pending"] == 0
    assert report.is_complete
    assert sandbox.asked("steam") == []
    assert reopen(here.store, plan) == 0


def test_replay_takes_rejected_rows_back_that_conform_today(here: Operator, accounts: list[str], url: str) -> None:
    plan = here.plan(listed(accounts), size=7)
    here.go(plan)
    files = shards_of(here.store, plan)[0]
    record, rows = files.require("fetch"), files.text(files.require("fetch").file)  # type: ignore[arg-type]
    set_aside = rows.head(2).with_columns(rejected_check=pl.lit("name: some rule of yesterday"))
    outcomes = files.outcomes(record).with_columns(
        rejected=pl.when(pl.col("user_id") == "user-0").then(2).otherwise(0).cast(pl.Int64)
    )
    files.commit(files.begin("fetch"), outcomes, rows=rows.slice(2), rejected=set_aside)
    assert here.go(plan).stages["fetch"]["rejected"] == 2
    assert reopen(here.store, plan) == 1
    report = here.go(plan, ["enrich", "load"])
    assert (report.stages["fetch"]["rejected"], report.stages["enrich"]["rows"]) == (0, USERS * GAMES)
    assert imported(url).height == USERS * GAMES


def test_a_run_belongs_to_its_list(here: Operator, accounts: list[str]) -> None:
    plan = here.plan(listed(accounts))
    with pytest.raises(Refused, match="another list"):
        here.plan(listed(accounts[:3]), run_id=plan.run_id)
    assert here.plan(listed(accounts), run_id=plan.run_id) == plan


def test_workers_who_begin_at_once_share_one_run(here: Operator, accounts: list[str]) -> None:
    first, second = here.plan(listed(accounts)), here.plan(listed(accounts))
    assert first.run_id == second.run_id
    reports = [without_effort(here.go(plan)) for plan in (first, second)]
    assert reports[0] == reports[1]


def test_a_finished_backfill_is_listed_and_read(here: Operator, accounts: list[str], tmp_path: Path) -> None:
    report = here.backfill(listed([*accounts, World.PRIVATE_ACCOUNT]))
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
        ("fetch", 3, USERS + 1),
        ("enrich", 3, USERS + 1),
        ("load", 3, USERS + 1),
    ]
    assert steps["requests"].sum() == run["requests"]


def test_a_finished_backfill_leaves_no_draft(here: Operator, accounts: list[str], tmp_path: Path) -> None:
    report = here.backfill(listed(accounts))
    left = [name for name in names("directory", tmp_path) if not name.endswith(".lock")]
    shards = [name for name in left if "/shards/" in name]
    assert len(shards) == 3 * (1 + 2 + 2 + 1)
    assert SEEN in left
    assert backfill_key(report.run_id, "report.json") in left
