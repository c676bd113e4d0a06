"""Erasing a user from the store: no byte is left, all others stay, and it may be killed and run again."""

import csv
import io
import re
from itertools import count
from pathlib import Path

import polars as pl
import pytest

from handlers import backfill as backfill_function
from pipeline.backfill.forget import forget_user
from pipeline.backfill.plan import require_plan
from pipeline.backfill.report import OUTCOMES_CSV, read_last_loaded, read_report
from pipeline.backfill.shards import list_shards, write_json
from pipeline.catalogue.wanted import want_apps
from pipeline.errors import Failed, Refused, Retryable
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.csv import drop_records
from pipeline.storage.keys import LAST_LOADED, LAST_LOADED_BEFORE, WANTED, Shard, backfill_key, raw_checkpoint
from pipeline.storage.store import Store
from schemas.backfill import LastLoaded, ShardFailure
from schemas.frames import dtypes
from tests.support.backfills import Operator, add_accounts, new_operator, user_list
from tests.support.crashes import find_damaged_objects
from tests.support.databases import NewDatabase
from tests.support.programs import SteamImport
from tests.support.stores import TIMESTAMP, OpenedStore, Watched, names, own

USERS = 4
GONE = "user-1"
LIST = "lists/users.csv"


@pytest.fixture
def world() -> World:
    return World.recorded()


@pytest.fixture
def accounts(sandbox: Sandbox) -> list[str]:
    return add_accounts(sandbox.world, USERS, 5)


@pytest.fixture
def operator(sandbox: Sandbox, tmp_path: Path, new_database: NewDatabase, accounts: list[str]) -> Operator:
    """An operator whose store has an ended backfill of all users, its list, and imports of two of them."""
    operator = new_operator(sandbox, tmp_path, new_database(2026), USERS)
    sandbox.world.add_owned(accounts[1], 999_050, "A name with a \0")
    users = user_list(accounts, f"{GONE},{accounts[1]}", "=bad(),1")
    operator.store.write(LIST, users)
    operator.backfill(users, size=2)
    for user in (GONE, "user-2"):
        own(operator.store, [{"appid": 620, "name": "Portal 2"}], raw_checkpoint(user, TIMESTAMP))
    return operator


def mentions(store: Store, *names: str) -> list[str]:
    """Return the keys of the objects in which a name is found as a word, with Parquet files decoded."""
    word = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names))
    return [key for key in store.list("") if not key.startswith("postgres/") and word.search(key + _text(store, key))]


def _text(store: Store, key: str) -> str:
    body = store.read(key) or b""
    return pl.read_parquet(body).write_json() if key.endswith(".parquet") else body.decode(errors="replace")


def outcomes_of_others(store: Store, run_id: str) -> list[dict[str, str]]:
    body = store.read(backfill_key(run_id, OUTCOMES_CSV)) or b""
    return [row for row in csv.DictReader(io.StringIO(body.decode())) if row["user_id"] != GONE]


def only_run(store: Store) -> str:
    return next(key.split("/")[1] for key in store.list("backfills/") if key.endswith("/plan.json"))


def leave_drafts(folder: Path, run_id: str, line: str) -> None:
    """Leave what killed writers of files about a user leave half written beside them."""
    of_run = (backfill_key(run_id, name) for name in ("users.rejected.csv", "shards/00001-users.csv"))
    for key in (f"imports/{GONE}/1-raw.csv", LIST, "lists/another.csv", LAST_LOADED, LAST_LOADED_BEFORE, *of_run):
        path = folder / key
        path.with_name(f".{path.name}.0123456789abcdef.draft").write_text(line)


def test_no_byte_of_a_user_is_left_and_others_are_as_before(
    operator: Operator, tmp_path: Path, accounts: list[str]
) -> None:
    store, run_id = operator.store, only_run(operator.store)
    before = outcomes_of_others(store, run_id)
    assert len(mentions(store, GONE, accounts[1])) > 10
    want_apps(store, RUN, pl.Series([10], dtype=pl.Int32))
    says = f"The games of {accounts[1]} ({GONE}) are not those of {accounts[1]}0"
    failed = ShardFailure(step="load", error_code="checkpoint_invalid", error=says, retryable=False)
    write_json(store, Shard(run_id, 0).failure_key, failed)
    store.write(LAST_LOADED_BEFORE, store.read(LAST_LOADED) or b"")
    store.delete(LAST_LOADED)
    leave_drafts(tmp_path, run_id, f"{GONE},{accounts[1]}\n")
    erased = forget_user(store, GONE)
    assert (erased.files, erased.backfills, erased.last_loaded) == (2, [run_id], True)
    assert erased.lists == [store.locate(LIST)]
    assert mentions(store, GONE, accounts[1]) == []
    assert list(tmp_path.rglob(".*.draft")) == []
    left = list_shards(store, require_plan(store, run_id))[0].find_failure()
    assert left
    assert left.error == f"The games of (erased) ((erased)) are not those of {accounts[1]}0"
    assert store.list(f"imports/{GONE}/") == {}
    assert not Path(store.locate(f"imports/{GONE}")).exists()
    assert find_damaged_objects(store) == []
    assert outcomes_of_others(store, run_id) == before
    report, plan = read_report(store, run_id), require_plan(store, run_id)
    assert report
    assert (report.users["total"], report.users["done"], report.is_complete) == (USERS, USERS - 1, True)
    assert (plan.users, plan.rejected) == (USERS - 1, 1)
    for files in list_shards(store, plan):
        assert list(files.finished_steps()) == ["fetch", "enrich", "load"]
    again = forget_user(store, GONE)
    assert (again.files, again.backfills, again.lists, again.last_loaded) == (0, [], [], False)
    expect_a_periodic_run(operator)


RUN = f"import-{GONE}-20261126"


def test_no_name_of_a_file_is_left_that_a_run_named_after_the_user_gave_it(at: OpenedStore) -> None:
    wanted = [pl.Series(appids, dtype=pl.Int32) for appids in ([10], [20], [10, 30])]
    for run_id, appids in zip((RUN, "run-2", RUN), wanted, strict=True):
        want_apps(at.store, run_id, appids)
    if at.kind == "directory":
        (at.folder / WANTED / f".{RUN}.csv.lock").touch()  # as earlier versions left it
    before = at.store.list("")
    assert len([key for key in before if GONE in key]) == 2
    forget_user(at.store, GONE, dry_run=True)
    assert at.store.list("") == before
    for _ in range(2):
        forget_user(at.store, GONE)
        assert [name for name in names(at.kind, at.folder) if GONE in name] == []
        bodies = [(at.store.read(key) or b"").split() for key in at.store.list(WANTED)]
        assert sorted(bodies) == [[b"appid", b"10"], [b"appid", b"10", b"30"], [b"appid", b"20"]]


def test_nothing_is_erased_while_what_was_last_loaded_is_corrupt(at: OpenedStore) -> None:
    own(at.store, [{"appid": 620, "name": "Portal 2"}], raw_checkpoint(GONE, TIMESTAMP))
    at.store.write(LIST, user_list(["76561197960300000", "76561197960300001"]))
    at.store.write(LAST_LOADED, b"PAR1 cut off")
    before = at.store.list("")
    for is_dry in (True, False):
        with pytest.raises(Failed, match=rf"{LAST_LOADED} is corrupt .*Delete it, and run the same again"):
            forget_user(at.store, GONE, dry_run=is_dry)
    assert at.store.list("") == before
    at.store.delete(LAST_LOADED)
    assert forget_user(at.store, GONE).files == 2
    assert mentions(at.store, GONE) == []


def expect_a_periodic_run(operator: Operator) -> None:
    """Run the list that is left, and expect that nothing is loaded twice."""
    report = operator.backfill(operator.store.read(LIST) or b"", size=2)
    assert (report.users["done"], report.users["rejected"], report.is_complete) == (USERS - 1, 1, True)
    assert report.stages["load"]["unchanged"] == report.stages["load"]["rows"]
    assert GONE not in operator.outcomes(report.run_id)


def test_a_dry_run_erases_nothing_and_a_backfill_that_has_not_ended_is_named(
    operator: Operator, accounts: list[str], steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = operator.store.list("")
    arguments = ("forget", GONE, "--store-url", operator.store.locate(""))
    shown = steam_import(*arguments, "--dry-run")
    assert shown.status == 0
    assert "files of imports: 2" in shown.out
    assert only_run(operator.store) in shown.out
    assert "database" in shown.out
    assert operator.store.list("") == before
    running = operator.plan(user_list(accounts[:2]), run_id="under-way")
    before = operator.store.list("")
    with pytest.raises(Refused, match=r"under-way.*nothing was\s+erased"):
        forget_user(operator.store, GONE)
    assert operator.store.list("") == before
    monkeypatch.setenv("STORE_URL", operator.store.locate(""))
    response = backfill_function.handler({"step": "forget", "user_id": GONE}, None)
    assert (response["success"], response["error_code"]) == (False, "bad_event")
    assert forget_user(operator.store, "user-3").backfills  # who is not in it
    operator.run(running)
    assert '"files":2' in steam_import(*arguments, "--json").out
    assert mentions(operator.store, GONE) == []


@pytest.mark.slow
def test_erasing_that_breaks_off_at_any_call_is_completed_by_the_next(operator: Operator, accounts: list[str]) -> None:
    store, run_id = operator.store, only_run(operator.store)
    files = {key: store.read(key) or b"" for key in store.list("") if not key.startswith("postgres/")}
    forget_user(store, GONE)
    done = {key: store.read(key) for key in files if not key.endswith("report.json")}
    changing = 0
    for number in count(1):
        for key in store.list(backfill_key(run_id, "")):
            store.delete(key)
        for key, body in files.items():
            store.write(key, body)
        watched = Watched(store, number)
        try:
            forget_user(watched, GONE)
        except Retryable:
            if watched.calls[-1][0] in ("read", "list"):
                continue  # nothing differs from a break at the next write
            changing += 1
            forget_user(store, GONE)
            assert mentions(store, GONE, accounts[1]) == []
            assert {key: store.read(key) for key in done} == done
        else:
            break
    assert changing > 15


def test_what_earlier_versions_remembered_is_read_and_forgotten_too(here: OpenedStore) -> None:
    store = here.store
    rows = [(f"user-{number}", "digest", "db at host", "2026-11-01T00:00:00Z") for number in range(3)]
    today = pl.DataFrame(rows, schema=dtypes(LastLoaded), orient="row")
    names = {"last_loaded_digest": "seen_digest", "last_loaded_database": "seen_database", "last_loaded_at": "seen_at"}
    buffer = io.BytesIO()
    today.rename(names).write_parquet(buffer, metadata={"schema_version": "1"})
    store.write(LAST_LOADED_BEFORE, buffer.getvalue())
    assert read_last_loaded(store).equals(today)
    assert forget_user(store, GONE).last_loaded
    assert read_last_loaded(store)["user_id"].to_list() == ["user-0", "user-2"]
    assert mentions(store, GONE) == []


@pytest.mark.parametrize(
    ("encoding", "name", "separator"),
    [
        pytest.param("utf-8", "é", ",", id="UTF-8"),
        pytest.param("utf-8-sig", "é", ";", id="UTF-8 with BOM"),
        pytest.param("utf-16", "é😀", "\t", id="UTF-16"),
        pytest.param("cp1250", "Truť, Řáď", ";", id="Central Europe"),
        pytest.param("latin-1", "".join(map(chr, range(0x80, 0x100))), ",", id="any byte"),
    ],
)
def test_a_list_keeps_its_form_but_for_the_lines_of_the_user(encoding: str, name: str, separator: str) -> None:
    lines = ["user_id,steam_id64,note", 'user-1,1,"two\nlines"', f'user-10,2,"{name}"', ' user-1 ,3,""', "user-2,4,"]
    whole = "\r\n".join([*lines, ""]).replace(",", separator).encode(encoding)
    left = "\r\n".join([lines[0], lines[2], lines[4], ""]).replace(",", separator).encode(encoding)
    assert drop_records(whole, "user_id", GONE) == left
    assert drop_records(left, "user_id", GONE) == left


def test_a_list_in_big_endian_utf_16_with_broken_characters_keeps_its_other_bytes() -> None:
    header, gone, other = (f"{line}\n".encode("utf-16-be") for line in ("user_id,note", "user-1,é", "user-2,é"))
    kept = b"\xfe\xff" + header + b"\xd8\x00" + other
    assert drop_records(kept + gone + other + b"\x00", "user_id", GONE) == kept + other + b"\x00"


def test_a_user_in_any_column_of_a_list_with_the_name_user_id_is_erased() -> None:
    whole = b"user_id,steam_id64,user_id\nuser-1,1,other\nother,2,user-1\nother,3,one\n"
    assert drop_records(whole, "user_id", GONE) == b"user_id,steam_id64,user_id\nother,3,one\n"
