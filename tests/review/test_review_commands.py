"""What could not be matched goes out to a person and comes back: three commands, and what may happen between them."""

import csv
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from structlog.testing import capture_logs

from pipeline.catalogue.look_up import read_overrides
from pipeline.errors import Retryable
from pipeline.frames.overrides import parse_overrides
from pipeline.review.decisions import AppliedReview, NamedGames, apply_review, parse_decisions
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import parse_records
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import DirectoryStore, Store
from schemas.library import EnrichedLibrary
from tests.support.databases import add_user, execute, fetch
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import SteamImport
from tests.support.stores import Memory, OpenedStore

UNKNOWN, SOUNDTRACK, PORTAL = 999_010, 999_020, 400
GAME = 9001
GAMES = NamedGames(dict.fromkeys(range(1, 10_000), "A game"))
SHEET = Path("review.csv")


@pytest.fixture
def steam_import(
    steam_import: SteamImport, sandbox: Sandbox, database: str, monkeypatch: pytest.MonkeyPatch
) -> SteamImport:
    """Runs the program against a world in which IGDB has learnt a game since, and a database."""
    assert database
    sandbox.world.add_game(1, GAME, "Nobody Knows Me!", platforms=[6], first_release_date=1303084800, genres=[9])
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    return steam_import


def imported(steam_import: SteamImport) -> str:
    """The enriched CSV of a run."""
    ended = steam_import("run", ACCOUNT, "--user", USER, "--json")
    assert ended.status == 0, ended.err
    enriched: str = json.loads(ended.out)["enriched"]
    return enriched


def exported(steam_import: SteamImport, enriched: str, *arguments: str) -> dict[str, Any]:
    SHEET.unlink(missing_ok=True)
    ended = steam_import("review", "export", enriched, "-o", str(SHEET), "--json", *arguments)
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


def library_items(url: str) -> list[int]:
    """The games of IGDB that stand in the library."""
    joined = 'SELECT g."igdbId" FROM "LibraryItem" l JOIN "Game" g ON g.id = l."gameId" ORDER BY 1'
    found: list[int] = fetch(url, joined)["igdbId"].to_list()
    return found


def overridden() -> str:
    return Path("data/overrides.csv").read_text(encoding="utf-8")


def test_an_unmatched_game_is_matched_and_loaded_by_three_commands(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    enriched = imported(steam_import)
    assert verdicts(enriched)[UNKNOWN] == ("UNMATCHED", "not_found", None)
    assert GAME not in library_items(database)

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
    assert GAME in library_items(database)

    before, asked = overridden(), len(sandbox.requests)
    said = json.loads(steam_import("review", "apply", str(SHEET), "--json").out)
    assert (said["taken"], said["skipped"], overridden(), len(sandbox.requests)) == (1, [], before, asked + 1)
    (run,) = said["runs"]
    assert {count for what, count in run["load"]["stats"].items() if what.endswith(("_created", "_updated"))} == {0}


def test_a_game_that_igdb_does_not_know_is_refused(steam_import: SteamImport) -> None:
    exported(steam_import, imported(steam_import))
    fill_in(action={UNKNOWN: "match"}, igdb_id={UNKNOWN: "123456789"})
    ended = steam_import("review", "apply", str(SHEET))
    assert "IGDB knows no game 123456789" in ended.err
    assert not Path("data/overrides.csv").exists()


@pytest.mark.slow
def test_invalid_lines_are_skipped_with_the_reason_and_the_rest_counts(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    for appid in (999_030, 999_040, 999_050):
        sandbox.world.add_owned(ACCOUNT, appid, f"Nobody {appid}")
    enriched = imported(steam_import)
    exported(steam_import, enriched)
    fill_in(
        action={999_030: "link", 999_040: "match", 999_050: "game", UNKNOWN: "ignore"},
        appid={999_050: "999060"},
    )
    ended = steam_import("review", "apply", str(SHEET))
    assert ended.status == 0
    assert "Decisions put into overrides.csv: 1. Lines skipped: 3." in ended.out
    told = ended.err.splitlines()
    assert [line.partition(" is skipped: ")[0] for line in told] == [f"review.csv, line {line}" for line in (3, 4, 5)]
    assert "link" not in overridden()
    assert "999060" in told[2]
    assert verdicts(enriched)[UNKNOWN] == ("IGNORED", "override", None)
    SHEET.write_text("appid,action,igdb_id,note\n" + "x,ignore,,\n" * 30)
    told = steam_import("review", "apply", str(SHEET)).err.splitlines()
    assert (len(told), told[-1]) == (21, "and 10 more lines")


@pytest.mark.slow
def test_a_filtered_app_that_would_not_be_filtered_today_is_proposed_as_a_game(
    steam_import: SteamImport,
) -> None:
    enriched = imported(steam_import)
    path = Path(enriched)
    rows = pl.read_csv(path, infer_schema=False)
    was = pl.col("appid") == str(PORTAL)
    filtered = {"kind": "demo", "kind_reason": "name:former", "match_status": "IGNORED", "match_reason": "filtered"}
    nothing = [name for name in rows.columns if name.startswith("igdb_")]
    rows.with_columns(
        *(pl.when(was).then(pl.lit(value)).otherwise(name).alias(name) for name, value in filtered.items()),
        *(pl.when(~was).then(name).alias(name) for name in nothing),
    ).write_csv(path)
    path.with_suffix(".json").unlink()

    assert exported(steam_import, enriched).items() >= {"unmatched": 1, "freed": 1}.items()
    row = sheet()[PORTAL]
    assert (row["match_status"], row["kind_reason"], row["proposed"]) == ("IGNORED", "name:former", "game")
    assert (row["action"], row["candidate_1"]) == ("", "")
    assert SOUNDTRACK not in sheet()

    fill_in(action={PORTAL: "game"})
    steam_import("review", "apply", str(SHEET))
    assert verdicts(enriched)[PORTAL][0] == "MATCHED"
    exported(steam_import, enriched)
    assert PORTAL not in sheet()


def test_an_ambiguous_app_has_the_games_of_igdbs_list_without_a_search(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    for game in (801, 802):
        sandbox.world.add_game(UNKNOWN, game, f"Twin {game}", platforms=[6])
    enriched = imported(steam_import)
    assert verdicts(enriched)[UNKNOWN] == ("UNMATCHED", "ambiguous", None)
    sandbox.requests.clear()
    exported(steam_import, enriched)
    row = sheet()[UNKNOWN]
    assert {row["candidate_1_id"], row["candidate_2_id"], row["candidate_3_id"]} == {"801", "802", ""}
    assert [record.path for record in sandbox.asked("igdb")] == ["/v4/games"]


def test_a_name_without_an_answer_has_no_candidates_and_the_export_says_so(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    sandbox.world.add_owned(ACCOUNT, 999_030, "Another Unknown")
    enriched = imported(steam_import)
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "Another" in text, status=500))
    assert exported(steam_import, enriched).items() >= {"unmatched": 2, "with_candidates": 1, "unanswered": 1}.items()
    assert sheet()[999_030]["candidate_1"] == ""
    assert sheet()[UNKNOWN]["candidate_1"] != ""
    SHEET.unlink()
    ended = steam_import("review", "export", enriched, "-o", str(SHEET))
    assert "did not answer for 1 of the games" in ended.out


def test_a_name_that_igdb_refuses_is_told_in_igdbs_words_and_nobody_is_told_to_export_again(
    steam_import: SteamImport, sandbox: Sandbox
) -> None:
    sandbox.world.add_owned(ACCOUNT, 999_030, "Another Unknown")
    enriched = imported(steam_import)
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "Another" in text, status=400))
    ended = steam_import("review", "export", enriched, "-o", str(SHEET))
    assert "IGDB refuses 1 of the names, such as Another Unknown: 127.0.0.1 answers 400: Syntax Error." in ended.out
    assert "export again" not in ended.out
    SHEET.unlink()
    counts = exported(steam_import, enriched)
    assert (
        counts.items() >= {"unmatched": 2, "with_candidates": 1, "unanswered": 0, "refused": 0, "requests": 0}.items()
    )


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
    enriched = imported(steam_import)
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

    SHEET.unlink()
    ended = steam_import("review", "export", "-o", str(SHEET), "--json")
    assert (ended.status, json.loads(ended.out)["unmatched"]) == (0, 1)
    assert sheet()[UNKNOWN]["owners"] == "3"

    fill_in(action={UNKNOWN: "match"}, igdb_id={UNKNOWN: str(GAME)})
    steam_before = len(sandbox.asked("steam"))
    said = json.loads(steam_import("review", "apply", str(SHEET), "--json").out)
    assert (said["taken"], len(said["runs"]), [one["run_id"] for one in said["backfills"]]) == (1, 1, [run_id])
    assert verdicts(enriched)[UNKNOWN] == ("MATCHED", "override", GAME)
    items = 'SELECT l."userId", g."igdbId" FROM "LibraryItem" l JOIN "Game" g ON g.id = l."gameId" ORDER BY 1'
    owners = fetch(database, items).filter(igdbId=GAME)["userId"].to_list()
    assert owners == sorted(["also", "backfilled", USER])
    assert len(sandbox.asked("steam")) == steam_before
    assert exported_all(steam_import) == set()


def test_a_shard_that_cannot_be_loaded_again_stops_no_other_and_its_users_are_named_at_the_end(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    run_id = owned_by(steam_import, sandbox, database)
    rule = """ADD CONSTRAINT "ours" CHECK ("userId" <> 'also' OR "igdbMatchStatus" <> 'MATCHED') NOT VALID"""
    execute(database, f'ALTER TABLE "ImportedGame" {rule}')
    SHEET.write_text(f"appid,action,igdb_id,note\n{UNKNOWN},match,{GAME},\n")
    applied = steam_import("review", "apply", str(SHEET))
    assert applied.status == 1
    assert f"Backfill {run_id}:" in applied.out
    assert "User also was not loaded again: schema_mismatch: " in applied.err
    assert f"schema_mismatch: 1 of 2 shards of backfill {run_id} failed, the first: shard 1: " in applied.err
    assert f"To continue: steam-import backfill --resume {run_id}" in applied.err
    rows = fetch(database, 'SELECT "userId", "igdbMatchStatus"::text FROM "ImportedGame"')
    assert rows.filter(igdbMatchStatus="MATCHED")["userId"].unique().to_list() == ["backfilled"]


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

    SHEET.write_text(f"appid,action,igdb_id,note\n{UNKNOWN},match,{GAME},\n")
    applied = steam_import("review", "apply", str(SHEET), "--json")
    assert applied.status == 0, applied.err
    assert "3 owners of these apps are in backfill killed, which has not ended" in applied.err
    assert "Run steam-import backfill --resume killed" in applied.err
    said = json.loads(applied.out)
    assert (said["unfinished"], [one["run_id"] for one in said["backfills"]]) == ({"killed": 3}, [run_id])
    assert verdicts(enriched)[UNKNOWN] == ("MATCHED", "override", GAME)
    rows = fetch(database, 'SELECT "userId", "storefrontGameId", "igdbMatchStatus"::text FROM "ImportedGame"')
    matched = rows.filter(storefrontGameId=str(UNKNOWN), igdbMatchStatus="MATCHED")
    assert set(matched["userId"]) == {"backfilled", "also", USER}


def exported_all(steam_import: SteamImport, *arguments: str) -> set[int]:
    """The apps in a sheet about all users."""
    SHEET.unlink(missing_ok=True)
    ended = steam_import("review", "export", "-o", str(SHEET), *arguments)
    assert ended.status == 0, ended.err
    return set(sheet())


def test_a_wrong_match_is_found_and_corrected(steam_import: SteamImport, sandbox: Sandbox, database: str) -> None:
    sandbox.world.add_game(1, GAME + 1, "Portal Reloaded", platforms=[6])
    enriched = imported(steam_import)
    wrong = verdicts(enriched)[PORTAL][2]
    assert wrong
    assert PORTAL not in exported_all(steam_import)
    assert {PORTAL, UNKNOWN} < exported_all(steam_import, "--matched")
    assert exported_all(steam_import, "--app", str(PORTAL)) == {PORTAL}
    assert sheet()[PORTAL]["matched_id"] == str(wrong)
    assert steam_import("review", "export", "--app", "7").status == 2
    fill_in(action={PORTAL: "match"}, igdb_id={PORTAL: str(GAME + 1)})
    assert "→ Portal Reloaded" in steam_import("review", "apply", str(SHEET)).out
    assert verdicts(enriched)[PORTAL] == ("MATCHED", "override", GAME + 1)
    assert GAME + 1 in library_items(database)


def test_nothing_is_applied_while_igdb_does_not_answer(steam_import: SteamImport, sandbox: Sandbox) -> None:
    exported(steam_import, imported(steam_import))
    fill_in(action={UNKNOWN: "match"}, igdb_id={UNKNOWN: str(GAME)})
    sandbox.faults.add(Fault(service="igdb", status=503))
    assert steam_import("review", "apply", str(SHEET)).status == 75
    assert not Path("data/overrides.csv").exists()


def test_a_library_that_cannot_be_read_is_left_out_and_the_others_count(steam_import: SteamImport) -> None:
    imported(steam_import)
    broken = Path("data/imports/somebody/20990101T000000Z-raw.csv")
    broken.parent.mkdir()
    broken.write_text("no,raw,csv\n")
    ended = steam_import("review", "export", "-o", str(SHEET))
    assert (ended.status, set(sheet())) == (0, {UNKNOWN})
    assert "library left out" in ended.err


def test_what_the_catalogue_knows_is_reviewed_when_its_owners_are_gone(steam_import: SteamImport) -> None:
    imported(steam_import)
    shutil.rmtree("data/imports")
    assert exported_all(steam_import) == {UNKNOWN}
    assert (sheet()[UNKNOWN]["owners"], sheet()[UNKNOWN]["name"]) == ("0", "")
    assert exported_all(steam_import, "--app", str(PORTAL)) == {PORTAL}
    assert sheet()[PORTAL]["match_status"] == "MATCHED"

    SHEET.write_text(f"appid,action,igdb_id,note\n{PORTAL},match,{GAME},\n7,ignore,,\n")
    ended = steam_import("review", "apply", str(SHEET))
    assert (ended.status, f"App ({PORTAL}) → Nobody Knows Me!" in ended.out) == (0, True)
    assert "line 3 is skipped: appid: neither a library nor the catalogue has app 7" in ended.err
    assert overridden().splitlines()[1:] == [f"{PORTAL},match,{GAME},"]


@pytest.mark.slow
def test_a_user_who_cannot_be_loaded_stops_no_other(steam_import: SteamImport, sandbox: Sandbox, database: str) -> None:
    sandbox.world.add_owned("76561197960287931", UNKNOWN, "Nobody Knows Me")
    assert steam_import("fetch", "76561197960287931", "--user", "gone").status == 0
    exported(steam_import, imported(steam_import))
    fill_in(action={UNKNOWN: "match"}, igdb_id={UNKNOWN: str(GAME)})

    ended = steam_import("review", "apply", str(SHEET))
    assert (ended.status, GAME in library_items(database)) == (1, True)
    assert "user_not_found: 1 of 2 libraries was not loaded again, the other was. " in ended.err
    assert "User gone was not loaded again: user_not_found: " in ended.err
    assert (f"Library of {USER}:" in ended.out, "Library of gone:" in ended.out) == (True, False)


@pytest.fixture
def store(at: OpenedStore) -> Store:
    return at.store


OWNED = dict.fromkeys(range(1, 41))
"""The apps that a library or the catalogue has, without names."""


def deciding(store: Store, *appids: int, action: str = "ignore") -> AppliedReview:
    lines = "".join(f"{appid},{action},,\n" for appid in appids)
    return apply_review(store, parse_decisions(f"appid,action,igdb_id,note\n{lines}".encode()), GAMES, OWNED)


def actions(store: Store) -> dict[int, str]:
    rows, faults = parse_overrides(store.read("overrides.csv"))
    assert faults == []
    return dict(rows.select("appid", "action").rows())


def test_decisions_are_merged_into_the_overrides_that_are_there_but_for_apps_that_nobody_knows(store: Store) -> None:
    store.write("overrides.csv", b"appid,action,igdb_id,note\n99,match,5,not of this run\n2,game,,why\n")
    applied = deciding(store, 41, 1, 2)
    assert (len(applied.decided), [line.line for line in applied.skipped]) == (2, [2])
    assert store.read("overrides.csv") == (
        b"appid,action,igdb_id,note\n99,match,5,not of this run\n2,ignore,,why\n1,ignore,,\n"
    )


class Contested:
    """A store in which others are quicker, so many times."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def replace(self, key: str, body: bytes, etag: str | None) -> bool:
        self._times -= 1
        if self._times >= 0:
            deciding(self._store, 20 + self._times, action="game")
        return self._store.replace(key, body, etag)


@pytest.mark.parametrize("is_new", [True, False])
def test_lines_that_others_write_meanwhile_are_kept(store: Store, *, is_new: bool) -> None:
    if not is_new:
        deciding(store, 10)
    contested: Any = Contested(store, times=3)
    deciding(contested, 1, 2)
    assert actions(store) == ({} if is_new else {10: "ignore"}) | {
        22: "game", 21: "game", 20: "game", 1: "ignore", 2: "ignore"
    }  # fmt: skip


def test_a_file_that_others_rewrite_all_the_time_is_left_alone(store: Store) -> None:
    contested: Any = Contested(store, times=20)
    with pytest.raises(Retryable, match="rewritten by others"):
        deciding(contested, 1)
    assert 1 not in actions(store)


def test_many_people_at_once_lose_no_line(here: OpenedStore) -> None:
    with ThreadPoolExecutor(6) as people:
        list(people.map(lambda first: deciding(here.store, *range(first, first + 5)), range(1, 31, 5)))
    assert actions(here.store) == dict.fromkeys(range(1, 31), "ignore")


def test_the_first_of_many_invalid_overrides_are_logged_and_the_others_counted() -> None:
    with capture_logs() as logs:
        assert read_overrides(Memory({"overrides.csv": b"x,\n" * 1_000})).is_empty()
    assert [entry["event"] for entry in logs] == ["override skipped"] * 20 + ["more overrides skipped"]
    assert (logs[0]["fault"][:7], logs[-1]["faults"]) == ("line 1:", 980)
