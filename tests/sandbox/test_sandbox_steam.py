from collections.abc import Callable
from http import HTTPStatus

import httpx
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World

Steam = Callable[..., httpx.Response]
OWNED = "IPlayerService/GetOwnedGames/v1"
SUMMARIES = "ISteamUser/GetPlayerSummaries/v2"
EVERYTHING = {
    "include_appinfo": 1,
    "include_played_free_games": 1,
    "include_free_sub": 1,
    "skip_unvetted_apps": 0,
}


def test_the_whole_recorded_library_shows_if_everything_is_asked_for(steam: Steam) -> None:
    response = steam(OWNED, steamid=World.RECORDED_ACCOUNT, **EVERYTHING).json()["response"]
    assert response["game_count"] == len(response["games"]) == 129
    spore = next(row for row in response["games"] if row["appid"] == 17390)
    assert (spore["name"], spore["playtime_forever"], spore["rtime_last_played"]) == ("Spore", 676, 1645345221)


def test_without_appinfo_rows_have_no_names(steam: Steam) -> None:
    rows = steam(OWNED.replace("v1", "v0001"), steamid=World.RECORDED_ACCOUNT).json()["response"]["games"]
    assert not any({"name", "img_icon_url"} & row.keys() for row in rows)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        pytest.param({}, {1, 4}, id="only what was bought"),
        pytest.param({"include_played_free_games": "true"}, {1, 2, 4}, id="free games that were played"),
        pytest.param({"include_free_sub": 1}, {1, 2, 3, 4}, id="the free package"),
        pytest.param({"skip_unvetted_apps": "false"}, {1, 4, 5}, id="unvetted apps"),
        pytest.param(EVERYTHING, {1, 2, 3, 4, 5}, id="everything"),
    ],
)
def test_free_and_unvetted_apps_hide_unless_asked_for(
    sandbox: Sandbox, steam: Steam, flags: dict[str, object], shown: set[int]
) -> None:
    rows = [
        {"appid": appid, "playtime_forever": minutes} for appid, minutes in ((1, 0), (2, 5), (3, 0), (4, 9), (5, 0))
    ]
    sandbox.world.accounts["76561197960265999"] = Account(
        games=rows, free=frozenset({2}), free_sub=frozenset({3}), unvetted=frozenset({5})
    )
    games = steam(OWNED, steamid="76561197960265999", **flags).json()["response"]["games"]
    assert {row["appid"] for row in games} == shown


def test_two_weeks_show_only_where_something_was_played(sandbox: Sandbox, steam: Steam) -> None:
    for appid, minutes in ((1, 0), (2, 3)):
        sandbox.world.add_owned(World.EMPTY_ACCOUNT, appid, "Any", playtime_2weeks=minutes)
    rows = steam(OWNED, steamid=World.EMPTY_ACCOUNT).json()["response"]["games"]
    assert [row.get("playtime_2weeks") for row in rows] == [None, 3]


@pytest.mark.parametrize(
    ("method", "params", "response"),
    [
        pytest.param(OWNED, {"steamid": World.PRIVATE_ACCOUNT}, {}, id="private profile"),
        pytest.param(OWNED, {"steamid": World.HIDDEN_ACCOUNT}, {}, id="private game details"),
        pytest.param(OWNED, {"steamid": World.UNKNOWN_ACCOUNT}, {}, id="no such account"),
        pytest.param(OWNED, {"steamid": World.EMPTY_ACCOUNT}, {"game_count": 0}, id="visible but empty"),
        pytest.param(SUMMARIES, {"steamids": World.UNKNOWN_ACCOUNT}, {"players": []}, id="no such profile"),
        pytest.param(
            "ISteamUser/ResolveVanityURL/v1",
            {"vanityurl": "GabeLogANNewell"},
            {"steamid": "76561197960287930", "success": 1},
            id="custom URL in any case",
        ),
        pytest.param(
            "ISteamUser/ResolveVanityURL/v1",
            {"vanityurl": ""},
            {"success": 42, "message": "No match"},
            id="no such custom URL",
        ),
    ],
)
def test_steam_answers_with_status_200_whether_there_is_something_to_see_or_not(
    steam: Steam, method: str, params: dict[str, str], response: dict[str, object]
) -> None:
    answer = steam(method, **params)
    assert (answer.status_code, answer.json()) == (200, {"response": response})


def test_summaries_tell_private_from_public(steam: Steam) -> None:
    accounts = {World.RECORDED_ACCOUNT: 3, World.HIDDEN_ACCOUNT: 3, World.PRIVATE_ACCOUNT: 1}
    asked = ",".join([World.UNKNOWN_ACCOUNT, *accounts])
    players = steam(SUMMARIES, steamids=asked).json()["response"]["players"]
    assert {player["steamid"]: player["communityvisibilitystate"] for player in players} == accounts


@pytest.mark.parametrize("status", [403, 401])
def test_a_wrong_key_is_refused_with_a_page_that_names_it(status: int) -> None:
    with Sandbox(World(), bad_key_status=status) as sandbox:
        answer = httpx.get(f"{sandbox.environment['STEAM_API_URL']}/{OWNED}/", params={"key": "0" * 32})
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (status, "text/html")
    phrase = HTTPStatus(status).phrase
    assert answer.text == (
        f"<html><head><title>{phrase}</title></head><body><h1>{phrase}</h1>Access is denied. "
        "Retrying will not help. Please verify your <pre>key=</pre> parameter.</body></html>"
    )


def test_the_key_may_come_in_a_header_or_in_the_address_and_is_never_recorded(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    key, url = sandbox.environment["STEAM_API_KEY"], f"{sandbox.environment['STEAM_API_URL']}/{OWNED}/"
    asked = {"steamid": World.EMPTY_ACCOUNT}
    by_header = client.get(url, params=asked, headers={"x-webapi-key": key})
    by_address = client.get(url, params=asked | {"key": key})
    assert by_header.json() == by_address.json() == {"response": {"game_count": 0}}
    assert [record.params for record in sandbox.requests] == [asked] * 2
    assert key not in repr(sandbox.requests)


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        pytest.param(OWNED, {"steamid": "gabe"}, 400, id="steamid is no number"),
        pytest.param(SUMMARIES, {"steamids": "1," * 100}, 400, id="over a hundred ids"),
        pytest.param("ISteamApps/GetAppList/v2", {}, 404, id="gone method"),
        pytest.param("IPlayerService", {}, 404, id="no method"),
    ],
)
def test_what_steam_cannot_answer_gets_a_page(steam: Steam, method: str, params: dict[str, str], status: int) -> None:
    answer = steam(method, **params)
    assert (answer.status_code, answer.text[:6]) == (status, "<html>")


@pytest.mark.parametrize("method", [OWNED, "IStoreBrowseService/GetItems/v1"])
def test_steam_is_read_only(sandbox: Sandbox, method: str) -> None:
    assert httpx.post(f"{sandbox.environment['STEAM_API_URL']}/{method}/").status_code == 405
