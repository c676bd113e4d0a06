"""`steam-import runs`: imports and backfills, the newest first."""

import json
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline.backfill.shards import list_shards
from pipeline.database.database import Database
from pipeline.errors import Failed
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import backfill_key, raw_checkpoint
from pipeline.storage.store import DirectoryStore, Store
from schemas.library import RawLibrary
from tests.support.backfills import add_accounts, operator_without_database, plan_backfill, user_list
from tests.support.libraries import app, library
from tests.support.programs import SteamImport
from tests.support.stores import names

STARTED = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
RAW = library(app(10), app(20)).select(RawLibrary.to_schema().columns.keys())


def make_import(store: Store, user: str, stem: str) -> None:
    provenance = Provenance(f"run-{stem}", STARTED, 2, {"games": 2, "rejected": 0})
    write_checkpoint(store, raw_checkpoint(user, stem), RAW, pl.DataFrame(), provenance)


LIST = b"user_id,steam_id64\nme,76561197960287930\n"


def test_imports_and_backfills_are_listed_the_newest_first(unconfigured_program: SteamImport, tmp_path: Path) -> None:
    assert unconfigured_program("runs") == (0, f"There are no runs in {tmp_path}/data.\n", "")
    assert unconfigured_program("runs", "--json") == (0, "[]\n", "")
    store = DirectoryStore(tmp_path / "data")
    stems = [f"202611{day}T031749Z" for day in (23, 22, 21)]
    for stem in stems:
        make_import(store, "user-1", stem)
    plan_backfill(store, LIST, "crowd")
    listed = json.loads(unconfigured_program("runs", "--json").out)
    assert [(run["kind"], run["run_id"], run["matched"]) for run in listed] == [
        ("backfill", "crowd", None),
        *(("import", f"run-{stem}", None) for stem in stems),
    ]
    assert listed[1]["started_at"] == "2026-11-23T03:17:49Z"
    _, backfill, newest, *where = unconfigured_program("runs", "--limit", "2").out.splitlines()
    assert "crowd, users: 1" in backfill
    assert "not ended" in backfill
    assert newest.split()[:6] == [stems[0], "user-1", "fetch", "2", "0", "2"]
    assert where == [
        f"An import's CSVs: {tmp_path}/data/imports/{{user}}/{{time}}-raw.csv and …-enriched.csv",
        f"A backfill's users: {tmp_path}/data/backfills/{{backfill}}/outcomes.csv",
    ]


@pytest.mark.parametrize("columns", [40, 90])
def test_a_narrow_terminal_drops_columns_and_shows_each_id_whole(
    unconfigured_program: SteamImport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int
) -> None:
    user, run_id = "u" * 36, "b" * 40
    store = DirectoryStore(tmp_path / "data")
    make_import(store, user, "20261121T031749Z")
    plan_backfill(store, LIST, run_id)
    wide, *_ = unconfigured_program("runs").out.splitlines()
    for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": str(columns), "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    header, *lines = unconfigured_program("runs").out.splitlines()
    assert len(header.split()) < len(wide.split())
    assert header.split()[:4] == ["time", "user", "or", "backfill"]
    assert ("done" in header) == (columns == 90)
    assert any("20261121T031749Z" in line and user in line for line in lines)
    assert any(run_id in line for line in lines)
    shown = unconfigured_program("runs", "show", "20261121T031749Z").out
    assert f"Import of {user} at 20261121T031749Z\n" in shown
    assert f"Next: steam-import enrich {tmp_path}/data/imports/{user}/20261121T031749Z-raw.csv\n" in shown


def test_a_backfill_is_shown_with_its_outcomes_rejected_rows_errors_and_what_to_do_next(
    steam_import: SteamImport, sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    accounts = add_accounts(sandbox.world, 3, 4)
    Database(database).ensure_users(["user-0", "user-1", "user-2", "user-3"])
    sandbox.world.add_owned(accounts[0], 2**40, "no appid")
    users = (*accounts[:2], World.UNKNOWN_ACCOUNT, accounts[2])
    (tmp_path / "users.csv").write_bytes(user_list(users, "../,1"))
    fault = sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[2] in query, status=500))
    failed = steam_import("backfill", "users.csv", "--shard-size", "3")
    run_id = failed.err.partition("Backfill ")[2].split()[0]

    def shown() -> str:
        return steam_import("runs", "show", run_id).out

    def figures(text: str) -> dict[str, list[str]]:
        return {line[:20].strip(): line[20:].split() for line in text.splitlines()}

    first = shown()
    assert f"Backfill {run_id} of 4 users, planned " in first
    assert {name: figures(first)[name] for name in ("Users", "done", "not_found", "failed", "rejected")} == {
        "Users": ["5"], "done": ["2"], "not_found": ["1"], "failed": ["1"], "rejected": ["1"]
    }  # fmt: skip
    assert figures(first)["Rows to fetch"] == ["9", "8", "kept,", "1", "rejected"]
    assert "shard 1: steam_unavailable" in first
    assert figures(first)["Shards, load"] == ["1", "of", "2", "is", "done"]
    assert figures(first)["Users failed"] == ["1", "steam_unavailable"]
    assert f"{tmp_path}/data/backfills/{run_id}/outcomes.csv\n" in first
    assert first.endswith(f"Next: steam-import backfill --resume {run_id}\n")

    sandbox.faults.remove(fault)
    assert steam_import("backfill", "--resume", run_id).status == 0
    assert figures(shown())["not_found"] == ["1"]
    assert shown().endswith(f"Next: steam-import replay {run_id}\n")
    found = json.loads(steam_import("runs", "show", run_id, "--json").out)
    assert (found["report"]["users"]["done"], found["next"]) == (3, f"steam-import replay {run_id}")


def test_failed_users_of_a_complete_backfill_are_shown_by_error_with_the_command_that_tries_them_again(
    steam_import: SteamImport, sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    accounts = add_accounts(sandbox.world, 4, 2)
    assert database, "it has user-1 alone"
    (tmp_path / "users.csv").write_bytes(user_list(accounts))
    sandbox.faults.add(Fault(service="steam", when=lambda query: accounts[3] in query, status=500))
    run_id = json.loads(steam_import("backfill", "users.csv", "--json").out)["run_id"]
    shown = steam_import("runs", "show", run_id).out
    failed = [line.split() for line in shown.splitlines() if line.startswith("Users failed")]
    assert failed == [["Users", "failed", "2", "user_not_found"], ["Users", "failed", "1", "steam_unavailable"]]
    assert "Nothing is left to do." not in shown
    found = json.loads(steam_import("runs", "show", run_id, "--json").out)
    assert found["errors"] == {"user_not_found": 2, "steam_unavailable": 1}
    assert shown.endswith(f"To try the failed users again: {found['next']}\n")

    make_list, _, import_list = found["next"].partition(" && ")
    subprocess.run(make_list, shell=True, check=True, cwd=tmp_path)  # noqa: S602 - what we print, in a test's folder
    assert import_list == "steam-import backfill again.csv"
    assert [line.split(",")[0] for line in (tmp_path / "again.csv").read_text().splitlines()[1:]] == [
        "user-0", "user-2", "user-3"
    ]  # fmt: skip


def test_a_backfill_that_has_not_ended_is_shown_with_its_shards_so_far_and_cannot_be_replayed_before_it_is_fetched(
    steam_import: SteamImport, sandbox: Sandbox, tmp_path: Path
) -> None:
    operator = operator_without_database(sandbox, tmp_path / "data")
    plan = operator.plan(user_list(add_accounts(sandbox.world, 3, 2)), size=1, run_id="killed")
    before = names("directory", tmp_path / "data")
    replayed = steam_import("replay", "killed")
    assert (replayed.status, replayed.out) == (2, "")
    assert "No user of backfill killed is fetched yet" in replayed.err
    assert "Fetch them: steam-import backfill --resume killed\n" in replayed.err
    assert names("directory", tmp_path / "data") == before

    operator.run(plan, ["fetch"])
    shards = list_shards(operator.store, plan)
    with pytest.raises(Failed), shards[1].recording_failure("enrich"):
        raise Failed("checkpoint_invalid", "[a] broken file")
    for key in (shards[2].shard.manifest_key("fetch"), backfill_key("killed", "report.json")):
        operator.store.delete(key)
    shown = steam_import("runs", "show", "killed").out
    assert [" ".join(line.split()) for line in shown.splitlines()[1:]] == [
        "It has no report yet: it is running, or was interrupted.",
        "Shards, fetch 2 of 3 are done",
        "Shards, enrich 0 of 3 are done",
        "Shards, load 0 of 3 are done",
        "Users fetched 2",
        "Failed shard 1: checkpoint_invalid: [a] broken file",
        "Next: steam-import backfill --resume killed",
    ]
    found = json.loads(steam_import("runs", "show", "killed", "--json").out)
    assert found["progress"]["shards"] == {"fetch": 2, "enrich": 0, "load": 0}
    assert found["progress"]["failures"] == ["shard 1: checkpoint_invalid: [a] broken file"]


def test_a_replay_that_finds_nothing_says_so_and_prints_no_old_figures(
    steam_import: SteamImport, sandbox: Sandbox, database: str, tmp_path: Path
) -> None:
    Database(database).ensure_users(["user-0"])
    (tmp_path / "users.csv").write_bytes(user_list(add_accounts(sandbox.world, 1, 4)))
    run_id = json.loads(steam_import("backfill", "users.csv", "--json").out)["run_id"]
    assert steam_import("runs", "show", run_id).out.endswith("Nothing is left to do.\n")
    sandbox.requests.clear()
    says = f"Backfill {run_id} has no rejected and no PENDING rows: nothing was run again. --all runs all shards."
    replayed = steam_import("replay", run_id)
    assert (replayed.status, " ".join(replayed.out.split())) == (0, says)
    assert json.loads(steam_import("replay", run_id, "--json").out) == {"run_id": run_id, "shards": 0}
    assert sandbox.requests == []


def test_rejected_rows_of_an_import_are_shown_with_the_check_that_they_failed(
    unconfigured_program: SteamImport, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    make_import(store, "user-1", "20261121T031749Z")
    rejected = pl.DataFrame({"appid": ["0", "-1"], "rejected_check": "appid: at least 1"})
    store.write(raw_checkpoint("user-1", "20261121T031749Z").rejected_key, rejected.write_csv().encode())
    shown = unconfigured_program("runs", "show", "run-20261121T031749Z")
    assert re.search(r"(?m)^ +rejected +2 +appid: at least 1 *$", shown.out), shown.out
    found = json.loads(unconfigured_program("runs", "show", "20261121T031749Z", "--json").out)
    assert found["rejected"] == {"fetch": {"appid: at least 1": 2}, "enrich": {}}
