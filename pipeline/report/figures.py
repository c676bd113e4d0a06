"""What a report says of an enriched library: figures, charts with their findings, the rows of its table."""

from typing import NamedTuple

import polars as pl

from pipeline.frames.catalogue import decode_column
from schemas.library import GENRE
from schemas.report import TONES, Bars, ReportGames

GENRES_SHOWN = 12
FEW_HOURS = 10

YEARS = (1950, 2049)
"""What lies outside is a slip on IGDB, and would stretch the axis."""

MATCH_WORDS = {
    "external_game": "By IGDB's list of Steam ids",
    "override": "By hand, in overrides.csv",
    "not_found": "Not found on IGDB",
    "ambiguous": "Several games on IGDB",
    "igdb_incomplete": "Incomplete on IGDB",
    "igdb_unavailable": "IGDB did not answer",
    "filtered": "Filtered",
}

NO_GENRE = "No genre known"
_MINUTES = pl.col("playtime_forever").cast(pl.Int64)
_IS_GAME = pl.col("match_status") != "IGNORED"


class Figures(NamedTuple):
    """Counts of apps, and minutes played of those that are not filtered."""

    apps: int
    games: int
    filtered: int
    matched: int
    unmatched: int
    pending: int
    unplayed: int
    minutes: int


class Chart(NamedTuple):
    """Bars, a title that says what they show, their unit, and what one has to know to read them."""

    title: str
    unit: str
    bars: pl.DataFrame
    note: str = ""


def count_figures(enriched: pl.DataFrame) -> Figures:
    """The figures of an EnrichedLibrary."""
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


def most_played(enriched: pl.DataFrame) -> pl.DataFrame:
    """The ReportGames that is played most, of those that are not filtered; no row where none is played."""
    return report_games(enriched.filter(_IS_GAME & (_MINUTES > 0))).head(1)


def playtime_by_genre(enriched: pl.DataFrame) -> Chart:
    """Minutes by genre: the most played genres, and last what has none."""
    genres = pl.col("igdb_genres").list.eval(pl.element().struct.field("name").drop_nulls()).list.unique()
    played = decode_column(enriched.filter(_IS_GAME & (_MINUTES > 0)), "igdb_genres", pl.List(GENRE)).select(
        value=_MINUTES, label=pl.when(genres.list.len() > 0).then(genres)
    )
    sums = played.explode("label").group_by("label").agg(pl.col("value").sum())
    known = sums.drop_nulls("label").sort("value", "label", descending=[True, False])
    unknown = sums.filter(pl.col("label").is_null()).with_columns(pl.col("label").fill_null(NO_GENRE))
    bars = pl.concat([_toned(known.head(GENRES_SHOWN), "main"), _toned(unknown, "muted")])
    return Chart(
        _genre_title(known, count_figures(enriched).minutes), "Hours played", Bars.validate(bars), _genre_note(known)
    )


def games_by_year(enriched: pl.DataFrame) -> Chart:
    """Games by the year of their first release, every year from the first to the last."""
    released = enriched.filter(_IS_GAME).select(year=pl.col("igdb_first_release_date").dt.year())
    counts = released.filter(pl.col("year").is_between(*YEARS)).group_by("year").agg(value=pl.len().cast(pl.Int64))
    every = counts.select(year=pl.int_ranges(pl.col("year").min(), pl.col("year").max() + 1, dtype=pl.Int32))
    years = every.explode("year").drop_nulls().join(counts, on="year", how="left", validate="1:1").sort("year")
    bars = years.select(label=pl.col("year").cast(pl.String), value=pl.col("value").fill_null(0))
    title = "No year of release is known"
    if bars.height:
        label, value = bars.sort("value", descending=True, maintain_order=True).row(0)
        title = f"No year has more games than {label}: {value:,} of {counts['value'].sum():,}"
    return Chart(title, "Games by year of first release", Bars.validate(_toned(bars, "main")))


def match_results(enriched: pl.DataFrame) -> Chart:
    """Games by what became of their match, and why."""
    games = enriched.filter(_IS_GAME)
    is_matched = pl.col("match_status") == "MATCHED"
    counts = games.group_by("match_status", "match_reason").agg(value=pl.len().cast(pl.Int64))
    bars = counts.sort(~is_matched, pl.col("value"), "match_reason", descending=[False, True, False]).select(
        label=pl.col("match_reason").cast(pl.String).replace_strict(MATCH_WORDS),
        value="value",
        tone=pl.when(is_matched).then(pl.lit("main")).otherwise(pl.lit("warn")).cast(pl.Enum(TONES)),
    )
    counted = count_figures(enriched)
    title = f"{counted.matched:,} of {counted.games:,} games are matched to IGDB" if games.height else "No games"
    return Chart(title, "Number of games", Bars.validate(bars))


def filtered_kinds(enriched: pl.DataFrame) -> Chart:
    """The apps that are not looked up on IGDB, by what they are, and what says so."""
    is_by_hand = pl.col("match_reason") == "override"
    kind = pl.col("kind").cast(pl.String).str.replace_all("_", " ")
    words = (
        pl.when(is_by_hand)
        .then(pl.lit("ignored, by hand in overrides.csv"))
        .otherwise(pl.format("{}, by {}", kind, _why(pl.col("kind_reason"))))
    )
    filtered = enriched.filter(~_IS_GAME).select(label=words)
    bars = (
        filtered.group_by("label").agg(value=pl.len().cast(pl.Int64)).sort("value", "label", descending=[True, False])
    )
    title = "No app is filtered"
    if bars.height:
        label, value = bars.row(0)
        title = f"{filtered.height:,} of {enriched.height:,} apps are filtered: {value:,} as {label}"
    return Chart(title, "Number of apps", Bars.validate(_toned(bars, "muted")))


def report_games(enriched: pl.DataFrame) -> pl.DataFrame:
    """All apps of an EnrichedLibrary as ReportGames, the most played first."""
    listed = decode_column(decode_column(enriched, "igdb_genres", pl.List(GENRE)), "igdb_candidates", pl.List(pl.Int32))
    genres = pl.col("igdb_genres").list.eval(pl.element().struct.field("name").drop_nulls())
    named = listed.with_columns(
        name=pl.when(pl.col("name").str.strip_chars() != "").then("name").otherwise(pl.format("App {}", "appid")),
        last_played=pl.col("rtime_last_played").dt.strftime("%Y-%m-%d"),
        year=pl.col("igdb_first_release_date").dt.year(),
        genres=genres.list.join(", ").fill_null(""),
        candidates=pl.col("igdb_candidates").cast(pl.List(pl.String)).list.join(", ").fill_null(""),
    )
    rows = named.sort("playtime_forever", "name", "appid", descending=[True, False, False])
    return ReportGames.validate(rows.select(ReportGames.to_schema().columns.keys()))


def format_hours(minutes: int) -> str:
    """Minutes as hours with their unit, to a tenth where they are few."""
    played = minutes / 60
    return f"{played:.1f} h" if 0 < played < FEW_HOURS else f"{played:,.0f} h"


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
    return (
        f"{note} {rest.height} more genres have {format_hours(rest['value'][0])} or less each." if rest.height else note
    )


def _toned(bars: pl.DataFrame, tone: str) -> pl.DataFrame:
    return bars.select("label", "value", tone=pl.lit(tone, pl.Enum(TONES)))


def _why(reason: pl.Expr) -> pl.Expr:
    """What decided a kind, in words; a rule of names goes by its own."""
    rule = reason.str.strip_prefix("name:").str.replace_all("_", " ")
    return (
        pl.when(reason.str.starts_with("store:"))
        .then(pl.lit("its type in Steam's store"))
        .when(reason.str.starts_with("name:"))
        .then(pl.format("its name ({})", rule))
        .otherwise(reason)
    )
