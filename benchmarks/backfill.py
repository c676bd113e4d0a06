"""A backfill of many users over all three stages, beside one of a tenth of them: `python -m benchmarks.backfill`."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.databases import new_database, server
from pipeline.backfill.plan import find_plan
from pipeline.backfill.report import read_report
from pipeline.backfill.shards import list_shards
from pipeline.backfill.steps import LOOK_UP, find_look_up
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World
from pipeline.storage.keys import PLAN
from pipeline.storage.store import DirectoryStore
from schemas.backfill import Report, StepManifest
from schemas.events import SHARD_STEPS

USERS, SMALL, GAMES, APPS = 10_000, 1_000, 200, 20_000
MOST_MEMORY_MB, MOST_DIFFERENCE = 1_000, 0.2
FIRST_ACCOUNT = 76561197970000000
BETWEEN_LOOKS_SECONDS = 0.05

PROGRAM = (sys.executable, "-m", "pipeline")


class Players(dict[str, Account]):
    """Accounts that are made when they are asked for, with the same games every time, beside those that are there."""

    def __init__(self, accounts: dict[str, Account], games: int) -> None:
        super().__init__(accounts)
        self._apps = accounts[World.SYNTHETIC_ACCOUNT].games
        self._games = games

    def get(self, steam_id64: str, default: Any = None) -> Any:  # noqa: ANN401 - as dict has it
        """An account, made up if it is not kept here; nobody is missing."""
        return super().get(steam_id64, default) or self._made_up(int(steam_id64) - FIRST_ACCOUNT)

    def _made_up(self, number: int) -> Account:
        owned = (self._apps[(number * 7919 + game * 97) % len(self._apps)] for game in range(self._games))
        return Account([{**app, "playtime_forever": number * app["appid"] % 500} for app in owned])


@dataclass(frozen=True)
class Measured:
    """What a backfill took: seconds of each stage as the clock on the wall has it, and the program's peak memory."""

    report: Report
    seconds: dict[str, float]
    whole_seconds: float
    peak_mb: float
    igdb_requests: int

    @property
    def users(self) -> int:
        """How many users were imported."""
        return self.report.users["done"]

    @property
    def milliseconds_per_user(self) -> float:
        """Without the look-up, whose time is that of the distinct apps."""
        return 1_000 * sum(self.seconds[step] for step in SHARD_STEPS) / self.users


def backfill(sandbox: Sandbox, database_url: str, users: int, options: Sequence[str]) -> Measured:
    """A backfill of so many users by the command line, into an empty store and an empty database."""
    with tempfile.TemporaryDirectory() as folder:
        listed = "".join(f"user-{number},{FIRST_ACCOUNT + number}\n" for number in range(users))
        Path(folder, "users.csv").write_text(f"user_id,steam_id64\n{listed}", encoding="utf-8")
        before = len(sandbox.asked("igdb"))
        began = time.perf_counter()
        peak = steam_import(folder, sandbox, ("backfill", "users.csv", *options), DATABASE_URL=database_url)
        whole = time.perf_counter() - began
        report, seconds = _what_it_says(DirectoryStore(Path(folder, "data")))
        return Measured(report, seconds, whole, peak / 1024, len(sandbox.asked("igdb")) - before)


def igdb_requests_of_one(sandbox: Sandbox) -> int:
    """The requests to IGDB for one user who owns all the apps, with an empty catalogue."""
    with tempfile.TemporaryDirectory() as folder:
        before = len(sandbox.asked("igdb"))
        steam_import(folder, sandbox, ("fetch", World.SYNTHETIC_ACCOUNT))
        raw = next(Path(folder, "data", "imports").rglob("*-raw.csv"))
        steam_import(folder, sandbox, ("enrich", str(raw)))
        return len(sandbox.asked("igdb")) - before


def steam_import(folder: str, sandbox: Sandbox, arguments: Sequence[str], **settings: str) -> int:
    """Run the program in a folder; its peak memory in kilobytes."""
    own = sandbox.environment | {"STORE_URL": str(Path(folder, "data"))} | settings
    log = Path(folder, "log")
    with (
        log.open("wb") as messages,
        subprocess.Popen(
            [*PROGRAM, *arguments], cwd=folder, env=os.environ | own, stdout=messages, stderr=messages
        ) as process,
    ):
        peak = 0
        while process.poll() is None:
            peak = max(peak, _peak_kilobytes(process.pid))
            time.sleep(BETWEEN_LOOKS_SECONDS)
    if process.returncode:
        sys.exit(log.read_text(encoding="utf-8")[-2_000:])
    return peak


def _peak_kilobytes(pid: int) -> int:
    """Since the program began, as Linux counts; 0 when it has just ended. getrusage counts who started it, too."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _what_it_says(store: DirectoryStore) -> tuple[Report, dict[str, float]]:
    """The report, and how long each stage took from the first shard's beginning to the last one's end."""
    run_id = next(key for key in store.list("backfills/") if key.endswith(PLAN)).split("/")[1]
    plan, report = find_plan(store, run_id), read_report(store, run_id)
    if plan is None or report is None:
        sys.exit("The backfill has left no report.")
    shards = list_shards(store, plan)
    look_up = find_look_up(store, plan)
    seconds = {step: _seconds(filter(None, (files.find_manifest(step) for files in shards))) for step in SHARD_STEPS}
    return report, seconds | {LOOK_UP: _seconds([look_up] if look_up else [])}


def _seconds(records: Iterable[StepManifest]) -> float:
    begun, ended = zip(*((record.started_at, record.finished_at) for record in records), strict=True)
    return float((max(ended) - min(begun)).total_seconds())


def tell(measured: Measured) -> None:
    """Print what a backfill took, stage by stage."""
    rows = measured.report.stages["fetch"]["rows"]
    print(f"{measured.users:,} users, {rows:,} rows: {measured.whole_seconds:.1f} s from start to end")
    for step in SHARD_STEPS:
        print(f"  {step}: {measured.seconds[step]:.1f} s, {rows / measured.seconds[step]:,.0f} rows a second")
    print(f"  look-up: {measured.seconds[LOOK_UP]:.1f} s, {measured.igdb_requests} requests to IGDB")
    print(
        f"  peak memory: {measured.peak_mb:,.0f} MB; {measured.milliseconds_per_user:.1f} ms a user beside the look-up"
    )


def judge(large: Measured, small: Measured, of_one: int) -> list[bool]:
    """Print each figure with its target; whether it was met."""
    memory = large.peak_mb / small.peak_mb - 1
    pace = large.milliseconds_per_user / small.milliseconds_per_user - 1
    print(f"users whose rows are all in the database: {large.users:,} (target: {large.report.users['total']:,})")
    print(f"peak memory: {large.peak_mb:,.0f} MB (target: under {MOST_MEMORY_MB:,})")
    print(f"peak memory of {large.users:,} users to that of {small.users:,}: {memory:+.0%} ({_TARGET})")
    print(f"time per user of {large.users:,} users to that of {small.users:,}: {pace:+.0%} ({_TARGET})")
    print(f"requests to IGDB: {large.igdb_requests}; for one user who owns all apps: {of_one} (target: no more)")
    return [
        large.users == large.report.users["total"],
        large.peak_mb < MOST_MEMORY_MB,
        memory <= MOST_DIFFERENCE,
        pace <= MOST_DIFFERENCE,
        large.igdb_requests <= of_one,
    ]


_TARGET = f"target: at most {MOST_DIFFERENCE:+.0%}"


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--users", type=int, default=USERS)
    arguments.add_argument("--small", type=int, default=SMALL)
    arguments.add_argument("--games", type=int, default=GAMES)
    arguments.add_argument("--apps", type=int, default=APPS)
    arguments.add_argument("--steam-requests-per-second", default="1000")
    arguments.add_argument("--steam-concurrency", default="16")
    options = arguments.parse_args()
    world = World.synthetic(options.apps)
    world.accounts = Players(world.accounts, options.games)
    pace = ["--steam-requests-per-second", options.steam_requests_per_second]
    pace += ["--steam-concurrency", options.steam_concurrency]
    print(f"{options.games} games a user, of {options.apps:,} apps; IGDB's limits hold, Steam answers at once")
    with Sandbox(world) as sandbox, server() as url:
        small = backfill(sandbox, new_database(url, "small", options.small), options.small, pace)
        tell(small)
        large = backfill(sandbox, new_database(url, "large", options.users), options.users, pace)
        tell(large)
        met = judge(large, small, igdb_requests_of_one(sandbox))
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
