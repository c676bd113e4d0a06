"""A dry run of a backfill of all users of a database, in seconds and memory: `python -m benchmarks.users_of_database`.

It also prints the same of a tenth of the users, and whether the plan is that of the same users in a CSV.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.load import execute, fetch, new_database, server
from pipeline.settings import Settings

USERS, FRACTION = 1_000_000, 10
MOST_MEMORY_MB, MOST_GROWTH = 400, 1.2
FIRST_ACCOUNT = 76561197970000000
COMPARED = ("run_id", "input", "users", "rejected", "shard_size", "shards")

# The process counts its own peak: what getrusage counts of a child includes the process that started it.
PROGRAM = """
import sys
from pathlib import Path
from pipeline.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


class DryRun(NamedTuple):
    """The plan that a dry run prints, and what the program took."""

    plan: dict[str, Any]
    seconds: float
    peak_mb: float


def database_of(url: str, name: str, users: int) -> str:
    """Return the URL of a new database with so many users, of whom each hundredth has a text that is no Steam id."""
    made = new_database(url, name, users)
    number = "substr(id, 6)::bigint"
    execute(
        made,
        f"""UPDATE "user" SET "steamId64" =
        CASE WHEN {number} % 100 = 99 THEN 'no Steam id' ELSE ({FIRST_ACCOUNT} + {number})::text END""",
    )
    return made


def dry_run(url: str, source: str, folder: str) -> DryRun:
    """Run `steam-import backfill SOURCE --dry-run` in a process of its own."""
    own = {name.upper() for name in Settings.model_fields}
    settings = {name: value for name, value in os.environ.items() if name not in own} | {"DATABASE_URL": url}
    command = (sys.executable, "-c", PROGRAM, "backfill", source, "--dry-run", "--json")
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if ended.returncode:
        sys.exit(ended.stderr[-2_000:])
    return DryRun(json.loads(ended.stdout), seconds, int(ended.stderr.split()[-1]) / 1024)


def tell(what: str, of: DryRun) -> None:
    """Print the figures of a dry run."""
    print(f"{what}: {of.plan['users']:,} users, {of.plan['shards']:,} shards, {of.plan['rejected']:,} rejected")
    print(f"  {of.seconds:.1f} s, peak memory {of.peak_mb:,.0f} MB")


def measure(url: str, users: int, folder: str) -> list[bool]:
    """Print every figure; whether each met its target."""
    fewer = dry_run(database_of(url, "fewer", users // FRACTION), "--from-database", folder)
    tell("a tenth of the users, from the database", fewer)
    whole_url = database_of(url, "whole", users)
    whole = dry_run(whole_url, "--from-database", folder)
    tell("all users, from the database", whole)
    users_csv = Path(folder, "users.csv")
    fetch(whole_url, 'SELECT id AS user_id, "steamId64" AS steam_id64 FROM "user" ORDER BY id').write_csv(users_csv)
    listed = dry_run(whole_url, "users.csv", folder)
    tell("all users, from a CSV", listed)
    growth = whole.peak_mb / fewer.peak_mb
    is_same = all(whole.plan[name] == listed.plan[name] for name in COMPARED)
    print(f"peak memory: {whole.peak_mb:,.0f} MB (target: under {MOST_MEMORY_MB})")
    print(f"peak memory of all to that of a tenth: {growth:.2f} times (target: at most {MOST_GROWTH})")
    print(f"the plan is that of the CSV, in {', '.join(COMPARED)}: {'yes' if is_same else 'no'} (target: yes)")
    return [whole.peak_mb < MOST_MEMORY_MB, growth <= MOST_GROWTH, is_same]


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--users", type=int, default=USERS)
    with server() as url, tempfile.TemporaryDirectory() as folder:
        met = measure(url, arguments.parse_args().users, folder)
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
