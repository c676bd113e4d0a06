"""Thousands of imports in one minute, simulated: `python -m benchmarks.burst`.

A discrete-event simulation walks through `infra/import.asl.json` state by state, for each import. Retry policies,
waits and rounds are those of the state machine, and the functions' concurrency that of `infra/template.yaml`. How long
an invocation takes is measured first, on the real handlers, against the sandbox, an S3 of moto's and an embedded
PostgreSQL. The template's requests a second to Steam are shared by all fetches.
"""

import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import polars as pl
from cfnlint.decode.cfn_yaml import load as read_template
from moto import mock_aws

from handlers import catalogue, database_import, igdb_enrichment, steam_import
from pipeline import clients
from pipeline.catalogue.wanted import APPS_PER_PART
from pipeline.database.database import Database
from pipeline.sandbox.embedded import create_tables, serve_postgres
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World
from pipeline.settings import Settings
from pipeline.storage.keys import WANTED
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Catalogue
from schemas.frames import conform

INFRA = Path(__file__).parent.parent / "infra"
GAMES, APPS, UNKNOWN_GAMES = 300, 100_000, 10
"""Games of a user, distinct apps of all users, and how many a user owns that the catalogue lacks, if it lacks any."""

BURST_SECONDS, LATENCY_SECONDS = 60.0, 0.08
ACCOUNT_CONCURRENCY = 1_000
"""How many functions AWS runs at once for an account, all together, unless it is asked for more."""

SLOW_SECONDS_PER_APP = 0.0012
"""What IGDB's 3.6 requests a second allow: 200,000 apps in four minutes."""

MEASURED_USERS, FEW_APPS, MANY_APPS, FILES = 12, 500, 5_000, 200
MOST_TRANSITIONS = 20
MOST_SECONDS = {"warm": 60.0, "empty": 180.0}
ROWS = (
    ("warm", 0.0, 0.0),
    ("20 % need IGDB", 0.2, 0.0),
    ("50 % need IGDB", 0.5, 0.0),
    ("empty", 1.0, 0.0),
    ("empty, 1.2 ms", 1.0, SLOW_SECONDS_PER_APP),
)
"""The catalogue, the share of users who own apps that it lacks, and what an app of a look-up takes at least."""

FETCH, ENRICH, LOOK_UP, LOAD = (
    "SteamImportFunction",
    "IgdbEnrichmentFunction",
    "CatalogueFunction",
    "DatabaseImportFunction",
)
THROTTLED = "Lambda.TooManyRequestsException"


@dataclass(frozen=True)
class Seconds:
    """What an invocation takes, in seconds: of a look-up its start, and what each file and each new app add to it."""

    start: float
    fetch: float
    join: float
    load: float
    look_up: float
    per_file: float
    per_app: float


# What is measured.


@contextmanager
def deployed() -> Iterator[list[str]]:
    """The environment of the functions, with accounts of 300 games each; yields their SteamIDs."""
    world = World.synthetic(MANY_APPS + FEW_APPS + GAMES)
    owned = world.accounts[World.SYNTHETIC_ACCOUNT].games
    accounts = [str(76561197970000000 + number) for number in range(MEASURED_USERS)]
    for account in accounts:
        world.accounts[account] = Account(owned[:GAMES])
    s3 = {"S3_BUCKET": "burst", "AWS_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true"}
    with (
        tempfile.TemporaryDirectory(prefix="burst-", dir="/tmp") as folder,
        serve_postgres(Path(folder)) as url,
        Sandbox(world, latency_seconds=LATENCY_SECONDS) as sandbox,
        mock_aws(),
    ):
        os.environ.update(sandbox.environment | s3 | {"DATABASE_URL": url, "LOG_LEVEL": "ERROR"})
        create_tables(url)
        Database(url).ensure_users(accounts)
        boto3.client("s3", region_name=s3["AWS_REGION"]).create_bucket(
            Bucket="burst", CreateBucketConfiguration={"LocationConstraint": s3["AWS_REGION"]}
        )
        yield accounts


def measure() -> Seconds:
    """Run each function several times and return the medians; of a join with all of the catalogue to read."""
    with deployed() as accounts, open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - no path
        stdout, sys.stdout = sys.stdout, nowhere  # where the metrics go
        try:
            return _measure(accounts)
        finally:
            sys.stdout = stdout


def _measure(accounts: list[str]) -> Seconds:
    apps = range(1_000_000, 1_000_000 + 10 * (MANY_APPS + FEW_APPS + GAMES), 10)
    fetched = [_timed(steam_import.handler, {"user_id": user, "steam_id64": user}) for user in accounts]
    few, many = (
        _look_up_seconds([apps[first : first + size]])
        for first, size in ((GAMES, FEW_APPS), (GAMES + FEW_APPS, MANY_APPS))
    )
    per_app = max(0.0, (many - few) / (MANY_APPS - FEW_APPS))
    known = apps[GAMES : 2 * GAMES]  # by now: what is left is what the files take
    one_file, files = (_look_up_seconds([known] * number) for number in (1, FILES))
    per_file = max(0.0, files - one_file) / (FILES - 1)
    _look_up_seconds([apps[:GAMES]])
    _fill_catalogue()
    joined = []
    for answer, _ in fetched:
        clients.catalogue_memory.cache_clear()
        event = {"user_id": _user_of(answer["s3_location"]), "s3_location": answer["s3_location"], "look_up": False}
        joined.append(_timed(igdb_enrichment.handler, event))
    loaded = [
        _timed(
            database_import.handler,
            {
                "user_id": _user_of(answer["s3_enriched_location"]),
                "s3_enriched_location": answer["s3_enriched_location"],
            },
        )
        for answer, _ in joined
    ]
    return Seconds(
        start=_start_seconds(),
        fetch=_median(fetched),
        join=_median(joined),
        load=_median(loaded),
        look_up=max(0.0, few - FEW_APPS * per_app),
        per_file=per_file,
        per_app=per_app,
    )


def _timed(handler: Callable[[object, object], dict[str, Any]], event: dict[str, Any]) -> tuple[dict[str, Any], float]:
    began = time.perf_counter()
    answer = handler(event, None)
    if not answer["success"]:
        sys.exit(f"{event}: {answer['error']}")
    return answer, time.perf_counter() - began


def _median(timed: list[tuple[dict[str, Any], float]]) -> float:
    """Return the median of what invocations took after the first, which imports and connects."""
    return statistics.median(seconds for _, seconds in timed[1:])


def _user_of(location: str) -> str:
    return location.split("/imports/")[1].partition("/")[0]


def _look_up_seconds(wanted: list[range]) -> float:
    """Return what the look-up of some wanted files takes."""
    store = clients.open_store(Settings.read())
    for number, appids in enumerate(wanted):
        store.write(f"{WANTED}run-{number}.csv", ("appid\n" + "".join(f"{app}\n" for app in appids)).encode())
    return _timed(catalogue.handler, {"step": "look_up"})[1]


def _fill_catalogue() -> None:
    """Write a large file of 100,000 apps: those that were looked up, repeated with other ids."""
    store = clients.open_store(Settings.read())
    known = clients.open_catalogue(Settings.read(), store).read()
    copies = [
        known.with_columns(pl.col("appid") + number * 10_000_000) for number in range(1, -(-APPS // known.height))
    ]
    store.write("catalogue/apps.parquet", to_parquet(conform(pl.concat(copies), Catalogue), "catalogue"))


def _start_seconds() -> float:
    """Return what a new environment takes to import the enrichment's handler."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import handlers.igdb_enrichment"], check=True)
    return time.perf_counter() - began


# What is simulated.


def concurrency(template: Mapping[str, Any], function: str) -> int | None:
    """Return how many invocations of a function run at once, None if it shares what the account has left."""
    reserved = template["Resources"][function]["Properties"].get("ReservedConcurrentExecutions")
    if isinstance(reserved, Mapping):
        reserved = template["Parameters"][reserved["Ref"]]["Default"]
    return None if reserved is None else int(reserved)


@dataclass
class Function:
    """A function: how many of it may run at once, how many do, and when the environments that wait were last used."""

    most: int
    running: int = 0
    idle: deque[float] = field(default_factory=deque)


@dataclass
class Import:
    """One import: its apps, when it was first enriched and when it was loaded, and what became of it."""

    appids: list[int]
    first_enrich: float | None = None
    loaded: float | None = None
    transitions: int = 0
    pending: int = 0
    failed: str | None = None


Step = Generator[float | str, Any, None]
"""An execution: it yields seconds to wait, or the name of a function to invoke, and gets its answer or error's name."""


class Burst:
    """A number of imports that begin within a minute, of which each walks through the state machine."""

    def __init__(self, seconds: Seconds, users: int, share: float, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.seconds = seconds
        self.machine = json.loads((INFRA / "import.asl.json").read_text(encoding="utf-8"))
        self.known = bytearray(b"\1" * APPS) if share < 1 else bytearray(APPS)
        self.wanted: dict[int, list[int]] = {}  # by import: it writes its file once
        self.look_ups = 0
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self.functions = self._functions()
        self.imports = [Import(self.chance.sample(range(APPS), GAMES)) for _ in range(users)]
        if 0 < share < 1:
            self._forget(share)

    def _functions(self) -> dict[str, Function]:
        template = read_template(str(INFRA / "template.yaml"))
        self.steam_per_second = float(template["Parameters"]["ImportRequestsPerSecond"]["Default"])
        reserved = {name: concurrency(template, name) for name in (FETCH, ENRICH, LOOK_UP, LOAD)}
        rest = ACCOUNT_CONCURRENCY - sum(most or 0 for most in reserved.values())
        return {name: Function(rest if most is None else most) for name, most in reserved.items()}

    def _forget(self, share: float) -> None:
        """Have a share of the users own some apps that the catalogue lacks."""
        unknown = self.chance.sample(range(APPS), APPS // 10)
        for appid in unknown:
            self.known[appid] = 0
        lacking = set(unknown)
        for one in self.imports:
            one.appids = [appid for appid in one.appids if appid not in lacking]
            if self.chance.random() < share:
                one.appids += self.chance.sample(unknown, UNKNOWN_GAMES)

    def run(self) -> None:
        """Let all imports come to their end."""
        for one in self.imports:
            self._at(self.chance.random() * BURST_SECONDS, lambda one=one: self._resume(self._execute(one), one, None))
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (when, self._numbers, action))

    def _resume(self, execution: Step, one: Import, answer: object) -> None:
        try:
            asked = execution.send(answer)
        except StopIteration:
            return
        if isinstance(asked, float):
            self._at(self.now + asked, lambda: self._resume(execution, one, None))
        else:
            self._invoke(asked, one, lambda said: self._resume(execution, one, said))

    def _invoke(self, name: str, one: Import, then: Callable[[object], None]) -> None:
        """Answer with an error at once if the function is busy, or else after what it takes."""
        function = self.functions[name]
        if name == ENRICH and one.first_enrich is None:
            one.first_enrich = self.now
        if function.running >= function.most:
            then(THROTTLED)
            return
        function.running += 1
        last = function.idle.pop() if function.idle else None
        answer, seconds = self._work(name, one)
        # Each environment of the fetch has its share of what Steam allows the account.
        begins = max(self.now, last + function.most / self.steam_per_second) if name == FETCH and last else self.now

        def end() -> None:
            function.running -= 1
            function.idle.append(begins)
            then(answer())

        self._at(begins + seconds + (self.seconds.start if last is None else 0.0), end)

    def _work(self, name: str, one: Import) -> tuple[Callable[[], dict[str, Any]], float]:
        """Return what gives a function's answer when it is done, and how long that takes from now."""
        seconds = self.seconds
        if name == ENRICH:
            missed = [appid for appid in one.appids if not self.known[appid]]
            return lambda: self._enriched(one, missed), seconds.join
        if name == LOOK_UP:
            return self._look_up()
        if name == LOAD:
            return lambda: self._loaded(one), seconds.load
        return lambda: {"success": True}, seconds.fetch

    def _enriched(self, one: Import, missed: list[int]) -> dict[str, Any]:
        one.pending = len(missed)
        if missed:
            self.wanted[id(one)] = missed
        return {"success": True, "stats": {"pending": len(missed)}}

    def _look_up(self) -> tuple[Callable[[], dict[str, Any]], float]:
        """Look up all that is wanted now; the answers of a part are there as soon as it is done."""
        files = dict(self.wanted)
        self.look_ups += 1
        new = sorted({appid for missed in files.values() for appid in missed if not self.known[appid]})
        seconds = self.seconds.look_up + len(files) * self.seconds.per_file
        for first in range(0, len(new), APPS_PER_PART):
            part = new[first : first + APPS_PER_PART]
            seconds += len(part) * self.seconds.per_app
            self._at(self.now + seconds, lambda part=part: self._learn(part))

        def end() -> dict[str, Any]:
            for key in files:
                self.wanted.pop(key, None)
            return {"success": True}

        return end, seconds

    def _learn(self, appids: list[int]) -> None:
        for appid in appids:
            self.known[appid] = 1

    def _loaded(self, one: Import) -> dict[str, Any]:
        one.loaded = self.now
        return {"success": True}

    def _execute(self, one: Import) -> Step:
        """Walk through the states of one import."""
        states, data = self.machine["States"], {}
        name: str | None = self.machine["StartAt"]
        while name:
            state = states[name]
            one.transitions += 1
            if state["Type"] == "Choice":
                name = next((rule["Next"] for rule in state["Choices"] if _holds(rule, data)), state.get("Default"))
                continue
            if state["Type"] == "Fail":
                one.failed = name
                return
            if state["Type"] == "Wait":
                yield float(state["Seconds"])
            elif state["Type"] == "Task":
                said = yield from self._task(state, one)
                caught = _caught(state, said)
                if isinstance(said, str) and caught is None:
                    one.failed = said
                    return
                _put(data, (caught or state)["ResultPath"], _selected(state, said))
                name = (caught or state)["Next"]
                continue
            name = state.get("Next")

    def _task(self, state: Mapping[str, Any], one: Import) -> Generator[float | str, Any, Any]:
        """Invoke a task's function until it answers or its retries are used up, and return what it said last."""
        function, tries = state["Resource"].removeprefix("${").removesuffix("Arn}"), Counter[int]()
        while True:
            said = yield function
            number = next((n for n, retrier in enumerate(state["Retry"]) if said in retrier["ErrorEquals"]), None)
            if not isinstance(said, str) or number is None or tries[number] == state["Retry"][number]["MaxAttempts"]:
                return said
            retrier = state["Retry"][number]
            wait = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** tries[number]
            tries[number] += 1
            one.transitions += 1
            jitter = self.chance.random() if retrier.get("JitterStrategy") == "FULL" else 1.0
            yield jitter * min(wait, retrier.get("MaxDelaySeconds", wait))


def _holds(rule: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Return whether a rule of a Choice holds, of those kinds that the state machine has."""
    if "And" in rule:
        return all(_holds(part, data) for part in rule["And"])
    found: Any = data
    for key in rule["Variable"].removeprefix("$.").split("."):
        found = found[key]
    if "BooleanEquals" in rule:
        return found is rule["BooleanEquals"]
    if "IsNull" in rule:
        return (found is None) is rule["IsNull"]
    return bool(found > rule["NumericGreaterThan"])


def _selected(state: Mapping[str, Any], said: object) -> object:
    """Return what a task puts into the data: what its function said, or what its ResultSelector makes of that."""
    selector = state.get("ResultSelector")
    if selector is None or isinstance(said, str):
        return {"Error": said} if isinstance(said, str) else said
    return {key.removesuffix(".$"): said if value == "$" else value for key, value in selector.items()}


def _put(data: dict[str, Any], path: str, value: Any) -> None:  # noqa: ANN401 - any JSON
    if path == "$":
        data.clear()
        data.update(value)
        return
    *folders, last = path.removeprefix("$.").split(".")
    for key in folders:
        data[key] = dict(data[key])
        data = data[key]
    data[last] = value


def _caught(state: Mapping[str, Any], said: object) -> Mapping[str, Any] | None:
    if not isinstance(said, str):
        return None
    return next(
        (catcher for catcher in state.get("Catch", []) if {said, "States.ALL"} & set(catcher["ErrorEquals"])), None
    )


def row(seconds: Seconds, users: int, catalogue_is: str, share: float, least_per_app: float) -> bool:
    """Simulate a burst, print its row, and return whether it met the targets."""
    burst = Burst(replace(seconds, per_app=max(seconds.per_app, least_per_app)), users, share)
    burst.run()
    failed = sum(one.loaded is None for one in burst.imports)
    waits = sorted(one.loaded - (one.first_enrich or 0.0) for one in burst.imports if one.loaded is not None)
    p50, p99 = (waits[min(len(waits) - 1, int(len(waits) * part))] for part in (0.5, 0.99))
    transitions = [one.transitions for one in burst.imports]
    pending = sum(one.pending > 0 for one in burst.imports)
    print(
        f"{users:>7,} {catalogue_is:<15} {failed:>6} {pending:>8} {p50:>7.1f} {p99:>7.1f} {burst.now / 60:>8.1f} "
        f"{statistics.mean(transitions):>6.1f} {max(transitions):>4} {burst.look_ups:>8}"
    )
    return (
        failed == 0
        and p99 <= MOST_SECONDS.get(catalogue_is, MOST_SECONDS["empty"])
        and max(transitions) <= MOST_TRANSITIONS
    )


def main() -> None:
    """Measure the handlers, print a row for each burst, and exit with 1 if a target was missed."""
    seconds = measure()
    print(f"seconds of an invocation: {', '.join(f'{name} {value:.4f}' for name, value in vars(seconds).items())}")
    print("  users catalogue       failed  pending   p50 s   p99 s  minutes transitions  look-ups")
    met = [row(seconds, users, *kind) for users in (1_000, 10_000) for kind in ROWS]
    sys.exit(0 if all(met) else "A target was missed.")


if __name__ == "__main__":
    main()
