"""Whatever the world sends ends in a result, in rows set aside, or in an error of ours; nothing else is raised."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import stages
from pipeline.apis.http import HttpLimits
from pipeline.backfill.list import parse_list
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import CatalogueLookup, read_overrides
from pipeline.catalogue.sync import sync_catalogue
from pipeline.errors import PipelineError
from pipeline.frames.match import parse_external_games
from pipeline.frames.overrides import parse_overrides
from pipeline.review.decisions import NamedGames, apply_review, parse_decisions
from pipeline.review.look_up import NameFile, NameLookup
from pipeline.review.sheet import AppsToReview, Choice, count_owners, export_review
from pipeline.stages import parse_event
from pipeline.steam_id import parse_steam_id
from pipeline.storage.checkpoints import read_checkpoint
from schemas.apis import parse_rows
from schemas.events import BackfillEvent, EnrichEvent, FetchEvent, LoadEvent
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import FoundGame
from tests.support.apis import LONG, ONCE, open_igdb, open_steam, open_steam_store
from tests.support.stores import ENRICHED, RAW, TIMESTAMP, Memory

ACCOUNT = "76561197960287930"
RAW_CSV = (
    f"{','.join(RawLibrary.to_schema().columns)}\n"
    f'user-1,{ACCOUNT},440,"Team Fortress 2",30,,1,2,3,4,2021-12-12T01:46:21Z,e3f595a9\n'
    f"user-1,{ACCOUNT},620,Portal 2,0,,,,,,,\n"
).encode()
ENRICHED_CSV = (
    f"{','.join(EnrichedLibrary.to_schema().columns)}\n"
    f'user-1,{ACCOUNT},440,"TF, 2",30,,1,2,3,4,2021-12-12T01:46:21Z,e3,game,default,UNMATCHED,'
    'ambiguous,,,,,,,,,,"[1,2]"\n'
).encode()
OVERRIDES = b'appid,action,igdb_id,note\n620,match,72,"a, note"\n440,ignore,,\n10,game,,=1+1\n'
SHEET = b"appid,name,action,igdb_id,note\r\n620,Portal 2,match,72,'=1\r\n440,TF,ignore,,x\r\n"
USERS = f"user_id,steam_id64\nuser-1,{ACCOUNT}\nuser-2,gabelogannewell\n../,1\n".encode()
EVENT = {
    "user_id": "user-1",
    "steam_id64": ACCOUNT,
    "timestamp": "2026-11-23T03:17:49Z",
    "run_id": "run-1",
    "s3_location": f"s3://bucket/{RAW.key}",
    "s3_enriched_location": f"s3://bucket/{ENRICHED.key}",
    "step": "fetch",
    "users": "s3://bucket/users.csv",
    "shard": 0,
    "shard_size": 200,
}
LIBRARY = [
    {"appid": 440, "name": "Team Fortress 2", "playtime_forever": 30, "rtime_last_played": 1639273581},
    {"appid": 620, "name": "Portal 2", "playtime_forever": 0, "img_icon_url": "", "playtime_2weeks": 4},
]
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
STEAM = {
    "ResolveVanity": {"response": {"success": 1, "steamid": ACCOUNT}},
    "GetOwnedGames": {"response": {"game_count": 2, "games": LIBRARY}},
    "Summaries": {"response": {"players": [{"steamid": ACCOUNT, "communityvisibilitystate": 3}]}},
}
IGDB = {
    "twitch.example": {"access_token": "token", "expires_in": 5_000, "token_type": "bearer"},
    "GetItems": {"response": {"store_items": [{"id": 440, "success": 1, "type": 0}, {"id": 620, "success": 15}]}},
    "/count": {"count": 2},
    "external_games": [{"id": 1, "uid": "440", "game": 71}, {"id": 2, "uid": "620", "game": {"id": 72}}],
    "multiquery": [{"name": str(number), "result": GAMES} for number in range(3)],
    "games": GAMES,
}

ODD_TEXTS = (
    *("", " ", "\0", "..", "../..", "%2e%2e%2f", "\\", "/", "'", '"', "=1+1", "\ufeff", "\r\n", "\u2028", "\u202e"),
    *("\ud800", "NaN", "-inf", "1e999", "null", "9" * 30, "-1", "2147483648", "\u0661\u0662", "1_000", " 7 ", "{}"),
    *("[]", "${HOME}", "%s%n", "{0.__class__}", "<html>", "A" * 5_000, "\u0130"),
)
ODD_NUMBERS = (True, 0, -1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, float("inf"), float("nan"), 253402300800)
ODD_BYTES = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b",", b"\r", b"\x80", b";", b"," * 3_000, b'"\n"')
NO_JSON = (b"[" * 50_000, b'{"a":' * 5_000, b"", b"<html><h1>Busy</h1></html>", b"9" * 9_000, b"[{},]")

texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=12))
odd_values = st.one_of(
    st.none(), st.sampled_from(ODD_NUMBERS), texts, st.just([]), st.just({}), st.just([[{"id": {}}]])
)


def text_like(*seeds: str) -> st.SearchStrategy[str]:
    """Texts like one of the seeds, with something odd in them, or any texts."""
    changed = st.builds(
        lambda seed, start, odd, gone: seed[: start % (len(seed) + 1)] + odd + seed[start % (len(seed) + 1) + gone :],
        *(st.sampled_from(seeds), st.integers(0, 99), texts, st.integers(0, 3)),
    )
    return st.one_of(changed, changed, texts)


def bytes_like(*seeds: bytes) -> st.SearchStrategy[bytes]:
    """Bytes like one of the seeds, with a stretch that is odd or gone, in other encodings too, or any bytes."""
    odd = st.one_of(st.sampled_from((b"", b"7", b"x")), st.sampled_from(ODD_BYTES), st.binary(max_size=8))
    changed = st.builds(
        lambda seed, start, odd, gone: seed[: start % len(seed)] + odd + seed[start % len(seed) + gone :],
        *(st.sampled_from(seeds), st.integers(0, 999), odd, st.sampled_from((0, 0, 1, 2, 40, 999))),
    )
    utf_16 = changed.map(lambda body: body.decode(errors="replace").encode("utf-16"))
    return st.one_of(changed, changed, utf_16, st.binary(max_size=60))


def json_like(seed: Any) -> st.SearchStrategy[Any]:
    """JSON like the seed, with odd values here and there, and with parts that are gone or twice."""
    if isinstance(seed, dict):
        same: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional={k: json_like(v) for k, v in seed.items()})
    elif isinstance(seed, list) and seed:
        same = st.lists(st.one_of(*map(json_like, seed)), max_size=4)
    else:
        same = st.just(seed)
    return st.one_of(*[same] * 6, odd_values)


def answers_like(seeds: Mapping[str, Any]) -> st.SearchStrategy[dict[str, httpx.Response]]:
    """An answer for each part of an address: mostly JSON like its seed, at times anything."""
    headers = st.fixed_dictionaries(
        {},
        optional={
            "Retry-After": st.sampled_from(("0", "9" * 400, "soon", "\x01")),
            "Content-Type": st.sampled_from(("application/json", "text/html; charset=hex", "", "a; charset=\0")),
            "Content-Encoding": st.sampled_from(("gzip", "br", "identity")),
        },
    )
    good = {part: st.builds(httpx.Response, st.just(200), json=st.just(seed)) for part, seed in seeds.items()}
    bodies = {
        part: st.one_of(json_like(seed).map(lambda value: json.dumps(value).encode()), st.sampled_from(NO_JSON))
        for part, seed in seeds.items()
    }
    statuses = st.sampled_from((200, 200, 200, 200, 204, 302, 400, 401, 403, 404, 413, 429, 503, 599))
    odd = {
        part: st.builds(
            lambda status, headers, body: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body)),
            *(statuses, headers, body),
        )
        for part, body in bodies.items()
    }
    return st.fixed_dictionaries({part: st.one_of(good[part], good[part], odd[part]) for part in seeds})


def served(answers: Mapping[str, httpx.Response]) -> dict[str, Any]:
    """The seams of a client that gets for each address the answer of the part it contains."""

    def serve(request: httpx.Request) -> httpx.Response:
        one = next(one for part, one in answers.items() if part in str(request.url))
        return httpx.Response(one.status_code, headers=one.headers, stream=one.stream)

    limits = HttpLimits(timeout_seconds=1.0, answer_seconds=2.0, max_bytes=100_000)
    return {"policy": ONCE, "limits": limits, "transport": httpx.MockTransport(serve)}


def tried(examples: int) -> settings:
    """The same examples on every machine, so many of them."""
    checks = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


@pytest.fixture(autouse=True)
def _silence() -> None:
    structlog.reset_defaults()


@tried(200)
@given(text_like(ACCOUNT, "STEAM_0:0:11101", "[U:1:22202]", "s.team/p/gvc-bh", "https://steamcommunity.com/id/gabe/"))
def test_a_text_is_a_steam_id_or_refused(text: str) -> None:
    with contextlib.suppress(PipelineError):
        parse_steam_id(text)


@tried(100)
@given(json_like(EVENT))
def test_an_event_is_read_or_refused(event: Any) -> None:
    for event_type in (FetchEvent, EnrichEvent, LoadEvent, BackfillEvent):
        with contextlib.suppress(PipelineError):
            parse_event(event, event_type)


@tried(60)
@given(bytes_like(USERS))
def test_each_line_of_a_list_is_a_user_or_rejected(body: bytes) -> None:
    with contextlib.suppress(PipelineError):
        users, rejected = parse_list(body)
        assert users["user_id"].is_unique().all()
        assert not set(rejected["line"]) & {1}


@tried(60)
@given(bytes_like(OVERRIDES))
def test_each_line_of_the_overrides_counts_or_is_reported(body: bytes) -> None:
    with contextlib.suppress(PipelineError):
        rows, _ = parse_overrides(body)
        assert rows["appid"].is_unique().all()


@tried(40)
@given(bytes_like(SHEET))
def test_what_a_review_decides_can_be_read_again(body: bytes) -> None:
    store, games = Memory({"overrides.csv": OVERRIDES}), NamedGames(dict.fromkeys(range(1, 10_000), "A game"))
    before, apps = dict(store.objects), dict.fromkeys(range(1, 1_000))
    with contextlib.suppress(PipelineError):
        assert apply_review(store, parse_decisions(body), games, apps).decided or store.objects == before
    assert parse_overrides(store.objects["overrides.csv"])[1] == []


@tried(25)
@given(bytes_like(RAW_CSV, ENRICHED_CSV))
def test_a_csv_without_a_manifest_conforms_or_is_refused(body: bytes) -> None:
    model, checkpoint = (EnrichedLibrary, ENRICHED) if b"igdb_candidates" in body else (RawLibrary, RAW)
    with contextlib.suppress(PipelineError):
        rows = read_checkpoint(Memory({checkpoint.key: body}), checkpoint, model).rows
        assert rows["user_id"].eq("user-1").all()


@tried(30)
@given(answers_like(STEAM))
def test_a_fetch_leaves_a_checkpoint_that_can_be_read_or_nothing(answers: dict[str, httpx.Response]) -> None:
    store = Memory()

    async def fetch() -> None:
        async with open_steam(**served(answers)) as steam:
            event = FetchEvent(user_id="user-1", steam_id64="portal", timestamp=TIMESTAMP)
            await stages.fetch(store, steam, event)

    try:
        asyncio.run(fetch())
    except PipelineError:
        assert store.objects == {}
    else:
        read_checkpoint(store, RAW, RawLibrary)


@tried(12)
@given(answers_like(IGDB))
def test_an_enrichment_leaves_a_checkpoint_that_can_be_read_and_reviewed_or_nothing(
    answers: dict[str, httpx.Response],
) -> None:
    store, seams = Memory({RAW.key: RAW_CSV}), served(answers)

    async def enrich() -> None:
        async with open_igdb(**seams) as igdb, open_steam_store(**seams) as steam_store:
            lookup = CatalogueLookup(CatalogueFiles(store), igdb, steam_store, LONG)
            await stages.enrich(store, lookup, EnrichEvent(user_id="user-1", s3_location=store.locate(RAW.key)))
            enriched = read_checkpoint(store, ENRICHED, EnrichedLibrary).rows
            names, known = NameLookup(igdb, NameFile(store, LONG.miss)), CatalogueFiles(store).read()
            apps = AppsToReview(enriched, count_owners([read_checkpoint(store, RAW, RawLibrary).rows]))
            await export_review(apps, known, read_overrides(store), names, Choice(with_matched=True))

    with contextlib.suppress(PipelineError):
        asyncio.run(enrich())
    assert (ENRICHED.key in store.objects) == (ENRICHED.manifest_key in store.objects)


@tried(30)
@given(answers_like(IGDB))
def test_a_sync_that_ends_has_merged_what_it_was_told(answers: dict[str, httpx.Response]) -> None:
    store = Memory(
        {} if answers["/count"].status_code == httpx.codes.OK else {"catalogue/sync.json": b'{"synced_at":1}'}
    )

    async def sync() -> None:
        async with open_igdb(**served(answers)) as igdb:
            synced = await sync_catalogue(store, CatalogueFiles(store), igdb)
            assert (synced.apps <= synced.known, store.list("catalogue/new/")) == (True, {})

    with contextlib.suppress(PipelineError):
        asyncio.run(sync())


def test_half_a_surrogate_pair_costs_its_row_or_its_name_alone() -> None:
    rows = [{"uid": "\ud800", "game": 1}, {"uid": "620", "game": 72}]
    assert parse_external_games(rows).rows() == [(620, 72)]
    named = [{"id": 72, "name": "Portal 2", "alternative_names": [{"id": 1, "name": "P\udfff"}]}]
    assert parse_rows(named, FoundGame)[0][0].alternative_names == ["P?"]
