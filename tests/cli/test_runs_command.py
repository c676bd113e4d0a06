"""`steam-import runs`, and files in a bucket."""

import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import polars as pl
import pytest
import structlog

from pipeline import list_runs, read_raw
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.cli import main
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import raw_checkpoint
from pipeline.storage.store import DirectoryStore, Store
from schemas.frames import TIME_FORMAT
from schemas.library import RawLibrary
from tests.support.libraries import app, library
from tests.support.programs import set_only
from tests.support.stores import BUCKET, local_s3, opened

STARTED = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
RAW = library(app(10), app(20)).select(RawLibrary.to_schema().columns.keys())
REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_only(monkeypatch, {"AWS_REGION": REGION})
    monkeypatch.chdir(tmp_path)


def make_runs(store: Store, *days: int) -> None:
    for day in days:
        raw = raw_checkpoint("user-1", f"202611{day}T031749Z")
        write_checkpoint(
            store, raw, RAW, pl.DataFrame(), Provenance(f"run-{day}", STARTED, 2, {"games": 2, "rejected": 0})
        )


def runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["steam-import", "runs", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    structlog.reset_defaults()
    out, err = capsys.readouterr()
    assert (ended.value.code or 0, err) == (0, "")
    return out


@pytest.mark.parametrize("kind", ["directory", "prefix"])
def test_the_newest_runs_are_listed(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with opened(kind, tmp_path / "data") as store:
        make_runs(store, 21, 22, 23)
        url = store.locate("")
        lines = runs(monkeypatch, capsys, "--store-url", url, "--limit", "2").splitlines()
        listed = json.loads(runs(monkeypatch, capsys, "--store-url", url, "--json"))
        assert list_runs(url)["raw"].to_list() == [run["raw"] for run in listed]
    assert [line.split()[:6] for line in lines[1:3]] == [
        [f"202611{day}T031749Z", "user-1", "fetch", "2", "0", "2"] for day in (23, 22)
    ]
    assert len(lines) == 4
    assert [(run["run_id"], run["started_at"], run["matched"]) for run in listed] == [
        (f"run-{day}", "2026-11-23T03:17:49Z", None) for day in (23, 22, 21)
    ]


def test_where_nothing_was_run_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert runs(monkeypatch, capsys) == f"There are no runs in {tmp_path}/data.\n"
    assert runs(monkeypatch, capsys, "--json") == "[]\n"


def test_a_backfill_is_listed_among_the_imports_and_says_that_it_has_not_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = DirectoryStore(tmp_path / "data")
    make_runs(store, 21)
    users = b"user_id,steam_id64\nme,76561197960287930\n"
    write_plan(store, draft_plan(store, "users.csv", users, run_id="crowd"))
    shown = runs(monkeypatch, capsys)
    assert any("crowd, users: 1" in line and "not ended" in line for line in shown.splitlines())
    assert f"{tmp_path}/data/backfills/{{backfill}}/outcomes.csv" in shown
    monkeypatch.setenv("STORE_URL", str(tmp_path / "data"))
    assert {run["kind"] for run in json.loads(runs(monkeypatch, capsys, "--json"))} == {"backfill", "import"}
    assert len(json.loads(runs(monkeypatch, capsys, "--json", "--limit", "1"))) == 1


def test_a_copy_in_a_bucket_that_is_no_store_is_read() -> None:
    with local_s3():
        body = RAW.write_csv(datetime_format=TIME_FORMAT).encode()
        boto3.client("s3", region_name=REGION).put_object(Bucket=BUCKET, Key="desk/of mine/copy.csv", Body=body)
        assert read_raw(f"s3://{BUCKET}/desk/of mine/copy.csv").height == 2
