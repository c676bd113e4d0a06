"""Compare two imports of a library: games bought, gone, newly matched or renamed, and the time played."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.events import ChangedGame, ChangeSummary
from schemas.frames import conform, dtypes, empty_frame
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.report import History, LibraryChanges

MOST_PLAYED = 5
_COMPARED = ("appid", "name", "match_status", "igdb_id")
_PLAYTIMES = ("appid", "playtime_forever", "rtime_last_played")

LAG = timedelta(days=1)
"""The time by which playtimes may lag behind the times of imports.

Steam adds a session when it ends, and a fetch may be retried for hours after the time in its key.
"""


class Snapshot(NamedTuple):
    """The enriched library of a user at the time of an import.

    `time` is the text in the import's keys, and `at` the same time in UTC, or None where the text is no time.
    """

    user_id: str
    time: str
    at: datetime | None
    library: DataFrame[EnrichedLibrary]


def compare_libraries(earlier: Snapshot, later: Snapshot) -> DataFrame[LibraryChanges]:
    """Return a row for each game that differs between two imports of a user, the most played first.

    Apps are compared by appid, so a new name is no purchase. A game is an app that is not filtered in the later import,
    or in the earlier one if it is no longer owned. Minutes that were played before the earlier import, which did not
    show them, do not count.
    """
    return _compare(earlier, later, _minutes_between(earlier, later))


def _compare(earlier: Snapshot, later: Snapshot, minutes: pl.DataFrame) -> DataFrame[LibraryChanges]:
    before, after = (_by_appid(of.library, _COMPARED) for of in (earlier, later))
    both = before.join(after, on="appid", how="full", coalesce=True, suffix="_after", validate="1:1")
    status, status_before = pl.col("match_status_after"), pl.col("match_status")
    is_matched = status == "MATCHED"
    is_renamed = pl.col("name_after") != pl.col("name")
    games = both.filter(pl.coalesce(status, status_before) != "IGNORED").select(
        "appid",
        name=pl.coalesce("name_after", "name"),
        is_new=status_before.is_null(),
        is_no_longer_owned=status.is_null(),
        is_newly_matched=(is_matched & (status_before != "MATCHED")).fill_null(value=False),
        old_name=pl.when(is_renamed).then("name"),
        igdb_id=pl.when(is_matched).then("igdb_id_after"),
    )
    flags = pl.any_horizontal("is_new", "is_no_longer_owned", "is_newly_matched", pl.col("old_name").is_not_null())
    changed = (
        games.join(minutes, on="appid", how="left", validate="1:1")
        .with_columns(pl.col("minutes_played").fill_null(0))
        .filter(flags | (pl.col("minutes_played") > 0))
        .sort("minutes_played", "appid", descending=[True, False])
    )
    return conform(changed.select(dtypes(LibraryChanges).names()), LibraryChanges)


def summarize_changes(earlier: Snapshot, later: Snapshot) -> ChangeSummary:
    """Return the changes between two imports of a user as lists of games, by kind of change."""
    minutes = _minutes_between(earlier, later)
    changes = _compare(earlier, later, minutes)
    return ChangeSummary(
        since=earlier.time,
        until=later.time,
        new_games=_games(changes.filter("is_new")),
        no_longer_owned=_games(changes.filter("is_no_longer_owned")),
        newly_matched=_games(changes.filter("is_newly_matched")),
        renamed=_games(changes.filter(pl.col("old_name").is_not_null())),
        minutes_played_since=int(changes["minutes_played"].sum()),
        most_played=_games(changes.filter(pl.col("minutes_played") > 0).head(MOST_PLAYED)),
        playtimes_hidden=minutes["is_hidden"].any(),
    )


def follow_playtimes(libraries: Iterable[tuple[datetime, DataFrame[RawLibrary]]]) -> DataFrame[History]:
    """Return a row for each app of each library of a user; the libraries come with their times, the oldest first.

    The minutes played count from the library before, or where playtimes were hidden in it, from the last one that shows
    any.
    """
    snapshots: list[pl.DataFrame] = [empty_frame(History)]
    earlier: tuple[datetime, pl.DataFrame] | None = None
    for at, library in libraries:
        since, before = earlier or (None, library)
        played = _minutes_played(before, library, since, at)
        rows = library.join(played, on="appid", how="left", validate="m:1").with_columns(
            pl.when(since is not None).then("minutes_played"),
            fetched_at=pl.lit(at, dtype=dtypes(History)["fetched_at"]),
            since=pl.lit(since, dtype=dtypes(History)["since"]),
        )
        snapshots.append(rows.select(dtypes(History).names()))
        if since is None or _shows_playtimes(library) or not _shows_playtimes(before):
            earlier = (at, library)
    return conform(pl.concat(snapshots), History)


def _minutes_between(earlier: Snapshot, later: Snapshot) -> pl.DataFrame:
    return _minutes_played(earlier.library, later.library, earlier.at, later.at)


def _minutes_played(
    earlier: pl.DataFrame, later: pl.DataFrame, since: datetime | None, until: datetime | None
) -> pl.DataFrame:
    """Return a row for each app of the later library: the minutes played since the earlier one, and `is_hidden`.

    `is_hidden` is true where the owner hid the app's playtime in one of the two libraries. An app that the earlier one
    has without playtime, or not at all, was played before it if its last play was earlier, or if it has more minutes
    than have passed since: these minutes do not count. If that is so of any app that the earlier library has, and it
    shows no playtime of any app, it counts for all its apps. Playtimes never fall, so one that is 0 now is hidden.
    """
    now, before = pl.col("playtime_forever"), pl.col("playtime_forever_before")
    in_both = before.is_not_null()
    passed = pl.lit((until - since + LAG) / timedelta(minutes=1) if since and until else None, dtype=pl.Float64)
    is_from_before = (now > passed) | ((now > 0) & (pl.col("rtime_last_played") < pl.lit(since)))
    was_unseen = (before.fill_null(0) == 0) & is_from_before.fill_null(value=False)
    if not _shows_playtimes(earlier):
        is_all_unseen = (was_unseen & in_both).any() | (now.filter(in_both).sum() > passed).fill_null(value=False)
        was_unseen |= (now > 0) & is_all_unseen
    return (
        _by_appid(later, _PLAYTIMES)
        .join(_by_appid(earlier, _PLAYTIMES), on="appid", how="left", suffix="_before", validate="1:1")
        .select(
            "appid",
            minutes_played=pl.when(was_unseen).then(0).otherwise(now - before.fill_null(0)).clip(0).cast(pl.Int32),
            is_hidden=in_both & (was_unseen | ((before > 0) & (now == 0))),
        )
    )


def _shows_playtimes(library: pl.DataFrame) -> bool:
    return library.filter(pl.col("playtime_forever") > 0).height > 0


def _by_appid(library: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Return some columns, with one row per app also where people wrote an app into a CSV twice."""
    return library.select(columns).unique("appid", keep="first", maintain_order=True)


def _games(changes: pl.DataFrame) -> list[ChangedGame]:
    rows = changes.select("appid", "name", "old_name", "minutes_played", "igdb_id").to_dicts()
    return [ChangedGame.model_validate(row) for row in rows]
