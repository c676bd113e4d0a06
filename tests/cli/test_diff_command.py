"""`steam-import diff` and `runs show`: imports after play, purchase, refund and rename, and one after nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import read_changes, read_history, stages
from pipeline.database.database import Database
from pipeline.storage.checkpoints import Provenance, read_load_manifest, write_checkpoint
from pipeline.storage.keys import Checkpoint
from pipeline.storage.store import DirectoryStore
from schemas.events import LoadEvent, LoadResponse
from schemas.frames import dtypes
from schemas.library import RawLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions
from tests.support.libraries import app, library, matched
from tests.support.programs import SteamImport

FIRST, SECOND, THIRD = (f"202611{day}T031749Z" for day in (21, 22, 23))
BEFORE = (app(10, playtime_forever=60), app(20, name="Old"), app(30), app(40))
AFTER = (app(10, playtime_forever=180), app(20, name="New"), matched(40, 400), app(50))


def write(store: DirectoryStore, stem: str, *rows: dict[str, Any]) -> Checkpoint:
    enriched, making = library(*rows), Provenance(f"run-{stem}", datetime(2026, 11, 23, tzinfo=UTC), 1, {})
    raw = Checkpoint("user-1", stem, "raw")
    write_checkpoint(store, raw, enriched.select(dtypes(RawLibrary).names()), pl.DataFrame(), making)
    write_checkpoint(store, raw.enriched, enriched, pl.DataFrame(), making)
    return raw.enriched


def load(store: DirectoryStore, database: str, csv: Checkpoint, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    event = LoadEvent(user_id="user-1", s3_enriched_location=store.locate(csv.key), run_id=f"run-{csv.stem}")
    return stages.load(store, Database(database), event, options)


def test_what_changed_is_the_same_in_diff_stats_manifest_and_history(
    steam_import: SteamImport, database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DirectoryStore(tmp_path / "data")
    first, second = write(store, FIRST, *BEFORE), write(store, SECOND, *AFTER)
    begun = load(store, database, first)
    assert begun.stats is not None
    assert (begun.stats["new_games"], begun.stats["minutes_played_since"]) == (0, 0)

    assert load(store, database, second, LoadOptions(dry_run=True)).success
    assert read_load_manifest(store, second) is None
    stats = load(store, database, second).stats or {}
    assert (stats["new_games"], stats["minutes_played_since"]) == (1, 120)

    capsys.readouterr()  # the log of the loads
    diff = json.loads(steam_import("diff", SECOND, "--json").out)
    lists = ("new_games", "no_longer_owned", "newly_matched", "renamed", "most_played")
    assert {name: [game["appid"] for game in diff[name]] for name in lists} == {
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
    assert sorted(read_changes(store.locate(first.key), SECOND)["appid"]) == [10, 20, 30, 40, 50]
    history = read_history("user-1")
    assert history.filter(appid=10)["playtime_forever"].to_list() == [60, 180]
    assert history.height == len(BEFORE) + len(AFTER)

    write(store, THIRD, *AFTER)  # while the library was private, no CSV was written
    assert steam_import("diff", THIRD).out == f"user-1, from {SECOND} to {THIRD}: nothing has changed.\n"
    assert steam_import("diff", FIRST).status == 2

    assert "fetch, enrich, load" in steam_import("runs").out
    shown = steam_import("runs", "show", SECOND).out
    assert "Nothing is left to do." in shown
    assert "1 new_games" in shown
    assert f"Next: steam-import load {tmp_path}/data" in steam_import("runs", "show", THIRD).out
