"""Frames about several imports of a user: the games that changed between two of them, and the history of all."""

import pandera.polars as pa
import polars as pl

from schemas.frames import StrictFrame
from schemas.library import Time


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
