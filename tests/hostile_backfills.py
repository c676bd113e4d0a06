"""Hostile input to backfills: lists of users, events, and what an earlier run left in the store."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple

import httpx
import polars as pl

from pipeline.api import backfill_in, runs_in
from pipeline.backfill import outcomes as user_outcomes
from pipeline.backfill.plan import draft_plan, make_plan, read_refused, require_plan, shards_of
from pipeline.backfill.replay import reset_for_replay
from pipeline.backfill.report import read_report, write_report
from pipeline.backfill.runner import over_shards
from pipeline.backfill.shards import ShardFiles
from pipeline.backfill.steps import enrich_shard, look_up
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import CatalogueLookup
from pipeline.frames.raw_library import owned_games_as_text
from pipeline.stages import parse_event
from pipeline.storage.keys import Shard
from schemas.backfill import PlanRecord, ShardRecord, StepRecord
from schemas.events import BackfillEvent
from schemas.frames import set_aside
from schemas.library import RawLibrary
from tests.hostile_inputs import Kind, altered, bytes_like, changed, odd_value, text, value
from tests.support.apis import ONCE, open_igdb, open_steam_store
from tests.support.enrichments import LONG
from tests.support.stores import Memory

RUN, FOLDER, ACCOUNT = "run", "backfills/run/", "76561197960287930"
USERS = b"user_id,steam_id64\nuser-1,76561197960287930\nuser-2,gabelogannewell\n../,1\n"
EVENT = {"step": "fetch", "run_id": RUN, "users": "/store/users.csv", "shard": 0, "shard_size": 200}
GAMES = [
    {"appid": 440, "name": "Team Fortress 2", "playtime_forever": 30, "rtime_last_played": 1639273581},
    {"appid": 620, "name": "=Portal 2", "playtime_forever": 0, "playtime_2weeks": 4},
    {"appid": "ten", "name": "Counter-Strike"},
]
IGDB, TOKEN, STORE = "https://igdb.example", "https://twitch.example", "https://store.example"
ANSWERS: Mapping[str, object] = {
    IGDB: [],
    TOKEN: {"access_token": "token", "expires_in": 5_000, "token_type": "bearer"},
    STORE: {"response": {"store_items": []}},
}
SERVERS = httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWERS[f"https://{request.url.host}"]))
Objects = Mapping[str, bytes]


class Changed(NamedTuple):
    """What a backfill has left, changed, and the command that meets it."""

    objects: dict[str, bytes]
    command: str


def _event(event: object) -> None:
    parse_event(event, BackfillEvent)


def _make_event(random: Random) -> object:
    event = altered(random, EVENT)
    if isinstance(event, dict):
        for name in random.sample(sorted(EVENT), random.randrange(3)):
            event[name] = text(random, [str(EVENT[name])]) if random.random() < 0.5 else value(random)
    return event


def _list(body: bytes) -> None:
    """Each line is in a shard, or refused, and the plan's own files can be read."""
    store = Memory()
    plan = make_plan(store, "users.csv", draft_plan(store, body, size=2))
    listed = [user for files in shards_of(store, plan) for user in files.users()["user_id"]]
    assert (len(set(listed)), read_refused(store, plan).height) == (plan.users, plan.rejected)


def _report(store: Memory, plan: PlanRecord) -> None:
    """Write the report; whatever is written can be read."""
    report = write_report(store, plan)
    assert read_report(store, plan.run_id) == report
    assert report.users["total"] == plan.users + plan.rejected


def _enrich_all(store: Memory, plan: PlanRecord) -> None:
    async def enrich(files: ShardFiles) -> ShardRecord:
        return enrich_shard(files, CatalogueFiles(store))

    asyncio.run(over_shards(shards_of(store, plan), plan.users, "enrich", enrich))
    _report(store, plan)


async def look_up_all(store: Memory, plan: PlanRecord) -> StepRecord:
    """The look-up of a backfill, from APIs that know nothing."""
    igdb = open_igdb(policy=ONCE, transport=SERVERS)
    async with igdb, open_steam_store(policy=ONCE, transport=SERVERS) as steam_store:
        knowledge = CatalogueLookup(CatalogueFiles(store), igdb, steam_store, LONG)
        return await look_up(store, plan, shards_of(store, plan), knowledge)


def _replay(store: Memory, plan: PlanRecord) -> None:
    reset_for_replay(store, plan)
    _enrich_all(store, plan)


def _plan_again(store: Memory, _: PlanRecord) -> None:
    make_plan(store, "users.csv", draft_plan(store, USERS, run_id=RUN, size=2))
    make_plan(store, "users.csv", draft_plan(store, USERS, size=2))


COMMANDS: dict[str, Callable[[Memory, PlanRecord], object]] = {
    "runs": lambda store, _: runs_in(store),
    "read": lambda store, _: backfill_in(store, RUN),
    "report": _report,
    "enrich": _enrich_all,
    "look-up": lambda store, plan: asyncio.run(look_up_all(store, plan)),
    "replay": _replay,
    "plan": _plan_again,
}


def _backfill(changed: Changed) -> None:
    """One bad run keeps nobody from listing the others."""
    store = Memory(dict(changed.objects))
    assert runs_in(store).height <= 1
    COMMANDS[changed.command](store, require_plan(store, RUN))


@cache
def left_behind() -> Objects:
    """What a backfill of one shard leaves."""
    store = Memory()
    plan = make_plan(store, "users.csv", draft_plan(store, USERS, run_id=RUN, size=2))
    for files in shards_of(store, plan):
        _fetch(files)
    asyncio.run(look_up_all(store, plan))
    _enrich_all(store, plan)
    for files in shards_of(store, plan):
        outcomes = files.outcomes(files.require("enrich"))
        files.commit(files.begin("load"), outcomes, counts={"games_created": 2}, database="postgresql://host/db")
    _report(store, plan)
    return store.objects


def _fetch(files: ShardFiles) -> None:
    users = files.users().select("user_id", pl.lit(ACCOUNT).alias("steam_id64"), outcome=pl.lit("done"), error=None)
    owned = [owned_games_as_text(GAMES, user_id, ACCOUNT) for user_id in users["user_id"]]
    rows, rejected = set_aside(pl.concat(owned), RawLibrary)
    files.commit(files.begin("fetch"), user_outcomes.fetched(users, rows, rejected), rows=rows, rejected=rejected)


def _make_backfill(random: Random) -> Changed:
    """One or two files are odd, others may be gone."""
    objects = dict(left_behind())
    for key in random.sample(sorted(objects), random.choice((0, 0, 0, 1, 3))):
        del objects[key]
    for key in random.sample(sorted(objects), random.choice((1, 1, 2))):
        objects[key] = _odd(random, key, objects[key])
    return Changed(objects, random.choice(list(COMMANDS)))


def _odd(random: Random, key: str, body: bytes) -> bytes:
    if not key.endswith(".json") or random.random() < 0.1:
        return changed(random, body)
    make: Callable[[Random, Any], Any] = odd_value if random.random() < 0.7 else altered
    return json.dumps(make(random, json.loads(body))).encode()


def _make_csv(random: Random) -> Changed:
    """A shard's CSV that was changed, and manifests that prove it all the same."""
    objects = dict(left_behind())
    step, later = random.choice((("raw", "enriched"), ("enriched", "loaded")))
    key = f"{FOLDER}shards/00000-{step}.json"
    manifest = json.loads(objects[key])
    is_rejected = step == "raw" and random.random() < 0.5
    file = manifest["rejected" if is_rejected else "file"]
    body = bytes_like(objects[file["key"]])(random)
    file["sha256"] = sha256(body).hexdigest()
    file["key"] = Shard(RUN, 0).csv_key("fetch" if step == "raw" else "enrich", file["sha256"], is_rejected=is_rejected)
    objects |= {file["key"]: body, key: json.dumps(manifest).encode()}
    after = f"{FOLDER}shards/00000-{later}.json"
    objects[after] = json.dumps(json.loads(objects[after]) | {"input": manifest["file"]["sha256"]}).encode()
    for gone in random.sample((after, f"{FOLDER}catalogue.json", f"{FOLDER}report.json"), random.randrange(4)):
        del objects[gone]
    return Changed(objects, random.choice(("report", "enrich", "look-up", "replay", "replay")))


BACKFILL_KINDS = {
    "backfill events": Kind(_make_event, _event),
    "lists of users": Kind(bytes_like(USERS, USERS.decode().encode("utf-16")), _list),
    "backfills": Kind(_make_backfill, _backfill),
    "shard CSVs": Kind(_make_csv, _backfill),
}
