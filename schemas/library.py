"""Frame models of a Steam library in its four states: as Steam lists it, classified, matched to IGDB, enriched."""

from typing import Annotated, get_type_hints

import pandera.polars as pa
import polars as pl
from pydantic import BaseModel

from schemas.apis import Genre, Platform
from schemas.events import USER_ID
from schemas.frames import StrictFrame

KINDS = (
    "game",
    "mod",
    "dlc",
    "demo",
    "soundtrack",
    "tool",
    "software",
    "video",
    "series",
    "hardware",
    "multiplayer_component",
    "bonus_content",
    "beta",
)

ENRICHED_KINDS = ("game", "mod")
"""The kinds of apps that are matched to IGDB games; apps of other kinds are filtered."""

MATCH_STATUSES = ("PENDING", "UNMATCHED", "MATCHED", "IGNORED")

MATCH_REASONS = (
    "override",
    "external_game",
    "ambiguous",
    "not_found",
    "igdb_incomplete",
    "filtered",
    "igdb_unavailable",
    "not_looked_up",
)

Time = Annotated[pl.Datetime, "ms", "UTC"]
Kind = Annotated[pl.Enum, KINDS]
MatchStatus = Annotated[pl.Enum, MATCH_STATUSES]
MatchReason = Annotated[pl.Enum, MATCH_REASONS]


def _struct_of(row: type[BaseModel]) -> pl.Struct:
    """Return the Polars dtype for an object of IGDB, a struct of its fields: numbers as Int32, texts as String."""
    types = get_type_hints(row)
    return pl.Struct({name: pl.Int32 if types[name] in (int, int | None) else pl.String for name in row.model_fields})


GENRE, PLATFORM = _struct_of(Genre), _struct_of(Platform)
GENRES, PLATFORMS = pl.List(GENRE), pl.List(PLATFORM)


class RawLibrary(StrictFrame):
    """One row per app that Steam lists as the user's.

    After the ids of the user, the columns are named as the fields of IPlayerService/GetOwnedGames.
    """

    user_id: str = pa.Field(str_matches=USER_ID, description="SavePoint's id of the owner")
    steam_id64: str = pa.Field(str_matches=r"^[0-9]{17}$", description="The owner's SteamID64")
    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="The app's name; null when Steam gives none")
    playtime_forever: pl.Int32 = pa.Field(description="Minutes played; 0 also when the owner hides playtimes")
    playtime_2weeks: pl.Int32 = pa.Field(nullable=True, description="Minutes played in the last two weeks")
    playtime_windows_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on Windows")
    playtime_mac_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on macOS")
    playtime_linux_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on Linux")
    playtime_deck_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on a Steam Deck")
    rtime_last_played: Time = pa.Field(nullable=True, description="Last play, UTC; null when never or before 2004")
    img_icon_url: str = pa.Field(nullable=True, description="Hash of the app's icon, not a URL")

    # Every column of free text, those of the models below too: a new one has to be named here.
    @pa.check("^(name|img_icon_url|kind_reason|igdb_(name|slug|summary|cover_url))$", regex=True)
    @classmethod
    def holds_no_nul(cls, column: pa.PolarsData) -> pl.LazyFrame:
        """Return for each text whether it is free of U+0000, which PostgreSQL's text type cannot store."""
        return column.lazyframe.select(~pl.col(column.key).str.contains("\0", literal=True))


class ClassifiedLibrary(RawLibrary):
    """One row per app of a user's library, with the kind of the app (game, dlc, …) and the reason for it."""

    kind: Kind = pa.Field(description="What the app is; all but game and mod are filtered")
    kind_reason: str = pa.Field(
        description="What decided the kind: override, store:<type>, igdb (against a rule), name:<rule> or default"
    )


class IgdbGame(StrictFrame):
    """The columns about an IGDB game that libraries and the catalogue share; null in a row without a game."""

    igdb_id: pl.Int32 = pa.Field(nullable=True, ge=1, description="IGDB's id of the game")
    igdb_name: str = pa.Field(nullable=True, description="IGDB's name of the game")
    igdb_slug: str = pa.Field(nullable=True, description="IGDB's slug of the game")
    igdb_summary: str = pa.Field(nullable=True, description="IGDB's summary of the game")
    igdb_first_release_date: Time = pa.Field(nullable=True, description="First release, UTC")
    igdb_cover_url: str = pa.Field(nullable=True, description="URL of the cover, 264 x 374 pixels")
    igdb_game_type: pl.Int32 = pa.Field(nullable=True, description="IGDB's game_type: 0 main game, 1 DLC, 8 remake, …")


class LibraryWithStatus(ClassifiedLibrary):
    """One row per app of the classified library, with the status of its match, such as MATCHED, and the reason."""

    match_status: MatchStatus = pa.Field(description="MATCHED, UNMATCHED, IGNORED (filtered) or PENDING (ask again)")
    match_reason: MatchReason = pa.Field(description=f"Why: {', '.join(MATCH_REASONS)}")


# Pandera puts the columns of the last base first.
class MatchedLibrary(IgdbGame, LibraryWithStatus):
    """One row per app of the classified library, with its IGDB game, whose columns are null where it has none."""


class EnrichedLibrary(MatchedLibrary):
    """One row per app of the matched library, with genres, platforms and candidates as JSON: the enriched CSV."""

    igdb_genres: str = pa.Field(nullable=True, description=f"JSON array of {{{', '.join(Genre.model_fields)}}}")
    igdb_platforms: str = pa.Field(nullable=True, description=f"JSON array of {{{', '.join(Platform.model_fields)}}}")
    igdb_candidates: str = pa.Field(nullable=True, description="JSON array of IGDB ids, when the match is ambiguous")

    @pa.check("igdb_genres", "igdb_platforms")
    @classmethod
    def has_no_nul(cls, column: pa.PolarsData) -> pl.LazyFrame:
        r"""Return a boolean for each JSON text: whether it is without U+0000, which PostgreSQL's text cannot hold.

        The character may stand in the text itself or as JSON's escape, `\u0000` after an even number of backslashes.
        """
        return column.lazyframe.select(~pl.col(column.key).str.contains(r"\x00|(^|[^\\])(\\\\)*\\u0000"))


class DecodedLibrary(MatchedLibrary):
    """One row per app of the matched library, with genres, platforms and candidates as Polars lists, for notebooks."""

    igdb_genres: Annotated[pl.List, GENRE] = pa.Field(nullable=True, description="The game's genres")
    igdb_platforms: Annotated[pl.List, PLATFORM] = pa.Field(nullable=True, description="The game's platforms")
    igdb_candidates: Annotated[pl.List, pl.Int32] = pa.Field(
        nullable=True, description="IGDB's ids of the games it may be, when the match is ambiguous"
    )
