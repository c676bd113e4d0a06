"""Compute the contents of the HTML report of a library: its figures, its charts with titles, and its table."""

from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.catalogue import decode_column
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary
from schemas.report import TONES, Bars, ReportGames

GENRES_SHOWN = 12
NO_GENRE = "No genre known"

YEARS = (1950, 2049)
"""The first and last year of the chart: a year outside is a mistake on IGDB, and would stretch the axis."""

MATCH_WORDS = {
    "external_game": "By IGDB's list of Steam ids",
    "override": "By hand, in overrides.csv",
    "not_found": "Not found on IGDB",
    "ambiguous": "Several games on IGDB",
    "igdb_incomplete": "Incomplete on IGDB",
    "igdb_unavailable": "IGDB did not answer",
    "not_looked_up": "Not looked up yet",
    "filtered": "Filtered",
}

_TENTHS_BELOW_HOURS = 10
_MINUTES = pl.col("playtime_forever").cast(pl.Int64)
_IS_GAME = pl.col("match_status") != "IGNORED"


class Figures(NamedTuple):
    """The figures of a library: its apps, its games (not filtered) by match status and unplayed, and minutes played."""

    apps: int
    games: int
    filtered: int
    matched: int
    unmatched: int
    pending: int
    unplayed: int
    minutes: int


class Chart(NamedTuple):
    """The bars of a chart, with a title that states its finding, the unit of the bars, and a note on how to read it."""

    title: str
    unit: str
    bars: DataFrame[Bars]
    note: str = ""


def count_figures(enriched: DataFrame[EnrichedLibrary]) -> Figures:
    """Return the numbers of apps in a library by match status, and the minutes played."""
    status = pl.col("match_status")
    counts = enriched.select(
        apps=pl.len(),
        games=_IS_GAME.sum(),
        filtered=(status == "IGNORED").sum(),
        matched=(status == "MATCHED").sum(),
        unmatched=(status == "UNMATCHED").sum(),
        pending=(status == "PENDING").sum(),
        unplayed=(_IS_GAME & (_MINUTES == 0)).sum(),
        minutes=_MINUTES.filter(_IS_GAME).sum(),
    )
    return Figures(*counts.row(0))


def playtime_by_genre(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the minutes played by genre: the most played genres first, games without a genre last.

    Raises:
        Failed: `checkpoint_invalid`, where genres are not the JSON that the schema describes.
    """
    genres = pl.col("igdb_genres").list.eval(pl.element().struct.field("name").drop_nulls()).list.unique()
    played = decode_column(enriched.filter(_IS_GAME & (_MINUTES > 0)), "igdb_genres").select(
        value=_MINUTES, label=pl.when(genres.list.len() > 0).then(genres)
    )
    sums = played.explode("label").group_by("label").agg(pl.col("value").sum())
    known = sums.drop_nulls("label").sort("value", "label", descending=[True, False])
    unknown = sums.filter(pl.col("label").is_null()).with_columns(pl.col("label").fill_null(NO_GENRE))
    bars = pl.concat([_to_bars(known.head(GENRES_SHOWN), "main"), _to_bars(unknown, "muted")])
    title = _genre_title(known, count_figures(enriched).minutes)
    return Chart(title, "Hours played", conform(bars, Bars), _genre_note(known))


def _genre_title(known: pl.DataFrame, total: int) -> str:
    if total == 0:
        return "No playtime is known: the owner hides it, or never played"
    if known.height == 0:
        return f"No genre is known of the {format_hours(total)} played"
    value, label = known.select("value", "label").row(0)
    return f"Most hours went to {label}: {format_hours(value)} of {format_hours(total)}"


def _genre_note(known: pl.DataFrame) -> str:
    note = "A game of several genres counts in each."
    rest = known.slice(GENRES_SHOWN)
    if not rest.height:
        return note
    return f"{note} {rest.height} more genres have {format_hours(rest['value'][0])} or less each."


def games_by_year(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the numbers of games by year of first release, with every year from the first to the last."""
    released = enriched.filter(_IS_GAME).select(year=pl.col("igdb_first_release_date").dt.year())
    counts = released.filter(pl.col("year").is_between(*YEARS)).group_by("year").agg(value=pl.len().cast(pl.Int64))
    every = counts.select(year=pl.int_ranges(pl.col("year").min(), pl.col("year").max() + 1, dtype=pl.Int32))
    years = every.explode("year").drop_nulls().join(counts, on="year", how="left", validate="1:1").sort("year")
    bars = _to_bars(years.select(label=pl.col("year").cast(pl.String), value=pl.col("value").fill_null(0)), "main")
    title = "No year of release is known"
    if bars.height:
        label, value, _ = bars.sort("value", descending=True, maintain_order=True).row(0)
        title = f"No year has more games than {label}: {value:,} of {counts['value'].sum():,}"
    return Chart(title, "Games by year of first release", bars)


def match_results(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the numbers of games by the reason why they are matched or not, matched games first."""
    games = enriched.filter(_IS_GAME)
    is_matched = pl.col("match_status") == "MATCHED"
    counts = games.group_by("match_status", "match_reason").agg(value=pl.len().cast(pl.Int64))
    bars = counts.sort(~is_matched, pl.col("value"), "match_reason", descending=[False, True, False]).select(
        label=pl.col("match_reason").cast(pl.String).replace_strict(MATCH_WORDS),
        value="value",
        tone=pl.when(is_matched).then(pl.lit("main")).otherwise(pl.lit("warn")).cast(pl.Enum(TONES)),
    )
    figures = count_figures(enriched)
    title = f"{figures.matched:,} of {figures.games:,} games are matched to IGDB" if games.height else "No games"
    return Chart(title, "Number of games", conform(bars, Bars))


def filtered_kinds(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the numbers of filtered apps by kind and the reason for it, the most frequent first."""
    kind = pl.col("kind").cast(pl.String).str.replace_all("_", " ")
    label = (
        pl.when(pl.col("match_reason") == "override")
        .then(pl.lit("ignored, by hand in overrides.csv"))
        .otherwise(pl.format("{}, by {}", kind, _kind_reason_words()))
    )
    filtered = enriched.filter(~_IS_GAME).select(label=label)
    counts = filtered.group_by("label").agg(value=pl.len().cast(pl.Int64))
    bars = _to_bars(counts.sort("value", "label", descending=[True, False]), "muted")
    title = "No app is filtered"
    if bars.height:
        first, value, _ = bars.row(0)
        title = f"{filtered.height:,} of {enriched.height:,} apps are filtered: {value:,} as {first}"
    return Chart(title, "Number of apps", bars)


def _kind_reason_words() -> pl.Expr:
    reason = pl.col("kind_reason")
    rule = reason.str.strip_prefix("name:").str.replace_all("_", " ")
    return (
        pl.when(reason.str.starts_with("store:"))
        .then(pl.lit("its type in Steam's store"))
        .when(reason.str.starts_with("name:"))
        .then(pl.format("its name ({})", rule))
        .otherwise(reason)
    )


def _to_bars(rows: pl.DataFrame, tone: str) -> DataFrame[Bars]:
    return conform(rows.select("label", "value", tone=pl.lit(tone, pl.Enum(TONES))), Bars)


def report_games(enriched: DataFrame[EnrichedLibrary]) -> DataFrame[ReportGames]:
    """Return the rows of the report's table: one per app of the library, the most played first.

    Raises:
        Failed: `checkpoint_invalid`, where genres or candidates are not the JSON that the schema describes.
    """
    listed = decode_column(decode_column(enriched, "igdb_genres"), "igdb_candidates")
    genres = pl.col("igdb_genres").list.eval(pl.element().struct.field("name").drop_nulls())
    named = listed.with_columns(
        name=pl.when(pl.col("name").str.strip_chars() != "").then("name").otherwise(pl.format("App {}", "appid")),
        last_played=pl.col("rtime_last_played").dt.strftime("%Y-%m-%d"),
        year=pl.col("igdb_first_release_date").dt.year(),
        genres=genres.list.join(", ").fill_null(""),
        candidates=pl.col("igdb_candidates").cast(pl.List(pl.String)).list.join(", ").fill_null(""),
    )
    rows = named.sort("playtime_forever", "name", "appid", descending=[True, False, False])
    return conform(rows.select(dtypes(ReportGames).keys()), ReportGames)


def format_hours(minutes: int) -> str:
    """Return minutes as a text in hours, such as "1,234 h", or "2.5 h" below ten hours."""
    hours = minutes / 60
    return f"{hours:.1f} h" if 0 < hours < _TENTHS_BELOW_HOURS else f"{hours:,.0f} h"
