"""The rows that a load writes to SavePoint's database, named as its columns are; the load's options and its report.

Times are in UTC without a zone and enums are text. `number` counts a frame's rows from 0 in the order in which they are
inserted; the ids of new rows are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pandera.polars as pa
import polars as pl
from pandera.typing.polars import DataFrame

from schemas.frames import StrictFrame, dtypes
from schemas.library import RawLibrary

NaiveTime = Annotated[pl.Datetime, "ms", None]


@dataclass(frozen=True)
class MappedColumn:
    """A pair of columns: one of the raw CSV, and the one of SavePoint's table ImportedGame that a load fills from it.

    `only_grows`: a smaller value never replaces a larger one, because Steam says 0 when the owner hides playtimes; and
    a null is loaded as 0. A column without it takes each new value that is not null.
    `is_required`: a database that lacks the column is refused; any other column is filled where the database has it.
    """

    raw: str
    database: str
    only_grows: bool = False
    is_required: bool = False

    @property
    def dtype(self) -> pl.DataType:
        """The Polars dtype of the column in RawLibrary; of a time, without its zone, as SavePoint's times have none."""
        dtype = dtypes(RawLibrary)[self.raw]
        return pl.Datetime(dtype.time_unit) if isinstance(dtype, pl.Datetime) else dtype

    @property
    def starts_at_zero(self) -> bool:
        """True if a null in the raw CSV is staged as 0, because Steam leaves a playtime of 0 out of its answer."""
        return self.only_grows and self.dtype.is_integer()


MAPPED_COLUMNS = (
    MappedColumn("img_icon_url", "img_icon_url", is_required=True),
    MappedColumn("playtime_forever", "playtime", only_grows=True, is_required=True),
    MappedColumn("playtime_windows_forever", "playtimeWindows", only_grows=True),
    MappedColumn("playtime_mac_forever", "playtimeMac", only_grows=True),
    MappedColumn("playtime_linux_forever", "playtimeLinux", only_grows=True),
    MappedColumn("rtime_last_played", "lastPlayedAt", only_grows=True),
)
"""The raw columns that go unchanged to SavePoint's ImportedGame; staging, insert and update all read this list."""

FALLBACKS = {"name": (" (IGDB ", ")"), "slug": ("-igdb-", "")}
"""The mapping of a unique column to the texts around the IGDB id, which follow a value that another row has."""


class StagedImportedGames(StrictFrame):
    """One row per user and Steam app that a load compares with SavePoint's ImportedGame, and writes where it differs.

    Its columns are those below and then those of MAPPED_COLUMNS, which come from the raw CSV.
    """

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by user and appid")
    user_id: str = pa.Field(alias="userId", description="SavePoint's id of the owner")
    storefront_game_id: str = pa.Field(alias="storefrontGameId", description="Steam's id of the app, as text")
    name: str = pa.Field(description="The app's name, or `App {appid}`")
    is_nameless: bool = pa.Field(alias="isNameless", description="Whether Steam gave no name: then it replaces none")
    igdb_match_status: str = pa.Field(alias="igdbMatchStatus", description="MATCHED only where the game is staged too")
    is_match_override: bool = pa.Field(
        alias="isMatchOverride", description="Whether an override decided the match status"
    )
    is_kind_override: bool = pa.Field(alias="isKindOverride", description="Whether an override decided the kind")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", nullable=True, description="IGDB's id of the game, when MATCHED")
    is_recent: bool = pa.Field(alias="isRecent", description="Whether it was last played in the week before the fetch")

    class Config(StrictFrame.Config):
        """One row per user and app."""

        unique = ("userId", "storefrontGameId")

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """Return the Pandera schema: the columns of the class, and then those of MAPPED_COLUMNS."""
        raw = RawLibrary.to_schema().columns
        return (
            super()
            .to_schema()
            .add_columns(
                {
                    mapped.database: pa.Column(
                        mapped.dtype,
                        nullable=raw[mapped.raw].nullable and not mapped.starts_at_zero,
                        description=raw[mapped.raw].description,
                    )
                    for mapped in MAPPED_COLUMNS
                }
            )
        )


class StagedGames(StrictFrame):
    """One row per IGDB game that a load writes to SavePoint's table `Game`."""

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by IGDB id")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", unique=True, description="IGDB's id of the game")
    title: str = pa.Field(description="IGDB's name of the game")
    description: str = pa.Field(nullable=True, description="IGDB's summary")
    cover_image: str = pa.Field(alias="coverImage", nullable=True, description="URL of the cover")
    release_date: NaiveTime = pa.Field(alias="releaseDate", nullable=True, description="First release, UTC")
    steam_app_id: pl.Int32 = pa.Field(
        alias="steamAppId", nullable=True, unique=True, description="The lowest of the appids that are this game alone"
    )
    slug: str = pa.Field(unique=True, description="IGDB's slug, or its fallback `{slug}-igdb-{igdbId}`")


class StagedEntries(StrictFrame):
    """The columns that IGDB's genres and platforms share."""

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by IGDB id")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", unique=True, description="IGDB's id of the genre or platform")
    name: str = pa.Field(unique=True, description="IGDB's name, or its fallback `{name} (IGDB {igdbId})`")
    slug: str = pa.Field(unique=True, description="IGDB's slug, or its fallback `{slug}-igdb-{igdbId}`")
    checksum: str = pa.Field(nullable=True, description="IGDB's checksum of the object")


class StagedGenres(StagedEntries):
    """One row per IGDB genre that a load writes to SavePoint's table `Genre`."""


class StagedPlatforms(StagedEntries):
    """One row per IGDB platform that a load writes to SavePoint's table `Platform`."""

    abbreviation: str = pa.Field(nullable=True, description="IGDB's abbreviation")
    alternative_name: str = pa.Field(alias="alternativeName", nullable=True, description="IGDB's alternative name")
    generation: pl.Int32 = pa.Field(nullable=True, description="IGDB's generation")
    platform_family: pl.Int32 = pa.Field(alias="platformFamily", nullable=True, description="IGDB's platform_family")
    platform_type: pl.Int32 = pa.Field(alias="platformType", nullable=True, description="IGDB's platform_type")


class StagedLinks(StrictFrame):
    """One row per link of a game to a genre, or of a game to a platform, by their IGDB ids."""

    game_igdb_id: pl.Int32 = pa.Field(alias="gameIgdbId", description="IGDB's id of the game")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", description="IGDB's id of the genre or platform")

    class Config(StrictFrame.Config):
        """One row per pair."""

        unique = ("gameIgdbId", "igdbId")


@dataclass(frozen=True)
class StagedRows:
    """The frames that one load writes to SavePoint's tables, and the counts of its report that need no database."""

    imported_games: DataFrame[StagedImportedGames]
    games: DataFrame[StagedGames]
    genres: DataFrame[StagedGenres]
    platforms: DataFrame[StagedPlatforms]
    game_genres: DataFrame[StagedLinks]
    game_platforms: DataFrame[StagedLinks]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class LoadOptions:
    """The options of a load: the statuses of new library items, whether it is a dry run, and how detailed it reports.

    A status of None leaves the choice to the values that the database's enum has. `dry_run` rolls everything back in
    the end, `details` lists every column that changes, `trust` reads an enriched CSV that its manifest does not prove.
    """

    status_unplayed: str | None = None
    status_played: str | None = None
    status_recent: str | None = None
    dry_run: bool = False
    details: bool = False
    trust: bool = False


DEFAULT_OPTIONS = LoadOptions()


class WrittenTables(StrictFrame):
    """One row per table of SavePoint's, with the numbers of rows that a load or a dry run writes and leaves alone."""

    table: str = pa.Field(unique=True, description="Name of SavePoint's table")
    created: pl.Int64 = pa.Field(description="Rows that are new")
    updated: pl.Int64 = pa.Field(description="Rows of which at least one column changes")
    removed: pl.Int64 = pa.Field(description="Links that IGDB no longer lists")
    left_alone: pl.Int64 = pa.Field(description="Rows of the file that change nothing")


class Changes(StrictFrame):
    """One row per value that one load changes in SavePoint's tables, with the old and the new value as text.

    A new row has one for every column that is set, a removed row one for each of its keys.
    """

    table: str = pa.Field(description="Name of SavePoint's table")
    key: str = pa.Field(description="What names the row: user and appid, IGDB ids, or user, IGDB id and item's id")
    column: str = pa.Field(description="Name of the column")
    old: str = pa.Field(nullable=True, description="Value before, as text; null in a new row")
    new: str = pa.Field(nullable=True, description="Value after, as text; null in a removed row")


class SteamUsers(StrictFrame):
    """One row per user who has a `steamId64` in the database's table of users; nothing of it is checked."""

    user_id: str = pa.Field(unique=True, description="SavePoint's id of the user")
    steam_id64: str = pa.Field(description="What stands in the column steamId64; it may be empty or malformed")
