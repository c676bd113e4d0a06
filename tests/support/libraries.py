"""Enriched libraries for tests: a row says only what its test is about."""

import json
from collections.abc import Iterable
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.frames import Model, conform, dtypes
from schemas.library import EnrichedLibrary

FIGHTING = {"id": 4, "name": "Fighting", "slug": "fighting", "checksum": "f1"}
SHOOTER = {"id": 5, "name": "Shooter", "slug": "shooter", "checksum": "s1"}
WINDOWS = {
    "id": 6,
    "name": "PC (Microsoft Windows)",
    "slug": "win",
    "abbreviation": "PC",
    "alternative_name": "mswin",
    "generation": None,
    "platform_family": None,
    "platform_type": 4,
    "checksum": "w1",
}


def app(appid: int, **columns: Any) -> dict[str, Any]:
    """An app that is not on IGDB."""
    return {
        "user_id": "user-1",
        "steam_id64": "76561197960287930",
        "appid": appid,
        "name": f"Name {appid}",
        "playtime_forever": 0,
        "kind": "game",
        "kind_reason": "default",
        "match_status": "UNMATCHED",
        "match_reason": "not_found",
        **columns,
    }


def matched(appid: int, igdb_id: int, **columns: Any) -> dict[str, Any]:
    """An app that is an IGDB game; genres and platforms are given as lists, or as the text of the CSV."""
    columns = {name: json.dumps(value) if isinstance(value, list) else value for name, value in columns.items()}
    game: dict[str, Any] = {
        "match_status": "MATCHED",
        "match_reason": "external_game",
        "igdb_id": igdb_id,
        "igdb_name": f"Game {igdb_id}",
        "igdb_slug": f"game-{igdb_id}",
    }
    return app(appid, **game | columns)


def library(*rows: dict[str, Any]) -> DataFrame[EnrichedLibrary]:
    """An enriched library of these apps."""
    return frame(EnrichedLibrary, rows)


def frame(model: type[Model], rows: Iterable[Any] = ()) -> DataFrame[Model]:
    """These rows, each a dict or a tuple, as a frame of the model; columns that no row has are null."""
    return conform(pl.DataFrame(list(rows), schema=dtypes(model), orient="row"), model)
