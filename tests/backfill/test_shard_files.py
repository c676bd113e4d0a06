"""Files that a backfill left in the store, after a fault, another version of the program, or a mix-up of users."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from typing import cast

import polars as pl
import pytest
from structlog.testing import capture_logs

from pipeline.api import runs_in
from pipeline.backfill.libraries import read_libraries_of_backfill
from pipeline.backfill.outcomes import outcomes_of_fetch
from pipeline.backfill.plan import find_plan, require_plan
from pipeline.backfill.report import read_last_loaded, read_report, write_report
from pipeline.backfill.runner import reset_for_replay
from pipeline.backfill.shards import READERS, ShardFiles, StepResult, list_shards, map_concurrently, write_json
from pipeline.backfill.steps import enrich_shard, find_look_up
from pipeline.catalogue.files import CatalogueFiles
from pipeline.clients import lifetimes_of
from pipeline.errors import Failed
from pipeline.frames.raw_library import owned_games_as_text
from pipeline.settings import Settings
from pipeline.storage.keys import LAST_LOADED
from pipeline.storage.versioned import MIGRATIONS, Migration
from schemas.backfill import FetchedUsers, ShardOutcomes, StepManifest
from schemas.events import SHARD_STEPS, ShardStep
from schemas.frames import conform, dtypes, set_aside
from schemas.library import RawLibrary
from schemas.manifest import VERSIONS
from tests.support.backfills import plan_backfill
from tests.support.stores import Memory

ACCOUNT = "76561197960287930"
LIST = f"user_id,steam_id64\nuser-1,{ACCOUNT}\nuser-2,{ACCOUNT}\n../,1\n".encode()
PLAN, REPORT, LOOK_UP = (f"backfills/run/{name}.json" for name in ("plan", "report", "catalogue"))
RAW, ENRICHED, LOADED = (f"backfills/run/shards/00000-{name}.json" for name in ("raw", "enriched", "loaded"))
GAMES = [{"appid": 440, "name": "Team Fortress 2", "playtime_forever": 30}, {"appid": "ten", "name": "no app"}]


@pytest.fixture
def store(finished: Memory) -> Memory:
    """A store with a finished backfill of two users in one shard."""
    return Memory(dict(finished.objects))


@pytest.fixture(scope="module")
def finished() -> Memory:
    """The one that each test gets a copy of."""
    store = Memory({"overrides.csv": b"appid,action,igdb_id,note\n440,ignore,,\n"})
    plan = plan_backfill(store, LIST, "run")
    (files,) = list_shards(store, plan)
    fetch(files, ["user-1", "user-2"], ["user-1", "user-2"])
    now = datetime.now(UTC)
    write_json(store, LOOK_UP, StepManifest(run_id="run", input="", started_at=now, finished_at=now))
    enriched = enrich_shard(files, CatalogueFiles(store), lifetimes_of(Settings()))
    files.commit(files.start_step("load"), StepResult(files.outcomes(enriched), database="postgresql://host/db"))
    write_report(store, plan)
    return store


def fetch(files: ShardFiles, users: list[str], owners: list[str], rejected_owners: list[str] | None = None) -> None:
    """Finish a fetch whose manifest names users, and whose CSVs hold rows of owners."""
    rows, rejected = set_aside(pl.concat([owned_games_as_text(GAMES, owner, ACCOUNT) for owner in owners]), RawLibrary)
    if rejected_owners:
        rejected = rejected.head(1).with_columns(user_id=pl.lit(rejected_owners[0]))
    fetched = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String}).select(
        "user_id", steam_id64=pl.lit(ACCOUNT), outcome=pl.lit("done", dtypes(FetchedUsers)["outcome"]), error=None
    )
    users_frame = conform(fetched.cast({"error": pl.String}), FetchedUsers)
    files.commit(files.start_step("fetch"), StepResult(outcomes_of_fetch(users_frame, rows, rejected), rows, rejected))


def shard(store: Memory) -> ShardFiles:
    return list_shards(store, require_plan(store, "run"))[0]


READERS_OF: dict[str, Callable[[Memory], object]] = {
    PLAN: lambda store: find_plan(store, "run"),
    REPORT: lambda store: read_report(store, "run"),
    LOOK_UP: lambda store: find_look_up(store, require_plan(store, "run")),
    RAW: lambda store: shard(store).find_manifest("fetch"),
}


@pytest.mark.parametrize(
    ("key", "version"), [(PLAN, 2), (REPORT, 2), (LOOK_UP, 0), (RAW, 0)], ids=["plan", "report", "look-up", "shard"]
)
def test_a_file_of_another_version_is_refused_and_never_overwritten(store: Memory, key: str, version: int) -> None:
    plan = require_plan(store, "run")
    body = json.dumps({"schema_version": version, "of": "another kind"}).encode()
    store.write(key, body)
    with pytest.raises(
        Failed,
        match=f"^checkpoint_invalid: {key} is of version {version} of the backfill format.*or start a new backfill",
    ):
        READERS_OF[key](store)
    commands: list[Callable[[], object]] = [
        lambda: plan_backfill(store, LIST, "run"),
        lambda: reset_for_replay(store, plan, list_shards(store, plan)),
    ]
    if key != PLAN:
        commands[0] = lambda: write_report(store, plan)
    for command in commands:
        with suppress(Failed):
            command()
    assert store.read(key) == body


def test_a_shard_of_an_older_version_is_read_through_the_migration(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, int]", VERSIONS), "backfill", 2)
    migration = Migration(rows=lambda rows: rows.with_columns(name=pl.lit("named since")))
    monkeypatch.setitem(MIGRATIONS, ("backfill", 1), migration)
    files = shard(store)
    fetched = files.require_manifest("fetch")
    assert fetched.schema_version == 2
    assert files.rows(fetched, RawLibrary)["name"].to_list() == ["named since", "named since"]
    assert files.apps(fetched)["name"].to_list() == ["named since", "named since"]


def test_a_shard_that_the_first_version_planned_has_the_same_users(store: Memory) -> None:
    files = shard(store)
    users = files.users()
    store.write(files.shard.users_key, store.objects[files.shard.users_key].replace(b"last_loaded_", b"seen_"))
    assert files.users().equals(users)


@pytest.mark.parametrize("body", [b"", b"{", b'{"schema_version": 1}'], ids=["empty", "cut", "incomplete"])
def test_a_file_that_cannot_be_read_counts_as_none(store: Memory, body: bytes) -> None:
    for key in (REPORT, LOOK_UP, RAW, PLAN):
        assert READERS_OF[key](store) is not None
        store.write(key, body)
        assert READERS_OF[key](store) is None, key


@pytest.mark.parametrize("step", SHARD_STEPS)
def test_a_step_whose_manifest_or_csv_was_damaged_is_to_be_done_again(store: Memory, step: ShardStep) -> None:
    files = shard(store)
    assert list(files.finished_steps()) == list(SHARD_STEPS)
    manifest = files.require_manifest(step)
    for later in SHARD_STEPS[SHARD_STEPS.index(step) + 1 :]:
        store.delete(files.shard.manifest_key(later))
    if manifest.file:
        store.write(manifest.file.key, b"other bytes")
        assert step not in files.finished_steps()
        with pytest.raises(Failed, match="not what its manifest describes"):
            files.rows(manifest, RawLibrary)
    store.write(files.shard.manifest_key(step), b"{")
    assert list(files.finished_steps()) == list(SHARD_STEPS[: SHARD_STEPS.index(step)])


@pytest.mark.parametrize("read", ["rows", "rejected", "manifest"])
def test_rows_of_users_who_are_not_the_shards_are_refused(store: Memory, read: str) -> None:
    files = shard(store)
    own = ["user-1", "user-2"]
    fetch(
        files,
        [*own, "user-3"] if read == "manifest" else own,
        ["user-1", "user-3"] if read == "rows" else own,
        ["user-3"] if read == "rejected" else None,
    )
    manifest = files.require_manifest("fetch")
    assert manifest.rejected
    reads: dict[str, Callable[[], object]] = {
        "rows": lambda: files.rows(manifest, RawLibrary),
        "rejected": lambda: reset_for_replay(store, require_plan(store, "run")),
        "manifest": lambda: files.outcomes(manifest),
    }
    with pytest.raises(Failed, match=r"rows? of another user \(user-3\)") as refused:
        reads[read]()
    assert refused.value.code == "location_refused"


def test_the_first_of_two_manifests_of_one_step_stands(store: Memory) -> None:
    files = shard(store)
    store.delete(RAW)
    started = [files.start_step("fetch"), files.start_step("fetch")]
    outcomes = conform(pl.DataFrame(schema=dtypes(ShardOutcomes)), ShardOutcomes)
    stands, second = (files.commit(step, StepResult(outcomes, requests=n)) for n, step in enumerate(started, start=1))
    assert (stands.requests, second) == (1, stands)


def test_loads_are_remembered_with_a_version_and_one_of_another_version_is_left_as_it_is(store: Memory) -> None:
    loaded = read_last_loaded(store)
    assert loaded["user_id"].to_list() == ["user-1", "user-2"]
    body = BytesIO()
    loaded.write_parquet(body, metadata={"schema_version": "3"})
    store.write(LAST_LOADED, body.getvalue())
    for use in (lambda: read_last_loaded(store), lambda: write_report(store, require_plan(store, "run"))):
        with pytest.raises(Failed, match=r"last_loaded\.parquet is of version 3 of the last_loaded format.* Use .*"):
            use()
    assert store.read(LAST_LOADED) == body.getvalue()


def test_where_the_loads_cannot_be_read_all_users_are_loaded_again(store: Memory) -> None:
    other_columns = BytesIO()
    pl.DataFrame({"user_id": ["user-1"], "digest": ["1-2"]}).write_parquet(other_columns)
    for body in (b"PAR1 is where it ends", other_columns.getvalue()):
        store.write(LAST_LOADED, body)
        assert read_last_loaded(store).is_empty()


def test_a_run_of_another_version_keeps_nobody_from_listing_the_others(store: Memory) -> None:
    plan_backfill(store, LIST, "other")
    plan = json.loads(store.objects[PLAN])
    store.write(PLAN, json.dumps(plan | {"schema_version": 2}).encode())
    with capture_logs() as logs:
        assert runs_in(store)["run_id"].to_list() == ["other"]
    assert [(entry["event"], entry["run_id"]) for entry in logs] == [("record skipped", "run")]


def test_a_shard_whose_csv_was_damaged_gives_no_rows_to_who_reads_all_libraries(store: Memory) -> None:
    plan, fetched = require_plan(store, "run"), shard(store).require_manifest("fetch")
    assert [library.rows.height for library in read_libraries_of_backfill(store, plan)] == [2]
    assert fetched.file
    store.write(fetched.file.key, b"other bytes")
    with capture_logs() as logs:
        assert [library.rows.height for library in read_libraries_of_backfill(store, plan)] == [0]
    assert [(entry["event"], entry["shard"]) for entry in logs] == [("library left out", 0)]


def test_no_more_results_are_in_memory_than_are_read_at_a_time() -> None:
    begun: list[int] = []

    def read(number: int) -> int:
        begun.append(number)
        return number

    for done, number in enumerate(map_concurrently(read, range(5 * READERS))):
        assert number == done
        assert len(begun) - done <= READERS
