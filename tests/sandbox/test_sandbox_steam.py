from collections.abc import Callable

import httpx
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import Account, World

Steam = Callable[..., httpx.Response]
OWNED = "IPlayerService/GetOwnedGames/v1"
EVERYTHING = {
    "include_appinfo": 1,
    "include_played_free_games": 1,
    "include_free_sub": 1,
    "skip_unvetted_apps": 0,
}


def appids(answer: httpx.Response) -> set[int]:
    return {row["appid"] for row in answer.json()["response"]["games"]}


def test_the_whole_recorded_library_shows_if_everything_is_asked_for(steam: Steam) -> None:
    answer = steam(OWNED, steamid=World.RECORDED_ACCOUNT, **EVERYTHING)
    response = answer.json()["response"]
    assert answer.headers["content-type"].startswith("application/json")
    assert response["game_count"] == len(response["games"]) == 129
    spore = next(row for row in response["games"] if row["appid"] == 17390)
    assert (spore["name"], spore["playtime_forever"], spore["rtime_last_played"]) == ("Spore", 676, 1645345221)
    assert "playtime_disconnected" in spore


def test_the_old_spelling_of_a_version_is_understood(steam: Steam) -> None:
    old = steam("IPlayerService/GetOwnedGames/v0001", steamid=World.RECORDED_ACCOUNT)
    assert old.json() == steam(OWNED, steamid=World.RECORDED_ACCOUNT).json()


def test_without_appinfo_rows_have_no_names(steam: Steam) -> None:
    rows = steam(OWNED, steamid=World.RECORDED_ACCOUNT).json()["response"]["games"]
    assert not any({"name", "img_icon_url"} & row.keys() for row in rows)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        pytest.param({}, {1, 4}, id="only what was bought"),
        pytest.param({"include_played_free_games": "true"}, {1, 2, 4}, id="free games that were played"),
        pytest.param({"include_free_sub": 1}, {1, 2, 3, 4}, id="the free package"),
        pytest.param({"skip_unvetted_apps": 0}, {1, 4, 5}, id="unvetted apps"),
        pytest.param({"skip_unvetted_apps": "false", **EVERYTHING}, {1, 2, 3, 4, 5}, id="everything"),
    ],
)
def test_free_and_unvetted_apps_hide_unless_asked_for(
    sandbox: Sandbox, steam: Steam, flags: dict[str, object], shown: set[int]
) -> None:
    rows = [
        {"appid": appid, "playtime_forever": minutes} for appid, minutes in ((1, 0), (2, 5), (3, 0), (4, 9), (5, 0))
    ]
    free, unvetted = frozenset({2}), frozenset({5})
    sandbox.world.accounts["76561197960265999"] = Account(
        games=rows, free=free, free_sub=frozenset({3}), unvetted=unvetted
    )
    assert appids(steam(OWNED, steamid="76561197960265999", **flags)) == shown


def test_two_weeks_show_only_where_something_was_played(sandbox: Sandbox, steam: Steam) -> None:
    account = World.EMPTY_ACCOUNT
    sandbox.world.add_owned(account, 1, "idle", playtime_2weeks=0)
    sandbox.world.add_owned(account, 2, "played", playtime_2weeks=3)
    rows = steam(OWNED, steamid=account).json()["response"]["games"]
    assert [row.get("playtime_2weeks") for row in rows] == [None, 3]


@pytest.mark.parametrize(
    ("account", "response"),
    [
        pytest.param(World.PRIVATE_ACCOUNT, {}, id="private profile"),
        pytest.param(World.HIDDEN_ACCOUNT, {}, id="private game details"),
        pytest.param(World.UNKNOWN_ACCOUNT, {}, id="no such account"),
        pytest.param(World.EMPTY_ACCOUNT, {"game_count": 0}, id="visible but empty"),
    ],
)
def test_a_library_that_shows_nothing(steam: Steam, account: str, response: dict[str, int]) -> None:
    answer = steam(OWNED, steamid=account)
    assert (answer.status_code, answer.json()) == (200, {"response": response})


@pytest.mark.parametrize("key", ["", "0123456789abcdef0123456789abcdef"])
def test_a_wrong_key_is_refused_with_a_page_that_names_it(steam: Steam, key: str) -> None:
    answer = steam(OWNED, steamid=World.RECORDED_ACCOUNT, key=key)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text == (
        "<html><head><title>Forbidden</title></head><body><h1>Forbidden</h1>Access is denied. "
        "Retrying will not help. Please verify your <pre>key=</pre> parameter.</body></html>"
    )


def test_the_key_may_come_in_a_header_or_in_the_address(sandbox: Sandbox, client: httpx.Client) -> None:
    key, url = sandbox.environment["STEAM_API_KEY"], f"{sandbox.environment['STEAM_API_URL']}/{OWNED}/"
    by_header = client.get(url, params={"steamid": World.EMPTY_ACCOUNT}, headers={"x-webapi-key": key})
    by_address = client.get(url, params={"steamid": World.EMPTY_ACCOUNT, "key": key})
    assert by_header.json() == by_address.json() == {"response": {"game_count": 0}}


def test_a_wrong_key_may_be_refused_with_401() -> None:
    with Sandbox(World(), bad_key_status=401) as sandbox:
        answer = httpx.get(f"{sandbox.environment['STEAM_API_URL']}/{OWNED}/")
    assert answer.status_code == 401
    assert "<h1>Unauthorized</h1>Access is denied." in answer.text


def test_vanity_names_resolve_whatever_their_case(steam: Steam) -> None:
    answer = steam("ISteamUser/ResolveVanityURL/v1", vanityurl="GabeLogANNewell")
    assert answer.json() == {"response": {"steamid": "76561197960287930", "success": 1}}


@pytest.mark.parametrize("name", ["nobody-has-this", ""])
def test_an_unknown_vanity_name_is_no_match(steam: Steam, name: str) -> None:
    answer = steam("ISteamUser/ResolveVanityURL/v1", vanityurl=name)
    assert (answer.status_code, answer.json()) == (200, {"response": {"success": 42, "message": "No match"}})


def test_summaries_leave_out_unknown_accounts_and_tell_private_from_public(steam: Steam) -> None:
    ids = [World.UNKNOWN_ACCOUNT, World.RECORDED_ACCOUNT, World.HIDDEN_ACCOUNT, World.PRIVATE_ACCOUNT]
    players = steam("ISteamUser/GetPlayerSummaries/v0002", steamids=",".join(ids)).json()["response"]["players"]
    assert {player["steamid"]: player["communityvisibilitystate"] for player in players} == {
        World.RECORDED_ACCOUNT: 3,
        World.HIDDEN_ACCOUNT: 3,
        World.PRIVATE_ACCOUNT: 1,
    }
    unknown = steam("ISteamUser/GetPlayerSummaries/v2", steamids=World.UNKNOWN_ACCOUNT)
    assert unknown.json() == {"response": {"players": []}}


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        pytest.param(OWNED, {"steamid": "gabe"}, 400, id="steamid is no number"),
        pytest.param("ISteamUser/GetPlayerSummaries/v2", {"steamids": "1," * 100}, 400, id="over a hundred ids"),
        pytest.param("ISteamApps/GetAppList/v2", {}, 404, id="gone method"),
        pytest.param("IPlayerService", {}, 404, id="no method"),
    ],
)
def test_what_steam_cannot_answer_gets_a_page(steam: Steam, method: str, params: dict[str, str], status: int) -> None:
    answer = steam(method, **params)
    assert answer.status_code == status
    assert answer.text.startswith("<html>")


def test_steam_is_read_only(sandbox: Sandbox) -> None:
    assert httpx.post(f"{sandbox.environment['STEAM_API_URL']}/{OWNED}/").status_code == 405


def test_records_keep_parameters_but_never_the_key(sandbox: Sandbox, steam: Steam) -> None:
    steam(OWNED, steamid=World.RECORDED_ACCOUNT)
    record = sandbox.asked("steam")[0]
    assert (record.path, record.status) == ("/IPlayerService/GetOwnedGames/v1/", 200)
    assert record.params == {"steamid": World.RECORDED_ACCOUNT}
    assert sandbox.environment["STEAM_API_KEY"] not in repr(sandbox.requests)
