"""Frame models of what is shown about imports: the report of one, the changes between two, the history of all."""

from typing import Annotated

import pandera.polars as pa
import polars as pl

from schemas.frames import StrictFrame
from schemas.library import Kind, MatchReason, MatchStatus, Time

TONES = ("main", "warn", "muted")


class Bars(StrictFrame):
    """One row per bar of a chart, in the order in which the bars are drawn."""

    label: str = pa.Field(description="What is counted")
    value: pl.Int64 = pa.Field(description="Length of the bar, in the chart's unit")
    tone: Annotated[pl.Enum, TONES] = pa.Field(description="main, warn (somebody may act) or muted (left out, unknown)")


class TopGames(StrictFrame):
    """One row per card of the report: a game that was played most."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    name: str = pa.Field(description="Its name on Steam, or App and its id")
    initials: str = pa.Field(description="The first characters of the first two words of its name, in upper case")
    playtime_forever: pl.Int32 = pa.Field(description="Minutes played")
    year: pl.Int32 = pa.Field(nullable=True, description="Year of the first release")
    igdb_cover_url: str = pa.Field(nullable=True, description="URL of its cover on IGDB's image host")


class ReportGames(StrictFrame):
    """One row per app of the enriched CSV, as the report's table shows it."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    name: str = pa.Field(description="Its name on Steam, or App and its id")
    playtime_forever: pl.Int32 = pa.Field(description="Minutes played")
    playtime_2weeks: pl.Int32 = pa.Field(nullable=True, description="Minutes played in the last two weeks")
    last_played: str = pa.Field(nullable=True, description="Day of the last play, UTC, as YYYY-MM-DD")
    year: pl.Int32 = pa.Field(nullable=True, description="Year of the first release")
    genres: Annotated[pl.List, pl.String] = pa.Field(description="Names of its genres")
    platforms: Annotated[pl.List, pl.String] = pa.Field(description="Names of the platforms it was played on")
    kind: Kind = pa.Field(description="What the app is")
    match_status: MatchStatus = pa.Field(description="Whether it is matched to IGDB")
    match_reason: MatchReason = pa.Field(description="Why it is matched or not")
    igdb_name: str = pa.Field(nullable=True, description="IGDB's name of the game")
    igdb_slug: str = pa.Field(nullable=True, description="IGDB's slug of the game, for its page")
    candidates: str = pa.Field(description="Ids of the IGDB games it may be, with commas between; blank where none is")


class LinkedCandidates(StrictFrame):
    """One row per pair of an unmatched app and an IGDB game that it may be, with what leads to the game on IGDB."""

    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    igdb_id: pl.Int32 = pa.Field(ge=1, description="IGDB's id of the game")
    label: str = pa.Field(nullable=True, description="The game's name, year and type; null where only its id is known")
    igdb_slug: str = pa.Field(nullable=True, description="The game's slug; null where the catalogue has no such game")


class LibraryChanges(StrictFrame):
    """One row per game that changed between two imports of a user: bought, gone, matched, renamed or played."""

    appid: pl.Int32 = pa.Field(unique=True, ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="The app's name, the earlier one if it is no longer owned")
    is_new: bool = pa.Field(description="Whether only the later import has it")
    is_no_longer_owned: bool = pa.Field(description="Whether only the earlier import has it")
    is_newly_matched: bool = pa.Field(description="Whether both have it, and only the later one matched it to IGDB")
    old_name: str = pa.Field(nullable=True, description="The earlier name of an app that was renamed, else null")
    minutes_played: pl.Int32 = pa.Field(ge=0, description="Minutes played since the earlier import")
    igdb_id: pl.Int32 = pa.Field(nullable=True, description="IGDB's id of the game, if it is matched now")


class History(StrictFrame):
    """One row per app of a user in each import and backfill, the oldest first: the playtimes in minutes then."""

    fetched_at: Time = pa.Field(description="When Steam was asked, UTC")
    since: Time = pa.Field(
        nullable=True, description="The fetch before it, since which minutes_played counts; null in the first"
    )
    appid: pl.Int32 = pa.Field(ge=1, description="Steam's id of the app")
    name: str = pa.Field(nullable=True, description="The app's name at that time; null when Steam gave none")
    playtime_forever: pl.Int32 = pa.Field(
        description="Minutes played until then; 0 also when the owner hides playtimes"
    )
    playtime_windows_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on Windows until then")
    playtime_mac_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on macOS until then")
    playtime_linux_forever: pl.Int32 = pa.Field(
        nullable=True, description="Minutes played on Linux until then, a Steam Deck included"
    )
    playtime_deck_forever: pl.Int32 = pa.Field(nullable=True, description="Minutes played on a Steam Deck until then")
    minutes_played: pl.Int32 = pa.Field(
        nullable=True, ge=0, description="Minutes played since the fetch before; null in the first"
    )
