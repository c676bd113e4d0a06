"""IStoreBrowseService/GetItems, the Steam store's answer to what an app is (SteamDatabase/Protobufs, storebrowse)."""

import json

from pipeline.sandbox.wire import Row
from pipeline.sandbox.world import SHOWN, World

GET_ITEMS = "IStoreBrowseService/GetItems/v1"

FLAGS = {
    "assets": "include_assets",
    "basic_info": "include_basic_info",
    "platforms": "include_platforms",
    "release": "include_release",
    "reviews": "include_reviews",
    "tagids": "include_tag_count",
}
"""Fields of a StoreItem that come only if the data_request has a flag."""


def store_items(world: World, params: dict[str, str]) -> Row | None:
    """Every app asked for, once, to be told apart by `id`: their order is not the request's.

    Without a country the answer is empty, as was measured; None is a request that cannot be read.
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
    """One StoreItem; of one that is hidden or unknown nothing can be learned, least of all by its `type`."""
    row = world.store.get(appid, {"success": 15})
    if row["success"] != SHOWN or not row.get("visible", True):
        lost = {"item_type": 0, "id": appid, "success": row["success"], "visible": False, "name": ""}
        return lost | {"store_url_path": "app/0/", "appid": 0} | ({"type": 0} if "type" in row else {})
    shown = {name: value for name, value in row.items() if name not in FLAGS or FLAGS[name] in flags}
    path = f"app/{appid}/{'_'.join(row['name'].split())}"
    return {"item_type": 0, "id": appid, "visible": True, "store_url_path": path, "appid": appid, **shown}
