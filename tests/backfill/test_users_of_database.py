"""The users whom a backfill takes from SavePoint's table of users."""

import asyncio
import json
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi

from pipeline.backfill.list import list_of_csv, list_of_database
from pipeline.backfill.plan import draft_plan
from pipeline.backfill.runner import run_event
from pipeline.database.database import Database
from pipeline.errors import Refused
from pipeline.sandbox.embedded import Generation
from pipeline.settings import Settings
from schemas.events import FROM_DATABASE, BackfillEvent
from tests.support.databases import LOADER, as_role, execute, give_steam_ids, rows_of
from tests.support.lambda_functions import ACCOUNT
from tests.support.programs import SteamImport
from tests.support.stores import Memory

TABLES = {2025: "User", 2026: "user"}


def test_every_user_with_a_steam_id_is_listed_and_what_is_no_steam_id_is_rejected(own_database_url: str) -> None:
    with pytest.raises(Refused, match=r"No user of .* has a steamId64"):
        list_of_database(Database(own_database_url))
    give_steam_ids(own_database_url, a=ACCOUNT, b=None, c="", d="gabelogannewell", e=f" {ACCOUNT} ", f="7656")
    listed = list_of_database(Database(own_database_url))
    assert listed.users.rows() == [("a", ACCOUNT), ("e", ACCOUNT)]
    assert listed.rejected_lines["user_id"].to_list() == ["c", "d", "f"]
    assert all(error.startswith("bad_steam_id") for error in listed.rejected_lines["error"])
    counted = list_of_database(Database(own_database_url), counts_only=True)
    assert counted[:3] == listed[:3]
    assert counted.users.is_empty()


def test_the_plan_is_that_of_the_same_list_as_a_csv(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users = {f"user-{number:02}": str(int(ACCOUNT) + number) for number in range(7)}
    users |= dict.fromkeys(("user-07", "user-08", "user-09", "user-10"), "no Steam id") | {"user-11": ""}
    give_steam_ids(own_database_url, **users)
    database = Database(own_database_url)
    paged = Database.read_steam_ids
    monkeypatch.setattr(Database, "read_steam_ids", lambda self, after=None: paged(self, after, rows=3))
    lines = (f"{user_id},{steam_id}" if steam_id else f'{user_id},""' for user_id, steam_id in users.items())
    csv = "\n".join(["user_id,steam_id64", *lines, ""])
    plans = [
        draft_plan(Memory(), "users", listed, shard_size=2).model_dump(exclude={"created_at"})
        for listed in (
            list_of_csv(csv.encode()),
            list_of_database(database),
            list_of_database(database, counts_only=True),
        )
    ]
    assert plans[0] == plans[1] == plans[2]
    assert (plans[0]["users"], plans[0]["rejected"]) == (7, 5)
    kept = list_of_database(database, counts_only=True)
    assert (kept.users.height, kept.rejected_lines.height) == (0, 2), "a dry run keeps no more than one page"
    assert list_of_database(database).users.equals(list_of_csv(csv.encode()).users)


def test_a_role_with_the_printed_grants_reads_steam_ids_and_nothing_else_of_the_users(
    own_database_url: str, generation: Generation
) -> None:
    give_steam_ids(own_database_url, one=ACCOUNT)
    role = as_role(own_database_url)
    assert Database(role).read_steam_ids().rows() == [("one", ACCOUNT)]
    with pytest.raises(dbapi.Error, match="permission denied"):
        rows_of(role, TABLES[generation], "email")
    execute(own_database_url, f'REVOKE SELECT ("steamId64") ON "{TABLES[generation]}" FROM {LOADER}')  # noqa: S608
    with pytest.raises(Refused, match="Grant it to this role"):
        Database(role).read_steam_ids()


def test_a_backfill_from_the_database_ends_with_an_outcome_for_each_user(
    steam_import: SteamImport, own_database_url: str
) -> None:
    give_steam_ids(own_database_url, one=ACCOUNT, other="not a Steam id", third=None)
    options = ("backfill", "--from-database", "--database-url", own_database_url, "--json")
    planned = steam_import(*options, "--dry-run")
    assert planned.status == 0, planned.err
    plan = json.loads(planned.out)
    assert (plan["source"], plan["users"], plan["rejected"]) == ("database", 1, 1)
    done = steam_import(*options)
    assert done.status == 0, done.err
    users = json.loads(done.out)["users"]
    assert (users["total"], users["done"], users["rejected"]) == (2, 1, 1)


def test_the_plan_of_an_event_has_the_users_of_the_database_and_keeps_them(
    own_database_url: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"store_url": str(tmp_path), "database_url": own_database_url})
    event = BackfillEvent(step="plan", run_id="weekly", users=FROM_DATABASE)
    give_steam_ids(own_database_url, one=ACCOUNT, other="no Steam id")
    planned = asyncio.run(run_event(settings, event, None))
    assert (planned.shards, planned.stats) == (1, {"users": 1, "rejected": 1})
    give_steam_ids(own_database_url, later=ACCOUNT)
    assert asyncio.run(run_event(settings, event, None)) == planned
    another = event.model_copy(update={"run_id": "next-week"})
    assert asyncio.run(run_event(settings, another, None)).stats == {"users": 2, "rejected": 1}
