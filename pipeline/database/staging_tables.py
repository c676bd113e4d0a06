"""The temporary tables of one load, dropped when its transaction ends."""

from typing import Any

import pandera.polars as pa
import polars as pl
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine

from schemas.staging import StagedGames, StagedGenres, StagedImportedGames, StagedLinks, StagedPlatforms

TYPES: dict[pl.DataType, TypeEngine[Any]] = {
    pl.String(): Text(),
    pl.Int32(): Integer(),
    pl.Boolean(): Boolean(),
    pl.Datetime("ms"): TIMESTAMP(precision=3),
}


def _temporary(name: str, *columns: Column[object]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def _columns(model: type[pa.DataFrameModel]) -> list[Column[object]]:
    return [Column(name, TYPES[known.dtype.type]) for name, known in model.to_schema().columns.items()]


def _found(model: type[pa.DataFrameModel]) -> list[Column[object]]:
    """The model's columns, and the id of the row that is there already (null for a new one)."""
    return [*_columns(model), Column("foundId", Text)]


STAGED_USERS = _temporary("staged_users", Column("id", Text))
STAGED_GENRES = _temporary("staged_genres", *_found(StagedGenres))
STAGED_PLATFORMS = _temporary("staged_platforms", *_found(StagedPlatforms))
STAGED_GAMES = _temporary("staged_games", *_found(StagedGames))
STAGED_GAME_GENRES = _temporary("staged_game_genres", *_columns(StagedLinks))
STAGED_GAME_PLATFORMS = _temporary("staged_game_platforms", *_columns(StagedLinks))
STAGED_IMPORTED_GAMES = _temporary("staged_imported_games", *_columns(StagedImportedGames))

PREVIOUS_IMPORTS = _temporary(
    "previous_imports",
    Column("id", Text),
    Column("userId", Text),
    Column("storefrontGameId", Text),
    Column("playtime", Integer),
    Column("igdbMatchStatus", Text),
    Column("isRemoved", Boolean),
    Column("isDecided", Boolean),
    Column("number", Integer),
    Column("isChanged", Boolean),
)
"""The users' rows as they were before this load: per app the oldest one that the user did not remove, if any.

`isDecided`: whether any row of the app was MATCHED, IGNORED or removed. `number`: of the app's row in the file, null
where it has none. `isChanged`: whether the row is not removed and the file says anything new of it.
"""

MOVED_APPS = _temporary(
    "moved_apps", Column("storefrontGameId", Text), Column("igdbId", Integer), Column("gameId", Text)
)
"""The apps that an override moves to the game of that IGDB id, and the Game that has the appid so far."""

MOVED_ITEMS = _temporary("moved_items", Column("itemId", Integer), Column("gameId", Text), Column("isMovable", Boolean))
"""The users' items of the games that an override moves their apps from, and the Game to move them to."""

ROWS_BEFORE = _temporary(
    "rows_before", Column("table", Text), Column("id", Text), Column("key", Text), Column("row", JSONB)
)
"""For a report in detail: the rows that the load may change, as they were before."""
