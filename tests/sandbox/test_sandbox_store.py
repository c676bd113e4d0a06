import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import HIDDEN, World

GET_ITEMS = "IStoreBrowseService/GetItems/v1"
US = {"language": "english", "country_code": "US"}

GetItems = Callable[..., httpx.Response]


@pytest.fixture
def get_items(sandbox: Sandbox, client: httpx.Client) -> GetItems:
    def get(*appids: int, base: str = "STEAM_STORE_API_URL", **changed: Any) -> httpx.Response:
        basics = {"include_basic_info": True}
        asked = {"ids": [{"appid": appid} for appid in appids], "context": US, "data_request": basics} | changed
        params = {"input_json": json.dumps(asked, separators=(",", ":"))}
        return client.get(f"{sandbox.environment[base]}/{GET_ITEMS}/", params=params)

    return get


def items(answer: httpx.Response) -> dict[int, dict[str, Any]]:
    return {item["id"]: item for item in answer.json()["response"]["store_items"]}


def test_an_item_has_name_and_type_without_a_key_at_both_base_urls(sandbox: Sandbox, get_items: GetItems) -> None:
    answer = get_items(440, 550, 440)
    assert get_items(440, 550, base="STEAM_API_URL").json() == answer.json()
    assert [record.service for record in sandbox.requests] == ["store", "steam"]
    assert list(items(answer)) == [550, 440], "each once, and not in the order asked for"
    assert items(answer)[550] == {
        "item_type": 0,
        "id": 550,
        "success": 1,
        "visible": True,
        "name": "Left 4 Dead 2",
        "store_url_path": "app/550/Left_4_Dead_2",
        "appid": 550,
        "type": 0,
    }


def test_what_is_hidden_or_unknown_has_no_name_and_no_type_to_trust(sandbox: Sandbox, get_items: GetItems) -> None:
    sandbox.world.add_store_item(5, "Failed", type=6, success=2)
    sandbox.world.add_store_item(6, "Invisible", type=6, visible=False)
    found = items(get_items(208090, 999_999, 5, 6))
    nothing = {"item_type": 0, "visible": False, "name": "", "store_url_path": "app/0/", "appid": 0}
    assert found == {
        208090: nothing | {"id": 208090, "success": HIDDEN, "type": 0},
        999_999: nothing | {"id": 999_999, "success": HIDDEN},
        5: nothing | {"id": 5, "success": 2, "type": 0},
        6: nothing | {"id": 6, "success": 1, "type": 0},
    }


def test_details_come_if_they_are_asked_for(sandbox: Sandbox, get_items: GetItems) -> None:
    details = {"basic_info": {"short_description": "A game."}, "tagids": [19], "release": {"is_coming_soon": True}}
    sandbox.world.add_store_item(7, "Detailed", type=12, **details)
    assert items(get_items(7))[7].keys() & details.keys() == {"basic_info"}
    more = items(get_items(7, data_request={"include_release": True, "include_tag_count": 20}))[7]
    assert more.keys() & details.keys() == {"tagids", "release"}


@pytest.mark.parametrize("changed", [{"context": {"language": "english"}}, {"context": {}}, {"ids": []}])
def test_without_a_country_or_apps_the_answer_is_empty(get_items: GetItems, changed: dict[str, object]) -> None:
    answer = get_items(440, **changed)
    assert (answer.status_code, answer.json()) == (200, {"response": {}})


@pytest.mark.parametrize("asked", ["", "[]", '{"ids":[{}]}', '{"ids":[{"appid":"x"}]}', "{}"])
def test_what_cannot_be_read_is_a_bad_request(sandbox: Sandbox, client: httpx.Client, asked: str) -> None:
    answer = client.get(f"{sandbox.environment['STEAM_STORE_API_URL']}/{GET_ITEMS}/", params={"input_json": asked})
    assert (answer.status_code, answer.text[:6]) == (400, "<html>")


@pytest.mark.parametrize(("apps", "status"), [(250, 200), (300, 400), (2000, 400)])
def test_long_urls_are_refused(get_items: GetItems, apps: int, status: int) -> None:
    assert get_items(*range(1_000_000, 1_000_000 + apps)).status_code == status


def test_the_recorded_library_is_in_the_store_as_in_reality() -> None:
    world = World.recorded()
    assert world.store.keys() == {row["appid"] for row in world.accounts[World.RECORDED_ACCOUNT].games}
    other = {row["name"]: row["type"] for row in world.store.values() if row["type"] != 0}
    assert other == {"EVGA Precision X1": 6, "RPG Maker MV": 6, "Skyrim Script Extender (SKSE)": 2}
    assert {row["name"] for row in world.store.values() if row["success"] == HIDDEN} == {"Loadout", "MapleStory 2"}


def test_igdb_lacks_few_of_the_recorded_games_and_lists_one_of_them_without_its_steam_id() -> None:
    world = World.recorded()
    known = {uid for uid, rows in world.rows_of_uid.items() if any("game" in row for row in rows)}
    lacking = {row["name"] for appid, row in world.store.items() if row["type"] != 6 and str(appid) not in known}
    pirate = "The Pirate: Caribbean Hunt"
    assert {"Dragon's Dogma 2 Character Creator & Storage", "Skyrim Script Extender (SKSE)", pirate} <= lacking
    assert not lacking & {"The Elder Scrolls V: Skyrim Special Edition", "THE FINALS", "The Fruit of Grisaia"}
    assert [game["id"] for game in world.games.values() if game["name"] == pirate] == [900006]
