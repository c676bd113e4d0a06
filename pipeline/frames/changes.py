"""Compare two imports of a library: games bought, gone, newly matched or renamed, and the time played."""

from datetime import datetime

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.changes import LibraryChanges
from schemas.events import ChangedGame, ChangeSummary
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary

MOST_PLAYED = 5
_COMPARED = ("appid", "name", "playtime_forever", "match_status", "igdb_id")


def compare_libraries(
    earlier: DataFrame[EnrichedLibrary], later: DataFrame[EnrichedLibrary], earlier_at: datetime | None = None
) -> DataFrame[LibraryChanges]:
    """Return a row for each game that differs between two imports of a user, the most played first.

    Apps are compared by appid, so a new name is no purchase. A game is an app that is not filtered in the later import,
    or in the earlier one if it is no longer owned. Playtimes that the owner hid in either import, the earlier of which
    asked Steam at `earlier_at`, count as no time played.
    """
    is_comparable = not playtimes_hidden(earlier, later, earlier_at)
    both = _games_by_appid(later).join(
        _games_by_appid(earlier), on="appid", how="full", coalesce=True, suffix="_before", validate="1:1"
    )
    status, status_before = pl.col("match_status"), pl.col("match_status_before")
    is_matched = status == "MATCHED"
    played = pl.col("playtime_forever") - pl.col("playtime_forever_before").fill_null(0)
    is_renamed = pl.col("name") != pl.col("name_before")
    games = both.filter(pl.coalesce(status, status_before) != "IGNORED").select(
        "appid",
        pl.coalesce("name", "name_before"),
        is_new=status_before.is_null(),
        is_no_longer_owned=status.is_null(),
        is_newly_matched=(is_matched & (status_before != "MATCHED")).fill_null(value=False),
        old_name=pl.when(is_renamed).then("name_before"),
        minutes_played=(played if is_comparable else pl.lit(0)).fill_null(0).clip(0).cast(pl.Int32),
        igdb_id=pl.when(is_matched).then("igdb_id"),
    )
    flags = pl.any_horizontal("is_new", "is_no_longer_owned", "is_newly_matched", pl.col("old_name").is_not_null())
    changed = games.filter(flags | (pl.col("minutes_played") > 0))
    return conform(
        changed.sort("minutes_played", "appid", descending=[True, False]).select(dtypes(LibraryChanges).names()),
        LibraryChanges,
    )


def playtimes_hidden(
    earlier: DataFrame[EnrichedLibrary], later: DataFrame[EnrichedLibrary], earlier_at: datetime | None = None
) -> bool:
    """Return True if all playtimes of one import are 0 because the owner hid them, as far as the other one tells.

    Playtimes never fall, so a later import without any was hidden. An earlier one was if a game was played before it.
    """
    has_time = pl.col("playtime_forever") > 0
    before, after = earlier.filter(has_time), later.filter(has_time)
    if before.height and not after.height:
        return later.height > 0
    played_before = pl.col("rtime_last_played") < pl.lit(earlier_at)
    since = after.join(earlier.select("appid"), on="appid", how="semi").filter(played_before)
    return before.height == 0 and since.height > 0


def summarize_changes(
    changes: DataFrame[LibraryChanges], since: str, until: str, *, is_hidden: bool = False
) -> ChangeSummary:
    """Return the changes between the imports with two times in their keys, as lists of games by kind of change."""
    played = changes.filter(pl.col("minutes_played") > 0)
    return ChangeSummary(
        since=since,
        until=until,
        new_games=_games(changes.filter("is_new")),
        no_longer_owned=_games(changes.filter("is_no_longer_owned")),
        newly_matched=_games(changes.filter("is_newly_matched")),
        renamed=_games(changes.filter(pl.col("old_name").is_not_null())),
        minutes_played_since=int(changes["minutes_played"].sum()),
        most_played=_games(played.head(MOST_PLAYED)),
        playtimes_hidden=is_hidden,
    )


def _games_by_appid(library: DataFrame[EnrichedLibrary]) -> pl.DataFrame:
    """Return the compared columns, with one row per app also where people wrote an app into a CSV twice."""
    return library.select(_COMPARED).unique("appid", keep="first", maintain_order=True)


def _games(changes: pl.DataFrame) -> list[ChangedGame]:
    rows = changes.select("appid", "name", "old_name", "minutes_played", "igdb_id").to_dicts()
    return [ChangedGame.model_validate(row) for row in rows]
