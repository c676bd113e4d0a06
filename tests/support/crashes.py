"""Commands in which one outside operation fails: they are run again, and what they leave is compared."""

import asyncio
import json
import random
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from pipeline import clients, stages
from pipeline.backfill.runner import run_backfill
from pipeline.catalogue.files import CatalogueFiles
from pipeline.errors import PipelineError
from pipeline.logs import configure_logging
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account
from pipeline.settings import Settings
from pipeline.storage.keys import LAST_LOADED, backfill_key
from pipeline.storage.store import Store
from schemas.events import SHARD_STEPS, EnrichEvent, FetchEvent, LoadEvent, ShardStep
from tests.support.backfills import FIRST_ACCOUNT, add_accounts, new_operator, plan_backfill, user_list
from tests.support.databases import EMPTY, execute
from tests.support.interruptions import CONTENT, FORKS, Proxy, rows
from tests.support.lambda_functions import ACCOUNT, small_world
from tests.support.stores import Watched

PRELOADED = ("pipeline.apis.igdb", "pipeline.apis.steam", "anyio._backends._asyncio", "httpcore")
"""Modules that a process otherwise imports when it first needs them, in a tenth of its time."""

FORKS.set_forkserver_preload(["tests.support.interruptions", __name__, *PRELOADED])

DIFFERS_EVERY_TIME = {
    "requests",
    "rate_limited",
    "started_at",
    "finished_at",
    "created_at",
    "seconds",
    "effort",
    "written",
}
REPORT_KEYS = ("input", "is_complete", "users", "shards", "failures")
IS_UPDATED = re.compile('"isUpdated": (true|false)')
CATALOGUE_TIMES = ("store_asked_at", "looked_up_at")

EndState = dict[str, Any]

Kind = Literal["http", "store", "sql"]
Mode = Literal["error", "lost", "kill"]
KINDS: tuple[Kind, ...] = ("http", "store", "sql")
MODES: tuple[Mode, ...] = ("error", "lost", "kill")
"""The operation fails; it is done, but its answer is lost; the process that asks for it is killed."""

SQL_MODES: tuple[Mode, ...] = ("error", "kill")
"""How statements fail, in turns: the server rolls back in both. In a commit every mode is tried."""

USERS = 2
USER, EARLIER = "user-1", "76561197960400000"
OVERRIDES_CSV = b"appid,action,igdb_id,note\n999010,match,73,nobody else knows it\n"

REMEMBER = """
DO $$ DECLARE name text; BEGIN
    DROP SCHEMA IF EXISTS earlier CASCADE;
    CREATE SCHEMA earlier;
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('CREATE TABLE earlier.%I AS TABLE public.%I', name, name);
    END LOOP;
END $$
"""
GO_BACK = """
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['Genre', 'Platform', 'Game', 'GameGenre', 'GamePlatform', 'ImportedGame', 'LibraryItem']
    LOOP
        EXECUTE format('INSERT INTO public.%I SELECT * FROM earlier.%I', name, name);
    END LOOP;
    PERFORM setval(pg_get_serial_sequence('public."LibraryItem"', 'id'), 1000);
END $$
"""
MID_WRITE = -signal.SIGXFSZ


class Point(NamedTuple):
    """One operation of a command, and how it goes wrong."""

    kind: Kind
    number: int
    mode: Mode

    def __str__(self) -> str:
        return f"{self.kind} {self.number} {self.mode}"


Command = Callable[[Settings, Store], None]


def import_library(settings: Settings, place: Store) -> None:
    """Run the three stages for a library."""
    asyncio.run(_import(settings, place, ACCOUNT, "20261123T031749Z"))


def import_earlier(settings: Settings, place: Store) -> None:
    """Run the three stages for what the same user owned once."""
    place.write("overrides.csv", OVERRIDES_CSV)
    asyncio.run(_import(settings, place, EARLIER, "20260101T000000Z"))


async def _import(settings: Settings, place: Store, account: str, timestamp: str) -> None:
    of_run = {"user_id": USER, "timestamp": timestamp, "run_id": "run-1"}
    async with clients.open_steam(settings) as steam:
        fetched = await stages.fetch(place, steam, FetchEvent(steam_id64=account, **of_run))
    async with clients.open_catalogue_lookup(settings, store=place) as knowledge:
        enriched = await stages.enrich(place, knowledge, EnrichEvent(s3_location=str(fetched.s3_location), **of_run))
    event = LoadEvent(s3_enriched_location=str(enriched.s3_enriched_location), **of_run)
    stages.load(place, clients.open_database(settings), event)


def backfill(settings: Settings, place: Store, steps: Sequence[ShardStep] = SHARD_STEPS) -> None:
    """Import two users in two shards; a line of their list is nobody."""
    users = user_list([str(FIRST_ACCOUNT + number) for number in range(USERS)], "user-9,nobody at all")
    plan = plan_backfill(place, users, size=1)
    asyncio.run(run_backfill(settings, plan, store=place, steps=steps))


COMMANDS: dict[str, Command] = {"import": import_library, "backfill": backfill}
UP_TO_SQL: dict[str, Command] = {"backfill": partial(backfill, steps=("fetch", "enrich"))}
"""The part of a command before its first statement, where the whole command continues from there."""


def run(command: Command, settings: Settings, place: Store) -> None:
    """Run a command. A seed fixes the shard with which a backfill begins."""
    random.seed(0)
    command(settings.model_copy(update={"igdb_requests_per_second": 1_000.0}), place)


def attempt(command: Command, settings: Settings, place: Store) -> None:
    """Run a command until it ends or raises an error of ours."""
    with suppress(PipelineError):
        run(command, settings, place)


def attempt_alone(command: Command, settings: Settings, place: Store) -> None:
    """Run a command in a process of its own until it ends or raises an error of ours."""
    configure_logging(settings)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: a write that is cut short is an OSError
    attempt(command, settings, place)


@dataclass
class Crashes:
    """A command in a deployment of its own, and the state it leaves when nothing fails.

    With `up_to_sql`, the part of the command before its first statement, SQL points begin after that part.
    """

    command: Command
    up_to_sql: Command | None
    sandbox: Sandbox
    wire: Proxy
    url: str
    settings: Settings
    operations: dict[Kind, int] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _commits: list[int] = field(init=False)
    _expected: EndState = field(init=False)
    _begun: dict[Kind, Store] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        execute(self.url, EMPTY)
        run(import_earlier, self.settings, clients.open_store(self.settings))
        execute(self.url, REMEMBER)
        if self.up_to_sql:
            settings = self._begin()
            self._begun["sql"] = clients.open_store(settings)
            run(self.up_to_sql, settings, self._begun["sql"])
        settings = self._begin()
        place = Watched(clients.open_store(settings))
        run(self.command, settings, place)
        self.operations = {"http": len(self.sandbox.requests), "store": len(place.calls), "sql": self.wire.seen}
        self._commits = list(self.wire.commits)
        self._expected = read_end_state(self.url, clients.open_store(settings))

    @property
    def points(self) -> list[Point]:
        """Every operation, with every mode of failing."""
        every = [Point(kind, n + 1, mode) for kind in KINDS for n in range(self.operations[kind]) for mode in MODES]
        return [point for point in every if point.kind != "sql" or point.mode in self._sql_modes(point.number)]

    def _sql_modes(self, number: int) -> Sequence[Mode]:
        return MODES if number in self._commits else (SQL_MODES[number % len(SQL_MODES)],)

    def differences(self, point: Point) -> list[str]:
        """Run the command with its failure and again without; return what is not as if nothing had failed."""
        settings = self._begin(point.kind)
        is_met = self._run_failing(settings, point)
        found = [] if is_met else ["the operation was never reached"]
        found += [f"damaged: {key}" for key in find_damaged_objects(clients.open_store(settings))]
        run(self.command, settings, clients.open_store(settings))
        there = read_end_state(self.url, clients.open_store(settings))
        if point.kind == "http" and point.mode != "kill":
            # An app without an answer is PENDING, and completed by another backfill, with files of its own.
            there["backfill"] = self._expected["backfill"]
        return found + [f"another {name} than without a fault" for name in there if there[name] != self._expected[name]]

    def _begin(self, kind: Kind | None = None) -> Settings:
        execute(self.url, EMPTY)
        execute(self.url, GO_BACK)
        self.sandbox.faults.clear()
        self.sandbox.requests.clear()
        self.wire.message = self.wire.seen = 0
        self.wire.commits.clear()
        number = next(self._numbers)
        # Another address is another token, which this process has not got yet.
        cold = {"twitch_token_url": f"{self.settings.twitch_token_url}?{number}"}
        settings = self.settings.model_copy(update=cold | {"store_url": f"{self.settings.store_url}-{number}"})
        begun = self._begun[kind] if kind in self._begun else clients.open_store(self.settings)
        place = clients.open_store(settings)
        for key in begun.list(""):
            place.write(key, begun.read(key) or b"")
        return settings

    def _run_failing(self, settings: Settings, point: Point) -> bool:
        """Run the command with its failure; return whether the operation was reached."""
        at = {kind: point.number if kind == point.kind else 0 for kind in KINDS}
        place = Watched(clients.open_store(settings), at["store"], point.mode == "lost", point.mode == "kill")
        process = FORKS.Process(target=attempt_alone, args=(self.command, settings, place))
        numbers = count(1)

        def is_hit(_request: str) -> bool:
            is_now = next(numbers) == at["http"]
            if is_now and point.mode == "kill":
                process.kill()
            return is_now

        self.sandbox.faults.add(Fault(kind="status" if point.mode == "error" else "lost", when=is_hit))
        self.wire.message, self.wire.moment = at["sql"], "after" if point.mode == "lost" else "before"
        self.wire.fault = (lambda _: process.kill()) if point.mode == "kill" else self._end_backend
        if point.mode == "kill":
            process.start()
            process.join()
        else:
            attempt(self.command, settings, place)
        reached = {"http": next(numbers) - 1, "store": len(place.calls), "sql": self.wire.seen}
        self.sandbox.faults.clear()
        self.wire.message = 0
        killed = {-signal.SIGKILL, MID_WRITE}
        return process.exitcode in killed if point.mode == "kill" else reached[point.kind] >= point.number

    def _end_backend(self, backend: int) -> None:
        execute(self.url, f"SELECT pg_terminate_backend({backend}, 5000)")


@contextmanager
def open_crashes(command: Command, url: str, folder: Path, up_to_sql: Command | None = None) -> Iterator[Crashes]:
    """Open a deployment for a command: a sandbox, and a proxy to an empty database with SavePoint's tables."""
    world = small_world()
    world.add_game(999_060, 73, "Of an override")
    world.accounts[EARLIER] = Account()
    world.add_owned(EARLIER, 620, "Portal 2", playtime_forever=5)
    world.add_owned(EARLIER, 999_040, "Owned Once")
    last = add_accounts(world, USERS, 3)[-1]
    for account in (ACCOUNT, last):
        world.add_owned(account, 999_050, "A name with a \0")
    wire = Proxy(url, 0, "before", lambda _: None, is_by_statement=True)
    with Sandbox(world, limits=False) as sandbox, wire.listening():
        settings = new_operator(sandbox, folder, wire.url, USERS).settings.model_copy(update={"retry_attempts": 1})
        yield Crashes(command, up_to_sql, sandbox, wire, url, settings)


def draw(points: Sequence[Point], seed: str) -> list[Point]:
    """Return one of the points of each kind, others for another seed."""
    return [random.Random(seed).choice([point for point in points if point.kind == kind]) for kind in KINDS]


def read_end_state(url: str, place: Store) -> EndState:
    """Return what a command has left, by kind: rows, the catalogue, and the objects of imports and backfills."""
    known = CatalogueFiles(place).read().drop(CATALOGUE_TIMES).sort("appid")
    # An app whose store type did not come is looked up on IGDB too, which the catalogue remembers.
    is_no_game = ~pl.col("store_type").is_in(["game", "mod"]).fill_null(value=True)
    known = known.with_columns(pl.when(~is_no_game).then(pl.exclude("appid", "store_type")))
    runs = sorted({key.split("/")[1] for key in place.list("backfills/") if key.endswith("/report.json")})
    return {
        "row": sorted((table, IS_UPDATED.sub("", row)) for table, row in rows(url, CONTENT)),
        "catalogue": known.rows(),
        "import": {key: _content(place, key) for key in place.list("imports/")},
        "backfill": {key: _content(place, key) for run in runs[:1] for key in place.list(backfill_key(run, ""))},
        "outcome": _outcomes(place, runs[-1]) if runs else {},
        "damaged": find_damaged_objects(place),
    }


def find_damaged_objects(place: Store) -> list[str]:
    """Return the keys of objects that cannot be read whole, or are not what their manifest or name says."""
    return [key for key in place.list("") if not _is_whole(place, key)]


def _outcomes(place: Store, run_id: str) -> dict[str, object]:
    """Return what a backfill tells people, and the next backfill."""
    report = json.loads(_body(place, backfill_key(run_id, "report.json")))
    return {
        "report": {name: report[name] for name in REPORT_KEYS},
        "outcomes": _body(place, backfill_key(run_id, "outcomes.csv")),
        "seen": pl.read_parquet(_body(place, LAST_LOADED)).drop("last_loaded_at").rows(),
    }


def _content(place: Store, key: str) -> object:
    body = _body(place, key)
    if not key.endswith(".json"):
        return body
    found = json.loads(body)
    if not isinstance(found, dict):
        return found
    # A load whose commit was not heard of finds its rows there when it is repeated.
    is_load = "load" in (found.get("step"), found.get("stage"))
    own = DIFFERS_EVERY_TIME | ({"counts", "tables", "statements"} if is_load else set())
    return {name: value for name, value in found.items() if name not in own}


def _is_whole(place: Store, key: str) -> bool:
    body = _body(place, key)
    try:
        if key.endswith(".parquet"):
            return pl.read_parquet(BytesIO(body)).width > 0
        if key.endswith(".json"):
            return json.loads(body) is not None
    except (ValueError, pl.exceptions.PolarsError):
        return False
    digest = sha256(body).hexdigest()
    if "/shards/" in key and not key.endswith("-users.csv"):
        return key.removesuffix(".csv").removesuffix(".rejected").endswith(digest[:16])
    manifest = place.read(key.removesuffix(".csv") + ".json")
    is_described = manifest is None or "sha256" not in (said := json.loads(manifest)) or said["sha256"] == digest
    return is_described and body.endswith(b"\n")


def _body(place: Store, key: str) -> bytes:
    body = place.read(key)
    assert body is not None, key
    return body
