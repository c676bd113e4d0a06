"""Imports at once while three calls in ten fail, then once more without faults: `python -m benchmarks.soak`.

`--imports` is how many, each of a user's own library. All are under way together; they share one pace for IGDB, and the
threads that load.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import structlog

from pipeline import clients, stages
from pipeline.catalogue.files import CatalogueFiles
from pipeline.errors import PipelineError
from pipeline.sandbox.embedded import create_tables
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.postgres import serve_postgres
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from pipeline.storage.keys import raw_checkpoint
from schemas.events import EnrichEvent, FetchEvent, LoadEvent
from tests.support.backfills import add_accounts, imported_games, new_operator
from tests.support.crashes import find_damaged_objects
from tests.support.databases import execute, rows_of
from tests.support.programs import open_folder

IMPORTS, APPS, OWNED = 500, 60, 8
FAILING, LEAST_FAILING = 0.3, 0.28
TIMEOUT_SECONDS = 10.0
IGDB_REQUESTS_PER_SECOND = 20.0
"""IGDB's own rate would only make it longer: the sandbox has none here."""
MANY = 10**9
TIMESTAMP = "20261123T031749Z"
DONE, PENDING = "done", "done, but for PENDING rows"


def faults() -> list[Fault]:
    """One of each kind; tried one after the other they hit three calls in ten."""
    kinds = [
        Fault(status=500),
        Fault(status=503, headers={"Retry-After": "0"}),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(kind="reset"),
        Fault(kind="lost"),
        Fault(kind="cut"),
        Fault(kind="html"),
        Fault(kind="not_json"),
        Fault(kind="stall", seconds=2 * TIMEOUT_SECONDS),
    ]
    for fault in kinds:
        fault.probability, fault.times = 1 - (1 - FAILING) ** (1 / len(kinds)), MANY
    return kinds


async def import_library(settings: Settings, number: int, steam_id64: str) -> str:
    """All three stages of one user: done, or the code of the error that ended it."""
    of_run = {"user_id": f"user-{number}", "timestamp": TIMESTAMP, "run_id": f"run-{number}"}
    try:
        fetched = await stages.fetch_with_settings(settings, FetchEvent(steam_id64=steam_id64, **of_run))
        enriched = await stages.enrich_with_settings(
            settings, EnrichEvent(s3_location=str(fetched.s3_location), **of_run)
        )
        event = LoadEvent(s3_enriched_location=str(enriched.s3_enriched_location), **of_run)
        await asyncio.to_thread(stages.load_with_settings, settings, event)
    except PipelineError as error:
        return error.code
    return PENDING if enriched.stats and enriched.stats.pending else DONE


async def import_all(settings: Settings, users: Iterable[tuple[int, str]]) -> dict[int, str]:
    """How each user's import ended, when all of them were begun at once."""
    async with asyncio.TaskGroup() as imports:
        begun = {number: imports.create_task(import_library(settings, number, account)) for number, account in users}
    return {number: task.result() for number, task in begun.items()}


def lost_or_twice(settings: Settings, url: str, world: World, accounts: Sequence[str]) -> list[str]:
    """What the database and the store have too little or too much of."""
    owned = [
        (f"user-{number}", row["appid"], row["playtime_forever"], "MATCHED")
        for number, steam_id64 in enumerate(accounts)
        for row in world.accounts[steam_id64].games
    ]
    there = imported_games(url).rows()
    place = clients.open_store(settings)
    known = CatalogueFiles(place).read()
    written = [key for n in range(len(accounts)) for key in _keys(f"user-{n}")]
    checks = {
        "ImportedGame": sorted(there) == sorted(owned),
        "LibraryItem": len(rows_of(url, "LibraryItem")) == len(owned),
        "Game": len(rows_of(url, "Game")) == len({appid for _, appid, _, _ in owned}),
        "checkpoints": sorted(place.list("imports/")) == sorted(written),
        "half written": find_damaged_objects(place) == [],
        "catalogue": sorted(known["appid"]) == sorted({appid for _, appid, _, _ in owned}),
        "matches": known.filter(pl.col("match_status").cast(pl.String) != "MATCHED").height == 0,
    }
    return [name for name, is_right in checks.items() if not is_right]


def _keys(user_id: str) -> list[str]:
    raw = raw_checkpoint(user_id, TIMESTAMP)
    return [raw.key, raw.manifest_key, raw.enriched.key, raw.enriched.manifest_key]


def soak(folder: Path, url: str, imports: int) -> list[str]:
    """Import, import again what did not end well, and print the figures; what is wrong."""
    world = World.synthetic(APPS)
    accounts = add_accounts(world, imports, OWNED)
    with Sandbox(world, limits=False) as sandbox:
        given = {
            "retry_attempts": 3,
            "http_timeout_seconds": TIMEOUT_SECONDS,
            "igdb_requests_per_second": IGDB_REQUESTS_PER_SECOND,
        }
        settings = new_operator(sandbox, folder / "store", url, imports).changed(**given).settings
        thrown = [sandbox.faults.add(fault) for fault in faults()]
        began = time.perf_counter()
        ended = asyncio.run(import_all(settings, enumerate(accounts)))
        print(f"{imports} imports at once, {time.perf_counter() - began:.0f} s:", _counted(ended))
        calls, hit = len(sandbox.requests), sum(MANY - int(fault.times or 0) for fault in thrown)
        print(f"Calls: {calls}, failed: {hit} ({hit / calls:.1%}).")
        sandbox.faults.clear()
        left = [(number, accounts[number]) for number, how in sorted(ended.items()) if how != DONE]
        again = asyncio.run(import_all(settings, left))
        print(f"{len(left)} imports again, without faults:", _counted(again) or "none")
    too_few = [] if hit >= LEAST_FAILING * calls else [f"only {hit} of {calls} calls failed"]
    wrong = lost_or_twice(settings, url, world, accounts)
    print(f"Lost or twice, in the database and the store: {', '.join(wrong) or 'nothing'}.")
    return too_few + wrong + [f"user-{number}: {how}" for number, how in again.items() if how != DONE]


def _counted(ended: dict[int, str]) -> str:
    return ", ".join(f"{number} {how}" for how, number in Counter(ended.values()).most_common())


def main() -> None:
    """Soak, and exit with 1 if anything was lost, or there twice, or not done in the end."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--imports", type=int, default=IMPORTS)
    options = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with open_folder() as folder, serve_postgres(folder / "postgres") as url:
        execute(url, "ALTER SYSTEM SET fsync = off")
        execute(url, "SELECT pg_reload_conf()")
        create_tables(url)
        wrong = soak(folder, url, options.imports)
    print(*wrong[:20], sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
