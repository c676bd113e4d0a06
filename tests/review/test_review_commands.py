"""What could not be matched goes out to a person and comes back: three commands, and what may happen between them."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import parse_records
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import DirectoryStore
from schemas.library import EnrichedLibrary
from tests.support.databases import add_user, execute, fetch
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import SteamImport

UNKNOWN, SOUNDTRACK, PORTAL = 999_010, 999_020, 400
GAME = 9001
SHEET = Path("review.csv")
DECISION = f"appid,action,igdb_id,note\n{UNKNOWN},match,{GAME},\n"


@pytest.fixture
def steam_import(steam_import: SteamImport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> SteamImport:
    """Runs the program against a world in which IGDB has learnt a game since."""
    sandbox.world.add_game(1, GAME, "Nobody Knows Me!", platforms=[6], first_release_date=1303084800, genres=[9])
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    return steam_import


def imported(steam_import: SteamImport) -> str:
    """The enriched CSV of a run, for which there is a database."""
    ended = steam_import("run", ACCOUNT, "--user", USER, "--json")
    assert ended.status == 0, ended.err
    enriched: str = json.loads(ended.out)["enriched"]
    return enriched


def only_enriched(steam_import: SteamImport) -> str:
    """The enriched CSV of a library that is not loaded, for which there is no database."""
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    ended = steam_import("enrich", raw)
    assert ended.status == 0, ended.err
    return ended.out.strip()


def exported(steam_import: SteamImport, *arguments: str) -> dict[str, Any]:
    """The numbers of a new sheet."""
    SHEET.unlink(missing_ok=True)
    ended = steam_import("review", "export", *arguments, "-o", str(SHEET), "--json")
    assert ended.status == 0, ended.err
    said: dict[str, Any] = json.loads(ended.out)
    return said


def sheet() -> dict[int, dict[str, str]]:
    return {int(record.cells["appid"]): dict(record.cells) for record in parse_records(SHEET.read_bytes())}


def fill_in(separator: str = ",", **cells: dict[int, str]) -> None:
    """What a person does: some cells of some apps, and the file saved by a spreadsheet."""
    rows = list(csv.DictReader(StringIO(SHEET.read_text(encoding="utf-8-sig"), newline="")))
    for row in rows:
        row.update(
            {column: filled[int(row["appid"])] for column, filled in cells.items() if int(row["appid"]) in filled}
        )
    text = StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    SHEET.write_bytes(text.getvalue().encode("utf-8-sig"))


def verdicts(enriched: str) -> dict[int, tuple[Any, ...]]:
    store = DirectoryStore(Path("data"))
    rows = read_checkpoint(store, parse_checkpoint_key(store.key_of(enriched), "enriched"), EnrichedLibrary).rows
    chosen = rows.select("appid", "match_status", "match_reason", "igdb_id").rows()
    return {appid: tuple(verdict) for appid, *verdict in chosen}


def owners_of_game(url: str) -> list[str]:
    """The users in whose library the game is."""
    joined = 'SELECT l."userId", g."igdbId" FROM "LibraryItem" l JOIN "Game" g ON g.id = l."gameId" ORDER BY 1'
    found: list[str] = fetch(url, joined).filter(igdbId=GAME)["userId"].to_list()
    return found


def overridden() -> str:
    return Path("data/overrides.csv").read_text(encoding="utf-8")


def test_an_unmatched_game_is_matched_and_loaded_by_three_commands(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    enriched = imported(steam_import)
    assert verdicts(enriched)[UNKNOWN] == ("UNMATCHED", "not_found", None)
    assert owners_of_game(database) == []

    counts = exported(steam_import, enriched)
    assert counts.items() >= {"unmatched": 1, "freed": 0, "with_candidates": 1, "unanswered": 0}.items()
    row = sheet()[UNKNOWN]
    assert (row["candidate_1_id"], row["candidate_1"]) == (str(GAME), "Nobody Knows Me! (2011, main game, PC)")
    assert (row["candidate_1_score"], row["action"], row["igdb_id"]) == ("99", "", "")

    ended = steam_import("review", "apply", str(SHEET))
    assert ended == (0, "Decisions put into overrides.csv: 0. Lines skipped: 0.\n", ""), "nobody filled it in"
    assert not Path("data/overrides.csv").exists()

    fill_in(";", action={UNKNOWN: "Match"}, igdb_id={UNKNOWN: f"{GAME}.0"}, note={UNKNOWN: "'=surely"})
    ended = steam_import("review", "apply", str(SHEET))
    assert ended.status == 0, ended.err
    assert f"({UNKNOWN}) → Nobody Knows Me! (IGDB {GAME})\nDecisions put into overrides.csv: 1." in ended.out
    assert overridden() == f"appid,action,igdb_id,note\n{UNKNOWN},match,{GAME},=surely\n"
    assert verdicts(enriched)[UNKNOWN] == ("MATCHED", "override", GAME)
    assert owners_of_game(database) == [USER]

    before, asked = overridden(), len(sandbox.requests)
    said = json.loads(steam_import("review", "apply", str(SHEET), "--json").out)
    assert (said["taken"], said["skipped"], overridden(), len(sandbox.requests)) == (1, [], before, asked + 1)
    (run,) = said["runs"]
    assert {count for what, count in run["load"]["stats"].items() if what.endswith(("_created", "_updated"))} == {0}


@pytest.mark.parametrize(
    ("faults", "status", "says"),
    [
        pytest.param([], 0, f"review.csv, line 2 is skipped: igdb_id: IGDB knows no game {GAME + 1}", id="unknown"),
        pytest.param([Fault(service="igdb", status=503)], 75, "igdb_unavailable", id="no answer"),
    ],
)
def test_a_match_is_not_applied_unless_igdb_knows_its_game(
    steam_import: SteamImport, sandbox: Sandbox, faults: list[Fault], status: int, says: str
) -> None:
    SHEET.write_text(f"appid,action,igdb_id,note\n{UNKNOWN},match,{GAME + 1},\n")
    for fault in faults:
        sandbox.faults.add(fault)
    ended = steam_import("review", "apply", str(SHEET))
    assert (ended.status, says in ended.err) == (status, True)
    assert not Path("data/overrides.csv").exists()


def test_the_first_skipped_lines_are_told_and_the_others_counted(steam_import: SteamImport) -> None:
    SHEET.write_text("appid,action,igdb_id,note\n" + "x,ignore,,\n" * 30)
    ended = steam_import("review", "apply", str(SHEET))
    told = ended.err.splitlines()
    assert (ended.status, len(told), told[-1]) == (0, 21, "and 10 more lines")
    assert told[0].startswith("review.csv, line 2 is skipped: appid: ")
    assert "Decisions put into overrides.csv: 0. Lines skipped: 30." in ended.out


@pytest.mark.slow
def test_a_filtered_app_that_would_not_be_filtered_today_is_proposed_as_a_game(steam_import: SteamImport) -> None:
    enriched = only_enriched(steam_import)
    Path("data/overrides.csv").write_text(f"appid,action,igdb_id,note\n{SOUNDTRACK},game,,\n")
    assert exported(steam_import, enriched).items() >= {"unmatched": 1, "freed": 1}.items()
    row = sheet()[SOUNDTRACK]
    assert [row[name] for name in ("match_status", "proposed", "action", "candidate_1")] == ["IGNORED", "game", "", ""]
    says = "To review: 2 apps, 1 with candidates: 1 unmatched game, 1 app that today's rules would not filter."
    assert says in steam_import("review", "export", enriched).err


def test_an_ambiguous_app_has_the_games_of_igdbs_list_without_a_search(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    for game in (801, 802):
        sandbox.world.add_game(UNKNOWN, game, f"Twin {game}", platforms=[6])
    enriched = only_enriched(steam_import)
    assert verdicts(enriched)[UNKNOWN] == ("UNMATCHED", "ambiguous", None)
    sandbox.requests.clear()
    exported(steam_import, enriched)
    row = sheet()[UNKNOWN]
    assert {row["candidate_1_id"], row["candidate_2_id"], row["candidate_3_id"]} == {"801", "802", ""}
    assert [record.path for record in sandbox.asked("igdb")] == ["/v4/games"]


@pytest.mark.parametrize(
    ("status", "says", "again"),
    [
        (500, "IGDB did not answer for 1 of the games: export again for their candidates.", {"unanswered": 1}),
        (
            400,
            "IGDB refuses 1 of the names, such as Another Unknown: 127.0.0.1 answers 400: Syntax Error.",
            {"unanswered": 0, "refused": 0, "requests": 0},
        ),
    ],
    ids=["no answer", "refused"],
)
def test_a_name_that_igdb_says_nothing_about_has_no_candidates_and_the_export_says_so(
    steam_import: SteamImport, sandbox: Sandbox, status: int, says: str, again: dict[str, int]
) -> None:
    sandbox.world.add_owned(ACCOUNT, 999_030, "Another Unknown")
    enriched = only_enriched(steam_import)
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "Another" in text, status=status))
    ended = steam_import("review", "export", enriched, "-o", str(SHEET))
    assert (says in ended.out, "export again" in ended.out) == (True, status == 500)
    assert [bool(sheet()[appid]["candidate_1"]) for appid in (999_030, UNKNOWN)] == [False, True]
    assert exported(steam_import, enriched).items() >= {"unmatched": 2, "with_candidates": 1, **again}.items()


HOSTILE = {
    1001: '=HYPERLINK("http://evil.example";"Click")',
    1002: "+1",
    1003: "@SUM(A1)",
    1004: "-2",
    1005: "'Splosion Man",
    1006: "'=1",
    1007: "two\nlines, and\r\nmore",
    1008: 'say "hello"; \\ // *',
    1009: "\ttabbed",
    1010: "日本語 🎮",
    1011: "",
    1012: '" }; query games "x" { limit 500; };',
}


@pytest.mark.slow
@pytest.mark.usefixtures("database")
def test_hostile_names_are_exported_without_a_formula_and_come_back(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    for appid, name in HOSTILE.items():
        sandbox.world.add_owned(ACCOUNT, appid, name)
        sandbox.world.add_store_item(appid, "Any")
    sandbox.world.add_owned(ACCOUNT, 1013, None)
    exported(steam_import, imported(steam_import))
    cells = [cell for row in csv.reader(StringIO(SHEET.read_text("utf-8-sig"), newline="")) for cell in row]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))] == []
    assert {appid: row["name"] for appid, row in sheet().items() if appid in HOSTILE} == HOSTILE
    fill_in(action=dict.fromkeys([*HOSTILE, 1013], "ignore"), note={1001: "'=1+1"})
    ended = steam_import("review", "apply", str(SHEET))
    assert "Decisions put into overrides.csv: 13. Lines skipped: 0." in ended.out
    assert "1001,ignore,,=1+1" in overridden()


def test_an_export_never_overwrites_a_file_that_may_hold_decisions(steam_import: SteamImport) -> None:
    enriched = only_enriched(steam_import)
    exported(steam_import, enriched)
    before = SHEET.read_bytes()
    ended = steam_import("review", "export", enriched, "-o", str(SHEET))
    assert (ended.status, SHEET.read_bytes()) == (2, before)
    assert "may hold decisions" in ended.err
    ended = steam_import("review", "export", enriched)
    assert (ended.status, ended.out.encode()) == (0, before)
    assert "To review: 1 app, 1 with candidates: 1 unmatched game." in ended.err
    ended = steam_import("review", "export", enriched, *(f"--app={appid}" for appid in (UNKNOWN, PORTAL, SOUNDTRACK)))
    assert "To review: 3 apps, 3 with candidates: 1 unmatched game, 1 matched game, 1 other app." in ended.err
    assert steam_import("review", "export", enriched, "--json").status == 2


@pytest.mark.usefixtures("database")
def test_a_sheet_is_applied_to_the_one_run_that_the_command_names(steam_import: SteamImport) -> None:
    enriched = imported(steam_import)
    exported(steam_import, enriched)
    fill_in(action={UNKNOWN: "ignore"})
    raw = enriched.replace("-enriched", "-raw")
    assert "overrides.csv: 1." in steam_import("review", "apply", str(SHEET), raw).out
    assert verdicts(enriched)[UNKNOWN][0] == "IGNORED"
    assert steam_import("review", "apply", str(SHEET), "/etc/passwd").status == 1
    before = overridden()
    Path(raw).unlink()
    ended = steam_import("review", "apply", str(SHEET), enriched)
    assert (ended.status, "no such file" in ended.err, overridden()) == (1, True, before)


def owned_by(steam_import: SteamImport, sandbox: Sandbox, database: str) -> str:
    """The run id of a backfill of two users who own an unmatched app, of which another user has a later import."""
    shared = {"backfilled": "76561197960287931", "also": "76561197960287932"}
    for user, account in shared.items():
        sandbox.world.add_owned(account, UNKNOWN, "Nobody Knows Me", playtime_forever=50)
        add_user(database, user)
    Path("users.csv").write_text("user_id,steam_id64\n" + "".join(f"{u},{a}\n" for u, a in shared.items()))
    ended = steam_import("backfill", "users.csv", "--shard-size", "1", "--json")
    assert ended.status == 0, ended.err
    run_id: str = json.loads(ended.out)["run_id"]
    return run_id


def test_each_app_of_all_users_is_listed_once_and_a_decision_is_loaded_for_all_its_owners(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    run_id = owned_by(steam_import, sandbox, database)
    enriched = imported(steam_import)
    counts = exported(steam_import, run_id)
    assert counts.items() >= {"unmatched": 1, "matched": 0, "with_candidates": 1}.items()
    assert (sheet()[UNKNOWN]["owners"], sheet()[UNKNOWN]["playtime_forever"]) == ("2", "100")

    assert exported(steam_import)["unmatched"] == 1
    assert sheet()[UNKNOWN]["owners"] == "3"

    fill_in(action={UNKNOWN: "match"}, igdb_id={UNKNOWN: str(GAME)})
    steam_before = len(sandbox.asked("steam"))
    said = json.loads(steam_import("review", "apply", str(SHEET), "--json").out)
    assert (said["taken"], len(said["runs"]), [one["run_id"] for one in said["backfills"]]) == (1, 1, [run_id])
    assert verdicts(enriched)[UNKNOWN] == ("MATCHED", "override", GAME)
    assert owners_of_game(database) == ["also", "backfilled", USER]
    assert len(sandbox.asked("steam")) == steam_before
    assert exported(steam_import)["unmatched"] == 0


def test_what_cannot_be_loaded_again_stops_no_other_and_is_named_at_the_end(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    run_id = owned_by(steam_import, sandbox, database)
    sandbox.world.add_owned("76561197960287933", UNKNOWN, "Nobody Knows Me")
    assert steam_import("fetch", "76561197960287933", "--user", "gone").status == 0
    imported(steam_import)
    rule = """ADD CONSTRAINT "ours" CHECK ("userId" <> 'also' OR "igdbMatchStatus" <> 'MATCHED') NOT VALID"""
    execute(database, f'ALTER TABLE "ImportedGame" {rule}')
    SHEET.write_text(DECISION)
    applied = steam_import("review", "apply", str(SHEET))
    execute(database, 'ALTER TABLE "ImportedGame" DROP CONSTRAINT "ours"')
    assert (applied.status, owners_of_game(database)) == (1, ["backfilled", USER])
    assert (f"Library of {USER}:" in applied.out, "Library of gone:" in applied.out) == (True, False)
    assert f"Backfill {run_id}:" in applied.out
    for says in (
        "User gone was not loaded again: user_not_found: ",
        "User also was not loaded again: schema_mismatch: ",
        "user_not_found: 1 of 2 libraries could not be loaded again, the first: ",
        f" 1 of 2 shards of backfill {run_id} failed, the first: shard 1: ",
        f"To continue: steam-import backfill --resume {run_id}",
    ):
        assert says in applied.err


@pytest.mark.slow
def test_owners_in_a_backfill_that_has_not_ended_are_loaded_from_what_has_ended_before_it_and_it_is_named(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    run_id = owned_by(steam_import, sandbox, database)
    enriched = imported(steam_import)
    add_user(database, "only")
    users = f"backfilled,76561197960287931\n{USER},{ACCOUNT}\nonly,76561197960287932\n"
    Path("users.csv").write_text(f"user_id,steam_id64\n{users}")
    assert steam_import("backfill", "users.csv", "--resume", "killed").status == 0
    Path("data/backfills/killed/report.json").unlink()

    SHEET.write_text(DECISION)
    applied = steam_import("review", "apply", str(SHEET), "--json")
    assert applied.status == 0, applied.err
    assert "3 owners of these apps are in backfill killed, which has not ended" in applied.err
    assert "Run steam-import backfill --resume killed" in applied.err
    said = json.loads(applied.out)
    assert (said["unfinished"], [one["run_id"] for one in said["backfills"]]) == ({"killed": 3}, [run_id])
    assert verdicts(enriched)[UNKNOWN] == ("MATCHED", "override", GAME)
    assert owners_of_game(database) == ["also", "backfilled", USER]


def exported_apps(steam_import: SteamImport, *arguments: str) -> set[int]:
    """The apps in a new sheet about all users."""
    exported(steam_import, *arguments)
    return set(sheet())


@pytest.mark.usefixtures("database")
def test_a_wrong_match_is_found_and_corrected(steam_import: SteamImport, sandbox: Sandbox) -> None:
    sandbox.world.add_game(1, GAME + 1, "Portal Reloaded", platforms=[6])
    enriched = imported(steam_import)
    wrong = verdicts(enriched)[PORTAL][2]
    assert wrong
    assert PORTAL not in exported_apps(steam_import)
    assert {PORTAL, UNKNOWN} < exported_apps(steam_import, "--matched")
    assert exported_apps(steam_import, "--app", str(PORTAL)) == {PORTAL}
    assert sheet()[PORTAL]["matched_id"] == str(wrong)
    assert steam_import("review", "export", "--app", "7").status == 2
    fill_in(action={PORTAL: "match"}, igdb_id={PORTAL: str(GAME + 1)})
    assert "→ Portal Reloaded" in steam_import("review", "apply", str(SHEET)).out
    assert verdicts(enriched)[PORTAL] == ("MATCHED", "override", GAME + 1)


def test_a_library_that_cannot_be_read_is_left_out_and_the_others_count(steam_import: SteamImport) -> None:
    only_enriched(steam_import)
    broken = Path("data/imports/somebody/20990101T000000Z-raw.csv")
    broken.parent.mkdir()
    broken.write_text("no,raw,csv\n")
    ended = steam_import("review", "export", "-o", str(SHEET))
    assert (ended.status, set(sheet())) == (0, {UNKNOWN})
    assert "library left out" in ended.err


def test_what_the_catalogue_knows_is_reviewed_when_its_owners_are_gone(steam_import: SteamImport) -> None:
    only_enriched(steam_import)
    shutil.rmtree("data/imports")
    assert exported_apps(steam_import) == {UNKNOWN}
    assert (sheet()[UNKNOWN]["owners"], sheet()[UNKNOWN]["name"]) == ("0", "")
    assert exported_apps(steam_import, "--app", str(PORTAL)) == {PORTAL}
    assert sheet()[PORTAL]["match_status"] == "MATCHED"

    SHEET.write_text(f"appid,action,igdb_id,note\n{PORTAL},match,{GAME},\n7,ignore,,\n")
    ended = steam_import("review", "apply", str(SHEET))
    assert (ended.status, f"App ({PORTAL}) → Nobody Knows Me!" in ended.out) == (0, True)
    assert "line 3 is skipped: appid: neither a library nor the catalogue has app 7" in ended.err
    assert overridden().splitlines()[1:] == [f"{PORTAL},match,{GAME},"]
