"""A few requests more than an import makes, each about something the vendors leave open."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from pydantic import SecretStr

from pipeline.apis.http import HttpClient, HttpLimits
from pipeline.apis.igdb import Token
from pipeline.apis.igdb_queries import GAME_FIELDS, PAGE_SIZE
from pipeline.apis.steam import KEY_HEADER, OWNED_GAMES
from pipeline.errors import Retryable
from pipeline.settings import Settings
from tests.live.exchanges import Recording

UNUSED_ID = "76561202255233023"
"""The last SteamID64 there can be; accounts are numbered in the order they are made, and it is far ahead."""

OWNED = "IPlayerService/GetOwnedGames/v1/"
STORE_ITEMS = "IStoreBrowseService/GetItems/v1/"
GOG = 5
SECONDS_APART = 0.3
QUIET_SECONDS = 1.5
"""Long enough for no earlier request to count towards a limit by the second."""

Ask = Callable[[str, str, str], Awaitable[httpx.Response | None]]
"""Asks IGDB: a label, an endpoint, a query."""

LIMITS = HttpLimits(timeout_seconds=30.0)
TEN = "".join(f'query genres "{number}" {{ fields id; limit 1; }};\n' for number in range(10))
PLAIN = "fields id; limit 1;"
SEARCH = 'search "Portal"; fields name; limit 5;'
BURST = 4
"""The number of multiqueries at once that IGDB answers if each counts as one of the four requests a second."""


@dataclass(frozen=True)
class Subject:
    """What is asked about: the account, an app it owns, and games of IGDB that Steam apps are."""

    steam_id64: str
    appid: int
    appid_of: Mapping[int, int]
    """Steam's id, by IGDB's."""


def secret_of(value: SecretStr | None) -> str:
    """The secret itself; to be handed on, never to be an argument that a traceback could show."""
    return value.get_secret_value() if value else ""


async def probe_steam(settings: Settings, recording: Recording, subject: Subject) -> None:
    """Ask Steam, and its store."""
    owner = {"steamid": subject.steam_id64}
    asked = {
        "malformed steamid": (OWNED, {"steamid": "not-a-number"}),
        "games of an unused id": (OWNED, {"steamid": UNUSED_ID}),
        "profile of an unused id": ("ISteamUser/GetPlayerSummaries/v2/", {"steamids": UNUSED_ID}),
        "appids_filter": (OWNED, owner | OWNED_GAMES | {"appids_filter[0]": str(subject.appid)}),
        "all games": (OWNED, owner | OWNED_GAMES),
        "family licences": (OWNED, owner | OWNED_GAMES | {"include_family_licenses": "1"}),
        "vanity name of two": ("ISteamUser/ResolveVanityURL/v1/", {"vanityurl": "gg"}),
    }
    key = secret_of(settings.steam_api_key)
    async with HttpClient(settings.steam_api_url, LIMITS, recording.transport()) as steam:
        for label, (path, params) in asked.items():
            request = steam.build_request("GET", path, params=params, headers={KEY_HEADER: key})
            await _ask(recording, label, request, steam)
        summaries = "ISteamUser/GetPlayerSummaries/v2/"
        keyed = {"key in the address": {"key": key}, "no key at all": {}}
        for label, given in keyed.items():
            request = steam.build_request("GET", summaries, params={"steamids": subject.steam_id64} | given)
            await _ask(recording, label, request, steam)
    question = {
        "ids": [{"appid": subject.appid}],
        "context": {"language": "english", "country_code": "US"},
        "data_request": {},
    }
    async with HttpClient(settings.steam_store_api_url, LIMITS, recording.transport()) as store:
        item = store.build_request("GET", STORE_ITEMS, params={"input_json": json.dumps(question)})
        await _ask(recording, "store item", item, store)


async def probe_igdb(settings: Settings, token: Token, recording: Recording, subject: Subject) -> None:
    """Ask IGDB, four times a second at most until it comes to its limits."""
    headers = {"Client-ID": str(settings.igdb_client_id), "Authorization": f"Bearer {token.value}"}
    async with HttpClient(settings.igdb_api_url, LIMITS, recording.transport()) as igdb:

        async def ask(label: str, endpoint: str, query: str) -> httpx.Response | None:
            request = igdb.build_request("POST", endpoint, headers=headers, content=query)
            return await _ask(recording, label, request, igdb)

        for label, (endpoint, query) in _queries(subject).items():
            await asyncio.sleep(SECONDS_APART)
            answer = await ask(label, endpoint, query)
            if answer and answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                await asyncio.sleep(QUIET_SECONDS)
                answer = await ask(label, endpoint, query)
            if label == "rows of GOG" and answer and answer.is_success:
                await _probe_same_element(answer.json(), subject, ask)
        await asyncio.sleep(QUIET_SECONDS)
        await asyncio.gather(*(ask("burst of multiqueries", "multiquery", TEN) for _ in range(BURST)))
        await asyncio.sleep(QUIET_SECONDS)
        await asyncio.gather(*(ask("eight at once", "genres", PLAIN) for _ in range(8)))


def _queries(subject: Subject) -> dict[str, tuple[str, str]]:
    good, bad = 'query genres "good" { fields name; limit 1; };', 'query genres "bad" { fields nope; limit 1; };'
    games = ",".join(map(str, list(subject.appid_of)[:PAGE_SIZE])) or "0"
    appid = next(iter(subject.appid_of.values()), subject.appid)
    return {
        "unquoted uid": ("external_games", f"fields uid; where external_game_source = 1 & uid = ({appid});"),
        "genres": ("genres", f"fields id,name; limit {PAGE_SIZE};"),
        "platform 169": ("platforms", "fields id,name; where id = 169;"),
        "33 KB": ("genres", PLAIN + " " * 33_000),
        "full page": ("games", f"fields {GAME_FIELDS}; sort id asc; limit {PAGE_SIZE};"),
        "a bad query beside a good one": ("multiquery", good + bad),
        "single search": ("games", SEARCH),
        "search in a multiquery": ("multiquery", f'query games "found" {{ {SEARCH} }};'),
        "rows of GOG": (
            "external_games",
            f"fields uid,game; where game = ({games}) & external_game_source = {GOG}; limit {PAGE_SIZE};",
        ),
    }


async def _probe_same_element(rows: object, subject: Subject, ask: Ask) -> None:
    """Whether a game is found by the uid of one of its rows and the source of another."""
    listed = rows if isinstance(rows, list) else []
    for game, gog_uid in ((row["game"], row.get("uid")) for row in listed if isinstance(row, dict) and "game" in row):
        appid = subject.appid_of.get(game)
        if appid and gog_uid != str(appid):
            await asyncio.sleep(SECONDS_APART)
            where = f'id = {game} & external_games.uid = "{appid}" & external_games.external_game_source = {GOG}'
            await ask("same element", "games", f"fields id; where {where};")
            return


async def _ask(recording: Recording, label: str, request: httpx.Request, http: HttpClient) -> httpx.Response | None:
    recording.label = label
    with suppress(Retryable):
        return await http.send(request, "steam_unavailable")
    return None
