"""The methods of the Steam Web API and its store that an import calls (https://steamapi.xpaw.me, Valve's protobufs)."""

import json
import re
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from pipeline.sandbox.wire import Asked, Row, html_answer, json_answer, phrase
from pipeline.sandbox.world import PUBLIC, SHOWN, Account, World

APPINFO_FIELDS = frozenset({"name", "img_icon_url", "has_community_visible_stats", "content_descriptorids"})
SUMMARIES_AT_ONCE = 100

HOST = "https://api.steampowered.com"
URL_BYTES = 8_192
"""The longest URL, in bytes: GetItems answered one of 8,186 bytes; longer ones were answered with 400."""

GET_ITEMS = "IStoreBrowseService/GetItems/v1"
KEYLESS = frozenset({GET_ITEMS})

FLAGS = {
    "assets": "include_assets",
    "basic_info": "include_basic_info",
    "platforms": "include_platforms",
    "release": "include_release",
    "reviews": "include_reviews",
    "tagids": "include_tag_count",
}
"""Fields of a StoreItem that come only if the data_request has a flag."""

BAD_KEY = "Access is denied. Retrying will not help. Please verify your <pre>key=</pre> parameter."
BLOCKED = "<html><head><title>Access Denied</title></head><body><h1>Access Denied</h1></body></html>"
"""The page of a 403 that does not name the key, sent to an IP address that ignored its 429s."""


class Steam:
    """Answers for the accounts of `world`; a request with another key than `key` gets `bad_key_status` (401 or 403)."""

    def __init__(self, world: World, key: str, bad_key_status: int) -> None:
        self.world = world
        self.key = key
        self.bad_key_status = bad_key_status

    def answer(self, asked: Asked) -> web.Response:
        """Answer a method of the API, in either spelling of its version."""
        path = re.fullmatch(r"/(\w+/\w+/v)0*(\d+)/?", asked.path)
        name = path[1] + path[2] if path else ""
        refused = self._refused(asked, name)
        if refused:
            return self.error(refused)
        found = METHODS[name](self.world, asked.params)
        return self.error(400) if found is None else json_answer({"response": found})

    def _refused(self, asked: Asked, name: str) -> int:
        """Return the status of a request that is refused before a method answers it, or 0 for an accepted request."""
        if len(HOST + asked.target) > URL_BYTES:
            return 400
        if name not in METHODS:
            return 404
        if asked.method != "GET":
            return 405
        key = asked.headers.get("x-webapi-key") or asked.params.get("key")
        return 0 if name in KEYLESS or key == self.key else self.bad_key_status

    def error(self, status: int) -> web.Response:
        """Return the HTML page that Steam sends with a status; 401 and 403 name the key."""
        if status in {401, 403}:
            return html_answer(HTTPStatus(status).phrase, BAD_KEY, status)
        return html_answer(phrase(status), status=status)


def owned_games(world: World, params: dict[str, str]) -> Row | None:
    """Answer IPlayerService/GetOwnedGames: {} for a private, hidden or unknown library, None for a bad id."""
    if not params.get("steamid", "").isdecimal():
        return None
    account = world.accounts.get(params["steamid"])
    if account is None or account.visibility != PUBLIC or account.hidden:
        return {}
    games = [owned_game(row, params) for row in account.games if is_shown(row, account, params)]
    return {"game_count": len(games)} | ({"games": games} if games else {})


def is_shown(row: Row, account: Account, params: dict[str, str]) -> bool:
    """Return whether the flags of a GetOwnedGames request include this row."""
    appid = row["appid"]
    played_free = flag(params, "include_played_free_games") and row["playtime_forever"] > 0
    return (
        (appid not in account.free or played_free or flag(params, "include_free_sub"))
        and (appid not in account.free_sub or flag(params, "include_free_sub"))
        and (appid not in account.unvetted or not flag(params, "skip_unvetted_apps", default="1"))
    )


def owned_game(row: Row, params: dict[str, str]) -> Row:
    """Return a GetOwnedGames row without the fields not asked for, and without `playtime_2weeks` when it is 0."""
    unasked = frozenset() if flag(params, "include_appinfo") else APPINFO_FIELDS
    idle = frozenset() if row.get("playtime_2weeks") else {"playtime_2weeks"}
    return {name: value for name, value in row.items() if name not in unasked | idle}


def resolve_vanity(world: World, params: dict[str, str]) -> Row:
    """Answer ISteamUser/ResolveVanityURL; an unknown name gets `success` 42, Steam's EResult NoMatch."""
    wanted = params.get("vanityurl", "").casefold()
    found = [steam_id64 for steam_id64, account in world.accounts.items() if account.vanity.casefold() == wanted != ""]
    return {"steamid": found[0], "success": 1} if found else {"success": 42, "message": "No match"}


def player_summaries(world: World, params: dict[str, str]) -> Row | None:
    """Answer ISteamUser/GetPlayerSummaries: unknown ids are left out, and rows are not in the request's order."""
    steam_ids = params.get("steamids", "").split(",")
    known = sorted(set(steam_ids) & world.accounts.keys())
    if len(steam_ids) > SUMMARIES_AT_ONCE:
        return None
    return {"players": [_player(steam_id64, world.accounts[steam_id64]) for steam_id64 in known]}


def _player(steam_id64: str, account: Account) -> Row:
    profile = f"id/{account.vanity}" if account.vanity else f"profiles/{steam_id64}"
    return {
        "steamid": steam_id64,
        "communityvisibilitystate": account.visibility,
        "profilestate": 1,
        "personaname": account.name,
        "profileurl": f"https://steamcommunity.com/{profile}/",
        "personastate": 0,
    }


def store_items(world: World, params: dict[str, str]) -> Row | None:
    """Answer IStoreBrowseService/GetItems: one item per distinct appid, not in the request's order.

    Without a `country_code` the answer is empty, as measured on the real service; None means a malformed request.
    """
    try:
        asked = json.loads(params.get("input_json", ""))
        appids = {int(one["appid"]) for one in asked["ids"]}
        country, data_request = asked.get("context", {}).get("country_code"), asked.get("data_request", {})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not country or not appids:
        return {}
    flags = {name for name, value in data_request.items() if value}
    return {"store_items": [store_item(world, appid, flags) for appid in sorted(appids, reverse=True)]}


def store_item(world: World, appid: int, flags: set[str]) -> Row:
    """Return one StoreItem; a hidden or unknown app has no name, and its `type` says nothing."""
    row = world.store.get(appid, {"success": 15})
    if row["success"] != SHOWN or not row.get("visible", True):
        lost = {"item_type": 0, "id": appid, "success": row["success"], "visible": False, "name": ""}
        return lost | {"store_url_path": "app/0/", "appid": 0} | ({"type": 0} if "type" in row else {})
    shown = {name: value for name, value in row.items() if name not in FLAGS or FLAGS[name] in flags}
    path = f"app/{appid}/{'_'.join(row['name'].split())}"
    return {"item_type": 0, "id": appid, "visible": True, "store_url_path": path, "appid": appid, **shown}


def flag(params: dict[str, str], name: str, default: str = "0") -> bool:
    """Return a boolean parameter of a request: Steam accepts `1` and `true`."""
    return params.get(name, default).casefold() in {"1", "true"}


METHODS: dict[str, Callable[[World, dict[str, str]], Row | None]] = {
    "IPlayerService/GetOwnedGames/v1": owned_games,
    "ISteamUser/ResolveVanityURL/v1": resolve_vanity,
    "ISteamUser/GetPlayerSummaries/v2": player_summaries,
    GET_ITEMS: store_items,
}
