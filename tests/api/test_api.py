"""The public interface of notebooks and scripts: any CSV from anywhere, and the runs of a store."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import pipeline
from pipeline import list_runs, read_backfill, read_enriched, read_raw
from pipeline.backfill.report import write_report
from pipeline.errors import PipelineError
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import Checkpoint, raw_checkpoint
from pipeline.storage.store import DirectoryStore
from schemas.backfill import Plan
from schemas.events import KEY_TIME
from schemas.frames import TIME_FORMAT
from schemas.library import DecodedLibrary, RawLibrary
from schemas.manifest import Runs
from tests.support.backfills import plan_backfill
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched
from tests.support.programs import Configure
from tests.support.stores import BUCKET, REGION, local_s3, s3_client

OLD, NEW = (raw_checkpoint("user-1", f"2026112{day}T031749Z") for day in (2, 3))
ENRICHED = library(
    matched(620, 72, igdb_genres=[SHOOTER, FIGHTING], igdb_platforms=[WINDOWS]),
    matched(400, 71, igdb_genres=[]),
    app(10, igdb_candidates="[1,2]", match_reason="ambiguous", rtime_last_played=datetime(2021, 12, 12, tzinfo=UTC)),
)
RAW = ENRICHED.select(RawLibrary.to_schema().columns.keys())


@pytest.fixture(autouse=True)
def _nothing_configured(configured: Configure) -> None:
    configured({})


def write(checkpoint: Checkpoint, rows: pl.DataFrame, *, run_id: str = "run", day: int = 23, **counts: int) -> Path:
    """A checkpoint in the store `data`, with its manifest."""
    store = DirectoryStore(Path("data"))
    making = Provenance(run_id, datetime(2026, 11, day, 3, 17, 49, tzinfo=UTC), 5, counts)
    write_checkpoint(store, checkpoint, rows, pl.DataFrame(), making)
    return Path(store.locate(checkpoint.key))


def written(name: str, rows: pl.DataFrame) -> Path:
    """A CSV without a manifest."""
    rows.write_csv(name, datetime_format=TIME_FORMAT)
    return Path(name)


def refusal(path: Path | str) -> PipelineError:
    with pytest.raises(PipelineError) as refused:
        read_enriched(path)
    assert "\n" not in refused.value.message
    return refused.value


def test_a_raw_csv_comes_in_the_models_types() -> None:
    assert_frame_equal(read_raw(write(OLD, RAW)), RAW)


def test_genres_platforms_and_candidates_come_as_lists() -> None:
    read = read_enriched(write(OLD.enriched, ENRICHED))
    DecodedLibrary.validate(read)
    assert read["igdb_genres"].to_list() == [[SHOOTER, FIGHTING], [], None]
    assert read["igdb_platforms"].to_list() == [[WINDOWS], None, None]
    assert read["igdb_candidates"].to_list() == [None, None, [1, 2]]
    assert_frame_equal(read.drop("^igdb_(genres|platforms|candidates)$"), ENRICHED.select(read.columns[:-3]))


def test_a_csv_without_rows_is_an_empty_frame() -> None:
    assert_frame_equal(read_enriched(written("none.csv", ENRICHED.clear())), DecodedLibrary.empty())


@pytest.mark.parametrize("name", ["no-suffix", "../with blanks & [brackets].csv"])
def test_a_copy_is_read_under_any_name(name: str) -> None:
    copy = shutil.copy(write(OLD.enriched, ENRICHED), name)
    assert read_enriched(copy).height == read_enriched(Path(copy)).height == 3


def test_a_copy_in_a_bucket_that_is_no_store_is_read(configured: Configure) -> None:
    configured({"AWS_REGION": REGION})
    with local_s3():
        body = RAW.write_csv(datetime_format=TIME_FORMAT).encode()
        s3_client().put_object(Bucket=BUCKET, Key="desk/of mine/copy.csv", Body=body)
        assert read_raw(f"s3://{BUCKET}/desk/of mine/copy.csv").height == 3


def test_a_link_is_followed_to_the_file_and_its_manifest() -> None:
    original = write(OLD, RAW)
    Path("link.csv").symlink_to(original)
    assert read_raw("link.csv").height == 3
    original.write_bytes(original.read_bytes() + b"\n")
    with pytest.raises(PipelineError, match="describes"):
        read_raw("link.csv")


def test_a_file_of_many_users_is_read() -> None:
    many = pl.concat([RAW, RAW.with_columns(user_id=pl.lit("user-2"))])
    assert read_raw(written("many.csv", many))["user_id"].n_unique() == 2


def test_a_copy_is_proven_by_the_manifest_that_was_copied_with_it() -> None:
    original = write(OLD.enriched, ENRICHED)
    copy, manifest = Path("mine.csv"), Path("mine.json")
    shutil.copy(original, copy)
    shutil.copy(original.with_suffix(".json"), manifest)
    assert read_enriched(copy).height == 3
    copy.write_text(copy.read_text().replace("Game 72", "Game 73"))
    refused = refusal(copy).message
    assert refused.startswith("mine.csv: it is not the file that mine.json describes")
    assert "trust=True" in refused
    assert "Game 73" in read_enriched(copy, trust=True)["igdb_name"]
    manifest.unlink()
    assert "Game 73" in read_enriched(copy)["igdb_name"]


def test_what_lies_beside_a_file_and_is_no_manifest_is_named() -> None:
    copy = written("games.csv", ENRICHED)
    Path("games.json").write_text("[]")
    assert refusal(copy).message.startswith("games.csv: games.json is not a manifest")


@pytest.mark.parametrize(
    ("location", "code", "why"),
    [
        pytest.param("nowhere.csv", "checkpoint_invalid", "there is no such file in", id="missing"),
        pytest.param("no/such/folder/x.csv", "checkpoint_invalid", "no/such/folder: check its name", id="no folder"),
        pytest.param(".", "configuration", "Is a directory", id="a folder"),
        pytest.param("https://host/x.csv", "location_refused", "neither a path nor s3://bucket/key", id="web address"),
        pytest.param("s3://bucket", "location_refused", "neither a path nor s3://bucket/key", id="bucket alone"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(location: str, code: str, why: str) -> None:
    refused = refusal(location)
    assert refused.code == code
    assert why in refused.message


def test_a_list_that_is_not_the_json_of_the_schema_is_refused() -> None:
    refused = refusal(written("bad.csv", ENRICHED.with_columns(igdb_genres=pl.lit("{}"))))
    assert (refused.code, "igdb_genres" in refused.message) == ("checkpoint_invalid", True)


def test_runs_are_listed_the_newest_first_with_what_their_stages_counted() -> None:
    write(OLD, RAW, run_id="old", day=22, games=3, rejected=2)
    write(NEW, RAW, run_id="fetched", games=3, rejected=2)
    counts = {"matched": 2, "unmatched": 1, "filtered": 0, "pending": 0}
    write(NEW.enriched, ENRICHED, run_id="new", **counts, rejected=1)
    runs = list_runs("data")
    of_both = {"kind": "import", "user_id": "user-1", "users": 1, "is_ended": None, "rows": 3}
    of_both["started_at"] = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
    newer = {"run_id": "new", "timestamp": NEW.stem, "stages": ["fetch", "enrich"], "rejected": 3, "requests": 10}
    older = {"run_id": "old", "timestamp": OLD.stem, "stages": ["fetch"], "rejected": 2, "requests": 5}
    older |= {"started_at": datetime(2026, 11, 22, 3, 17, 49, tzinfo=UTC)} | dict.fromkeys(counts)
    folder = Path("data").absolute()
    assert runs.drop("seconds").to_dicts() == [
        of_both | counts | newer | {"raw": f"{folder}/{NEW.key}", "enriched": f"{folder}/{NEW.enriched.key}"},
        of_both | older | {"raw": f"{folder}/{OLD.key}", "enriched": None},
    ]
    assert read_enriched(runs["enriched"][0]).height == 3


def test_without_a_store_url_it_is_the_configured_store_or_data(monkeypatch: pytest.MonkeyPatch) -> None:
    write(OLD, RAW)
    assert list_runs().height == 1
    monkeypatch.setenv("STORE_URL", "elsewhere")
    assert_frame_equal(list_runs(), Runs.empty())


def test_a_manifest_that_is_none_is_reported_and_its_run_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    write(OLD, RAW)
    write(NEW, RAW).with_suffix(".json").write_text("{}")
    assert list_runs("data")["timestamp"].to_list() == [OLD.stem]
    assert f"{NEW.stem}-raw.json is not a manifest" in capsys.readouterr().out


def planned(run_id: str) -> Plan:
    """A backfill of two users, and two lines that are none, as it begins."""
    store = DirectoryStore(Path("data"))
    users = b"user_id,steam_id64\n-one,76561197960287930\ntwo,76561197960287931\n../,1\n,2\n"
    return plan_backfill(store, users, run_id, size=1)


def test_a_backfill_without_a_report_is_listed_as_not_ended() -> None:
    plan = planned("begun")
    write(OLD, RAW)
    (run, _) = list_runs("data").to_dicts()
    assert {name: value for name, value in run.items() if value is not None} == {
        "kind": "backfill",
        "run_id": "begun",
        "users": 2,
        "timestamp": plan.created_at.strftime(KEY_TIME),
        "stages": [],
        "is_ended": False,
        "started_at": plan.created_at.replace(microsecond=0),
    }
    with pytest.raises(PipelineError, match=r"has no report yet.*--resume begun"):
        read_backfill("begun", "data")


def test_a_backfill_that_stopped_is_listed_with_what_its_report_says_so_far() -> None:
    write_report(DirectoryStore(Path("data")), planned("stopped"))
    (run,) = list_runs("data").to_dicts()
    assert (run["is_ended"], run["stages"], run["rows"], run["matched"], run["requests"]) == (False, [], 0, None, 0)
    stopped = read_backfill("stopped", "data")
    assert stopped.outcomes.select("user_id", "outcome").rows() == [
        ("-one", "failed"),
        ("two", "failed"),
        ("../", "rejected"),
        ("", "rejected"),
    ]
    assert stopped.efforts.height == 0
    damaged = Path("data/backfills/stopped/outcomes.csv")
    damaged.write_text(damaged.read_text().replace("failed", "lost", 1))
    with pytest.raises(PipelineError, match="outcome"):
        read_backfill("stopped", "data")


def test_only_a_whole_plan_is_a_backfill(capsys: pytest.CaptureFixture[str]) -> None:
    planned("begun")
    for folder, body in (("broken", "{}"), ("copies/of", "{}"), ("old", "")):
        Path("data/backfills", folder).mkdir(parents=True)
        Path("data/backfills", folder, "plan.json").write_text(body)
    assert list_runs("data")["run_id"].to_list() == ["begun"]
    assert "backfills/broken/plan.json" in capsys.readouterr().out
    with pytest.raises(PipelineError, match="There is no backfill 'old'"):
        read_backfill("old", "data")


def test_importing_the_package_imports_nothing_that_it_offers() -> None:
    program = "import json, sys, pipeline.errors; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program]))  # noqa: S603 - our own interpreter
    assert {name for name in loaded if name.startswith("pipeline")} == {"pipeline", "pipeline.errors"}
    assert not {"polars", "pandera", "boto3"} & set(loaded)


def test_the_package_has_what_it_offers_and_no_more() -> None:
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)
    assert not hasattr(pipeline, "read_cooked")
