"""Whole commands of which one outside operation fails; then the same command again, and what there is in the end."""

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from pipeline import kept, stages, wiring
from pipeline.backfill.plan import draft_plan, make_plan
from pipeline.backfills import run_backfill
from pipeline.catalogue_files import CatalogueFiles
from pipeline.contract import Store
from pipeline.errors import PipelineError
from pipeline.layout import SEEN, backfill_key
from pipeline.logs import configure_logging
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from schemas.events import EnrichEvent, FetchEvent, LoadEvent
from tests.backfills import crowd, listed, operator
from tests.database.interrupted import CONTENT, FORKS, rows
from tests.database.wire import Wire
from tests.database_fixtures import EMPTY, execute
from tests.lambda_fixtures import ACCOUNT, small_world
from tests.watched import Watched

FORKS.set_forkserver_preload(["tests.database.interrupted", __name__])

Kind = Literal["http", "store", "sql"]
Mode = Literal["error", "lost", "kill"]
KINDS: tuple[Kind, ...] = ("http", "store", "sql")
MODES: tuple[Mode, ...] = ("error", "lost", "kill")
"""The operation is refused; it is carried out, and nobody hears of it; the process that asks for it is killed."""

USERS = 2
OWN_EVERY_TIME = {"requests", "started_at", "finished_at", "seconds"}
OF_REPORT = ("input", "is_complete", "users", "shards", "failures")
IS_UPDATED = re.compile('"isUpdated": (true|false)')
TIMES = ("store_asked_at", "looked_up_at")


class Point(NamedTuple):
    """One operation of a command, and how it goes wrong."""

    kind: Kind
    number: int
    mode: Mode

    def __str__(self) -> str:
        return f"{self.kind} {self.number} {self.mode}"


Command = Callable[[Settings, Store], None]


def import_library(settings: Settings, place: Store) -> None:
    """All three stages of one library."""
    asyncio.run(_import(settings, place))


async def _import(settings: Settings, place: Store) -> None:
    of_run = {"user_id": "user-0", "timestamp": "20261123T031749Z", "run_id": "run-1"}
    async with wiring.open_steam(settings) as steam:
        fetched = await stages.fetch(place, steam, FetchEvent(steam_id64=ACCOUNT, **of_run))
    async with wiring.open_knowledge(settings, place=place) as knowledge:
        enriched = await stages.enrich(place, knowledge, EnrichEvent(s3_location=str(fetched.s3_location), **of_run))
    event = LoadEvent(s3_enriched_location=str(enriched.s3_enriched_location), **of_run)
    stages.load(place, wiring.database(settings), event)


def backfill(settings: Settings, place: Store) -> None:
    """Two users in two shards."""
    users = listed([str(76561197960300000 + number) for number in range(USERS)])
    plan = make_plan(place, "users.csv", draft_plan(place, users, size=1))
    asyncio.run(run_backfill(settings, plan, place=place))


COMMANDS: dict[str, Command] = {"import": import_library, "backfill": backfill}


def run(command: Command, settings: Settings, place: Store) -> None:
    """Run a command as every other time: which shard a backfill begins with is otherwise up to chance."""
    random.seed(0)
    rhythm = kept.rhythm(str(settings.igdb_client_id))
    rhythm.seconds = rhythm.interval = 0.001  # the sandbox counts none
    command(settings, place)


def attempt(command: Command, settings: Settings, place: Store) -> None:
    """Run a command, to its end or to an error of ours."""
    with suppress(PipelineError):
        run(command, settings, place)


def attempt_alone(command: Command, settings: Settings, place: Store) -> None:
    """The same, in a process of its own."""
    configure_logging(settings)
    attempt(command, settings, place)


@dataclass
class Crashes:
    """A command in a deployment of its own, and what it leaves when nothing fails."""

    command: Command
    sandbox: Sandbox
    wire: Wire
    url: str
    settings: Settings
    operations: dict[Kind, int] = field(init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _commits: list[int] = field(init=False)
    _done: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        settings = self._begin()
        place = Watched(wiring.store(settings))
        run(self.command, settings, place)
        self.operations = {"http": len(self.sandbox.requests), "store": len(place.calls), "sql": self.wire.seen}
        self._commits = list(self.wire.commits)
        self._done = self._left(settings)

    @property
    def points(self) -> list[Point]:
        """Every operation, with every way for it to go wrong; of statements, only a commit is carried out unheard."""
        every = [Point(kind, n + 1, mode) for kind in KINDS for n in range(self.operations[kind]) for mode in MODES]
        return [at for at in every if (at.kind, at.mode) != ("sql", "lost") or at.number in self._commits]

    def faults(self, point: Point) -> list[str]:
        """What is wrong after the operation has failed, and after the same command has been run again."""
        settings = self._begin()
        is_met = self._fail(settings, point)
        found = [] if is_met else ["the operation was never reached"]
        found += [f"half written: {key}" for key in half_written(wiring.store(settings))]
        run(self.command, settings, wiring.store(settings))
        left = self._left(settings)
        return found + [f"another {name} than without a fault" for name in self._done if left[name] != self._done[name]]

    def _begin(self) -> Settings:
        execute(self.url, EMPTY)
        self.sandbox.faults.clear()
        self.sandbox.requests.clear()
        self.wire.message = self.wire.seen = 0
        self.wire.commits.clear()
        number = next(self._numbers)
        # Another address is another token, which this process has not got yet.
        cold = {"twitch_token_url": f"{self.settings.twitch_token_url}?{number}"}
        return self.settings.model_copy(update=cold | {"store_url": f"{self.settings.store_url}/{number}"})

    def _fail(self, settings: Settings, point: Point) -> bool:
        """Run the command with its fault; whether it was met."""
        at = {kind: point.number if kind == point.kind else 0 for kind in KINDS}
        place = Watched(wiring.store(settings), at["store"], point.mode == "lost", point.mode == "kill")
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
        return process.exitcode == -9 if point.mode == "kill" else reached[point.kind] >= point.number

    def _end_backend(self, backend: int) -> None:
        execute(self.url, f"SELECT pg_terminate_backend({backend}, 5000)")

    def _left(self, settings: Settings) -> dict[str, Any]:
        """Rows and objects, but for ids and times."""
        place = wiring.store(settings)
        known = CatalogueFiles(place).read().drop(TIMES).sort("appid")
        return {
            "row": sorted((table, IS_UPDATED.sub("", row)) for table, row in rows(self.url, CONTENT)),
            "catalogue": known.rows(),
            "object": _objects(place),
            "half written": half_written(place),
        }


def _objects(place: Store) -> dict[str, object]:
    """The imports' files, and what the last backfill says to people and to the next one."""
    found: dict[str, object] = {}
    for key in place.list("imports/"):
        found[key] = body = _body(place, key)
        if key.endswith(".json"):
            found[key] = {name: value for name, value in json.loads(body).items() if name not in OWN_EVERY_TIME}
    runs = sorted({key.split("/")[1] for key in place.list("backfills/") if key.endswith("/report.json")})
    if runs:
        report = json.loads(_body(place, backfill_key(runs[-1], "report.json")))
        found["report"] = {name: report[name] for name in OF_REPORT}
        found["outcomes"] = _body(place, backfill_key(runs[-1], "outcomes.csv"))
        found["seen"] = pl.read_parquet(_body(place, SEEN)).drop("seen_at").rows()
    return found


def half_written(place: Store) -> list[str]:
    """The objects that cannot be read whole, or are not what their manifest or their name says."""
    return [key for key in place.list("") if not _is_whole(place, key)]


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


@contextmanager
def crashing(command: Command, url: str, folder: Path) -> Iterator[Crashes]:
    """A command, with a sandbox and a wire to an empty database that has SavePoint's tables."""
    world = small_world()
    crowd(world, USERS, 3)
    wire = Wire(url, 0, "before", lambda _: None, is_by_statement=True)
    with Sandbox(world, limits=False) as sandbox, wire.listening():
        settings = operator(sandbox, folder, wire.url, USERS).settings.model_copy(update={"retry_attempts": 1})
        yield Crashes(command, sandbox, wire, url, settings)


def drawn(crashes: Crashes, seed: str, share: float) -> list[Point]:
    """That share of the points of each kind, at least one, and others with another seed."""
    chance = random.Random(seed)
    by_kind = [[point for point in crashes.points if point.kind == kind] for kind in KINDS]
    return [point for points in by_kind for point in chance.sample(points, max(1, round(share * len(points))))]
