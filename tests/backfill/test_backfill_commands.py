"""`backfill` and `replay` on the command line."""

import json
from pathlib import Path

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.keys import Shard
from schemas.backfill import ShardFailure
from tests.support.backfills import user_list
from tests.support.lambda_functions import ACCOUNT
from tests.support.programs import SteamImport

LIST = user_list([ACCOUNT, ACCOUNT], f"gone,{World.UNKNOWN_ACCOUNT}", "../,1")


@pytest.fixture
def users(tmp_path: Path) -> str:
    """A list in the folder where the program runs."""
    (tmp_path / "users.csv").write_bytes(LIST)
    return "users.csv"


def test_a_dry_run_prints_the_cost_and_writes_nothing(
    steam_import: SteamImport, users: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    said = steam_import("backfill", users, "--dry-run")
    assert said.status == 0
    assert "Users" in said.out
    assert "lines rejected: 1" in said.out
    assert "line 5" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]
    assert sandbox.requests == []
    plan = json.loads(steam_import("backfill", users, "--dry-run", "--json").out)
    assert (plan["users"], plan["rejected"], plan["shards"], plan["estimate"]["steam_requests"]) == (3, 1, 1, 3)


def test_a_backfill_needs_nothing_but_keys_and_a_list(
    steam_import: SteamImport, users: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.faults.add(Fault(service="igdb", status=503))
    stopped = steam_import("backfill", users)
    assert stopped.status == 75
    run_id = stopped.err.partition("Backfill ")[2].split()[0]
    assert f"steam-import backfill --resume {run_id}" in stopped.err
    sandbox.faults.clear()
    sandbox.requests.clear()
    done = steam_import("backfill", "--resume", run_id)
    assert done.status == 0
    assert "Rows to load" in done.out
    assert "not_found" in done.out
    assert sandbox.asked("steam") == []
    left = ShardFailure(step="load", error_code="database_unavailable", error="Of another worker.", retryable=True)
    (tmp_path / "data" / Shard(run_id, 0).failure_key).write_text(left.model_dump_json())
    assert steam_import("backfill", "--resume", run_id).status == 0
    again = steam_import("replay", run_id, "--all", "--json")
    assert again.status == 0
    users_by_outcome = {outcome: number for outcome, number in json.loads(again.out)["users"].items() if number}
    assert users_by_outcome == {"total": 4, "done": 2, "not_found": 1, "rejected": 1}
    assert sandbox.asked("steam") == []


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backfill"], "Give a list of users, --from-database, or --resume"),
        (["backfill", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["backfill", ".", "--dry-run"], ". cannot be read"),
        (["backfill", "s3://elsewhere/users.csv"], "is not in the store"),
        (["backfill", "--resume", "nothing"], "There is no backfill 'nothing'"),
        (["backfill", "--resume", "../../etc"], "cannot be a backfill's id"),
        (["replay", "nothing"], "There is no backfill 'nothing'"),
        (["backfill", "users.csv", "--shard-size", "1001"], "--shard-size"),
    ],
)
def test_a_wrong_command_line_is_refused(steam_import: SteamImport, arguments: list[str], said: str) -> None:
    ended = steam_import(*arguments)
    assert (ended.status, ended.out) == (1 if "s3:" in arguments[-1] else 2, "")
    assert said in ended.err
