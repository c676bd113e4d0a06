"""`steam-import diff` and `runs show`: imports after play, purchase, refund and rename, and one after nothing."""

import json
import re
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import read_changes, read_history, stages
from pipeline.database.database import Database
from pipeline.errors import Refused, Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import PRIVATE, PUBLIC
from pipeline.storage.checkpoints import Provenance, read_load_manifest, write_checkpoint
from pipeline.storage.keys import Checkpoint, CsvStage
from pipeline.storage.store import DirectoryStore
from schemas.events import LoadEvent, LoadResponse
from schemas.frames import dtypes
from schemas.library import RawLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions
from tests.support.databases import rows_of
from tests.support.lambda_functions import ACCOUNT
from tests.support.libraries import app, library, matched
from tests.support.programs import SteamImport

FIRST, SECOND, THIRD = (f"202611{day}T031749Z" for day in (21, 22, 23))
BEFORE = (app(10, playtime_forever=60), app(20, name="Old"), app(30), app(40))
AFTER = (app(10, playtime_forever=180), app(20, name="New"), matched(40, 400), app(50))


def write(store: DirectoryStore, stem: str, *rows: dict[str, Any], user: str = "user-1") -> Checkpoint:
    enriched, making = library(*rows), Provenance(f"run-{stem}", datetime(2026, 11, 23, tzinfo=UTC), 1, {})
    raw = Checkpoint(user, stem, "raw")
    write_checkpoint(store, raw, enriched.select(dtypes(RawLibrary).names()), pl.DataFrame(), making)
    write_checkpoint(store, raw.enriched, enriched, pl.DataFrame(), making)
    return raw.enriched


def load(store: DirectoryStore, database: str, csv: Checkpoint, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    event = LoadEvent(user_id="user-1", s3_enriched_location=store.locate(csv.key), run_id=f"run-{csv.stem}")
    return stages.load(store, Database(database), event, options)


class WithoutLoadManifests(DirectoryStore):
    """A store that cannot be reached when the manifest of a load is written."""

    def write(self, key: str, body: bytes) -> None:
        if key.endswith("-loaded.json"):
            raise Retryable("store_unavailable", "The store does not answer.")
        super().write(key, body)


def test_what_changed_is_the_same_in_diff_stats_manifest_and_history(
    steam_import: SteamImport, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DirectoryStore(tmp_path / "data")
    first, second = write(store, FIRST, *BEFORE), write(store, SECOND, *AFTER)
    load(store, database, first)
    assert load(store, database, second, LoadOptions(dry_run=True)).success
    assert read_load_manifest(store, second) is None
    stats = load(store, database, second).stats or {}
    assert (stats["new_games"], stats["minutes_played_since"]) == (1, 120)

    capsys.readouterr()  # the log of the loads
    diff = json.loads(steam_import("diff", SECOND, "--json").out)
    lists = {name: [game["appid"] for game in games] for name, games in diff.items() if isinstance(games, list)}
    assert lists == {
        "new_games": [50],
        "no_longer_owned": [30],
        "newly_matched": [40],
        "renamed": [20],
        "most_played": [10],
    }
    manifest = read_load_manifest(store, second)
    assert manifest is not None
    assert manifest.changes is not None
    assert manifest.changes.model_dump(mode="json") == diff
    assert (manifest.counts, manifest.database) == (stats, str(Database(database)))
    assert {row["table"] for row in manifest.tables} >= {"Game", "ImportedGame", "LibraryItem"}
    assert sorted(read_changes(store.locate(first.key), SECOND)["appid"]) == [10, 20, 30, 40, 50]

    write(store, THIRD, *AFTER)
    assert steam_import("diff", THIRD).out == f"user-1, from {SECOND} to {THIRD}: nothing has changed.\n"
    assert "fetch, enrich, load" in steam_import("runs").out
    shown = steam_import("runs", "show", SECOND).out
    assert "Nothing is left to do." in shown
    assert "1 new_games" in shown
    loaded = f"Loaded into {manifest.database} with {manifest.statements} statements, run run-{SECOND}\n"
    assert loaded in shown
    assert f"Next: steam-import load {tmp_path}/data" in steam_import("runs", "show", THIRD).out


def test_news_since_the_last_load_are_not_lost_by_an_import_that_was_not_loaded(
    steam_import: SteamImport, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DirectoryStore(tmp_path / "data")
    first, second, third = write(store, FIRST, *BEFORE), write(store, SECOND, *AFTER), write(store, THIRD, *AFTER)
    unloaded_before = load(store, database, second, LoadOptions(dry_run=True))
    assert unloaded_before.changes is not None
    assert unloaded_before.changes.since == FIRST, "none was loaded, as in the stores of older versions"

    load(store, database, first)
    loaded = load(store, database, third)

    assert (loaded.stats or {})["new_games"] == 1
    assert loaded.changes is not None
    assert loaded.changes.since == FIRST
    capsys.readouterr()  # the log of the loads
    assert json.loads(steam_import("diff", THIRD, "--json").out) == loaded.changes.model_dump(mode="json")


def test_an_import_that_was_enriched_anew_after_its_load_is_not_loaded(
    steam_import: SteamImport, database: str, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    load(store, database, write(store, FIRST, *AFTER))
    assert "fetch, enrich, load" in steam_import("runs").out
    write(store, FIRST, *BEFORE)
    assert "Next: steam-import load" in steam_import("runs", "show", FIRST).out
    assert "fetch, enrich, load" not in steam_import("runs").out


def test_a_load_that_is_committed_stays_done_when_its_manifest_cannot_be_written(
    steam_import: SteamImport, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = WithoutLoadManifests(tmp_path / "data")
    csv = write(store, FIRST, *AFTER)

    done = load(store, database, csv)

    assert done.success
    assert len(rows_of(database, "ImportedGame")) == len(AFTER)
    logged = capsys.readouterr()
    assert "the load is done, but its manifest was not written" in logged.out + logged.err
    assert read_load_manifest(store, csv) is None
    assert "Next: steam-import load" in steam_import("runs", "show", FIRST).out


def test_why_a_load_or_an_enrichment_failed_is_shown_until_the_same_stage_succeeds(
    steam_import: SteamImport, database: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    csv = write(store, FIRST, app(620, user_id="user-2"), user="user-2")
    location, raw = store.locate(csv.key), store.locate(Checkpoint("user-2", FIRST, "raw").key)

    def failure() -> dict[str, Any] | None:
        found: dict[str, Any] | None = json.loads(steam_import("runs", "show", FIRST, "--json").out)["failure"]
        return found

    assert steam_import("load", location, "--dry-run").status == 1
    assert failure() is None, "a dry run writes nothing"
    assert steam_import("load", location).status == 1
    assert (failure() or {}).items() >= {"stage": "load", "error_code": "user_not_found"}.items()
    text = steam_import("runs", "show", FIRST).out
    assert re.search(r"(?m)^load failed at 20\S+Z: user_not_found: .*user-2", text)
    assert text.endswith(f"Next: steam-import load {location}\n")

    Database(database).ensure_users(["user-2"])
    assert steam_import("load", location).status == 0
    assert failure() is None

    outage = sandbox.faults.add(Fault(service="igdb", status=503))
    assert steam_import("enrich", raw).status == 75
    assert steam_import("runs", "show", FIRST).out.endswith(f"Next: steam-import enrich {raw}\n")
    sandbox.faults.remove(outage)
    assert steam_import("enrich", raw).status == 0
    assert failure() is None


@pytest.mark.parametrize(("command", "stage"), [("enrich", "raw"), ("load", "enriched")])
def test_a_stage_whose_csv_was_erased_leaves_nothing_of_the_user(
    steam_import: SteamImport, database: str, tmp_path: Path, command: str, stage: CsvStage
) -> None:
    assert database
    missing = Checkpoint("user-1", FIRST, stage)
    assert steam_import(command, str(tmp_path / "data" / missing.key)).status == 1
    assert not (tmp_path / "data" / "imports").exists()


def test_a_run_says_what_changed_since_and_one_after_a_private_phase_that_nothing_has(
    steam_import: SteamImport, sandbox: Sandbox, database: str
) -> None:
    account = sandbox.world.accounts[ACCOUNT]
    owned = {row["appid"]: row for row in account.games}

    run = partial(steam_import, "run", ACCOUNT, "--user", "user-1")
    first = run()
    assert re.search(r"(?m)^First import +there is none before it to compare with *$", first.out), first.out
    time.sleep(1.01)  # the time in the keys has whole seconds
    owned[620]["playtime_forever"] += 120  # play
    sandbox.world.add_owned(ACCOUNT, 500, "Left 4 Dead")  # purchase
    account.games.remove(owned[400])  # refund
    owned[999_010]["name"] = "Somebody Knows Me"  # rename
    second = json.loads(run("--json").out)["load"]
    lists = {name: games for name, games in second["changes"].items() if isinstance(games, list)}
    assert {name: [game["appid"] for game in games] for name, games in lists.items()} == {
        "new_games": [500],
        "no_longer_owned": [400],
        "newly_matched": [],
        "renamed": [999_010],
        "most_played": [620],
    }
    assert (second["stats"]["new_games"], second["stats"]["minutes_played_since"]) == (1, 120)
    assert second["stats"]["no_longer_owned"] == 1
    assert json.loads(steam_import("diff", second["changes"]["until"], "--json").out) == second["changes"]

    rows = rows_of(database, "ImportedGame")
    account.visibility = PRIVATE
    hidden = run()
    assert (hidden.status, "private_library" in hidden.err) == (1, True)
    assert rows_of(database, "ImportedGame") == rows
    account.visibility = PUBLIC
    time.sleep(1.01)
    third = run()
    assert re.search(rf"(?m)^Since {second['changes']['until']} +nothing has changed *$", third.out), third.out
    assert rows_of(database, "ImportedGame") == rows

    history = read_history("user-1")
    sets = history.group_by("fetched_at").agg(pl.col("appid").sort()).sort("fetched_at")["appid"].to_list()
    assert sets == [[400, 620, 999_010, 999_020], *[[500, 620, 999_010, 999_020]] * 2]
    assert history.filter(appid=620)["playtime_forever"].to_list() == [90, 210, 210]
    assert sorted(set(history.filter(appid=999_010)["name"])) == ["Nobody Knows Me", "Somebody Knows Me"]

    assert steam_import("forget", "user-1").status == 0
    after_forget = json.loads(run("--json").out)["load"]
    assert (after_forget["changes"]["since"], after_forget["stats"]["new_games"]) == (None, 0)


def test_what_cannot_be_compared_is_refused_with_what_to_give_instead(
    unconfigured_program: SteamImport, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    ours, theirs = (write(store, FIRST, app(10, user_id=user), user=user) for user in ("user-1", "user-2"))
    write(store, SECOND, *BEFORE)
    for arguments, says in {
        ("diff", "nowhere"): "No import has the run id, time or location 'nowhere'",
        ("diff", FIRST): f"More than one import has the run id, time or location '{FIRST}'",
        ("runs", "show", f"run-{FIRST}"): f"More than one import has the run id, time or location 'run-{FIRST}'",
        ("runs", "show", store.locate(f"imports/user-1/{THIRD}-raw.csv")): "No import has the run id, time or location",
        ("diff", store.locate(theirs.key), SECOND): "are imports of two users. Give two of one user.",
        ("diff", FIRST, "--user", "user-1"): "is the first import of user-1: there is none to compare with.",
        ("diff", store.locate(ours.key)): "is the first import of user-1: there is none to compare with.",
    }.items():
        ended = unconfigured_program(*arguments)
        assert (ended.status, ended.out) == (2, "")
        assert says in " ".join(ended.err.split())
    with pytest.raises(Refused, match="is no user id"):
        read_history("../user-1")
    assert read_history("user-3").is_empty()
