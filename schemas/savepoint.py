"""The part of SavePoint's database that a load touches, both generations of it; SavePoint's migrations own the tables.

A column is *required* (the load cannot work without it), *optional* (filled where the live database has it), or
*theirs* (never written; listed so that a new column of SavePoint's can be told from a known one, and because some of
them tell whether a user has touched a LibraryItem).
"""

from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP

STORE = "STEAM"
LIBRARY_PLATFORM = "PC (Microsoft Windows)"
ACQUISITION = "DIGITAL"
STATUSES_PLAYED = ("EXPERIENCED", "PLAYED")

STATUSES_UNPLAYED = ("CURIOUS_ABOUT", "SHELF")
"""`LibraryItem.status` when no setting names one: the first that the database's enum has."""

_TIME = TIMESTAMP(precision=3)
_STOREFRONT = ENUM(name="Storefront", create_type=False)
_MATCH_STATUS = ENUM(name="IgdbMatchStatus", create_type=False)
_ACQUISITION_TYPE = ENUM(name="AcquisitionType", create_type=False)
_LIBRARY_ITEM_STATUS = ENUM(name="LibraryItemStatus", create_type=False)
_OPTIONAL = {"optional": True}
_THEIRS = {"theirs": True}


def is_required(column: Column[object]) -> bool:
    """Whether a load cannot work in a database that lacks the column."""
    return not column.info


def is_read_only(column: Column[object]) -> bool:
    """Whether a load never writes the column."""
    return "theirs" in column.info


SAVEPOINT = MetaData()

IMPORTED_GAME = Table(
    "ImportedGame",
    SAVEPOINT,
    Column("id", Text),
    Column("name", Text),
    Column("storefront", _STOREFRONT),
    Column("storefrontGameId", Text),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
    Column("deletedAt", _TIME),
    Column("userId", Text),
    Column("img_icon_url", Text),
    Column("playtime", Integer),
    Column("igdbMatchStatus", _MATCH_STATUS),
    Column("lastPlayedAt", _TIME, info=_OPTIONAL),
    Column("playtimeLinux", Integer, info=_OPTIONAL),
    Column("playtimeMac", Integer, info=_OPTIONAL),
    Column("playtimeWindows", Integer, info=_OPTIONAL),
    Column("img_logo_url", Text, info=_THEIRS),
)

GAME = Table(
    "Game",
    SAVEPOINT,
    Column("id", Text),
    Column("igdbId", Integer),
    Column("title", Text),
    Column("description", Text),
    Column("coverImage", Text),
    Column("releaseDate", _TIME),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
    Column("steamAppId", Integer),
    Column("slug", Text),
    Column("hltbId", Text, info=_THEIRS),
    Column("mainStory", Integer, info=_THEIRS),
    Column("mainExtra", Integer, info=_THEIRS),
    Column("completionist", Integer, info=_THEIRS),
    Column("franchiseId", Integer, info=_THEIRS),
)

LIBRARY_ITEM = Table(
    "LibraryItem",
    SAVEPOINT,
    Column("status", _LIBRARY_ITEM_STATUS),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
    Column("platform", Text),
    Column("userId", Text),
    Column("acquisitionType", _ACQUISITION_TYPE),
    Column("gameId", Text),
    Column("hasBeenPlayed", Boolean, info=_OPTIONAL),
    Column("statusChangedAt", _TIME, info=_OPTIONAL),
    Column("id", Integer, info=_THEIRS),
    Column("startedAt", _TIME, info=_THEIRS),
    Column("completedAt", _TIME, info=_THEIRS),
    Column("rating", Integer, info=_THEIRS),
    Column("statusIsManual", Boolean, info=_THEIRS),
)

GENRE = Table(
    "Genre",
    SAVEPOINT,
    Column("id", Text),
    Column("igdbId", Integer),
    Column("name", Text),
    Column("slug", Text),
    Column("checksum", Text),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
)

PLATFORM = Table(
    "Platform",
    SAVEPOINT,
    Column("id", Text),
    Column("igdbId", Integer),
    Column("name", Text),
    Column("slug", Text),
    Column("abbreviation", Text),
    Column("alternativeName", Text),
    Column("generation", Integer),
    Column("platformFamily", Integer),
    Column("platformType", Integer),
    Column("checksum", Text),
    Column("createdAt", _TIME),
    Column("updatedAt", _TIME),
)

GAME_GENRE = Table("GameGenre", SAVEPOINT, Column("gameId", Text), Column("genreId", Text))
GAME_PLATFORM = Table("GamePlatform", SAVEPOINT, Column("gameId", Text), Column("platformId", Text))

USED_ENUM_VALUES = {
    "Storefront": (STORE,),
    "IgdbMatchStatus": ("PENDING", "UNMATCHED", "MATCHED", "IGNORED"),
    "AcquisitionType": (ACQUISITION,),
    "LibraryItemStatus": (),
}
"""The enums of the columns above, and the values that a load writes whatever the settings are."""

UNIQUE_KEYS = {
    "Game": ("igdbId",),
    "Genre": ("igdbId",),
    "Platform": ("igdbId",),
    "GameGenre": ("gameId", "genreId"),
    "GamePlatform": ("gameId", "platformId"),
}
"""The keys without which loads that run side by side would write rows twice."""
