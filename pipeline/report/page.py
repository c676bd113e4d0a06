"""The report of an enriched library: one HTML file that asks nobody for anything."""

import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import polars as pl

from pipeline.report.figures import (
    MATCH_WORDS,
    Chart,
    Figures,
    count_figures,
    filtered_kinds,
    format_hours,
    games_by_year,
    match_results,
    most_played,
    playtime_by_genre,
    report_games,
)

UNMATCHED_SHOWN = 50
FEW_YEARS, MANY_YEARS = 8, 30
_CHOICES = {"MATCHED": "Matched", "UNMATCHED": "Not matched", "PENDING": "Pending", "IGNORED": "Filtered"}


class _Page(Template):
    delimiter = "%%"


def render_report(enriched: pl.DataFrame, source: str) -> str:
    """The report of an EnrichedLibrary that came from `source`; the same rows make the same text.

    Raises:
        Failed: `checkpoint_invalid`, where genres or candidates are not the JSON that the schema describes.
    """
    counts, rows = count_figures(enriched), report_games(enriched)
    unmatched = rows.filter(pl.col("match_status") == "UNMATCHED").head(UNMATCHED_SHOWN)
    more = counts.unmatched - unmatched.height
    script = _part("report.js")
    return _Page(_part("report.html")).substitute(
        title=escape(_title(enriched)),
        source=escape(source),
        style=_part("report.css"),
        figures="\n".join(_figures(counts, most_played(enriched))),
        nothing_hidden=_hidden_unless(not counts.apps),
        empty_hidden=_hidden_unless(counts.apps),
        charts="\n".join(_charts(enriched)),
        pending=f"{counts.pending:,}",
        pending_hidden=_hidden_unless(counts.pending),
        all_matched_hidden=_hidden_unless(not counts.unmatched),
        unmatched_hidden=_hidden_unless(counts.unmatched),
        unmatched="\n".join(map(_unmatched_row, unmatched.to_dicts())),
        more=f"{more:,}",
        more_hidden=_hidden_unless(more),
        choices="\n".join(_choices(counts)),
        rows=_json({"rows": rows.to_dict(as_series=False), "words": MATCH_WORDS}),
        script=script,
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
    )


def _hidden_unless(shown: int) -> str:
    return "" if shown else "hidden"


def _charts(enriched: pl.DataFrame) -> Iterable[str]:
    yield _bars(playtime_by_genre(enriched))
    yield _columns(games_by_year(enriched))
    yield _bars(match_results(enriched))
    yield _bars(filtered_kinds(enriched))


def _part(name: str) -> str:
    return files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    """JSON that cannot end the element it is in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _title(enriched: pl.DataFrame) -> str:
    owners = enriched["steam_id64"].unique()
    if owners.len() == 1:
        return f"Steam library of {owners[0]}"
    return f"Steam libraries of {owners.len():,} accounts" if owners.len() else "An empty Steam library"


def _figures(counts: Figures, most: pl.DataFrame) -> Iterable[str]:
    yield _figure("Games", f"{counts.games:,}", f"of {counts.apps:,} apps; {counts.filtered:,} are filtered")
    yield _figure("Played", format_hours(counts.minutes), "in these games")
    yield _figure("Never played", f"{counts.unplayed:,}", _share(counts.unplayed, counts.games))
    yield _figure("Matched to IGDB", f"{counts.matched:,}", _share(counts.matched, counts.games))
    for name, minutes in most.select("name", "playtime_forever").rows():
        yield _figure("Most played", format_hours(minutes), name)


def _figure(what: str, figure: str, more: str) -> str:
    return f'<div><dt>{what}</dt><dd class="figure">{figure}</dd><dd class="more">{_name(more)}</dd></div>'


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} of the games" if whole else "there are no games"


def _bars(chart: Chart) -> str:
    shown = [
        f'<tr class="{tone}"><th scope="row">{escape(label)}</th>'
        f'<td><div class="bar" style="--share:{share:.4f}"></div></td>'
        f'<td class="number">{format_hours(value) if chart.unit == "Hours played" else f"{value:,}"}</td></tr>'
        for label, value, tone, share in _with_shares(chart)
    ]
    return _drawn(chart, f'<table class="bars">{"".join(shown)}</table>' if shown else "")


def _columns(chart: Chart) -> str:
    shown = [
        f'<li class="{tone}" style="--share:{share:.4f}" title="{label}: {value:,}" data-value="{value}">'
        f'<span class="only-read">{label}: {value:,}</span></li>'
        for label, value, tone, share in _with_shares(chart)
    ]
    few = "few" if len(shown) < MANY_YEARS else ""
    ticks = "".join(_ticks(chart.bars["label"].to_list()))
    drawing = f'<ol class="columns {few}">{"".join(shown)}</ol><p class="axis" aria-hidden="true">{ticks}</p>'
    return _drawn(chart, f'<div style="--years:{len(shown)}">{drawing}</div>' if shown else "")


def _ticks(years: list[str]) -> Iterable[str]:
    """Every fifth year, or every tenth of many; all of a few."""
    step = 1 if len(years) < FEW_YEARS else 5 if len(years) < MANY_YEARS else 10
    for number, year in enumerate(years):
        if int(year) % step == 0:
            yield f'<span style="--at:{(number + 0.5) / len(years):.4f}">{year}</span>'


def _with_shares(chart: Chart) -> list[tuple[str, int, str, float]]:
    """Label, value, tone, and the value as a share of the largest."""
    share = pl.col("value") / pl.col("value").max()
    return chart.bars.with_columns(share=share.fill_nan(0)).rows()


def _drawn(chart: Chart, drawing: str) -> str:
    note = escape(f"{chart.unit}. {chart.note}") if drawing else ""
    return (
        f'<figure><figcaption><h3>{escape(chart.title)}</h3><p class="note">{note}</p></figcaption>{drawing}</figure>'
    )


def _unmatched_row(game: dict[str, Any]) -> str:
    steam = f"https://store.steampowered.com/app/{game['appid']}"
    return (
        f'<tr role="row"><th role="rowheader" scope="row">{_name(game["name"])} <span class="links">'
        f'<a href="{steam}" rel="noopener noreferrer" target="_blank" aria-label="{escape(game["name"])} on Steam">'
        f'Steam</a></span></th><td role="cell" class="number hours">{_tenths(game["playtime_forever"])}</td>'
        f'<td role="cell">{MATCH_WORDS[game["match_reason"]]}</td>'
        f'<td role="cell" class="candidates">{game["candidates"] or "none known"}</td></tr>'
    )


def _tenths(minutes: int) -> str:
    return f"{minutes / 60:,.1f}" if minutes else "0"


def _name(name: str) -> str:
    """A text of the world's: whatever direction it is written in, and whatever it would be as HTML."""
    return f"<bdi>{escape(name)}</bdi>"


def _choices(counts: Figures) -> Iterable[str]:
    yield f'<option value="all">All apps ({counts.apps:,})</option>'
    of_status = {"MATCHED": counts.matched, "UNMATCHED": counts.unmatched}
    of_status |= {"PENDING": counts.pending, "IGNORED": counts.filtered}
    for status, count in of_status.items():
        if count:
            yield f'<option value="{status}">{_CHOICES[status]} ({count:,})</option>'
    if counts.unplayed:
        yield f'<option value="unplayed">Never played ({counts.unplayed:,})</option>'
