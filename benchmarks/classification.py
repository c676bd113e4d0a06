"""What names alone give away of real Steam apps, and how fast: `python -m benchmarks.classification`."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from pipeline.frames.name_rules import RULES, first_matching_rule
from schemas.library import ENRICHED_KINDS

Answer = TypeVar("Answer")

APP_TYPES = Path(os.environ.get("APP_TYPES") or Path(__file__).parents[2] / "shared" / "data" / "app_types.parquet")
NAMES, PYTHON_NAMES = 1_000_000, 50_000

STANDS_FOR: dict[str, tuple[str, ...]] = {
    "game": ENRICHED_KINDS,
    "demo": ("demo",),
    "music": ("soundtrack",),
    "video": ("video",),
    "beta": ("beta",),
    "dlc": ("dlc",),
    "application": ("software",),
    "media": ("video", "bonus_content"),
    "tool": ("tool",),
    "config": ("tool",),
    "series": ("series", "video"),
    "software": ("software",),
    "guide": ("bonus_content",),
    "hardware": ("hardware",),
}
"""The kinds that are right for each type of the source."""

LEAST_FOUND = {"demo": 98.2, "music": 95.0, "beta": 96.0}
MOST_LOST, LEAST_RATIO = 0.05, 50.0
"""The targets: found and lost in per cent, the ratio in times."""

MISTYPED = (pl.col("type") == "game") & pl.col("name").str.contains(r"(?i)\b(playtest|demo)\b|beta$")
"""Rows that the source calls games and that are none."""

MADE_UP = (
    *(
        "{}",
        "{} II",
        "Tales of {}",
        "Super {} Bros.",
        "{}: Definitive Edition",
        "Space {} 2077",
        "{} Tycoon",
        "Lost {}",
    ),
    *("{} vs. Zombies", "Heroes of {}", "Little {} World", "The Witch of {}", "{} Simulator", "War of {}: Chapter One"),
    *("{}: The Turing Test", "{} - Demons of the Past", "{} Multiplayer", "{} Demo", "{} Playtest", "{} - Soundtrack"),
)
"""As in a library, where almost everything is a game and few games look like anything else."""


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a target is missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classification", description=__doc__)
    parser.add_argument("--app-types", type=Path, default=APP_TYPES, help="Parquet of appid, type and name")
    path: Path = parser.parse_args(arguments).app_types
    if path.exists():
        apps = pl.read_parquet(path).with_columns(first_matching_rule(pl.col("name")).struct.unnest())
        missed = _show_found(apps) + _show_lost(apps)
        _show_hits(apps)
        names = apps["name"]
    else:
        _say(f"{path} is not there: only the speed is measured, on names made up here.")
        missed, names = [], pl.Series("name", [shape.format(f"App {n}") for n in range(5_000) for shape in MADE_UP])
    missed += _show_speed(names)
    _say("\n".join(f"MISSED: {target}" for target in missed) or "Every target is met.")
    return int(bool(missed))


def _show_found(apps: pl.DataFrame) -> list[str]:
    kind = pl.col("kind").fill_null("game")
    right = pl.col("type").replace_strict(STANDS_FOR, return_dtype=pl.List(pl.String)).list.contains(kind)
    types = (
        apps.group_by("type")
        .agg(rows=pl.len(), found=right.sum(), filtered=(~kind.is_in(ENRICHED_KINDS)).sum())
        .with_columns((pl.col("found", "filtered") / pl.col("rows") * 100).round(2).name.suffix(" %"))
        .sort("rows", descending=True)
    )
    _show("By names alone", types)
    found = dict(types.select("type", "found %").iter_rows())
    return [
        f"{found[type_]} % of {type_} found, not {least} %"
        for type_, least in LEAST_FOUND.items()
        if found[type_] < least
    ]


def _show_lost(apps: pl.DataFrame) -> list[str]:
    games = apps.filter(pl.col("type") == "game", ~MISTYPED)
    lost = games.filter(~pl.col("kind").fill_null("game").is_in(ENRICHED_KINDS))
    percent = 100 * lost.height / games.height
    _show(
        f"{lost.height} of {games.height:,} games lost, {percent:.4f} % (left out: the word playtest or demo, beta at "
        "the end)",
        lost.select("rule", "appid", "name").sort("rule", "appid"),
    )
    return [f"{percent:.4f} % of games lost, more than {MOST_LOST} %"] if percent > MOST_LOST else []


def _show_hits(apps: pl.DataFrame) -> None:
    hits = apps.drop_nulls("rule").with_columns(pl.col("rule").cast(pl.Enum([rule.name for rule in RULES])))
    counts = {type_: ((pl.col("type") == type_) & ~MISTYPED).sum() for type_ in STANDS_FOR}
    _show("What each rule decides", hits.group_by("rule").agg(**counts, mistyped=MISTYPED.sum()).sort("rule"))


def _show_speed(names: pl.Series) -> list[str]:
    names = names.sample(fraction=1, shuffle=True, seed=0)
    library = pl.concat([names] * (NAMES // len(names) + 1)).head(NAMES).rechunk().to_frame("name")
    sample = library["name"].head(PYTHON_NAMES).to_list()
    patterns = [(re.compile(rule.pattern, re.ASCII), (rule.kind, rule.name)) for rule in RULES]
    polars_seconds, decided = _best(
        lambda: library.lazy().select(outcome=first_matching_rule(pl.col("name"))).collect().unnest("outcome"),
        repeats=15,
    )
    python_seconds, expected = _best(lambda: [_first_match(name, patterns) for name in sample], repeats=3)
    ratio = python_seconds * NAMES / PYTHON_NAMES / polars_seconds
    _say(
        f"\n{NAMES:,} names: {polars_seconds:.3f} s in Polars, {python_seconds * NAMES / PYTHON_NAMES:.1f} s in Python "
        f"(scaled from {python_seconds:.2f} s for {PYTHON_NAMES:,} of them): {ratio:.0f} times as fast."
    )
    return [
        *([f"{ratio:.0f} times as fast, not {LEAST_RATIO:.0f}"] if ratio < LEAST_RATIO else []),
        *(["Polars and Python decide differently"] if decided.head(PYTHON_NAMES).rows() != expected else []),
    ]


def _first_match(
    name: str, patterns: Sequence[tuple[re.Pattern[str], tuple[str, str]]]
) -> tuple[str, str] | tuple[None, None]:
    name = name.lower()
    for pattern, outcome in patterns:
        if pattern.search(name):
            return outcome
    return None, None


def _best(run: Callable[[], Answer], repeats: int) -> tuple[float, Answer]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def _show(title: str, rows: pl.DataFrame) -> None:
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=120, thousands_separator=True,
        tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
    ):  # fmt: skip
        _say(f"\n{title}\n{rows}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
