"""Frame models of what is known about Steam apps: answers of Steam's store and of IGDB, and people's overrides."""

from typing import Annotated, Any, Literal, Self

import pandera.polars as pa
import polars as pl
from pydantic import BaseModel, BeforeValidator, Field, model_validator

from schemas.apis import INT32_MAX
from schemas.frames import StrictFrame
from schemas.library import GENRE, PLATFORM, IgdbGame, MatchReason, MatchStatus, Time
from schemas.manifest import VERSIONS

KIND_OF_STORE_TYPE = {
    "game": "game",
    "demo": "demo",
    "mod": "mod",
    "movie": "video",
    "dlc": "dlc",
    "guide": "bonus_content",
    "software": "software",
    "video": "video",
    "series": "series",
    "episode": "video",
    "hardware": "hardware",
    "music": "soundtrack",
    "beta": "beta",
    "tool": "tool",
    "advertising": "bonus_content",
}
"""The kind of app by type in Steam's store: EStoreAppType in the order of its numbers (SteamDatabase/Protobufs)."""

STORE_TYPES = tuple(KIND_OF_STORE_TYPE)
ACTIONS = ("match", "ignore", "game")
StoreType = Annotated[pl.Enum, STORE_TYPES]
Action = Annotated[pl.Enum, ACTIONS]


class StoreTypes(StrictFrame):
    """One row per app that Steam's store answered about, with its type in the store (game, dlc, …)."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    store_type: StoreType = pa.Field(nullable=True, description="Its type; null when the store hides it")


class WantedApps(StrictFrame):
    """One row per app that a join missed in the catalogue, for the next look-up."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")


class ExternalGames(StrictFrame):
    """One row per pair of a Steam app and an IGDB game that IGDB says the app is."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of a game")


class CatalogueGame(IgdbGame):
    """The columns about an IGDB game in the catalogue: a library's, the game it is an edition of, and its lists."""

    version_parent: pl.Int32 = pa.Field(nullable=True, description="The game it is an edition of")
    genres: Annotated[pl.List, GENRE] = pa.Field(nullable=True, description="The game's genres")
    platforms: Annotated[pl.List, PLATFORM] = pa.Field(nullable=True, description="The game's platforms")


class Games(CatalogueGame):
    """One row per IGDB game."""

    igdb_id: pl.Int32 = pa.Field(unique=True, ge=1, description="IGDB's id of the game")


class Matches(StrictFrame):
    """One row per app that IGDB was asked about, with the IGDB game that it is, if any, and the reason."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    match_status: MatchStatus = pa.Field(description="MATCHED, UNMATCHED or PENDING")
    match_reason: MatchReason = pa.Field(description="Why")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="The game, when MATCHED; a row of Games")
    candidates: Annotated[pl.List, pl.Int32] = pa.Field(
        nullable=True, description="The games, when ambiguous; an override's game, if IGDB lacks it"
    )


class CatalogueStatus(StrictFrame):
    """One row per app of the catalogue, with its type in Steam's store and the status of its match on IGDB."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    store_type: StoreType = pa.Field(nullable=True, description="Its type in the store; null when hidden or not asked")
    store_asked_at: Time = pa.Field(nullable=True, description="When the store was asked")
    match_status: MatchStatus = pa.Field(
        nullable=True, description="MATCHED or UNMATCHED; null when IGDB was not asked"
    )
    match_reason: MatchReason = pa.Field(nullable=True, description="Why")


class CatalogueLookUps(CatalogueStatus):
    """The columns of the catalogue that say what was asked about an app, when, and with what result."""

    looked_up_at: Time = pa.Field(nullable=True, description="When IGDB was asked")


# Pandera puts the columns of the last base first.
class Catalogue(CatalogueGame, CatalogueStatus):
    """One row per app, with what Steam's store and IGDB know about it, whoever owns it."""

    candidates: Annotated[pl.List, pl.Int32] = pa.Field(
        nullable=True, description="The games, when ambiguous; an override's game, if IGDB lacks it"
    )
    looked_up_at: Time = pa.Field(nullable=True, description="When IGDB was asked")


class Overrides(StrictFrame):
    """One row per app about which people decided in overrides.csv; every run obeys it."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    action: Action = pa.Field(description="match (to igdb_id), ignore, or game (whatever store and name say)")
    override_igdb_id: pl.Int32 = pa.Field(nullable=True, ge=1, description="The IGDB game to match")


CANDIDATE = pl.Struct({"igdb_id": pl.Int32, "label": pl.String, "score": pl.Int32})


class KnownNames(StrictFrame):
    """One row per name of an app that IGDB was asked for, with the games of similar names."""

    name: str = pa.Field(unique=True, description="The name on Steam")
    looked_up_at: Time = pa.Field(description="When IGDB answered, UTC")
    candidates: Annotated[pl.List, CANDIDATE] = pa.Field(
        description="Up to five games, the most similar name first: IGDB's id, name with year and type, similarity"
    )


OVERRIDES_HEADER = ("appid", "action", "igdb_id", "note")
_Id = Annotated[int, Field(ge=1, le=INT32_MAX)]


def _blank_is_none(cell: object) -> object:
    return None if isinstance(cell, str) and not cell.strip() else cell


class Override(BaseModel):
    """A line of overrides.csv: `match` an app to an IGDB game, `ignore` the app, or treat it as a `game`."""

    appid: _Id
    action: Literal["match", "ignore", "game"]
    igdb_id: Annotated[_Id | None, BeforeValidator(_blank_is_none)] = None
    note: str = ""

    @model_validator(mode="after")
    def _match_names_a_game(self) -> Self:
        if self.action == "match" and self.igdb_id is None:
            raise ValueError("match needs an igdb_id")
        return self

    def to_row(self) -> dict[str, Any]:
        """Return the line as a row of Overrides, a mapping of column to value."""
        return {"appid": self.appid, "action": self.action, "override_igdb_id": self.igdb_id}


class SyncState(BaseModel):
    """The JSON file `catalogue/sync.json`: the starts of the unfinished and the last finished sync, in Unix seconds."""

    schema_version: int = Field(default_factory=lambda: VERSIONS["sync"])
    started_at: int | None = None
    synced_at: int | None = None
