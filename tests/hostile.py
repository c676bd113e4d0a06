"""Hostile input by kind: how to make one, and what is to be done with it.

The only outcomes are a result, rows set aside, or one of our own errors; whatever else a target raises is a finding.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from random import Random

import httpx
import polars as pl

from pipeline import stages
from pipeline.api import runs_in
from pipeline.apis.http import HttpLimits
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import CatalogueLookup
from pipeline.catalogue.sync import sync_catalogue
from pipeline.errors import PipelineError
from pipeline.frames.match import parse_external_games, parse_games
from pipeline.frames.overrides import parse_overrides
from pipeline.review.decisions import apply_review, update_overrides_csv
from pipeline.review.sheet import export_review
from pipeline.stages import parse_event
from pipeline.steam_id import parse_steam_id
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.keys import parse_checkpoint_key, raw_checkpoint
from pipeline.storage.s3 import S3Store
from pipeline.storage.store import DirectoryStore
from schemas.catalogue import Catalogue
from schemas.events import EnrichEvent, FetchEvent, LoadEvent, StageEvent
from schemas.frames import empty_frame
from schemas.library import EnrichedLibrary, RawLibrary
from tests.hostile_inputs import SCALARS, TIMES, Kind, altered, answer, bytes_like, text, value
from tests.support.apis import ONCE, open_igdb, open_steam, open_steam_store
from tests.support.enrichments import LONG
from tests.support.stores import Memory

HOSTILE = 0.4
Answers = dict[str, httpx.Response]
LIMITED = HttpLimits(timeout_seconds=1.0, answer_seconds=2.0, max_bytes=100_000)
RAW = raw_checkpoint("user-1", "20261123T031749Z")
ACCOUNT = "76561197960287930"
HEADER = ",".join(RawLibrary.to_schema().columns)
RAW_CSV = (
    f'{HEADER}\nuser-1,{ACCOUNT},440,"Team Fortress 2",30,,1,2,3,4,2021-12-12T01:46:21Z,e3f595a9\n'
    f"user-1,{ACCOUNT},620,Portal 2,0,,,,,,,\n"
).encode()
ENRICHED_HEADER = ",".join(EnrichedLibrary.to_schema().columns)
ENRICHED_CSV = (
    f'{ENRICHED_HEADER}\nuser-1,{ACCOUNT},440,"TF, 2",30,,1,2,3,4,2021-12-12T01:46:21Z,e3,game,default,UNMATCHED,'
    'ambiguous,,,,,,,,,,"[1,2]"\n'
).encode()
MANIFEST = (
    b'{"schema_version":1,"stage":"fetch","user_id":"user-1","run_id":"r","key":"imports/user-1/x-raw.csv","rows":2,'
    b'"bytes":3,"sha256":"0","input":null,"counts":{"games":2,"rejected":0},"requests":1,"started_at":"2026-11-23T03:17:49Z",'
    b'"finished_at":"2026-11-23T03:17:49Z","seconds":1.5}'
)
STEAM_IDS = (
    *(ACCOUNT, "STEAM_0:0:11101", "[U:1:22202]", "s.team/p/gvc-bh", "https://steamcommunity.com/id/gabelogannewell/"),
    *(
        "https://steamcommunity.com/profiles/76561197960287930?l=en",
        "gabelogannewell",
        "http://www.steamcommunity.com/id/",
    ),
)
LOCATIONS = (
    *("/data/store/imports/user-1/20261123T031749Z-raw.csv", "s3://bucket/of/imports/user-1/20261123T031749Z-raw.csv"),
    *("/data/store/imports/user-2/../user-1/a-raw.csv", "s3://bucket/of/imports/user-1/%2e%2e/user-2/a-raw.csv"),
)
OVERRIDES = b'appid,action,igdb_id,note\n620,match,72,"a, note"\n440,ignore,,\n10,game,,=1+1\n'
SHEET = (
    b"\xef\xbb\xbfappid,name,action,igdb_id,note,checkpoint\r\n"
    b"620,Portal 2,match,72,'=1,imports/user-1/20261123T031749Z-enriched.csv\r\n440,TF,ignore,,,x\r\n"
)
OWNED = {
    "response": {
        "game_count": 2,
        "games": [
            {"appid": 440, "name": "Team Fortress 2", "playtime_forever": 30, "rtime_last_played": 1639273581},
            {"appid": 620, "name": "Portal 2", "playtime_forever": 0, "img_icon_url": "", "playtime_2weeks": 4},
        ],
        "players": [{"steamid": ACCOUNT}],
        "steamid": ACCOUNT,
        "success": 1,
        "store_items": [{"id": 440, "success": 1, "type": 0}, {"id": 620, "success": 15}],
    }
}
TOKEN = {"access_token": "token", "expires_in": 5_000, "token_type": "bearer"}
EXTERNAL = [{"id": 1, "uid": "440", "game": 71}, {"id": 2, "uid": "620", "game": {"id": 72}}]
GAMES = [
    {
        "id": 72,
        "name": "Portal 2",
        "slug": "portal-2",
        "summary": "Cubes.",
        "first_release_date": 1303171200,
        "cover": {"id": 1, "image_id": "co1rs4"},
        "game_type": 0,
        "version_parent": 71,
        "genres": [{"id": 8, "name": "Platform", "slug": "platform"}],
        "platforms": [{"id": 6, "name": "PC", "slug": "win", "generation": 3}, 14],
        "alternative_names": [{"id": 1, "name": "P2"}],
    },
    {"id": 71, "name": "Portal", "slug": "portal"},
]


def _event(event: object) -> None:
    for event_type in (FetchEvent, EnrichEvent, LoadEvent):
        parse_event(event, event_type)


def _make_event(random: Random) -> object:
    seed = {
        "user_id": "user-1",
        "steam_id64": ACCOUNT,
        "s3_location": LOCATIONS[0],
        "timestamp": "2026-11-23T03:17:49Z",
    }
    event = altered(random, seed | {"s3_enriched_location": LOCATIONS[1], "run_id": "r"})
    if isinstance(event, dict):
        for name in random.sample(sorted(seed), random.randrange(3)):
            event[name] = text(random, [seed[name]]) if random.random() < 0.8 else value(random)
    return event


def _location(location: str) -> None:
    """Whatever is accepted is one of user-1's own, in the store."""
    for store in (DirectoryStore(Path("/data/store")), S3Store(None, "bucket", "of")):  # type: ignore[arg-type]
        try:
            found = parse_checkpoint_key(store.key_of(location), "raw", "user-1")
        except PipelineError:
            continue
        assert found.key == store.key_of(location)
        assert found.key.startswith("imports/user-1/")
        assert ".." not in found.key.split("/")


def _overrides(body: bytes) -> None:
    rows, _ = parse_overrides(body)
    assert rows["appid"].is_unique().all()
    assert update_overrides_csv(body, []) is not None


def _sheet(body: bytes) -> None:
    """Whatever is decided can be read again."""
    store = Memory({RAW.key: RAW_CSV, "overrides.csv": OVERRIDES})
    before = dict(store.objects)
    taken = apply_review(store, body).taken
    assert taken or store.objects == before
    assert parse_overrides(store.objects["overrides.csv"])[1] == []


def _csv(body: bytes) -> None:
    model, key = (EnrichedLibrary, RAW.enriched) if b"igdb_candidates" in body else (RawLibrary, RAW)
    rows = read_checkpoint(Memory({key.key: body}), key, model).rows
    assert rows["user_id"].eq("user-1").all()


def _manifest(body: bytes) -> None:
    """One bad manifest keeps nobody from listing the runs."""
    store = Memory({RAW.key: RAW_CSV, RAW.manifest_key: body})
    assert runs_in(store).height <= 1
    read_checkpoint(store, RAW, RawLibrary)


def _make_manifest(random: Random) -> bytes:
    """Of half of them one value alone is odd."""
    if random.random() < 0.5:
        return bytes_like(MANIFEST)(random)
    manifest = json.loads(MANIFEST)
    part = random.choice((manifest, manifest, manifest["counts"]))
    part[random.choice(list(part))] = random.choice((*SCALARS, *TIMES))
    return json.dumps(manifest).encode()


def _fetch(answers: Answers) -> None:
    """A fetch leaves nothing, or a checkpoint that can be read."""
    store = Memory()

    async def fetch() -> None:
        async with open_steam(policy=ONCE, limits=LIMITED, transport=_served(answers)) as steam:
            await stages.fetch(
                store, steam, FetchEvent(user_id="user-1", steam_id64="portal", timestamp=_time(RAW.stem))
            )

    try:
        asyncio.run(fetch())
    except PipelineError:
        assert store.objects == {}
        raise
    read_checkpoint(store, RAW, RawLibrary)


def _enrich(answers: Answers) -> None:
    """An enrichment leaves nothing, or a checkpoint that can be read; then it is reviewed."""
    store = Memory({RAW.key: RAW_CSV})
    transport = _served(answers)

    async def enrich() -> None:
        igdb = open_igdb(policy=ONCE, limits=LIMITED, transport=transport)
        async with igdb, open_steam_store(policy=ONCE, limits=LIMITED, transport=transport) as steam_store:
            knowledge = CatalogueLookup(CatalogueFiles(store), igdb, steam_store, LONG)
            event = EnrichEvent(user_id="user-1", s3_location=store.locate(RAW.key))
            await stages.enrich(store, knowledge, event)
            read_checkpoint(store, RAW.enriched, EnrichedLibrary)
            await export_review(store, CatalogueFiles(store).read(), igdb, store.locate(RAW.enriched.key))

    try:
        asyncio.run(enrich())
    except PipelineError:
        assert (RAW.enriched.key in store.objects) == (RAW.enriched.manifest_key in store.objects)
        raise


def _sync(answers: Answers) -> None:
    """A sync that ends leaves nothing that has not been merged."""
    is_full = answers["/count"].status_code == HTTPStatus.OK
    store = Memory({} if is_full else {"catalogue/sync.json": b'{"synced_at":1}'})

    async def run() -> None:
        async with open_igdb(policy=ONCE, limits=LIMITED, transport=_served(answers)) as igdb:
            synced = await sync_catalogue(store, CatalogueFiles(store), igdb, max_rows=5_000)
            assert (synced.apps <= synced.known, store.list("catalogue/new/")) == (True, {})

    asyncio.run(run())


def _catalogue(body: bytes) -> None:
    """A file that cannot be read is set aside, and all others count."""
    store = Memory({"catalogue/apps.parquet": PARQUET, "catalogue/new/a.parquet": body})
    CatalogueFiles(store).read()
    CatalogueFiles(store).compact()
    assert not store.list("catalogue/new/")


def _served(answers: Answers) -> httpx.MockTransport:
    """To each request the answer for its address."""

    def serve(request: httpx.Request) -> httpx.Response:
        one = next(one for part, one in answers.items() if part in str(request.url))
        return httpx.Response(one.status_code, headers=one.headers, stream=one.stream)

    return httpx.MockTransport(serve)


def _time(stem: str) -> str:
    return str(StageEvent(user_id="u", timestamp=stem).timestamp)


def _parquet(rows: pl.DataFrame) -> bytes:
    body = BytesIO()
    rows.write_parquet(body, metadata={"schema_version": "1"})
    return body.getvalue()


def _text(*seeds: str) -> Callable[[Random], str]:
    return lambda random: text(random, seeds)


def _answers(seeds: Mapping[str, object]) -> Callable[[Random], Answers]:
    """Most of the answers are good, for the others to be met at all."""

    def make(random: Random) -> Answers:
        hostile = {part: answer(random, seed) for part, seed in seeds.items()}
        good = {part: httpx.Response(200, json=seed) for part, seed in seeds.items()}
        return {part: (hostile if random.random() < HOSTILE else good)[part] for part in seeds}

    return make


PARQUET = _parquet(empty_frame(Catalogue).clear(2).with_columns(appid=pl.Series([440, 620], dtype=pl.Int32)))
PAIRS, KNOWN = _parquet(parse_external_games(EXTERNAL)), _parquet(parse_games(GAMES)[0])
STATE = {"started_at": 1_700_000_000, "synced_at": 1_690_000_000}
IGDB = {
    "token": TOKEN,
    "store.example": OWNED,
    "/count": {"count": 2},
    "external_games": EXTERNAL,
    "multiquery": [{"name": str(number), "result": GAMES} for number in range(3)],
    "games": GAMES,
}
STEAM = {"ResolveVanity": {"response": {"success": 1, "steamid": ACCOUNT}}, "Owned": OWNED, "Summaries": OWNED}
KINDS = {
    "steam ids and URLs": Kind(_text(*STEAM_IDS), parse_steam_id),
    "events": Kind(_make_event, _event),
    "locations": Kind(_text(*LOCATIONS), _location),
    "overrides": Kind(bytes_like(OVERRIDES), _overrides),
    "review sheets": Kind(bytes_like(SHEET, SHEET.decode().encode("utf-16")), _sheet),
    "manifests": Kind(_make_manifest, _manifest),
    "CSVs": Kind(bytes_like(RAW_CSV, RAW_CSV, RAW_CSV, ENRICHED_CSV), _csv),
    "Steam answers": Kind(_answers(STEAM), _fetch),
    "IGDB and store answers": Kind(_answers(IGDB), _enrich),
    "IGDB answers to a sync": Kind(_answers(IGDB), _sync),
    "catalogue files": Kind(bytes_like(PARQUET), _catalogue),
}
