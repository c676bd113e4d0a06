"""Render the HTML report of an enriched library: one file that runs no script but its own, and loads only covers."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.errors import count_of
from pipeline.pages import render_page
from pipeline.report.figures import (
    MATCH_WORDS,
    UNKNOWN_PLAYTIME,
    Chart,
    backlog_by_genre,
    count_figures,
    filtered_kinds,
    format_minutes,
    hours_by_last_play,
    hours_by_platform,
    last_two_weeks,
    match_results,
    report_games,
    top_games,
)
from schemas.frames import conform, empty_frame
from schemas.library import EnrichedLibrary
from schemas.report import LinkedCandidates, ReportGames

UNMATCHED_SHOWN = 12
FEW_YEARS, MANY_YEARS = 8, 30
_TENTH_OF_AN_HOUR = 6

IMAGE_HOST = "https://images.igdb.com"
"""Where IGDB's covers are: the one host that a page with covers asks, when it is opened."""

IGDB_PAGES = "https://www.igdb.com"


class Origin(NamedTuple):
    """The enriched CSV that a report is about: its key or file name, and when the library was fetched, if known."""

    name: str
    fetched_at: datetime | None = None


def render_report(
    enriched: DataFrame[EnrichedLibrary],
    origin: Origin,
    candidates: DataFrame[LinkedCandidates] | None = None,
    *,
    covers: bool = False,
) -> str:
    """Return the report of a library as the text of an HTML page; equal arguments make equal pages.

    Without `covers` the page sends no requests; with them, it loads images from IGDB's host when it is opened.

    Raises:
        Failed: `checkpoint_invalid`, where genres or candidates are not the JSON that the schema describes.
    """
    games = report_games(enriched)
    unmatched = conform(games.filter(pl.col("match_status") == "UNMATCHED"), ReportGames)
    links = _links(unmatched, empty_frame(LinkedCandidates) if candidates is None else candidates)
    charts = (hours_by_last_play, last_two_weeks, backlog_by_genre, hours_by_platform, match_results, filtered_kinds)
    variables = {chart.__name__: _chart(chart(enriched)) for chart in charts} | {
        "title": _title(enriched),
        "date": origin.fetched_at and f"{origin.fetched_at.day} {origin.fetched_at:%B %Y}",
        "source": origin.name,
        "figures": count_figures(enriched),
        "top_games": top_games(enriched).to_dicts(),
        "unmatched": unmatched.head(UNMATCHED_SHOWN).to_dicts(),
        "links": links,
        "words": MATCH_WORDS,
        "unknown_playtime": UNKNOWN_PLAYTIME,
        "table": {"rows": games.to_dict(as_series=False), "words": MATCH_WORDS, "links": links},
        "covers": covers,
        "image_host": IMAGE_HOST,
    }
    filters: dict[str, Callable[..., Any]] = {
        "hours": format_minutes,
        "thousands": "{:,}".format,
        "count_of": count_of,
        "percent": _percent,
        "tenths": _tenths,
        "ticks": _ticks,
    }
    return render_page("pipeline.report", "report", filters, variables)


def _links(
    unmatched: DataFrame[ReportGames], candidates: DataFrame[LinkedCandidates]
) -> dict[int, list[dict[str, str]]]:
    """Return for each unmatched app the links to its candidates on IGDB, or to a search there if it has none.

    IGDB has no address for an id alone: a candidate without a slug is searched for by its name, or the app's.
    """
    apps = unmatched.select("appid", "name").unique("appid", keep="first", maintain_order=True)
    linked = apps.join(candidates, on="appid", how="left", validate="1:m", maintain_order="left_right")
    links: dict[int, list[dict[str, str]]] = {}
    for appid, name, igdb_id, label, slug in linked.iter_rows():
        words = re.sub(r" \([^()]*\)$", "", label) if label else name  # a label ends in year and type
        url = f"{IGDB_PAGES}/games/{quote(slug, safe='')}" if slug else f"{IGDB_PAGES}/search?q={quote(words, safe='')}"
        text = label or (f"IGDB's game {igdb_id}" if igdb_id else "Search IGDB")
        links.setdefault(appid, []).append({"label": text, "url": url})
    return links


def _title(enriched: DataFrame[EnrichedLibrary]) -> str:
    users = enriched["user_id"].unique()
    if users.len() == 1:
        return f"Steam library of {users[0]}"
    return f"Steam libraries of {users.len():,} users" if users.len() else "An empty Steam library"


def _percent(part: int, whole: int) -> str:
    """Return a share as a text such as "62%"; one that is neither none nor all is never rounded to that."""
    share = f"{part / whole if whole else 0:.0%}"
    return {"0%": "under 1%", "100%": "over 99%"}.get(share, share) if 0 < part < whole else share


def _tenths(minutes: int) -> str:
    """Return minutes in hours with a decimal, as the page's script writes them too."""
    return f"{minutes / 60:,.1f}" if minutes >= _TENTH_OF_AN_HOUR / 2 else "< 0.1" if minutes else "0"


def _chart(chart: Chart) -> dict[str, Any]:
    """Return a chart as variables of the template: each bar with its `share` of the longest bar, 0 to 1."""
    share = pl.col("value") / pl.col("value").max()
    return chart._asdict() | {"bars": chart.bars.with_columns(share=share.fill_nan(0)).to_dicts()}


def _ticks(bars: list[dict[str, Any]]) -> Iterator[tuple[float, str]]:
    """Yield the place (0 to 1) and the label of the years on the axis: all of a few, else every fifth or tenth."""
    step = 1 if len(bars) < FEW_YEARS else 5 if len(bars) < MANY_YEARS else 10
    for number, bar in enumerate(bars):
        if int(bar["label"]) % step == 0:
            yield (number + 0.5) / len(bars), bar["label"]
