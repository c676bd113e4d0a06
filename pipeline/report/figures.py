"""Compute the contents of the HTML report of a library: figures, top games, charts with titles, table, candidates."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.errors import agree, count_of
from pipeline.frames.catalogue import decode_column
from schemas.catalogue import Catalogue, KnownNames
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary
from schemas.report import TONES, Bars, LinkedCandidates, ReportGames, TopGames

CARDS = 6
BARS_SHOWN = 6
CANDIDATES_SHOWN = 5
UNKNOWN_PLAYTIME = "No playtime is known: the owner hides it, or never played"

YEARS = (2004, 2049)
"""The first and last year of the chart of last plays: one outside is a mistake, and would stretch the axis."""

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

_HOUR, _TENTHS_BELOW_HOURS = 60, 10
_NAMES_IN_WORDS = 3
_MINUTES = pl.col("playtime_forever").cast(pl.Int64)
_RECENT_MINUTES = pl.col("playtime_2weeks").cast(pl.Int64).fill_null(0)
_IS_GAME = pl.col("match_status") != "IGNORED"
_DECK_MINUTES = pl.col("playtime_deck_forever").cast(pl.Int64)
_PLATFORM_MINUTES = {
    "Windows": pl.col("playtime_windows_forever").cast(pl.Int64),
    "macOS": pl.col("playtime_mac_forever").cast(pl.Int64),
    # Steam counts minutes on a Deck as Linux too.
    "Linux": (pl.col("playtime_linux_forever").cast(pl.Int64) - _DECK_MINUTES.fill_null(0)).clip(lower_bound=0),
    "Steam Deck": _DECK_MINUTES,
}
_NAME = pl.when(pl.col("name").str.strip_chars() != "").then("name").otherwise(pl.format("App {}", "appid"))
_YEAR = pl.col("igdb_first_release_date").dt.year()
_GENRES = pl.col("igdb_genres").list.eval(pl.element().struct.field("name").drop_nulls()).list.unique()


class Figures(NamedTuple):
    """The figures of a library: its apps, its games (not filtered) by match status and playtime, and minutes played."""

    apps: int
    games: int
    filtered: int
    matched: int
    unmatched: int
    pending: int
    played: int
    unplayed: int
    minutes: int
    recent: int
    recent_minutes: int


class Chart(NamedTuple):
    """The bars of a chart, with a title that states its finding, the unit of the bars, and a note on how to read it.

    `filter` is the beginning of the address's hash that shows what a bar counts in the table: its label ends it.
    """

    title: str
    unit: str
    bars: DataFrame[Bars]
    note: str = ""
    filter: str = ""


def count_figures(enriched: DataFrame[EnrichedLibrary]) -> Figures:
    """Return the numbers of apps in a library by match status and playtime, and the minutes played."""
    status = pl.col("match_status")
    counts = enriched.select(
        apps=pl.len(),
        games=_IS_GAME.sum(),
        filtered=(status == "IGNORED").sum(),
        matched=(status == "MATCHED").sum(),
        unmatched=(status == "UNMATCHED").sum(),
        pending=(status == "PENDING").sum(),
        played=(_IS_GAME & (_MINUTES > 0)).sum(),
        unplayed=(_IS_GAME & (_MINUTES == 0)).sum(),
        minutes=_MINUTES.filter(_IS_GAME).sum(),
        recent=(_IS_GAME & (_RECENT_MINUTES > 0)).sum(),
        recent_minutes=_RECENT_MINUTES.filter(_IS_GAME).sum(),
    )
    return Figures(*counts.row(0))


def top_games(enriched: DataFrame[EnrichedLibrary]) -> DataFrame[TopGames]:
    """Return the most played games of a library, six at most; games of equal playtime by name."""
    first_characters = pl.col("name").str.extract_all(r"[\p{L}\p{N}]+").list.eval(pl.element().str.slice(0, 1))
    played = enriched.filter(_IS_GAME & (_MINUTES > 0)).with_columns(name=_NAME, year=_YEAR)
    rows = played.sort("playtime_forever", "name", "appid", descending=[True, False, False]).head(CARDS)
    cards = rows.with_columns(initials=first_characters.list.head(2).list.join("").str.to_uppercase())
    return conform(cards.select(dtypes(TopGames).keys()), TopGames)


def hours_by_last_play(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the minutes played by the year in which the games were last played, with every year between."""
    last_play = pl.col("rtime_last_played").dt.year()
    played = enriched.filter(_IS_GAME & (_MINUTES > 0)).select(
        year=pl.when(last_play.is_between(*YEARS)).then(last_play), value=_MINUTES
    )
    sums = played.drop_nulls("year").group_by("year").agg(pl.col("value").sum(), games=pl.len())
    every = sums.select(year=pl.int_ranges(pl.col("year").min(), pl.col("year").max() + 1, dtype=pl.Int32))
    years = every.explode("year").drop_nulls().join(sums, on="year", how="left", validate="1:1").sort("year")
    bars = _to_bars(years.select(label=pl.col("year").cast(pl.String), value=pl.col("value").fill_null(0)), "main")
    total, undated = int(played["value"].sum()), played.filter(pl.col("year").is_null())
    title, note = UNKNOWN_PLAYTIME, ""
    if bars.height:
        games = sums.filter(pl.col("value") == pl.col("value").max())["games"]
        who = agree(int(games.sum()), "The game last played in {names} has", "Games last played in {names} have")
        title = _say_most(f"{who} {{most}} hours", bars, format_minutes, total)
        hours = format_minutes(int(undated["value"].sum()))
        note = f"{count_of(undated.height, 'game')} without a date of last play: {hours}." if undated.height else ""
    elif played.height:
        title = f"When the {format_minutes(total)} {agree(total, 'was', 'were')} played is not known"
    return Chart(title, "Hours by year of last play", bars, note)


def last_two_weeks(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the minutes that each game was played in the two weeks before the library was fetched."""
    figures = count_figures(enriched)
    recent = enriched.filter(_IS_GAME & (_RECENT_MINUTES > 0)).select(label=_NAME, value=_RECENT_MINUTES)
    rows = recent.sort("value", "label", descending=[True, False])
    title = "No game was played in the last two weeks"
    if figures.minutes == 0:
        title = UNKNOWN_PLAYTIME
    elif figures.recent:
        games = count_of(figures.recent, "game was", "games were")
        title = f"{games} played in the last two weeks: {format_minutes(figures.recent_minutes)}"
    bars = _to_bars(rows.head(BARS_SHOWN), "main")
    return Chart(
        title, "Hours in the last two weeks", bars, _say_rest(rows, "game", format_minutes), "status=recent&q="
    )


def backlog_by_genre(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the numbers of games never played by genre, the most first, games without a genre last.

    Raises:
        Failed: `checkpoint_invalid`, where genres are not the JSON that the schema describes.
    """
    figures = count_figures(enriched)
    unplayed = decode_column(enriched.filter(_IS_GAME & (_MINUTES == 0)), "igdb_genres")
    genres = unplayed.select(label=pl.when(_GENRES.list.len() > 0).then(_GENRES)).explode("label")
    counts = genres.group_by("label").agg(value=pl.len().cast(pl.Int64))
    known = counts.drop_nulls("label").sort("value", "label", descending=[True, False])
    unknown = counts.filter(pl.col("label").is_null()).with_columns(pl.col("label").fill_null("No genre known"))
    title = "No game is left unplayed"
    if figures.games and figures.minutes == 0:
        title, known, unknown = UNKNOWN_PLAYTIME, known.clear(), unknown.clear()
    elif known.height and figures.unplayed == 1:
        title = f"1 game is left unplayed: {_in_words(known['label'])}"
    elif known.height:
        title = _say_most("{names} {has} {most} unplayed games", known, "{:,}".format, figures.unplayed)
    elif figures.unplayed:
        title = f"No genre is known of the {count_of(figures.unplayed, 'unplayed game')}"
    bars = pl.concat([_to_bars(known.head(BARS_SHOWN), "main"), _to_bars(unknown, "muted")])
    note = f"A game of several genres counts in each. {_say_rest(known, 'genre', '{:,}'.format)}".strip()
    return Chart(title, "Backlog by genre", conform(bars, Bars), note, "status=unplayed&genre=")


def hours_by_platform(enriched: DataFrame[EnrichedLibrary]) -> Chart:
    """Return a chart of the minutes played on Windows, macOS, Linux and Steam Deck, as far as Steam counted them."""
    sums = enriched.filter(_IS_GAME).select(minutes.sum().alias(name) for name, minutes in _PLATFORM_MINUTES.items())
    bars = _to_bars(sums.unpivot(variable_name="label").filter(pl.col("value").sum() > 0), "main")
    title, minutes, counted = UNKNOWN_PLAYTIME, count_figures(enriched).minutes, int(bars["value"].sum())
    if bars.height:
        hours = "hours" if counted >= minutes else "hours counted by platform"
        title = _say_most(f"{{names}} {{has}} {{most}} {hours}", bars, format_minutes, counted)
    elif minutes:
        title = "On which platforms the games were played is not known"
    note = "Steam has not counted platforms from the beginning."
    return Chart(title, "Hours by platform", bars, note, "status=played&platform=")


def _say_most(beginning: str, bars: pl.DataFrame, format_value: Callable[[int], str], total: int | None = None) -> str:
    """Return a sentence about the longest bar, or about all that are equally long.

    Its `beginning` may have the fields `names`, the labels of these bars in words, `has`, the verb that they need, and
    `most`, which is "all the" if there is no other bar to the total.
    """
    longest = bars.filter(pl.col("value") == pl.col("value").max())
    value, is_one = longest["value"][0], longest.height == 1
    is_all = is_one and value == total
    said = beginning.format(
        names=_in_words(longest["label"]),
        has=agree(longest.height, "has", "have"),
        most="all the" if is_all else "the most",
    )
    each = "" if is_one else " each"
    of_total = "" if total is None or is_all else f" of {format_value(total)}"
    return f"{said}: {format_value(value)}{each}{of_total}"


def _in_words(names: pl.Series) -> str:
    """Return names as a list in words, such as "A, B and C", or "A, B and 2 more" where they are more than three."""
    first, last = names.to_list()[:-1], str(names[-1])
    if names.len() > _NAMES_IN_WORDS:
        first, last = names.to_list()[:2], f"{names.len() - 2:,} more"
    return f"{', '.join(first)} and {last}" if first else last


def _say_rest(rows: pl.DataFrame, noun: str, format_value: Callable[[int], str]) -> str:
    """Return a sentence about the rows that the chart has no room for; rows are sorted, the largest first."""
    rest = rows.slice(BARS_SHOWN)
    if rest.is_empty():
        return ""
    if rest.height == 1:
        return f"One more {noun} has {format_value(rest['value'][0])}."
    return f"{rest.height:,} more {noun}s have {format_value(rest['value'][0])} or less each."


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
    are = "is" if 1 in {figures.matched, figures.games} else "are"
    title = f"{figures.matched:,} of {count_of(figures.games, 'game')} {are} matched to IGDB"
    return Chart(title if games.height else "No games", "Number of games", conform(bars, Bars))


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
    are = "is" if 1 in {filtered.height, enriched.height} else "are"
    title = f"{filtered.height:,} of {count_of(enriched.height, 'app')} {are} filtered"
    return Chart(title if bars.height else "No app is filtered", "Number of apps", bars)


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
    played_on = [pl.when(minutes > 0).then(pl.lit(name)) for name, minutes in _PLATFORM_MINUTES.items()]
    named = listed.with_columns(
        name=_NAME,
        last_played=pl.col("rtime_last_played").dt.strftime("%Y-%m-%d"),
        year=_YEAR,
        genres=_GENRES.list.sort().fill_null([]),
        platforms=pl.concat_list(played_on).list.drop_nulls(),
        candidates=pl.col("igdb_candidates").cast(pl.List(pl.String)).list.join(", ").fill_null(""),
    )
    rows = named.sort("playtime_forever", "name", "appid", descending=[True, False, False])
    return conform(rows.select(dtypes(ReportGames).keys()), ReportGames)


def link_candidates(
    enriched: DataFrame[EnrichedLibrary], names: DataFrame[KnownNames], catalogue: DataFrame[Catalogue]
) -> DataFrame[LinkedCandidates]:
    """Return the games that each unmatched app may be, up to five: those that IGDB lists, then those of similar names.

    Their labels are from the file of names, or from the catalogue, which also has the slugs.

    Raises:
        Failed: `checkpoint_invalid`, where candidates are not the JSON that the schema describes.
    """
    unmatched = decode_column(enriched.filter(pl.col("match_status") == "UNMATCHED"), "igdb_candidates")
    similar = names.select("name", similar="candidates")
    found = unmatched.join(similar, on="name", how="left", validate="m:1", maintain_order="left")
    listed = found.select("appid", igdb_id="igdb_candidates").explode("igdb_id").drop_nulls()
    alike = found.select("appid", candidate="similar").explode("candidate").drop_nulls().unnest("candidate")
    known = catalogue.select("igdb_id", "igdb_name", "igdb_slug").drop_nulls("igdb_id").unique("igdb_id", keep="first")
    labels = names.select(candidate="candidates").explode("candidate").drop_nulls().unnest("candidate")
    rows = (
        pl.concat([listed, alike.select("appid", "igdb_id")])
        .unique(["appid", "igdb_id"], keep="first", maintain_order=True)
        .join(labels.unique("igdb_id", keep="first"), on="igdb_id", how="left", validate="m:1", maintain_order="left")
        .join(known, on="igdb_id", how="left", validate="m:1", maintain_order="left")
        .group_by("appid", maintain_order=True)
        .head(CANDIDATES_SHOWN)
    )
    columns = rows.select("appid", "igdb_id", pl.coalesce("label", "igdb_name").alias("label"), "igdb_slug")
    return conform(columns, LinkedCandidates)


def format_minutes(minutes: int) -> str:
    """Return minutes as a text in hours, such as "1,234 h", "2.5 h" below ten hours, or "45 min" below one."""
    if 0 < minutes < _HOUR:
        return f"{minutes} min"
    hours = round(minutes / _HOUR, 1)
    return f"{hours:.1f} h" if 0 < hours < _TENTHS_BELOW_HOURS else f"{minutes / _HOUR:,.0f} h"
