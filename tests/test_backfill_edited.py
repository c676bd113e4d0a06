"""A backfill's files after somebody edited them, or another version of this program wrote them."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from typing import Any

import polars as pl
import pytest
from structlog.testing import capture_logs

from pipeline.api import backfill_in, runs_in
from pipeline.backfill.plan import Draft, draft_plan, find_plan, make_plan, plan_of, read_seen, require_plan, shards_of
from pipeline.backfill.replay import reset_for_replay
from pipeline.backfill.report import read_report, write_report
from pipeline.backfill.steps import find_look_up
from pipeline.errors import Failed, Refused
from pipeline.storage.keys import LAST_LOADED, Shard
from schemas.backfill import PlanRecord
from schemas.events import MOST_SHARDS
from tests.hostile_backfills import FOLDER, RUN, USERS, left_behind, look_up_all
from tests.support.stores import Memory

PLAN, REPORT, LOOK_UP = (f"{FOLDER}{name}.json" for name in ("plan", "report", "catalogue"))
RAW, LOADED = (f"{FOLDER}shards/00000-{name}.json" for name in ("raw", "loaded"))
REFUSED = f"{FOLDER}users.rejected.csv"
HUGE = 10**30


@pytest.fixture
def store() -> Memory:
    return Memory(dict(left_behind()))


def edit(store: Memory, key: str, *path: str | int, value: object) -> None:
    """Put another value into a JSON object."""
    body = json.loads(store.objects[key])
    part = body
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    store.write(key, json.dumps(body).encode())


def edit_csv(store: Memory, old: bytes, new: bytes) -> None:
    """Put other text into the raw CSV, and have its manifest prove that."""
    file = json.loads(store.objects[RAW])["file"]
    body = store.objects[file["key"]].replace(old, new)
    digest = sha256(body).hexdigest()
    file |= {"key": Shard(RUN, 0).csv_key("fetch", digest), "sha256": digest}
    store.write(file["key"], body)
    edit(store, RAW, "file", value=file)


def plan_of_run(store: Memory) -> PlanRecord:
    return require_plan(store, RUN)


READERS: dict[str, Callable[[Memory], object]] = {
    PLAN: lambda store: find_plan(store, RUN),
    REPORT: lambda store: read_report(store, RUN),
    LOOK_UP: lambda store: find_look_up(store, plan_of_run(store)),
    RAW: lambda store: shards_of(store, plan_of_run(store))[0].record("fetch"),
}


@pytest.mark.parametrize(
    ("key", "path", "value"),
    [
        pytest.param(PLAN, ["users"], HUGE, id="users"),
        pytest.param(PLAN, ["users"], 3, id="users that the shards do not hold"),
        pytest.param(PLAN, ["shards"], 10**9, id="a billion shards"),
        pytest.param(PLAN, ["shards"], -1, id="fewer shards than none"),
        pytest.param(PLAN, ["rejected"], -1, id="fewer lines than none"),
        pytest.param(PLAN, ["created_at"], "2026-01-01T00:00:00", id="a plan's time of no zone"),
        pytest.param(REPORT, ["stages"], {}, id="no stages"),
        pytest.param(REPORT, ["stages", "enrich", "matched"], 0.5, id="half a row"),
        pytest.param(REPORT, ["shards"], {"total": 1}, id="shards of no step"),
        pytest.param(REPORT, ["users", "lost"], 1, id="an outcome that is none"),
        pytest.param(REPORT, ["effort", "fetch", "requests"], HUGE, id="requests of all"),
        pytest.param(REPORT, ["effort", "fetch", "seconds"], 1e300, id="seconds"),
        pytest.param(LOOK_UP, ["requests"], HUGE, id="requests of the look-up"),
        pytest.param(LOOK_UP, ["started_at"], "2026-01-01T00:00:00", id="a look-up's time of no zone"),
        pytest.param(RAW, ["finished_at"], "9999-12-31T23:59:59-14:00", id="a time after all times"),
        pytest.param(RAW, ["requests"], -1, id="fewer requests than none"),
        pytest.param(RAW, ["file", "rows"], HUGE, id="rows of a file"),
        pytest.param(RAW, ["users", 0, "rows"], 2**62, id="rows of a user"),
        pytest.param(RAW, ["users", 0, "user_id"], "user-2", id="a user who is there twice"),
        pytest.param(RAW, ["schema_version"], "1", id="a version that is no number"),
    ],
)
def test_a_record_that_cannot_be_is_none(store: Memory, key: str, path: list[str | int], value: object) -> None:
    assert READERS[key](store) is not None
    edit(store, key, *path, value=value)
    assert READERS[key](store) is None
    assert runs_in(store).height == (0 if key == PLAN else 1)


@pytest.mark.parametrize("key", READERS)
@pytest.mark.parametrize("version", [0, 2, 10**4_000], ids=["older", "newer", "huge"])
def test_a_record_of_another_version_is_refused_and_never_overwritten(store: Memory, key: str, version: int) -> None:
    plan = plan_of_run(store)
    body = json.dumps({"schema_version": version, "what": "of another kind"}).encode()
    store.write(key, body)
    with pytest.raises(
        Failed, match=f"^checkpoint_invalid: {key} is of version .* reads version 1.*Use .* or begin anew"
    ):
        READERS[key](store)
    tries: list[Callable[[], Any]] = [
        lambda: make_plan(store, "users.csv", draft_plan(store, USERS, run_id=RUN, size=2)),
        lambda: write_report(store, plan),
        lambda: reset_for_replay(store, plan, everything=True),
        lambda: asyncio.run(look_up_all(store, plan)),
    ]
    for attempt in tries:
        with suppress(Failed):
            attempt()
    assert store.read(key) == body


def test_a_run_of_another_version_keeps_nobody_from_listing_the_others(store: Memory) -> None:
    make_plan(store, "users.csv", draft_plan(store, USERS, run_id="other", size=2))
    edit(store, PLAN, "schema_version", value=2)
    with capture_logs() as logs:
        assert runs_in(store)["run_id"].to_list() == ["other"]
    assert [(entry["event"], entry["run_id"]) for entry in logs] == [("record skipped", RUN)]
    edit(store, PLAN, "schema_version", value=1)
    edit(store, REPORT, "schema_version", value=2)
    assert set(runs_in(store)["run_id"]) == {"other", RUN}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"line,user_id\n4,../\n", id="columns are missing"),
        pytest.param(b"line,user_id,steam_id64,error\nfour,../,1,bad\n", id="no number"),
        pytest.param(b"line,user_id,steam_id64,error\n,../,1,bad\n", id="a blank"),
        pytest.param(b"line,user_id,steam_id64,error\n4,../,1,bad,and more\n", id="a cell too many"),
        pytest.param(b'line,user_id,steam_id64,error\n4,"../,1,bad\n', id="a quote that never closes"),
        pytest.param(b"line,user_id,steam_id64,error\n", id="a line is gone"),
        pytest.param(b"," * 20_000 + b"\n1\n", id="wider than any sheet"),
        pytest.param(b"PAR1\xff\x00", id="other bytes"),
    ],
)
def test_lines_that_were_refused_and_edited_are_named(store: Memory, body: bytes) -> None:
    store.write(REFUSED, body)
    with pytest.raises(Failed, match=r"users\.rejected\.csv: .*Put it back as it was, or begin anew: `steam-import "):
        write_report(store, plan_of_run(store))


def test_lines_that_were_refused_are_read_as_a_spreadsheet_saves_them(store: Memory) -> None:
    before = store.objects[f"{FOLDER}outcomes.csv"]
    error = pl.read_csv(BytesIO(store.objects[REFUSED]))["error"][0]
    store.write(REFUSED, f'line;user_id;steam_id64;error\r\n4,0;../;1;"{error}"\r\n'.encode("utf-16"))
    write_report(store, plan_of_run(store))
    assert store.objects[f"{FOLDER}outcomes.csv"] == before


def test_an_edited_manifest_makes_nobody_forget_what_was_loaded(store: Memory) -> None:
    seen = read_seen(store)
    assert seen["user_id"].to_list() == ["user-1", "user-2"]
    edit(store, LOADED, "database", value=None)
    edit(store, LOADED, "users", 0, "digest", value=None)
    write_report(store, plan_of_run(store))
    assert read_seen(store).equals(seen)


def test_what_was_loaded_is_remembered_with_its_version(store: Memory) -> None:
    seen = read_seen(store)
    for version in (None, "2"):
        body = BytesIO()
        seen.write_parquet(body, metadata={"schema_version": version} if version else None)
        store.write(LAST_LOADED, body.getvalue())
        if version is None:
            assert read_seen(store).equals(seen)
    for use in (lambda: read_seen(store), lambda: write_report(store, plan_of_run(store))):
        with pytest.raises(Failed, match=r"seen\.parquet is of version 2 of the last_loaded format, and .*1\. Use .*"):
            use()
    assert pl.read_parquet_metadata(BytesIO(store.objects[LAST_LOADED]))["schema_version"] == "2"


def test_a_shard_whose_users_are_lost_does_not_stop_the_look_up() -> None:
    store = Memory(dict(left_behind()))
    store.delete(f"{FOLDER}shards/00000-users.csv")
    assert asyncio.run(look_up_all(store, plan_of_run(store))).counts == {"apps": 0, "pending": 0}
    with pytest.raises(Failed, match=r"00000-users\.csv"):
        shards_of(store, plan_of_run(store))[0].done()


def test_more_shards_than_their_numbers_have_digits_for_are_refused() -> None:
    users = pl.DataFrame({"user_id": ["user-1"] * (MOST_SHARDS + 1)})
    with pytest.raises(Refused, match=r"100,001 users make more than 100,000 shards of 1\. .*--shard-size"):
        plan_of(Draft(RUN, "", users, users.clear(), 1, is_full=False), "users.csv")


def test_a_number_that_is_written_as_text_is_one(store: Memory) -> None:
    whole = backfill_in(store, RUN).efforts
    edit(store, RAW, "users", 0, "rows", value="3")
    assert backfill_in(store, RUN).efforts.equals(whole)


def test_efforts_are_those_of_the_records_that_can_be(store: Memory) -> None:
    whole = backfill_in(store, RUN).efforts
    edit(store, RAW, "requests", value=HUGE)
    assert backfill_in(store, RUN).efforts.height == whole.height - 1


def test_what_is_no_app_is_not_looked_up(store: Memory) -> None:
    edit_csv(store, b",620,", b",-620,")
    edit_csv(store, b",440,", b",x,")
    assert asyncio.run(look_up_all(store, plan_of_run(store))).counts == {"apps": 0, "pending": 0}
