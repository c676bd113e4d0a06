"""The history of a user whom backfills fetch, and what changed between them: the shards hold many users each."""

import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline import read_changes, read_history
from pipeline.backfill.forget import forget_user
from pipeline.backfill.libraries import read_fetched_libraries
from pipeline.backfill.report import OUTCOMES_CSV
from pipeline.errors import Failed
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import backfill_key, raw_checkpoint
from tests.support.backfills import Operator, add_accounts, new_operator, user_list
from tests.support.databases import NewDatabase
from tests.support.libraries import app, library
from tests.support.programs import SteamImport
from tests.support.stores import Watched

USERS, USER = 5, "user-2"


@pytest.fixture
def world() -> World:
    return World.recorded()


@pytest.fixture
def accounts(sandbox: Sandbox) -> list[str]:
    return add_accounts(sandbox.world, USERS, 4)


@pytest.fixture
def operator(sandbox: Sandbox, tmp_path: Path, new_database: NewDatabase) -> Operator:
    return new_operator(sandbox, tmp_path, new_database(2026), USERS)


def backfill_three_times(operator: Operator, sandbox: Sandbox, accounts: list[str]) -> list[str]:
    """Return the run ids of three backfills of all users: USER bought and played before the second, nothing since."""
    games = sandbox.world.accounts[accounts[2]].games
    games[0]["playtime_forever"] = 100
    run_ids = [operator.backfill(user_list(accounts), size=2).run_id]
    games[0]["playtime_forever"] += 60
    sandbox.world.add_owned(accounts[2], 999_050, "Bought")
    for _ in range(2):
        time.sleep(1.01)  # a snapshot's time has whole seconds
        run_ids.append(operator.backfill(user_list(accounts), size=2).run_id)
    return run_ids


def test_backfills_are_in_the_history_of_a_user_and_can_be_compared(
    operator: Operator,
    sandbox: Sandbox,
    accounts: list[str],
    steam_import: SteamImport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played = sandbox.world.accounts[accounts[2]].games[0]["appid"]
    first, second, third = backfill_three_times(operator, sandbox, accounts)
    url = operator.store.locate("")
    monkeypatch.setenv("STORE_URL", url)

    history = read_history(USER, url)
    assert history.filter(appid=played).select("playtime_forever", "minutes_played").rows() == [
        (100, None),
        (160, 60),
        (160, 0),
    ]
    assert history.filter(appid=999_050).height == 2
    changes = read_changes(second, first, url, user=USER)
    assert changes.select("appid", "is_new", "minutes_played").rows() == [(played, False, 60), (999_050, True, 0)]
    same = steam_import("diff", second, third, "--user", USER)
    assert same.out.endswith(": nothing has changed.\n"), (
        "the third shard left the rows out, which are those last loaded"
    )

    raw, making = raw_checkpoint(USER), Provenance("run-1", datetime.now(UTC), 1, {})
    rows = library(app(played, playtime_forever=200, user_id=USER))
    write_checkpoint(operator.store, raw.enriched, rows, pl.DataFrame(), making)
    since_third = read_changes(third, raw.stem, url)
    assert since_third.filter(appid=played)["minutes_played"].to_list() == [40]
    assert since_third.filter("is_no_longer_owned").height > 1

    for arguments, says in {
        (first, second): "has libraries of many users. Say whose is meant: --user",
        (second, "--user", USER): "is a backfill. Give the run to compare it with, too.",
        (first, second, "--user", "user-9"): "has no library of user user-9, or has not ended.",
    }.items():
        ended = steam_import("diff", *arguments)
        assert (ended.status, says in " ".join(ended.err.split())) == (2, True), ended.err

    for key in operator.store.list(backfill_key(second, "")):
        operator.store.delete(key)
    with pytest.raises(Failed, match="whose files are not there any more"):
        read_changes(first, third, url, user=USER)


def test_a_user_is_found_by_few_requests_also_in_sorted_outcomes_and_after_others_are_erased(
    operator: Operator, accounts: list[str]
) -> None:
    run_id = operator.backfill(user_list(accounts), size=2).run_id
    watched = Watched(operator.store)

    (found,) = read_fetched_libraries(watched, USER)
    assert len(watched.calls) == 6, "the list, the plan, the outcomes; manifest, users and CSV of one of three shards"
    watched.calls.clear()
    assert list(read_fetched_libraries(watched, "user-9")) == []
    assert len(watched.calls) == 3

    key = backfill_key(run_id, OUTCOMES_CSV)
    header, *lines = (operator.store.read(key) or b"").splitlines()
    operator.store.write(key, b"\n".join([header, *reversed(lines), b""]))
    assert [rows.equals(found[1]) for _, rows in read_fetched_libraries(watched, USER)] == [True]
    for user in ("user-0", "user-1"):
        forget_user(operator.store, user)
    assert [rows.equals(found[1]) for _, rows in read_fetched_libraries(watched, USER)] == [True]
