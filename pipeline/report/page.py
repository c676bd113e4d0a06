"""Render the HTML report of an enriched library: one file that loads nothing and runs no script but its own."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from pandera.typing.polars import DataFrame

from pipeline.report.figures import (
    MATCH_WORDS,
    Chart,
    count_figures,
    filtered_kinds,
    format_hours,
    games_by_year,
    match_results,
    playtime_by_genre,
    report_games,
)
from schemas.library import EnrichedLibrary

UNMATCHED_SHOWN = 50
FEW_YEARS, MANY_YEARS = 8, 30


def render_report(enriched: DataFrame[EnrichedLibrary], source: str) -> str:
    """Return the report of a library as the text of an HTML page; `source` names the CSV; equal rows make equal pages.

    Raises:
        Failed: `checkpoint_invalid`, where genres or candidates are not the JSON that the schema describes.
    """
    games = report_games(enriched)
    is_played_game = (pl.col("match_status") != "IGNORED") & (pl.col("playtime_forever") > 0)
    script = _read_part("report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=_title(enriched),
            source=source,
            figures=count_figures(enriched),
            most_played=games.filter(is_played_game).head(1).to_dicts(),
            playtime_by_genre=_chart(playtime_by_genre(enriched)),
            games_by_year=_chart(games_by_year(enriched)),
            match_results=_chart(match_results(enriched)),
            filtered_kinds=_chart(filtered_kinds(enriched)),
            unmatched=games.filter(pl.col("match_status") == "UNMATCHED").head(UNMATCHED_SHOWN).to_dicts(),
            many_years=MANY_YEARS,
            words=MATCH_WORDS,
            table={"rows": games.to_dict(as_series=False), "words": MATCH_WORDS},
            style=_read_part("report.css"),
            script=script,
            script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"hours": format_hours, "thousands": "{:,}".format, "ticks": _ticks}
    # Names of games are mostly not ASCII where they are long; as \uXXXX they would be three times as large.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment


def _read_part(name: str) -> str:
    return files("pipeline.report").joinpath(name).read_text(encoding="utf-8")


def _title(enriched: DataFrame[EnrichedLibrary]) -> str:
    owners = enriched["steam_id64"].unique()
    if owners.len() == 1:
        return f"Steam library of {owners[0]}"
    return f"Steam libraries of {owners.len():,} accounts" if owners.len() else "An empty Steam library"


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
