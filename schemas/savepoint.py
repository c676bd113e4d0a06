"""The tables of the web application SavePoint that a load reads or writes, in both generations of its database.

SavePoint's migrations own the tables, and a load neither reads nor writes their other columns.

A column is *required* (a database that lacks it is refused), *optional* (filled where the live database has it), or
*read only* (never written: it tells whether a user has edited a LibraryItem).
"""

from typing import Any

import polars as pl
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP
from sqlalchemy.types import TypeEngine

from schemas.frames import StrictFrame, dtypes
from schemas.staging import MAPPED_COLUMNS, StagedGames, StagedGenres, StagedPlatforms

STORE = "STEAM"
LIBRARY_PLATFORM = "PC (Microsoft Windows)"
ACQUISITION = "DIGITAL"
"""With STORE and LIBRARY_PLATFORM, what a load writes of every imported game and library item."""

_TIME = TIMESTAMP(precision=3)
_OPTIONAL = {"optional": True}
_NULLS = {"takes_null": True}
_READ_ONLY = {"read_only": True}

SQL_TYPES: dict[pl.DataType, TypeEngine[Any]] = {
    pl.String(): Text(),
    pl.Int32(): Integer(),
    pl.Int64(): BigInteger(),
    pl.Float64(): Double(),
    pl.Boolean(): Boolean(),
    pl.Datetime("ms"): _TIME,
}
"""The mapping of a Polars dtype to the PostgreSQL type of a column that holds its values."""


def is_required(column: Column[Any]) -> bool:
    """Return True if a load is refused by a database that lacks the column."""
    return not {"optional", "read_only"} & column.info.keys()


def is_read_only(column: Column[Any]) -> bool:
    """Return True if a load never writes the column."""
    return "read_only" in column.info


def takes_null(column: Column[Any]) -> bool:
    """Return True if a load writes nulls into the column."""
    return "takes_null" in column.info


SAVEPOINT = MetaData()


def _table_of_igdb(name: str, model: type[StrictFrame]) -> Table:
    """Return a table that a load fills from a staged frame: with all of its columns but the number of the row."""
    nullable = {name for name, field in model.to_schema().columns.items() if field.nullable}
    staged = [
        Column(name, SQL_TYPES[dtype], info=_NULLS if name in nullable else None)
        for name, dtype in dtypes(model).items()
        if name != "number"
    ]
    return Table(name, SAVEPOINT, Column("id", Text), *staged, Column("createdAt", _TIME), Column("updatedAt", _TIME))


GAME = _table_of_igdb("Game", StagedGames)
GENRE = _table_of_igdb("Genre", StagedGenres)
PLATFORM = _table_of_igdb("Platform", StagedPlatforms)
GAME_GENRE = Table("GameGenre", SAVEPOINT, Column("gameId", Text), Column("genreId", Text))
GAME_PLATFORM = Table("GamePlatform", SAVEPOINT, Column("gameId", Text), Column("platformId", Text))

IMPORTED_GAME = Table(
    "ImportedGame",
    SAVEPOINT,
    Column("id", Text),
    Column("name", Text),
    Column("storefront", ENUM(name="Storefront", create_type=False)),
    Column("storefrontGameId", Text),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
    Column("deletedAt", _TIME),
    Column("userId", Text),
    Column("igdbMatchStatus", ENUM(name="IgdbMatchStatus", create_type=False)),
    *(
        Column(
            mapped.database,
            SQL_TYPES[mapped.dtype],
            info=({} if mapped.is_required else _OPTIONAL) | ({} if mapped.starts_at_zero else _NULLS),
        )
        for mapped in MAPPED_COLUMNS
    ),
)

LIBRARY_ITEM = Table(
    "LibraryItem",
    SAVEPOINT,
    Column("status", ENUM(name="LibraryItemStatus", create_type=False)),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
    Column("platform", Text),
    Column("userId", Text),
    Column("acquisitionType", ENUM(name="AcquisitionType", create_type=False)),
    Column("gameId", Text),
    Column("hasBeenPlayed", Boolean, info=_OPTIONAL),
    Column("statusChangedAt", _TIME, info=_OPTIONAL),
    Column("id", Integer, info=_READ_ONLY),
    Column("startedAt", _TIME, info=_READ_ONLY),
    Column("completedAt", _TIME, info=_READ_ONLY),
    Column("rating", Integer, info=_READ_ONLY),
    Column("statusIsManual", Boolean, info=_READ_ONLY),
)

USED_ENUM_VALUES = {
    "Storefront": (STORE,),
    "IgdbMatchStatus": ("PENDING", "UNMATCHED", "MATCHED", "IGNORED"),
    "AcquisitionType": (ACQUISITION,),
    "LibraryItemStatus": (),
}
"""The mapping of each enum of SavePoint's database that a load uses to the values that the load always needs."""

UNIQUE_KEYS = {
    "Game": ("igdbId",),
    "Genre": ("igdbId",),
    "Platform": ("igdbId",),
    "GameGenre": ("gameId", "genreId"),
    "GamePlatform": ("gameId", "platformId"),
}
"""The mapping of a table to the columns of its unique key, without which concurrent loads would insert rows twice."""
