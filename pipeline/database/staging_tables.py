"""The temporary tables of one load, as SQLAlchemy tables; PostgreSQL drops them when the load's transaction ends."""

import pandera.polars as pa
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from schemas.frames import dtypes
from schemas.savepoint import SQL_TYPES
from schemas.staging import StagedGames, StagedGenres, StagedImportedGames, StagedLinks, StagedPlatforms


def _temporary(name: str, *columns: Column[object]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def _columns(model: type[pa.DataFrameModel]) -> list[Column[object]]:
    return [Column(name, SQL_TYPES[dtype]) for name, dtype in dtypes(model).items()]


def _found_id() -> Column[object]:
    """Return the column for the id of the row that SavePoint's database already has; null for a new row."""
    return Column("foundId", Text)


STAGED_USERS = _temporary("staged_users", Column("id", Text))
STAGED_GENRES = _temporary("staged_genres", *_columns(StagedGenres), _found_id())
STAGED_PLATFORMS = _temporary("staged_platforms", *_columns(StagedPlatforms), _found_id())
STAGED_GAMES = _temporary("staged_games", *_columns(StagedGames), _found_id())
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
"""The temporary table with one row per user and Steam app: the app's row of ImportedGame before the load.

Of several rows of an app it is the oldest that the user did not remove. `isRemoved`: the user removed all rows of the
app. `isDecided`: any row of the app was MATCHED, IGNORED or removed. `number`: number of the app's row in
STAGED_IMPORTED_GAMES, null where the app is not staged. `isChanged`: the staged row changes the row.
"""

MOVED_APPS = _temporary(
    "moved_apps", Column("storefrontGameId", Text), Column("igdbId", Integer), Column("gameId", Text)
)
"""The temporary table with one row per Steam app that an override moves, and Game that holds the app's id so far.

`gameId` is that Game's id, and `igdbId` is IGDB's id of the game to which the override moves the app.
"""

MOVED_ITEMS = _temporary("moved_items", Column("itemId", Integer), Column("gameId", Text), Column("isMovable", Boolean))
"""The temporary table with one row per library item of a game that loses an app by an override.

`gameId` is the id of the Game to which the override moves the app, `isMovable` whether the item may move there too.
"""

ROWS_BEFORE = _temporary(
    "rows_before", Column("table", Text), Column("id", Text), Column("key", Text), Column("row", JSONB)
)
"""The temporary table with one row per row that the load may change, as JSON of its values before; for `Changes`."""
