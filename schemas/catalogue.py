"""A line of overrides.csv."""

from typing import Annotated, Any, Literal, Self

import pandera.polars as pa
import polars as pl
from pydantic import BaseModel, BeforeValidator, Field, model_validator

from schemas.frames import StrictFrame
from schemas.library import (
    GENRE,
    PLATFORM,
    MatchReason,
    MatchStatus,
    Time,
)


class ExternalGames(StrictFrame):
    """Which games IGDB says a Steam app is: one row per pair."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")


class Games(StrictFrame):
    """One row per IGDB game."""

    igdb_id: pl.Int32 = pa.Field(unique=True, ge=1, description="IGDB's id of the game")
    igdb_name: str = pa.Field(description="Its name")
    igdb_slug: str = pa.Field(description="Its slug")
    igdb_summary: str = pa.Field(nullable=True, description="Its summary")
    igdb_first_release_date: Time = pa.Field(nullable=True, description="Its first release, UTC")
    igdb_cover_url: str = pa.Field(nullable=True, description="URL of its cover, 264 x 374 pixels")
    igdb_game_type: pl.Int32 = pa.Field(nullable=True, description="Its game_type")
    version_parent: pl.Int32 = pa.Field(nullable=True, description="The game it is an edition of")
    genres: Annotated[pl.List, GENRE] = pa.Field(description="Its genres")
    platforms: Annotated[pl.List, PLATFORM] = pa.Field(description="Its platforms")


class Matches(StrictFrame):
    """What IGDB says of an app: one row per app that was asked for."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    match_status: MatchStatus = pa.Field(description="MATCHED, UNMATCHED or PENDING")
    match_reason: MatchReason = pa.Field(description="Why")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="The game, when MATCHED; a row of Games")
    candidates: Annotated[pl.List, pl.Int32] = pa.Field(
        nullable=True, description="The games, when ambiguous; a human's, if IGDB lacks it"
    )


STORE_TYPES = (
    "game",
    "demo",
    "mod",
    "movie",
    "dlc",
    "guide",
    "software",
    "video",
    "series",
    "episode",
    "hardware",
    "music",
    "beta",
    "tool",
    "advertising",
)
"""Steam's EStoreAppType, by number (SteamDatabase/Protobufs)."""

ACTIONS = ("match", "ignore", "game")
StoreType = Annotated[pl.Enum, STORE_TYPES]
Action = Annotated[pl.Enum, ACTIONS]


class Catalogue(StrictFrame):
    """What the store and IGDB know of an app, whoever owns it: one row per app."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    store_type: StoreType = pa.Field(nullable=True, description="Its type in the store; null when hidden or not asked")
    store_asked_at: Time = pa.Field(nullable=True, description="When the store was asked")
    match_status: MatchStatus = pa.Field(
        nullable=True, description="MATCHED or UNMATCHED; null when IGDB was not asked"
    )
    match_reason: MatchReason = pa.Field(nullable=True, description="Why")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="The game, when MATCHED")
    igdb_name: str = pa.Field(nullable=True, description="Its name")
    igdb_slug: str = pa.Field(nullable=True, description="Its slug")
    igdb_summary: str = pa.Field(nullable=True, description="Its summary")
    igdb_first_release_date: Time = pa.Field(nullable=True, description="Its first release, UTC")
    igdb_cover_url: str = pa.Field(nullable=True, description="URL of its cover, 264 x 374 pixels")
    igdb_game_type: pl.Int32 = pa.Field(nullable=True, description="Its game_type")
    version_parent: pl.Int32 = pa.Field(nullable=True, description="The game it is an edition of")
    genres: Annotated[pl.List, GENRE] = pa.Field(nullable=True, description="Its genres")
    platforms: Annotated[pl.List, PLATFORM] = pa.Field(nullable=True, description="Its platforms")
    candidates: Annotated[pl.List, pl.Int32] = pa.Field(
        nullable=True, description="The games, when ambiguous; a human's, if IGDB lacks it"
    )
    looked_up_at: Time = pa.Field(nullable=True, description="When IGDB was asked")


class StoreTypes(StrictFrame):
    """What the store answered: one row per app that was asked for."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    store_type: StoreType = pa.Field(nullable=True, description="Its type; null when the store hides it")


class Overrides(StrictFrame):
    """The humans' word, honoured in every run: one row per app."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    action: Action = pa.Field(description="match (to igdb_id), ignore, or game (whatever store and name say)")
    override_igdb_id: pl.Int32 = pa.Field(nullable=True, ge=1, description="The IGDB game to match")


HEADER = ("appid", "action", "igdb_id", "note")
INT32_MAX = 2**31 - 1
Id = Annotated[int, Field(ge=1, le=INT32_MAX)]


def _blank_is_none(cell: object) -> object:
    return None if isinstance(cell, str) and not cell.strip() else cell


class Override(BaseModel):
    """`match` an app to an IGDB game, `ignore` it, or have it count as a `game` whatever store and name say."""

    appid: Id
    action: Literal["match", "ignore", "game"]
    igdb_id: Annotated[Id | None, BeforeValidator(_blank_is_none)] = None
    note: str = ""

    @model_validator(mode="after")
    def _names_a_game(self) -> Self:
        if self.action == "match" and self.igdb_id is None:
            raise ValueError("match needs an igdb_id")
        return self

    def columns(self) -> dict[str, Any]:
        """The row as the frame has it."""
        return {"appid": self.appid, "action": self.action, "override_igdb_id": self.igdb_id}
