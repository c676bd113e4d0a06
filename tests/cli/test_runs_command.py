"""`steam-import runs`: imports and backfills, the newest first."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline import list_runs
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import raw_checkpoint
from pipeline.storage.store import DirectoryStore, Store
from schemas.library import RawLibrary
from tests.support.libraries import app, library
from tests.support.programs import SteamImport
from tests.support.stores import opened

STARTED = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
RAW = library(app(10), app(20)).select(RawLibrary.to_schema().columns.keys())


def make_runs(store: Store, *days: int) -> None:
    for day in days:
        provenance = Provenance(f"run-{day}", STARTED, 2, {"games": 2, "rejected": 0})
        write_checkpoint(store, raw_checkpoint("user-1", f"202611{day}T031749Z"), RAW, pl.DataFrame(), provenance)


@pytest.mark.parametrize("kind", ["directory", "prefix"])
def test_the_newest_runs_are_listed(
    kind: str, unconfigured_program: SteamImport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    with opened(kind, tmp_path / "data") as store:
        make_runs(store, 21, 22, 23)
        url = store.locate("")
        lines = unconfigured_program("runs", "--store-url", url, "--limit", "2").out.splitlines()
        listed = json.loads(unconfigured_program("runs", "--store-url", url, "--json").out)
        assert list_runs(url)["raw"].to_list() == [run["raw"] for run in listed]
    assert [line.split()[:6] for line in lines[1:3]] == [
        [f"202611{day}T031749Z", "user-1", "fetch", "2", "0", "2"] for day in (23, 22)
    ]
    assert len(lines) == 4
    assert [(run["run_id"], run["started_at"], run["matched"]) for run in listed] == [
        (f"run-{day}", "2026-11-23T03:17:49Z", None) for day in (23, 22, 21)
    ]


def test_where_nothing_was_run_it_says_so(unconfigured_program: SteamImport, tmp_path: Path) -> None:
    assert unconfigured_program("runs") == (0, f"There are no runs in {tmp_path}/data.\n", "")
    assert unconfigured_program("runs", "--json") == (0, "[]\n", "")


def test_a_backfill_is_listed_among_the_imports_with_whether_it_has_ended(
    unconfigured_program: SteamImport, tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    make_runs(store, 21)
    users = b"user_id,steam_id64\nme,76561197960287930\n"
    write_plan(store, draft_plan(store, "users.csv", users, run_id="crowd"))
    shown = unconfigured_program("runs").out
    assert any("crowd, users: 1" in line and "not ended" in line for line in shown.splitlines())
    assert f"{tmp_path}/data/backfills/{{backfill}}/outcomes.csv" in shown
    assert {run["kind"] for run in json.loads(unconfigured_program("runs", "--json").out)} == {"backfill", "import"}
    assert len(json.loads(unconfigured_program("runs", "--json", "--limit", "1").out)) == 1
