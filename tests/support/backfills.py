"""Backfills for tests: accounts in the sandbox, a list of them, and runs in this process or by the command line."""

import asyncio
import csv
import io
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import SecretStr

from pipeline import clients
from pipeline.backfill.list import list_of_csv
from pipeline.backfill.plan import draft_plan, write_plan
from pipeline.backfill.report import OUTCOMES_CSV, REJECTED_CSV, REPORT
from pipeline.backfill.runner import run_backfill
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World
from pipeline.settings import Settings
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import DirectoryStore, Store
from schemas.backfill import Plan, Report
from schemas.events import SHARD_STEPS, ShardStep
from tests.support.databases import rows_of
from tests.support.interruptions import CONTENT, rows
from tests.support.programs import PROGRAM, QUICK_SETTINGS, environment

FIRST_ACCOUNT = 76561197960300000


def add_accounts(world: World, users: int, games: int, seed: int = 1) -> list[str]:
    """Add accounts that own some of the world's apps, and return their SteamID64s."""
    chance = random.Random(seed)
    apps = [(appid, row["name"]) for appid, row in world.store.items()]
    accounts = [str(FIRST_ACCOUNT + number) for number in range(users)]
    for steam_id64 in accounts:
        world.accounts[steam_id64] = Account()
        for appid, name in chance.sample(apps, games):
            world.add_owned(steam_id64, appid, name, playtime_forever=chance.randrange(900))
    return accounts


def user_list(accounts: Sequence[str], *more: str) -> bytes:
    """Return a list in which these accounts belong to user-0, user-1, …; and more lines."""
    lines = [f"user-{number},{steam_id64}" for number, steam_id64 in enumerate(accounts)]
    return "\n".join(["user_id,steam_id64", *lines, *more, ""]).encode()


def plan_backfill(
    store: Store, users: bytes, run_id: str | None = None, size: int = 200, *, is_full: bool = False
) -> Plan:
    """Plan the backfill of a list, and write the plan."""
    listed = list_of_csv(users)
    plan = draft_plan(store, "users.csv", listed, run_id=run_id, shard_size=size, is_full=is_full)
    return write_plan(store, plan, listed)


@dataclass(frozen=True)
class Operator:
    """Runs backfills in this process, of one store into one database."""

    settings: Settings

    @property
    def store(self) -> Store:
        return clients.open_store(self.settings)

    def plan(self, users: bytes, size: int = 3, run_id: str | None = None, *, is_full: bool = False) -> Plan:
        return plan_backfill(self.store, users, run_id, size, is_full=is_full)

    def run(self, plan: Plan, steps: Sequence[ShardStep] = SHARD_STEPS) -> Report:
        return asyncio.run(run_backfill(self.settings, plan, steps=steps))

    def backfill(self, users: bytes, size: int = 3) -> Report:
        return self.run(self.plan(users, size))

    def outcomes(self, run_id: str) -> dict[str, dict[str, str]]:
        body = self.store.read(backfill_key(run_id, OUTCOMES_CSV))
        assert body is not None
        return {row["user_id"]: row for row in csv.DictReader(io.StringIO(body.decode()))}

    def changed(self, **settings: Any) -> "Operator":
        return Operator(self.settings.model_copy(update=settings))


def operator_without_database(sandbox: Sandbox, folder: Path) -> Operator:
    given = {name.lower(): value for name, value in (sandbox.environment | QUICK_SETTINGS).items()}
    fast = {"steam_requests_per_second": 1000, "steam_concurrency": 8}
    return Operator(Settings.model_validate(given | fast | {"store_url": str(folder), "log_level": "ERROR"}))


def new_operator(sandbox: Sandbox, folder: Path, database_url: str, users: int) -> Operator:
    """Return an operator whose database has the users user-0, user-1, …"""
    operator = operator_without_database(sandbox, folder).changed(database_url=SecretStr(database_url))
    clients.open_database(operator.settings).ensure_users([f"user-{number}" for number in range(users)])
    return operator


@dataclass(frozen=True)
class Program:
    """Runs the backfill of one list by the command line, always by the same command, in one folder and database."""

    sandbox: Sandbox
    folder: Path
    database_url: str
    run_id: str = "run"

    @property
    def store(self) -> Store:
        return DirectoryStore(self.folder)

    @contextmanager
    def started(self, shard_size: int, **settings: str) -> Iterator["subprocess.Popen[str]"]:
        own = {"STORE_URL": str(self.folder), "DATABASE_URL": self.database_url, "LOG_LEVEL": "ERROR"}
        with subprocess.Popen(  # noqa: S603 - our own program
            [*PROGRAM, "backfill", "users.csv", "--resume", self.run_id, "--shard-size", str(shard_size)],
            cwd=self.folder,
            env=environment(self.sandbox, STEAM_REQUESTS_PER_SECOND="1000", **(own | settings)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            yield process

    def run(self, shard_size: int, **settings: str) -> None:
        with self.started(shard_size, **settings) as process:
            said, _ = process.communicate()
        assert process.returncode == 0, said

    def read(self, name: str) -> bytes:
        body = self.store.read(backfill_key(self.run_id, name))
        assert body is not None
        return body

    def end_state(self) -> tuple[object, ...]:
        """Return all that has to be the same however often the backfill was interrupted."""
        report = without_effort(Report.model_validate_json(self.read(REPORT)))
        return report, self.read(OUTCOMES_CSV), self.read(REJECTED_CSV), rows(self.database_url, CONTENT)


def new_program(sandbox: Sandbox, folder: Path, database_url: str, users: bytes) -> Program:
    """Return a program with an empty store; its database has the users of the list."""
    folder.mkdir()
    (folder / "users.csv").write_bytes(users)
    clients.open_database(Settings.model_validate({"database_url": database_url})).ensure_users(
        [line.split(",")[0] for line in users.decode().splitlines()[1:]]
    )
    return Program(sandbox, folder, database_url)


def imported_games(url: str) -> pl.DataFrame:
    """Return who has which app in the database, with its playtime and match status."""
    columns = '"userId", "storefrontGameId"::int, playtime::int, "igdbMatchStatus"::text'
    schema = {"user_id": pl.String, "appid": pl.Int32, "playtime": pl.Int32, "match_status": pl.String}
    return pl.DataFrame(rows_of(url, "ImportedGame", columns, "1, 2"), schema=schema, orient="row")


def without_effort(report: Report) -> dict[str, Any]:
    """Return what a report says however often its backfill was interrupted."""
    return report.model_dump(exclude={"effort", "written"})
