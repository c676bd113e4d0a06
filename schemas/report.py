"""Frame models of the HTML report: the bars of its charts, the rows of its table, and candidates with their links."""

from typing import Annotated

import pandera.polars as pa
import polars as pl

from schemas.frames import StrictFrame
from schemas.library import Kind, MatchReason, MatchStatus

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
