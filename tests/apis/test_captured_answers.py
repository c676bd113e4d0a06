"""The kinds of answers that were captured of the real APIs, as bodies of our own, and what our clients make of each."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from pipeline.apis.batching import BatchResult
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.frames.match import parse_games
from pipeline.frames.raw_library import parse_owned_games
from pipeline.review.candidates import tabulate_games
from schemas.apis import parse_rows
from schemas.review import FoundGame
from tests.support.apis import ONCE, ask_igdb, open_steam, open_steam_store

ACCOUNT = "76561197960265729"
DENIED = {"x-amzn-errortype": "AccessDeniedException"}


def response(status: int, body: object, **headers: str) -> httpx.Response:
    """An answer; a body that is no text is JSON."""
    if isinstance(body, str):
        return httpx.Response(status, text=body, headers={"Content-Type": "text/plain", **headers})
    return httpx.Response(status, json=body, headers=headers)


class Network:
    """Answers each request with a copy of the one answer, and counts them."""

    def __init__(self, status: int, body: object, **headers: str) -> None:
        self._answer = status, body, headers
        self.requests = 0

    def __call__(self, _request: httpx.Request) -> httpx.Response:
        self.requests += 1
        status, body, headers = self._answer
        return response(status, body, **headers)


def games(answer: Callable[[httpx.Request], httpx.Response], *, has_token: bool = True) -> BatchResult:
    (result,) = ask_igdb(answer, lambda igdb: igdb.fetch_games([72]), has_token=has_token)
    return result


def error(title: str, **more: str) -> list[dict[str, object]]:
    """A list of one error, as IGDB answers with."""
    return [{"title": title, "status": 400, **more}]


# The status and the body; the error's code, what it quotes, and the setting or the version that is at fault.
FINAL = [
    (
        400,
        error("Invalid Field", cause="no 'hue'"),
        "configuration",
        "Field, no 'hue'",
        version("steam-library-import"),
    ),
    (400, error("Syntax Error", cause="Expecting a STRING"), "configuration", "Expecting a STRING", "install a newer"),
    (400, error("Syntax Error"), "configuration", "400: Syntax Error.", "install a newer one"),
    (403, error("Request limit to high", cause="501"), "configuration", "limit to high, 501", "install a newer one"),
    (403, error("Forbidden", cause="not in your tier"), "bad_igdb_credentials", "not in your tier", "IGDB_CLIENT_ID"),
    (403, {"Message": "with an explicit deny"}, "bad_igdb_credentials", "with an explicit deny", "IGDB_CLIENT_ID"),
    (404, "Endpoint POST /hues not found", "configuration", "404: Endpoint POST /hues not found", "IGDB_API_URL"),
    (404, "<html><body>Bearer token was here</body></html>", "configuration", "404: Not Found", "IGDB_API_URL"),
]


@pytest.mark.parametrize(("status", "body", "code", "says", "at_fault"), FINAL)
def test_a_final_refusal_of_igdb_says_what_igdb_said_and_what_is_at_fault(
    status: int, body: object, code: str, says: str, at_fault: str
) -> None:
    network = Network(status, body, **(DENIED if status == 403 else {}))
    with pytest.raises(Refused) as raised:
        games(network)
    assert (raised.value.code, network.requests) == (code, 1)
    assert says in raised.value.message
    assert at_fault in raised.value.message
    assert "ry again" not in raised.value.message
    assert "Bearer" not in raised.value.message


def test_the_log_says_why_igdb_refused_a_multiquery_and_which_setting_ends_them() -> None:
    too_many = {"title": "Too Many Concurrent queries", "details": "The maximum is at 10"}

    def answer(request: httpx.Request) -> httpx.Response:
        return response(400, too_many) if "multi" in request.url.path else response(200, [])

    with capture_logs() as logged:
        results = ask_igdb(answer, lambda igdb: igdb.fetch_games(range(1, 601)))
    assert [result.unanswered for result in results] == [[], []]
    (warning,) = logged
    assert "400: Too Many Concurrent queries, The maximum is at 10" in warning["error"]
    assert "IGDB_MULTIQUERY=off" in warning["error"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (408, error("Request Timeout")),
        (413, error("Payload Too Large", cause="Response exceeds 10MB limit.")),
        (413, {"title": "Content Too Large", "status": 413, "type": "about:blank", "details": {}}),
        (429, {"message": "Too Many Requests"}),
        (502, "Bad Gateway"),
        (504, {"message": "Endpoint request timed out"}),
    ],
)
def test_what_may_pass_leaves_its_batch_unanswered(status: int, body: object) -> None:
    result = games(Network(status, body))
    assert result.unanswered == [72]
    assert result.error is not None
    assert (result.error.code, result.error.status) == ("igdb_unavailable", status)


def test_a_token_that_igdb_refuses_twice_is_a_matter_of_the_credentials() -> None:
    asked = list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "twitch.example":
            return response(200, {"access_token": "a-token", "expires_in": 4_930_334, "token_type": "bearer"})
        return response(401, {"message": "Authorization Failure. Have you tried:", "Tip 1": "…"}, **DENIED)

    with pytest.raises(Refused, match="bad_igdb_credentials"):
        games(answer, has_token=False)
    assert asked == ["twitch.example", "igdb.example"] * 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "invalid client"), (400, "invalid grant type"), (403, "invalid client secret")],
)
def test_twitchs_own_words_are_quoted(status: int, message: str) -> None:
    with pytest.raises(Refused, match=f"IGDB_CLIENT_SECRET: {message}") as raised:
        games(Network(status, {"status": status, "message": message}), has_token=False)
    assert raised.value.code == "bad_igdb_credentials"


def test_a_twitch_address_without_tokens_is_named() -> None:
    with pytest.raises(Refused, match="TWITCH_TOKEN_URL"):
        games(Network(404, "nothing here"), has_token=False)


def test_games_may_lack_fields_and_hold_bare_ids() -> None:
    rows = [
        {"id": 1, "name": "Bare", "slug": "bare"},
        {"id": 2, "name": "Mixed", "slug": "mixed", "genres": [{"id": 5, "name": "Shooter"}, 31], "platforms": [6]},
        {"id": 3, "name": "Covered", "slug": "covered", "cover": {"id": 8, "image_id": "co1abc"}, "extra": {"a": 1}},
        {"id": 5, "name": "Expanded", "slug": "expanded", "game_type": {"id": 8, "type": "Remake"}, "url": "//x"},
        {"id": 4, "name": "Old", "slug": "old", "first_release_date": -86_400, "url": "//x", "cover": 7},
    ]
    read, faults = parse_games(games(Network(200, rows, **{"x-count": "5"})).rows)
    assert (read["igdb_id"].to_list(), faults) == ([1, 2, 3, 5, 4], [])
    assert read["igdb_game_type"].to_list() == [None, None, None, 8, None]


def test_a_search_may_find_games_with_other_fields_than_asked_for_and_expanded_lists() -> None:
    japanese = {"id": 9, "name": "\N{KATAKANA LETTER A}"}
    rows = [
        {"id": 1, "name": "Hue", "alternative_names": [japanese, 17], "platforms": [{"id": 6, "name": "PC"}, 48]},
        {"id": 2, "name": "Hue: Pit", "slug": "hue-pit", "genres": [{"id": 12}], "game_type": {"id": 5, "type": "Mod"}},
    ]

    answered = ask_igdb(Network(200, rows, **{"x-count": "2"}), lambda igdb: igdb.search_games("Hue"))
    found = tabulate_games({10: parse_rows(answered, FoundGame)[0]})
    assert found.select("igdb_name", "other_names", "game_type", "is_on_computers").rows() == [
        ("Hue", [japanese["name"]], None, True),
        ("Hue: Pit", [], 5, False),
    ]


VERIFY = "Access is denied. Please verify your <pre>key=</pre> parameter."
STEAM_PAGES: list[tuple[int, str, type[PipelineError], str, str]] = [
    (400, "Please verify that all required parameters are being sent", Refused, "bad_steam_id", "Check its digits"),
    (400, "<pre>Required parameter 'key' is missing</pre>", Refused, "bad_steam_key", "STEAM_API_KEY"),
    (401, f"<h1>Unauthorized</h1>{VERIFY}", Refused, "bad_steam_key", "STEAM_API_KEY"),
    (403, f"<h1>Forbidden</h1>{VERIFY}", Refused, "bad_steam_key", "STEAM_API_KEY"),
    (403, "<H1>Access Denied</H1>You don't have permission.<P>Reference&#32;&#35;18", Failed, "steam_blocked", "Wait"),
    (404, "Method 'GetGames' not found in interface 'IPlayerService'", Refused, "configuration", "STEAM_API_URL"),
    (429, "Access Denied. Rate limiting is enforced for your IP.", Retryable, "steam_rate_limited", "Try again later"),
    (502, "<h1>Bad Gateway</h1>", Retryable, "steam_unavailable", "502"),
    (503, "<h1>Service Unavailable</h1>", Retryable, "steam_unavailable", "503"),
]
PAGE = {"Content-Type": "text/html; charset=UTF-8"}


def owned(body: object, status: int = 200, **headers: str) -> list[Any] | None:
    async def run() -> list[Any] | None:
        network = httpx.MockTransport(Network(status, body, **headers))
        async with open_steam(policy=ONCE, transport=network) as steam:
            return await steam.fetch_owned_games(ACCOUNT)

    return asyncio.run(run())


@pytest.mark.parametrize(("status", "page", "kind", "code", "says"), STEAM_PAGES)
def test_each_page_of_steam_has_its_error(
    status: int, page: str, kind: type[PipelineError], code: str, says: str
) -> None:
    with pytest.raises(kind) as raised:
        owned(f"<html><head><title>{status}</title></head><body>{page}</body></html>", status, **PAGE)
    assert raised.value.code == code
    assert says in raised.value.message


def test_a_library_of_ones_own_has_times_by_platform_and_zero_is_never_played() -> None:
    minutes = {f"playtime_{system}_forever": 0 for system in ("windows", "mac", "linux", "deck")}
    row = {"appid": 10, "name": "Ten", "playtime_forever": 0, **minutes, "rtime_last_played": 0}
    game = row | {"content_descriptorids": [2, 5], "playtime_disconnected": 0, "img_icon_url": "ab"}
    rows, _ = parse_owned_games(owned({"response": {"game_count": 1, "games": [game]}}) or [], "user", ACCOUNT)
    assert rows.select(*minutes).row(0) == (0, 0, 0, 0)
    assert rows["rtime_last_played"].to_list() == [None]


def test_of_somebody_elses_library_the_times_that_steam_leaves_out_are_null_and_not_0() -> None:
    played = {"appid": 20, "name": "Twenty", "playtime_forever": 29_520, "playtime_2weeks": 3_540}
    bare = {"appid": 30, "playtime_forever": 0, "playtime_disconnected": 0}  # as without include_appinfo
    answer = owned({"response": {"game_count": 2, "games": [played, bare]}})
    rows, rejected = parse_owned_games(answer or [], "user", ACCOUNT)
    absent = rows.select("^playtime_(windows|mac|linux|deck)_forever$", "rtime_last_played")
    assert (absent.null_count().sum_horizontal().item(), absent.width) == (10, 5)
    assert rows.select("name", "playtime_2weeks", "playtime_forever").rows() == [
        ("Twenty", 3_540, 29_520),
        (None, None, 0),
    ]
    assert rejected.is_empty()


@pytest.mark.parametrize(
    ("body", "library"),
    [({"response": {}}, None), ({"response": {"game_count": 0}}, [])],
    ids=["private", "empty"],
)
def test_a_private_library_is_no_empty_one(body: object, library: list[Any] | None) -> None:
    assert owned(body) == library


def test_profiles_and_custom_urls_are_read() -> None:
    player = {"steamid": ACCOUNT, "communityvisibilitystate": 3, "profilestate": 1, "personaname": "A", "gameid": "1"}
    bodies = {
        "/ISteamUser/GetPlayerSummaries/v2/": {"response": {"players": [player]}},
        "/ISteamUser/ResolveVanityURL/v1/?vanityurl=found": {"response": {"steamid": ACCOUNT, "success": 1}},
        "/ISteamUser/ResolveVanityURL/v1/?vanityurl=nobody": {"response": {"success": 42, "message": "No match"}},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        (body,) = (body for path, body in bodies.items() if request.url.raw_path.decode().startswith(path))
        return response(200, body)

    async def run() -> tuple[bool, str | None, str | None]:
        async with open_steam(transport=httpx.MockTransport(answer)) as steam:
            found, nobody = await steam.resolve_vanity("found"), await steam.resolve_vanity("nobody")
            return await steam.has_account(ACCOUNT), found, nobody

    assert asyncio.run(run()) == (True, ACCOUNT, None)


def test_the_stores_page_of_an_error_leaves_its_apps_unanswered() -> None:
    page = "<HTML><HEAD><TITLE>Error</TITLE></HEAD><BODY>An error occurred.<p>Reference&#32;&#35;30&#46;0</BODY></HTML>"

    async def run() -> list[BatchResult]:
        network = httpx.MockTransport(Network(503, page, **PAGE))
        async with open_steam_store(policy=ONCE, transport=network) as store:
            return await store.fetch_items([620])

    (result,) = asyncio.run(run())
    assert result.error is not None
    assert (result.unanswered, result.error.code) == ([620], "steam_unavailable")
