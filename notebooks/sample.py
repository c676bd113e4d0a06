"""The data of the notebooks: the demo's library before and after three overrides, and a backfill of 60 users."""

import asyncio
import random

from pipeline import clients, list_runs, stages
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.backfill.runner import run_backfill
from pipeline.cli.local import with_database, with_sandbox
from pipeline.logs import configure_logging
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.synthetic import Oddities, fill
from pipeline.sandbox.world import Account, World
from pipeline.settings import Settings
from schemas.events import EnrichEvent, FetchEvent

OVERRIDES = b"""appid,action,igdb_id,note
512470,match,900006,IGDB does not know its Steam appid
2674810,ignore,,a character creator is no game
363890,game,,software to the store but a game to IGDB
"""
BEFORE, AFTER = "20260101T000000Z", "20260102T000000Z"

RUN_ID, SHARD_SIZE = "sample", 10
GAMES, ODDITIES = 2_000, Oddities(bare_every=40, ambiguous_every=60)
PLAYERS, FIRST_ACCOUNT = 55, 76561197960300000
TYPICAL_GAMES, SPREAD = 90, 1.1
"""Sizes of libraries are log-normal: many small ones, a few large ones."""

SILENT = (World.PRIVATE_ACCOUNT, World.HIDDEN_ACCOUNT, World.EMPTY_ACCOUNT, World.UNKNOWN_ACCOUNT, "no Steam id")
FAILING, LIMITED, SLOW = (7, 33), (12, 34, 35, 36), (21,)
"""Players whose libraries Steam never gives, refuses once because of its rate limit, and gives late."""

QUICK = {"steam_requests_per_second": 200, "retry_attempts": 3, "retry_base_seconds": 0.05, "log_level": "CRITICAL"}


def make_sample(store_url: str) -> None:
    """Import the demo's library twice and those of the backfill once, from the sandbox, unless they are there."""
    runs = list_runs(store_url)
    if runs["enriched"].count() < len((BEFORE, AFTER)):
        _import_twice(store_url)
    if not runs["is_ended"].any():
        _backfill(store_url)


def _import_twice(store_url: str) -> None:
    with with_sandbox(Settings.read(log_level="WARNING")) as (apis, account):
        settings = apis.model_copy(update={"store_url": store_url})
        configure_logging(settings)
        asyncio.run(_import(settings, account, BEFORE))
        clients.open_store(settings).write("overrides.csv", OVERRIDES)
        asyncio.run(_import(settings, account, AFTER))


async def _import(settings: Settings, account: str, timestamp: str) -> None:
    fetched = await stages.fetch_with_settings(
        settings, FetchEvent(user_id=account, steam_id64=account, timestamp=timestamp)
    )
    await stages.enrich_with_settings(settings, EnrichEvent(user_id=account, s3_location=str(fetched.s3_location)))


def _backfill(store_url: str) -> None:
    world = World.recorded()
    users = dict(enumerate([*_players(world), *SILENT]))
    listed = "\n".join(["user_id,steam_id64", *(f"user-{number},{account}" for number, account in users.items())])
    with Sandbox(world) as sandbox:
        _disturb(sandbox)
        apis = {name.lower(): value for name, value in sandbox.environment.items()}
        settings = Settings.model_validate(apis | QUICK | {"store_url": store_url})
        configure_logging(settings)
        store = clients.open_store(settings)
        draft = draft_plan(store, "users.csv", listed.encode(), run_id=RUN_ID, shard_size=SHARD_SIZE)
        plan = write_plan(store, draft)
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
