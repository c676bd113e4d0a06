"""The frames a load stages: rows keyed as SavePoint's tables are, times in UTC without a zone, enums as text.

`number` counts a frame's rows from 0 in the order they are to be inserted; new ids are made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pandera.polars as pa
import polars as pl

from schemas.frames import StrictFrame

NaiveTime = Annotated[pl.Datetime, "ms", None]

FALLBACKS = {"name": (" (IGDB ", ")"), "slug": ("-igdb-", "")}
"""What stands before and after the IGDB id in a name or slug, which must be unique, that another row has taken."""


class StagedImportedGames(StrictFrame):
    """One row per user and Steam app."""

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by user and appid")
    user_id: str = pa.Field(alias="userId", description="SavePoint's id of the owner")
    storefront_game_id: str = pa.Field(alias="storefrontGameId", description="Steam's id of the app, as text")
    name: str = pa.Field(description="The app's name, or `App {appid}`")
    is_nameless: bool = pa.Field(alias="isNameless", description="Whether Steam gave no name: then it replaces none")
    img_icon_url: str = pa.Field(nullable=True, description="Hash of the app's icon")
    playtime: pl.Int32 = pa.Field(description="Minutes played")
    playtime_windows: pl.Int32 = pa.Field(alias="playtimeWindows", description="Minutes played on Windows")
    playtime_mac: pl.Int32 = pa.Field(alias="playtimeMac", description="Minutes played on macOS")
    playtime_linux: pl.Int32 = pa.Field(alias="playtimeLinux", description="Minutes played on Linux")
    last_played_at: NaiveTime = pa.Field(alias="lastPlayedAt", nullable=True, description="Last play, UTC")
    igdb_match_status: str = pa.Field(alias="igdbMatchStatus", description="MATCHED only where the game is staged too")
    is_match_override: bool = pa.Field(alias="isMatchOverride", description="Whether a human decided the match status")
    is_kind_override: bool = pa.Field(alias="isKindOverride", description="Whether a human decided what the app is")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", nullable=True, description="IGDB's id of the game, when MATCHED")

    class Config(StrictFrame.Config):
        """One row per user and app."""

        unique = ("userId", "storefrontGameId")


class StagedGames(StrictFrame):
    """One row per IGDB game."""

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


class StagedGenres(StrictFrame):
    """One row per IGDB genre."""

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by IGDB id")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", unique=True, description="IGDB's id of the genre")
    name: str = pa.Field(unique=True, description="IGDB's name, or its fallback `{name} (IGDB {igdbId})`")
    slug: str = pa.Field(unique=True, description="IGDB's slug, or its fallback `{slug}-igdb-{igdbId}`")
    checksum: str = pa.Field(nullable=True, description="IGDB's checksum of the object")


class StagedPlatforms(StrictFrame):
    """One row per IGDB platform."""

    number: pl.Int32 = pa.Field(unique=True, description="Place of the row, by IGDB id")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", unique=True, description="IGDB's id of the platform")
    name: str = pa.Field(unique=True, description="IGDB's name, or its fallback `{name} (IGDB {igdbId})`")
    slug: str = pa.Field(unique=True, description="IGDB's slug, or its fallback `{slug}-igdb-{igdbId}`")
    abbreviation: str = pa.Field(nullable=True, description="IGDB's abbreviation")
    alternative_name: str = pa.Field(alias="alternativeName", nullable=True, description="IGDB's alternative name")
    generation: pl.Int32 = pa.Field(nullable=True, description="IGDB's generation")
    platform_family: pl.Int32 = pa.Field(alias="platformFamily", nullable=True, description="IGDB's platform_family")
    platform_type: pl.Int32 = pa.Field(alias="platformType", nullable=True, description="IGDB's platform_type")
    checksum: str = pa.Field(nullable=True, description="IGDB's checksum of the object")


class StagedLinks(StrictFrame):
    """One row per game and genre, or per game and platform."""

    game_igdb_id: pl.Int32 = pa.Field(alias="gameIgdbId", description="IGDB's id of the game")
    igdb_id: pl.Int32 = pa.Field(alias="igdbId", description="IGDB's id of the genre or platform")

    class Config(StrictFrame.Config):
        """One row per pair."""

        unique = ("gameIgdbId", "igdbId")


class WrittenTables(StrictFrame):
    """What one load does to each table, or would do."""

    table: str = pa.Field(unique=True, description="Name of SavePoint's table")
    created: pl.Int64 = pa.Field(description="Rows that are new")
    updated: pl.Int64 = pa.Field(description="Rows of which a column is another")
    removed: pl.Int64 = pa.Field(description="Links that IGDB no longer lists")
    left_alone: pl.Int64 = pa.Field(description="Rows of the file that change nothing")


class Changes(StrictFrame):
    """One row per column that one load changes; of a new row every column that is set, of a removed one its keys."""

    table: str = pa.Field(description="Name of SavePoint's table")
    key: str = pa.Field(description="What names the row: user and appid, IGDB ids, or user, IGDB id and item's id")
    column: str = pa.Field(description="Name of the column")
    old: str = pa.Field(nullable=True, description="Value before, as text; null in a new row")
    new: str = pa.Field(nullable=True, description="Value after, as text; null in a removed row")


@dataclass(frozen=True)
class LoadOptions:
    """How a load is done: which statuses new library items get, whether it is a dry run, and what it reports.

    A status of None leaves the choice to what the database's enum has. `dry_run` rolls everything back in the end,
    `details` lists every column that changes, `trust` reads an enriched CSV that its manifest does not prove.
    """

    status_unplayed: str | None = None
    status_played: str | None = None
    dry_run: bool = False
    details: bool = False
    trust: bool = False


DEFAULT_OPTIONS = LoadOptions()


@dataclass(frozen=True)
class StagedRows:
    """All that one load has to say to the database; `counts` is what its report says of the file alone."""

    imported_games: pl.DataFrame
    games: pl.DataFrame
    genres: pl.DataFrame
    platforms: pl.DataFrame
    game_genres: pl.DataFrame
    game_platforms: pl.DataFrame
    counts: Mapping[str, int]
