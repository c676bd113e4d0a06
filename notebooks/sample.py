"""Make the demo's data of the notebooks anew: `python -m notebooks.sample`.

They are three months of a library, with overrides before its last import, and a backfill of 60 users. The folder
`notebooks/demo_data` holds what of it the notebooks read, so that they show the same wherever they are executed.
"""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from notebooks.demo import DEMO
from pipeline import clients, stages
from pipeline.backfill.list import list_of_csv
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.backfill.runner import run_backfill
from pipeline.cli.local import with_database
from pipeline.errors import Failed
from pipeline.logs import configure_logging
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.synthetic import Oddities, fill
from pipeline.sandbox.world import PRIVATE, PUBLIC, Account, World
from pipeline.settings import Settings
from schemas.events import KEY_TIME, EnrichEvent, FetchEvent

OVERRIDES = b"""appid,action,igdb_id,note
512470,match,900006,IGDB does not know its Steam appid
2674810,ignore,,a character creator is no game
363890,game,,software to the store but a game to IGDB
"""
ACCOUNT = World.RECORDED_ACCOUNT
FIRST_WEEK, WEEKS, PRIVATE_WEEK = datetime(2025, 10, 9, tzinfo=UTC), 14, 8
"""Each week has an import; the last two are enriched. In one week the profile is private, and Steam gives nothing."""

BOUGHT, BOUGHT_WEEK = 1145360, 5
PLAYS = (
    (2161700, ("windows",), range(1, 5), 420),
    (BOUGHT, ("linux", "deck"), range(6, 13), 260),
    (1245620, ("windows",), range(9, 14), 380),
    (413150, ("linux", "deck"), range(2, 14, 3), 150),
    (255710, ("mac",), range(3, 8), 190),
    (8930, ("linux",), range(7, 12), 110),
)
"""What was played: the appid, the systems that count it, the weeks, and about how many minutes in each."""

RUN_ID, SHARD_SIZE = "sample", 10
GAMES, ODDITIES = 2_000, Oddities(bare_every=40, ambiguous_every=60)
PLAYERS, FIRST_ACCOUNT = 55, 76561197960300000
TYPICAL_GAMES, SPREAD = 90, 1.1
"""Sizes of libraries are log-normal: many small ones, a few large ones."""

SILENT = (World.PRIVATE_ACCOUNT, World.HIDDEN_ACCOUNT, World.EMPTY_ACCOUNT, World.UNKNOWN_ACCOUNT, "no Steam id")
FAILING, LIMITED, SLOW = (7, 33), (12, 34, 35, 36), (21,)
"""Players whose libraries Steam never gives, refuses once because of its rate limit, and gives late."""

QUICK = {"steam_requests_per_second": 200, "retry_attempts": 3, "retry_base_seconds": 0.05, "log_level": "CRITICAL"}


def make_demo() -> None:
    """Import the libraries into a store of their own, and put what the notebooks read of it into their folder."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # for the database server's own user, where root starts it
        _import_weekly(folder)
        _backfill(folder)
        shutil.rmtree(DEMO, ignore_errors=True)
        for name in ("imports", "backfills"):
            shutil.copytree(Path(folder, name), DEMO / name, ignore=_left_out)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Return the files that no notebook reads: locks, lists of users, and the CSVs of shards."""
    is_shard = Path(folder).name == "shards"
    return {name for name in names if name.endswith((".lock", ".rejected.csv")) or (is_shard and name.endswith(".csv"))}


@contextmanager
def _sandbox(world: World, store_url: str) -> Iterator[tuple[Sandbox, Settings]]:
    """Start a sandbox, and yield it with settings that lead to it and to the store."""
    with Sandbox(world) as sandbox:
        apis = {name.lower(): value for name, value in sandbox.environment.items()}
        of_sandbox = Settings.model_validate(apis | QUICK | {"store_url": store_url})
        configure_logging(of_sandbox)
        yield sandbox, of_sandbox


def _import_weekly(store_url: str) -> None:
    world, chance = World.recorded(), random.Random(7)  # noqa: S311 - the same weeks each time
    account = world.accounts[ACCOUNT]
    owned = {row["appid"]: row for row in account.games}
    account.games.remove(owned[BOUGHT])
    for system in ("forever", "windows_forever", "linux_forever", "deck_forever"):
        owned[BOUGHT][f"playtime_{system}"] = 0
    with _sandbox(world, store_url) as (_, settings):
        for week in range(WEEKS):
            at = FIRST_WEEK + timedelta(weeks=week)
            if week == BOUGHT_WEEK:
                account.games.append(owned[BOUGHT])
            for appid, systems, weeks, minutes in PLAYS:
                if week in weeks:
                    _play(owned[appid], systems, round(minutes * chance.uniform(0.5, 1.5)), at)
            account.visibility = PRIVATE if week == PRIVATE_WEEK else PUBLIC
            if week == WEEKS - 1:
                clients.open_store(settings).write("overrides.csv", OVERRIDES)
            asyncio.run(_import(settings, at.strftime(KEY_TIME), is_enriched=week >= WEEKS - 2))


def _play(row: dict[str, Any], systems: tuple[str, ...], minutes: int, until: datetime) -> None:
    for name in ("forever", *(f"{system}_forever" for system in systems)):
        row[f"playtime_{name}"] += minutes
    row["rtime_last_played"] = int((until - timedelta(hours=9)).timestamp())


async def _import(settings: Settings, timestamp: str, *, is_enriched: bool) -> None:
    event = FetchEvent(user_id=ACCOUNT, steam_id64=ACCOUNT, timestamp=timestamp)
    try:
        fetched = await stages.fetch_with_settings(settings, event)
    except Failed:  # the week in which the profile is private
        return
    if is_enriched:
        await stages.enrich_with_settings(settings, EnrichEvent(user_id=ACCOUNT, s3_location=str(fetched.s3_location)))


def _backfill(store_url: str) -> None:
    world = World.recorded()
    users = dict(enumerate([*_players(world), *SILENT]))
    listed = "\n".join(["user_id,steam_id64", *(f"user-{number},{account}" for number, account in users.items())])
    with _sandbox(world, store_url) as (sandbox, settings):
        _disturb(sandbox)
        store = clients.open_store(settings)
        users_csv = list_of_csv(listed.encode())
        plan = draft_plan(store, "users.csv", users_csv, run_id=RUN_ID, shard_size=SHARD_SIZE)
        plan = write_plan(store, plan, users_csv)
        with with_database(settings) as local:
            clients.open_database(local).ensure_users([f"user-{number}" for number in users])
            asyncio.run(run_backfill(local, plan))


def _players(world: World) -> list[str]:
    """Give new accounts some of many made-up games each, and return their SteamID64s."""
    fill(world, GAMES, 0, ODDITIES)
    chance = random.Random(1)  # noqa: S311 - the same libraries each time
    apps = [(appid, row["name"]) for appid, row in world.store.items()]
    accounts = [str(FIRST_ACCOUNT + number) for number in range(PLAYERS)]
    for steam_id64 in accounts:
        size = min(1 + int(TYPICAL_GAMES * chance.lognormvariate(0, SPREAD)), len(apps))
        world.accounts[steam_id64] = Account()
        for appid, name in chance.sample(apps, size):
            world.add_owned(steam_id64, appid, name, playtime_forever=chance.randrange(900))
    return accounts


def _disturb(sandbox: Sandbox) -> None:
    def add(number: int, fault: Fault) -> None:
        fault.when = lambda query: str(FIRST_ACCOUNT + number) in query
        sandbox.faults.add(fault)

    for number in FAILING:
        add(number, Fault(service="steam", status=503))
    for number in LIMITED:
        add(number, Fault(service="steam", status=429, times=1))
    for number in SLOW:
        add(number, Fault(service="steam", kind="stall", seconds=2, times=1))


if __name__ == "__main__":
    make_demo()
