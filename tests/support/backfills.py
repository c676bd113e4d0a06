"""Backfills for tests: a crowd of users in the sandbox, a list of them, and the steps run in this process."""

import asyncio
import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import SecretStr

from pipeline import clients
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.backfill.runner import run_backfill
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World
from pipeline.settings import Settings
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import Plan, Report
from schemas.events import SHARD_STEPS, ShardStep
from tests.support.databases import rows_of
from tests.support.programs import QUICK_SETTINGS

FIRST_ACCOUNT = 76561197960300000
FAST = {"steam_requests_per_second": 1000, "steam_concurrency": 8}


def crowd(world: World, users: int, games: int, seed: int = 1) -> list[str]:
    """Give so many new accounts so many of the world's apps each; their SteamID64s."""
    chance = random.Random(seed)
    apps = [(appid, row["name"]) for appid, row in world.store.items()]
    accounts = [str(FIRST_ACCOUNT + number) for number in range(users)]
    for steam_id64 in accounts:
        world.accounts[steam_id64] = Account()
        for appid, name in chance.sample(apps, games):
            world.add_owned(steam_id64, appid, name, playtime_forever=chance.randrange(900))
    return accounts


def listed(accounts: Sequence[str], *more: str) -> bytes:
    """A list in which these accounts belong to user-0, user-1, …; and more lines."""
    lines = [f"user-{number},{steam_id64}" for number, steam_id64 in enumerate(accounts)]
    return "\n".join(["user_id,steam_id64", *lines, *more, ""]).encode()


@dataclass(frozen=True)
class Operator:
    """Runs backfills of one store into one database."""

    settings: Settings

    @property
    def store(self) -> Store:
        return clients.open_store(self.settings)

    def plan(self, users: bytes, size: int = 3, run_id: str | None = None, *, is_full: bool = False) -> Plan:
        draft = draft_plan(self.store, "users.csv", users, run_id=run_id, shard_size=size, is_full=is_full)
        return write_plan(self.store, draft)

    def go(self, plan: Plan, steps: Sequence[ShardStep] = SHARD_STEPS) -> Report:
        return asyncio.run(run_backfill(self.settings, plan, steps=steps))

    def backfill(self, users: bytes, size: int = 3) -> Report:
        return self.go(self.plan(users, size))

    def outcomes(self, run_id: str) -> dict[str, dict[str, str]]:
        body = self.store.read(backfill_key(run_id, "outcomes.csv"))
        assert body is not None
        return {row["user_id"]: row for row in csv.DictReader(io.StringIO(body.decode()))}

    def changed(self, **settings: Any) -> "Operator":
        return Operator(self.settings.model_copy(update=settings))


def fetcher(sandbox: Sandbox, folder: Path) -> Operator:
    """An operator without a database."""
    given = {name.lower(): value for name, value in (sandbox.environment | QUICK_SETTINGS).items()}
    return Operator(Settings.model_validate(given | FAST | {"store_url": str(folder), "log_level": "ERROR"}))


def operator(sandbox: Sandbox, folder: Path, database_url: str, users: int) -> Operator:
    """An operator whose database has the users user-0, user-1, …"""
    loader = fetcher(sandbox, folder).changed(database_url=SecretStr(database_url))
    clients.open_database(loader.settings).ensure_users([f"user-{number}" for number in range(users)])
    return loader


def imported(url: str) -> pl.DataFrame:
    """Who has which app, with what status."""
    columns = '"userId", "storefrontGameId"::int, playtime::int, "igdbMatchStatus"::text'
    schema = {"user_id": pl.String, "appid": pl.Int32, "playtime": pl.Int32, "match_status": pl.String}
    return pl.DataFrame(rows_of(url, "ImportedGame", columns, "1, 2"), schema=schema, orient="row")


def without_effort(report: Report) -> dict[str, Any]:
    """What is the same however often a backfill was interrupted."""
    return report.model_dump(exclude={"effort", "written"})
