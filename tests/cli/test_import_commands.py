"""The command line in this process: what it prints where, and its exit statuses; test_program.py runs the program."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.databases import NewDatabase, execute, rows_of, url_of
from tests.support.lambda_functions import ACCOUNT, NOWHERE, USER
from tests.support.programs import SteamImport

FETCH_KEYS = {"success", "s3_location", "game_count", "error", "error_code", "rejected"}
ENRICH_KEYS = {"success", "s3_enriched_location", "stats", "error", "error_code", "rejected"}
LOAD_KEYS = {"success", "stats", "error", "error_code", "rejected"}
EXTRA_KEYS = {"seconds", "requests"}
RUN_KEYS = {"user_id", "steam_id64", "raw", "enriched", "fetch", "enrich", "load"}


def imported(steam_import: SteamImport, *arguments: str) -> dict[str, Any]:
    """What `run --json` says."""
    ended = steam_import("run", ACCOUNT, "--user", USER, "--json", *arguments)
    report: dict[str, Any] = json.loads(ended.out)
    assert report.keys() == RUN_KEYS
    return report | {"status": ended.status, "err": ended.err}


def files() -> list[str]:
    """Every file below the current folder."""
    return [str(path) for path in sorted(Path().rglob("*")) if path.is_file()]


def test_run_prints_a_table_a_person_wants_to_read(steam_import: SteamImport, database: str) -> None:
    ended = steam_import("run", ACCOUNT, "--user", USER)
    assert ended.status == 0
    lines = {" ".join(line.split()) for line in ended.out.splitlines()}
    assert lines >= {
        f"Steam library of {ACCOUNT}:",
        "Games found 4",
        "filtered 1 1 soundtrack",
        "matched 2",
        "unmatched 1",
        "pending 0",
        "Rows updated 0",
        "Not matched (1):",
        "Nobody Knows Me (999010, not_found)",
    }
    (rows,) = (line for line in lines if line.startswith("Rows created"))
    assert "4 ImportedGame" in rows
    assert [name for name in files() if name.endswith(".csv") and str(Path(name).absolute()) not in ended.out] == []
    assert len(rows_of(database, "ImportedGame")) == 4


def test_run_again_reports_that_nothing_was_created_or_updated(steam_import: SteamImport, database: str) -> None:
    assert database
    steam_import("run", ACCOUNT, "--user", USER)
    lines = [line.split() for line in steam_import("run", ACCOUNT, "--user", USER).out.splitlines()]
    assert ["Rows", "created", "0"] in lines
    assert ["Rows", "updated", "0"] in lines


def test_run_as_json_has_exactly_the_keys_of_the_contract(steam_import: SteamImport, database: str) -> None:
    assert database
    report = imported(steam_import)
    assert report["status"] == 0
    assert (report["user_id"], report["steam_id64"]) == (USER, ACCOUNT)
    assert report["fetch"].keys() == FETCH_KEYS | EXTRA_KEYS
    assert report["enrich"].keys() == ENRICH_KEYS | EXTRA_KEYS
    assert report["load"].keys() == LOAD_KEYS | EXTRA_KEYS
    assert report["raw"] == report["fetch"]["s3_location"]
    assert report["enriched"] == report["enrich"]["s3_enriched_location"]
    assert [report[stage]["success"] for stage in ("fetch", "enrich", "load")] == [True] * 3
    assert [Path(report[name]).is_file() for name in ("raw", "enriched")] == [True] * 2
    assert report["raw"].replace("-raw", "-enriched") == report["enriched"]


FAILURES = {
    "a refused key": (Fault(status=403), "fetch", "bad_steam_key", 2),
    "a private library": (Fault(status=200, body='{"response":{}}', path="Owned"), "fetch", "private_library", 1),
    "IGDB is down": (Fault(service="igdb", status=503), "enrich", "igdb_unavailable", 75),
    "refused credentials": (Fault(service="twitch", status=403), "enrich", "bad_igdb_credentials", 2),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_run_as_json_tells_which_stage_failed(
    steam_import: SteamImport, sandbox: Sandbox, failure: tuple[Fault, str, str, int]
) -> None:
    fault, stage, code, status = failure
    sandbox.faults.add(fault)
    report = imported(steam_import)
    assert report["status"] == status
    assert (report[stage]["success"], report[stage]["error_code"]) == (False, code)
    null = {"fetch": {"raw", "enriched", "enrich", "load"}, "enrich": {"enriched", "load"}}[stage]
    assert {name for name in RUN_KEYS if report[name] is None} == null
    assert f"{code}: {report[stage]['error']}\n" in report["err"]
    assert report["err"].endswith(f"More: docs/errors.md#{code}\n")


def test_run_as_json_tells_that_the_load_failed(steam_import: SteamImport, database: str) -> None:
    assert database
    report = json.loads(steam_import("run", ACCOUNT, "--user", "stranger", "--json").out)
    assert (report["load"]["success"], report["load"]["error_code"]) == (False, "user_not_found")
    assert report["enrich"]["success"]


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        pytest.param(("10000000000000000",), "bad_steam_id", 2, id="no personal account"),
        pytest.param(("nobody-has-this",), "account_not_found", 1, id="no such custom URL"),
        pytest.param((ACCOUNT, "--user", "../user-2"), "bad_event", 2, id="bad user id"),
    ],
)
def test_run_as_json_tells_what_was_wrong_before_the_first_request(
    steam_import: SteamImport, arguments: tuple[str, ...], code: str, status: int
) -> None:
    ended = steam_import("run", *arguments, "--json")
    report = json.loads(ended.out)
    assert ended.status == status
    assert report.keys() == RUN_KEYS
    assert (report["fetch"]["success"], report["fetch"]["error_code"]) == (False, code)
    assert [report[name] for name in ("raw", "enriched", "enrich", "load")] == [None] * 4


def test_each_stage_prints_the_location_the_next_one_takes(steam_import: SteamImport, database: str) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER)
    assert raw.status == 0
    assert raw.out.endswith("-raw.csv\n")
    assert Path(raw.out.strip()).is_file()
    enriched = steam_import("enrich", raw.out.strip())
    assert enriched.status == 0
    assert enriched.out == raw.out.replace("-raw", "-enriched")
    loaded = steam_import("load", enriched.out.strip())
    assert loaded.status == 0
    assert "4 ImportedGame" in loaded.out
    assert len(rows_of(database, "ImportedGame")) == 4


def test_a_location_may_be_relative_to_the_current_folder(steam_import: SteamImport, database: str) -> None:
    raw = os.path.relpath(steam_import("fetch", ACCOUNT, "--user", USER).out.strip())
    assert raw.startswith(f"data/imports/{USER}/")
    enriched = os.path.relpath(steam_import("enrich", raw).out.strip())
    assert steam_import("load", f"./{enriched}").status == 0
    assert len(rows_of(database, "ImportedGame")) == 4


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "imports/user-1/x-raw.csv", "s3://bucket/imports/user-1/x-raw.csv"]
)
@pytest.mark.parametrize("stage", ["enrich", "load"])
def test_a_location_outside_the_store_is_refused(steam_import: SteamImport, stage: str, location: str) -> None:
    ended = steam_import(stage, location, *(["--database-url", "postgresql://u@h/x"] if stage == "load" else []))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("location_refused: ")


def test_a_stage_as_json_prints_the_handlers_response(steam_import: SteamImport, database: str) -> None:
    assert database
    raw = json.loads(steam_import("fetch", ACCOUNT, "--user", USER, "--json").out)
    enriched = json.loads(steam_import("enrich", raw["s3_location"], "--json").out)
    loaded = json.loads(steam_import("load", enriched["s3_enriched_location"], "--json").out)
    assert raw.keys() == FETCH_KEYS | EXTRA_KEYS
    assert enriched.keys() == ENRICH_KEYS | EXTRA_KEYS
    assert loaded.keys() == LOAD_KEYS | EXTRA_KEYS


def test_the_user_is_the_steam_id_unless_told_otherwise(steam_import: SteamImport) -> None:
    assert f"/imports/{ACCOUNT}/" in steam_import("fetch", "four-apps").out
    assert "/imports/somebody/" in steam_import("fetch", "four-apps", "--user", "somebody").out


@pytest.mark.parametrize(
    "steam_id",
    [
        pytest.param("four-apps", id="vanity name"),
        pytest.param("https://steamcommunity.com/id/four-apps/", id="custom URL"),
        pytest.param(f"https://steamcommunity.com/profiles/{ACCOUNT}", id="profile URL"),
        pytest.param("[U:1:7]", id="SteamID3"),
        pytest.param("STEAM_0:1:3", id="SteamID"),
    ],
)
def test_any_form_of_steam_id_will_do(steam_import: SteamImport, steam_id: str) -> None:
    assert f"/imports/{ACCOUNT}/" in steam_import("fetch", steam_id).out


def test_a_user_of_a_database_that_is_not_ours_must_exist(steam_import: SteamImport, database: str) -> None:
    ended = steam_import("run", ACCOUNT)
    assert ended.status == 1
    assert f'user_not_found: The table "user" has no row with the id {ACCOUNT}' in ended.err
    assert rows_of(database, "ImportedGame") == []


@pytest.mark.parametrize("user_id", ["../user-2", "", "two words", "ü"])
@pytest.mark.parametrize("command", ["run", "fetch"])
def test_a_user_id_that_could_leave_its_folder_is_refused(
    steam_import: SteamImport, command: str, user_id: str
) -> None:
    ended = steam_import(command, ACCOUNT, "--user", user_id)
    assert (ended.status, files()) == (2, [])
    assert "bad_event" in ended.err
    assert "user_id" in ended.err


def test_a_private_library_says_what_its_owner_can_do(steam_import: SteamImport, sandbox: Sandbox) -> None:
    sandbox.world.accounts[ACCOUNT].hidden = True
    ended = steam_import("run", ACCOUNT)
    assert (ended.status, ended.out, files()) == (1, "", [])
    assert "https://steamcommunity.com/my/edit/settings" in ended.err
    assert "Game details" in ended.err


def test_run_without_keys_names_all_that_is_missing_and_where_to_get_it(
    steam_import: SteamImport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    ended = steam_import("run", ACCOUNT)
    assert (ended.status, ended.out, files(), sandbox.requests) == (2, "", [], [])
    for text in (
        "STEAM_API_KEY: ",
        "https://steamcommunity.com/dev/apikey",
        "IGDB_CLIENT_ID: ",
        "IGDB_CLIENT_SECRET: ",
        "https://dev.twitch.tv/console/apps",
    ):
        assert text in ended.err
    assert "DATABASE_URL" not in ended.err


def test_settings_may_come_from_a_file(
    steam_import: SteamImport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEAM_API_KEY")
    Path(".env").write_text(f"STEAM_API_KEY={sandbox.steam.key}\nSTORE_URL=elsewhere\n")
    assert f"/elsewhere/imports/{ACCOUNT}/" in steam_import("fetch", ACCOUNT).out


def test_options_win_over_the_environment(
    steam_import: SteamImport, sandbox: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database(2025)
    right = sandbox.environment | {"DATABASE_URL": url, "STORE_URL": "chosen", "STATUS_PLAYED": "REVISITING"}
    names = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "DATABASE_URL", "STORE_URL", "STATUS_PLAYED")
    for name in names:
        monkeypatch.setenv(name, "wrong")
    options = [word for name in names for word in (f"--{name.lower().replace('_', '-')}", right[name])]
    report = imported(steam_import, *options)
    assert report["status"] == 0
    assert "/chosen/imports/" in report["raw"]
    assert len(rows_of(url, "ImportedGame")) == 4
    statuses = rows_of(url, "LibraryItem", "status::text")
    assert ("REVISITING",) in statuses


def test_a_status_that_the_database_lacks_lists_those_it_has(steam_import: SteamImport, database: str) -> None:
    assert database
    ended = steam_import("run", ACCOUNT, "--user", USER, "--status-unplayed", "NEVER")
    assert ended.status == 2
    assert "STATUS_UNPLAYED" in ended.err
    assert "SHELF" in ended.err


def test_what_may_go_through_later_exits_with_75(
    steam_import: SteamImport, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database
    fault = sandbox.faults.add(Fault(service="steam", status=503))
    assert steam_import("fetch", ACCOUNT).status == 75
    sandbox.faults.remove(fault)
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    assert steam_import("run", ACCOUNT).status == 75
    monkeypatch.setenv("STEAM_API_URL", NOWHERE)
    ended = steam_import("run", ACCOUNT)
    assert (ended.status, ended.out) == (75, "")
    assert "\nsteam_unavailable: 127.0.0.1 did not answer" in ended.err


def test_games_left_pending_are_a_warning_and_no_failure(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    assert database
    sandbox.faults.add(Fault(service="igdb", path="/games", status=503))
    ended = steam_import("run", ACCOUNT, "--user", USER)
    assert ended.status == 0
    assert "IGDB did not answer for 2 games; run it again for these." in ended.err
    assert "IGDB did not answer for these: run it again" in ended.out


def test_many_games_not_matched_are_listed_by_playtime_and_cut_off(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    assert database
    for number in range(20):
        sandbox.world.add_owned(ACCOUNT, 5000 + number, f"[bold]Odd {number}[/bold]", playtime_forever=100 - number)
    lines = steam_import("run", ACCOUNT, "--user", USER).out.splitlines()
    start = lines.index("Not matched (21):")
    assert lines[start + 1] == "  [bold]Odd 0[/bold] (5000, not_found)"
    assert lines[start + 13] == "  and 9 more, in the enriched CSV"


def test_db_check_says_what_is_missing_and_what_is_there(
    steam_import: SteamImport, postgres_server: str, database: str
) -> None:
    there = steam_import("db", "check", "--database-url", database)
    assert there.status == 0
    assert "ImportedGame" in there.out
    empty = steam_import("db", "check", "--database-url", postgres_server)
    assert empty.status == 1
    assert "Missing:" in empty.out
    assert "ImportedGame" in empty.out


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    execute(postgres_server, "CREATE DATABASE emptied")
    yield url_of(postgres_server, "emptied")
    execute(postgres_server, "DROP DATABASE emptied WITH (FORCE)")


@pytest.mark.parametrize("generation", ["2025", "2026"])
def test_db_create_makes_the_tables_once(steam_import: SteamImport, empty_database: str, generation: str) -> None:
    made = steam_import("db", "create", "--generation", generation, "--database-url", empty_database)
    assert (made.status, made.out) == (0, f"Made SavePoint's tables of {generation}.\n")
    assert steam_import("db", "check", "--database-url", empty_database).status == 0
    again = steam_import("db", "create", "--database-url", empty_database)
    assert (again.status, again.out) == (0, "There are tables already; nothing was made.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nothing"),
        pytest.param(("run",), id="no Steam id"),
        pytest.param(("run", ACCOUNT, "--colour"), id="unknown option"),
        pytest.param(("import",), id="unknown command"),
        pytest.param(("db", "create", "--generation", "2024"), id="unknown generation"),
    ],
)
def test_a_wrong_call_exits_with_2_and_prints_the_usage_on_stderr(
    steam_import: SteamImport, arguments: tuple[str, ...]
) -> None:
    ended = steam_import(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert "Usage: steam-import" in ended.err


def test_run_without_an_id_says_which_forms_there_are(steam_import: SteamImport) -> None:
    ended = steam_import("run")
    assert "Missing argument 'STEAM_ID'" in ended.err
    assert "Give a SteamID64 (17 digits" in ended.err


def test_help_and_version_are_results(steam_import: SteamImport) -> None:
    assert "fetch" in steam_import("--help").out
    assert "0.1.0" in steam_import("--version").out
    assert "STEAM_API_KEY" in steam_import("run", "--help").out


def test_a_nonsense_setting_is_named_and_not_quoted(steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_ATTEMPTS", "CANARY")
    ended = steam_import("run", ACCOUNT)
    assert ended.status == 2
    assert "RETRY_ATTEMPTS" in ended.err
    assert "CANARY" not in ended.err
    assert steam_import("fetch", ACCOUNT, "--log-level", "LOUD").status == 2


def test_an_empty_library_is_a_result(steam_import: SteamImport, sandbox: Sandbox, database: str) -> None:
    assert database
    sandbox.world.accounts[World.EMPTY_ACCOUNT] = World.recorded().accounts[World.EMPTY_ACCOUNT]
    ended = steam_import("run", World.EMPTY_ACCOUNT, "--user", USER)
    assert ended.status == 0
    assert ["Games", "found", "0"] in [line.split() for line in ended.out.splitlines()]
