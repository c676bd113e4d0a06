"""`run`, `fetch`, `enrich` and `load` in this process; test_program.py runs them as a process of their own."""

import json
import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.databases import NewDatabase, execute, rows_of
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import SteamImport

FETCH_KEYS = {"success", "s3_location", "game_count", "error", "error_code", "rejected", "seconds", "requests"}
ENRICH_KEYS = {"success", "s3_enriched_location", "stats", "error", "error_code", "rejected", "seconds", "requests"}
LOAD_KEYS = {"success", "stats", "error", "error_code", "rejected", "seconds", "requests", "changes"}
RUN_KEYS = {"user_id", "steam_id64", "raw", "enriched", "fetch", "enrich", "load"}


FETCH = ("fetch", ACCOUNT, "--user", USER)


class Csvs(NamedTuple):
    """The locations of a library's two CSVs."""

    raw: str
    enriched: str


@pytest.fixture
def csvs(steam_import: SteamImport) -> Csvs:
    """The CSVs that fetch and enrich have printed."""
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    return Csvs(raw, steam_import("enrich", raw).out.strip())


def edit(location: str, before: str, after: str) -> None:
    """Change a name in a CSV, as an analyst may do."""
    path = Path(location)
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")


def words(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_run_prints_a_table_a_person_wants_to_read_and_a_second_one_changes_nothing(
    steam_import: SteamImport, database: str
) -> None:
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
    (enriched,) = Path("data/imports").absolute().rglob("*-enriched.csv")
    assert ended.out.splitlines()[-2:] == [
        f"To match games by hand: steam-import review export {enriched} -o games.html",
        f"To see it in a browser: steam-import report {enriched} -o library.html",
    ]
    (rows,) = (line for line in lines if line.startswith("Rows created"))
    assert "4 ImportedGame" in rows
    csvs = list(Path("data/imports").absolute().rglob("*.csv"))
    assert (len(csvs), [path for path in csvs if str(path) not in ended.out]) == (2, [])
    assert len(rows_of(database, "ImportedGame")) == 4
    again = words(steam_import("run", ACCOUNT, "--user", USER).out)
    assert [line for line in again if line[:1] == ["Rows"]] == [["Rows", "created", "0"], ["Rows", "updated", "0"]]


@pytest.mark.usefixtures("database")
def test_the_commands_that_a_run_names_work_with_a_store_that_an_option_names_and_after_another_run(
    steam_import: SteamImport,
) -> None:
    Path("games.html").touch()
    ended = steam_import("run", ACCOUNT, "--user", USER, "--store-url", "another store")
    review, report = (line.split(": ", 1)[1] for line in ended.out.splitlines()[-2:])
    assert steam_import(*shlex.split(report)[1:]).status == 0
    exported = steam_import(*shlex.split(review)[1:])
    assert (exported.status, Path("games-2.html").exists()) == (0, True)
    Path("games.csv").write_text("appid,action,igdb_id,note\n999010,ignore,,\n", encoding="utf-8")
    apply = exported.out.splitlines()[-1].partition(", then: ")[2]
    assert "999010" in steam_import(*shlex.split(apply)[1:]).out
    assert not Path("data/imports").exists()


def test_each_stage_takes_the_location_that_the_one_before_printed_and_all_are_one_run(
    steam_import: SteamImport, csvs: Csvs, database: str
) -> None:
    assert "this is a raw CSV: enrich it first" in steam_import("load", csvs.raw).err
    assert "this is an enriched CSV. Give the raw one" in steam_import("enrich", csvs.enriched).err
    Path("copy.csv").write_bytes(Path(csvs.raw).read_bytes())
    first = "checkpoint_invalid: copy.csv: this is a raw CSV: enrich it first, with `steam-import enrich`."
    assert steam_import("report", "copy.csv").err.splitlines()[:1] == [first]
    assert steam_import("enrich", f"./data/../{os.path.relpath(csvs.raw)}").out.strip() == csvs.enriched
    loaded = steam_import("load", os.path.relpath(csvs.enriched))
    assert (loaded.status, "4 ImportedGame" in loaded.out) == (0, True)
    assert len(rows_of(database, "ImportedGame")) == 4
    manifests = [json.loads(path.read_text()) for path in Path(csvs.raw).parent.glob("*.json")]
    assert len(manifests) == 3
    assert len({manifest["run_id"] for manifest in manifests}) == 1
    as_json = [steam_import(*call, "--json") for call in (FETCH, ("enrich", csvs.raw), ("load", csvs.enriched))]
    assert [json.loads(ended.out).keys() for ended in as_json] == [FETCH_KEYS, ENRICH_KEYS, LOAD_KEYS]


def test_the_catalogue_is_shown_to_programs_with_times_and_to_people_with_days(steam_import: SteamImport) -> None:
    assert json.loads(steam_import("catalogue", "show", "--json").out)["newest_look_up"] is None
    steam_import("enrich", steam_import(*FETCH).out.strip())
    shown = json.loads(steam_import("catalogue", "show", "--json").out)
    assert datetime.now(UTC) - datetime.fromisoformat(shown["newest_look_up"]) < timedelta(minutes=5)
    assert "newest look up:       0.0 days ago" in steam_import("catalogue", "show").out


@pytest.mark.usefixtures("database")
def test_run_as_json_has_exactly_the_keys_of_the_contract(steam_import: SteamImport) -> None:
    ended = steam_import("run", ACCOUNT, "--user", USER, "--json")
    report = json.loads(ended.out)
    assert (ended.status, report["user_id"], report["steam_id64"]) == (0, USER, ACCOUNT)
    keys = (report.keys(), report["fetch"].keys(), report["enrich"].keys(), report["load"].keys())
    assert keys == (RUN_KEYS, FETCH_KEYS, ENRICH_KEYS, LOAD_KEYS)
    assert report["raw"] == report["fetch"]["s3_location"]
    assert report["enriched"] == report["enrich"]["s3_enriched_location"]
    assert [report[stage]["success"] for stage in ("fetch", "enrich", "load")] == [True] * 3
    assert [Path(report[name]).is_file() for name in ("raw", "enriched")] == [True] * 2
    assert report["raw"].replace("-raw", "-enriched") == report["enriched"]
    manifests = [json.loads(path.read_text()) for path in Path(report["raw"]).parent.glob("*.json")]
    assert [len(manifests), len({manifest["run_id"] for manifest in manifests})] == [3, 1]


class Failure(NamedTuple):
    """A run that fails: its arguments and what is wrong, the stage and the error that it ends with."""

    arguments: str
    fault: Fault | None
    stage: str
    code: str
    status: int


IGDB_IS_DOWN = Fault(service="igdb", status=503)
HIDDEN = Fault(status=200, body='{"response":{}}', path="Owned")
FAILURES = {
    "no personal account": Failure("10000000000000000", None, "fetch", "bad_steam_id", 2),
    "bad user id": Failure(f"{ACCOUNT} --user ../x", None, "fetch", "bad_event", 2),
    "private library": Failure(f"{ACCOUNT} --user user-1", HIDDEN, "fetch", "private_library", 1),
    "IGDB is down": Failure(f"{ACCOUNT} --user user-1", IGDB_IS_DOWN, "enrich", "igdb_unavailable", 75),
    "unknown user": Failure(f"{ACCOUNT} --user stranger", None, "load", "user_not_found", 1),
}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_run_as_json_says_which_stage_failed_and_why(
    steam_import: SteamImport, sandbox: Sandbox, failure: Failure
) -> None:
    if failure.fault:
        sandbox.faults.add(failure.fault)
    ended = steam_import("run", *failure.arguments.split(), "--json")
    report: dict[str, Any] = json.loads(ended.out)
    failed = report[failure.stage]
    assert (ended.status, failed["success"], failed["error_code"]) == (failure.status, False, failure.code)
    nothing = {"fetch": {"raw", "enriched", "enrich", "load"}, "enrich": {"enriched", "load"}}
    later = nothing.get(failure.stage, {"raw", "enriched", "fetch", "enrich"})  # the user is looked up first
    assert {name for name in RUN_KEYS - {"user_id", "steam_id64"} if report[name] is None} == later
    assert f"{failure.code}: {failed['error']}\n" in ended.err
    assert (f"To continue, with the same settings: steam-import enrich {report['raw']}\n" in ended.err) == bool(
        report["raw"]
    )
    assert ended.err.endswith(f"More: steam-import docs errors {failure.code} (docs/errors.md#{failure.code})\n")


@pytest.mark.parametrize("steam_id", ["four-apps", f"https://steamcommunity.com/profiles/{ACCOUNT}"])
def test_the_user_is_the_steam_id_in_whatever_form_unless_another_is_given(
    steam_import: SteamImport, steam_id: str
) -> None:
    assert f"/imports/{ACCOUNT}/" in steam_import("fetch", steam_id).out
    assert "/imports/somebody/" in steam_import("fetch", steam_id, "--user", "somebody").out


def test_run_without_keys_names_all_that_is_missing_and_where_to_get_it(
    steam_import: SteamImport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    ended = steam_import("run", ACCOUNT)
    assert (ended.status, ended.out, list(Path().iterdir()), sandbox.requests) == (2, "", [], [])
    for text in (
        "STEAM_API_KEY: ",
        "https://steamcommunity.com/dev/apikey",
        "IGDB_CLIENT_ID: ",
        "IGDB_CLIENT_SECRET: ",
        "https://dev.twitch.tv/console/apps",
    ):
        assert text in ended.err
    assert "DATABASE_URL" not in ended.err


def test_options_override_the_environment(
    steam_import: SteamImport, sandbox: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database(2025)
    right = sandbox.environment | {"DATABASE_URL": url, "STORE_URL": "chosen", "STATUS_PLAYED": "REVISITING"}
    names = ("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET", "DATABASE_URL", "STORE_URL", "STATUS_PLAYED")
    for name in names:
        monkeypatch.setenv(name, "wrong")
    options = [word for name in names for word in (f"--{name.lower().replace('_', '-')}", right[name])]
    ended = steam_import("run", ACCOUNT, "--user", USER, *options)
    assert (ended.status, "/chosen/imports/" in ended.out) == (0, True)
    assert len(rows_of(url, "ImportedGame")) == 4
    assert ("REVISITING",) in rows_of(url, "LibraryItem", "status::text")


@pytest.mark.usefixtures("database")
def test_pending_games_are_a_warning_and_no_failure(steam_import: SteamImport, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path="/games", status=503))
    ended = steam_import("run", ACCOUNT, "--user", USER)
    assert ended.status == 0
    assert "IGDB did not answer for 2 games; run it again for these." in ended.err
    assert "IGDB did not answer for these: run it again" in ended.out
    (raw,) = Path("data/imports").absolute().rglob("*-raw.csv")
    assert steam_import("runs", "show", str(raw)).out.endswith(f"Next: steam-import enrich {raw}\n")


def test_a_dry_run_prints_what_it_would_write_by_row_and_column_and_writes_nothing(
    steam_import: SteamImport, csvs: Csvs, database: str
) -> None:
    ended = steam_import("run", ACCOUNT, "--user", USER, "--dry-run")
    assert (ended.status, "Nothing was written" in ended.out) == (0, True)
    assert ["ImportedGame", "4", "0", "0", "0"] in words(ended.out)
    assert rows_of(database, "ImportedGame") == []

    assert steam_import("load", csvs.enriched).status == 0
    execute(database, """UPDATE "ImportedGame" SET name = '[red]x[/]' WHERE "storefrontGameId" = '999010'""")
    assert "give --dry-run with it" in steam_import("load", csvs.enriched, "--details").err
    changes = json.loads(steam_import("load", csvs.enriched, "--dry-run", "--details", "--json").out)["dry_run"]
    names = [change for change in changes["changes"] if change["column"] == "name"]
    assert [(change["table"], change["old"], change["new"]) for change in names] == [
        ("ImportedGame", "[red]x[/]", "Nobody Knows Me")
    ]
    assert "[red]x[/]" in steam_import("load", csvs.enriched, "--dry-run", "--details").out


@pytest.mark.usefixtures("database")
def test_a_quiet_run_prints_only_what_the_next_command_takes(steam_import: SteamImport) -> None:
    enriched = steam_import("run", ACCOUNT, "--user", USER, "--quiet")
    assert enriched.err == ""
    assert steam_import("load", enriched.out.strip(), "-q") == (0, "", "")


def test_an_edited_file_is_read_only_with_trust(steam_import: SteamImport, database: str) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    edit(raw, "Nobody Knows Me", "Somebody Does")
    refused = steam_import("enrich", raw)
    assert refused.status == 1
    assert (
        "If it was edited on purpose, give --trust (in Python trust=True). "
        f"Make it again: steam-import fetch STEAM_ID --user {USER}\n"
    ) in refused.err
    trusted = steam_import("enrich", raw, "--trust")
    assert trusted.status == 0
    assert "trusted a file that its manifest does not prove" in trusted.err
    enriched = trusted.out.strip()
    assert steam_import("load", enriched).status == 0
    edit(enriched, "Somebody Does", "Nobody Does")
    refused = steam_import("load", enriched)
    assert (refused.status, f"Make it again: steam-import enrich {raw}" in refused.err) == (1, True)
    assert steam_import("review", "export", enriched).status == 1
    assert "Nobody Does" in steam_import("review", "export", enriched, "--trust").out
    assert steam_import("load", enriched, "--trust").status == 0
    Path("sheet.csv").write_text(f"appid,action,igdb_id,note,checkpoint\n440,ignore,,,{Path(raw).name}\n")
    assert "give --trust" in steam_import("review", "apply", "sheet.csv", raw).err
    assert steam_import("review", "apply", "sheet.csv", raw, "--trust").status == 0
    assert ("Nobody Does",) in rows_of(database, "ImportedGame", "name")
