"""How often the right game is among the candidates found by name: `python -m benchmarks.candidates`."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from rapidfuzz import fuzz, process

from pipeline.frames.match import normalise_name
from pipeline.review.candidates import score_names
from schemas.review import MOST_CANDIDATES

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = ("steam_igdb_games", "igdb_names", "app_types")
APPS, SEED = 3_000, 7
SEARCHED = 50
"""As many games as a search of ours asks for."""

COMMON = 3_000
"""A word in more names than this finds no games."""

Likeness = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measures; the exit status is always 0, for there is no target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.candidates", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder of the Parquet files")
    parser.add_argument("--apps", type=int, default=APPS, help="How many apps to look for")
    given = parser.parse_args(arguments)
    paths = [given.data / f"{name}.parquet" for name in FILES]
    if missing := [path for path in paths if not path.exists()]:
        _say(f"{missing[0]} is not there: nothing is measured.")
        return 0
    pairs, games, types = (pl.read_parquet(path) for path in paths)
    _measure(_apps(pairs, types, games).sample(given.apps, seed=SEED), games.cast({"igdb_id": pl.Int32}))
    return 0


def _apps(pairs: pl.DataFrame, types: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    """Return the apps with their name on Steam (IGDB's where that is unknown), and the games they are in `right`."""
    named = pairs.join(types.select("appid", steam_name="name"), on="appid", how="left")
    known = named.join(games, on="igdb_id", how="semi")
    return (
        known.group_by("appid")
        .agg(pl.coalesce("steam_name", "name").first().alias("name"), right=pl.col("igdb_id").cast(pl.Int32))
        .with_columns(pl.col("appid").cast(pl.Int32))
        .sort("appid")
    )


def _measure(apps: pl.DataFrame, games: pl.DataFrame) -> None:
    found = _search(apps, games)
    reached = found.join(apps.select("appid", "right"), on="appid").filter(pl.col("igdb_id").is_in(pl.col("right")))
    _say(
        f"{apps.height:,} apps with a known game among {games.height:,} names (seed {SEED}); a search by words, for up "
        f"to {SEARCHED} games each, brings {_percent(reached['appid'].n_unique(), apps)} of the right ones."
    )
    for what, likeness in WAYS.items():
        start = time.perf_counter()
        scored = likeness(apps, found)
        seconds = time.perf_counter() - start
        best = scored.sort("appid", "likeness", "igdb_id", descending=[False, True, False]).group_by(
            "appid", maintain_order=True
        )
        first, among = (_hits(best.head(most), apps) for most in (1, MOST_CANDIDATES))
        _say(f"{what:24} first {first:>7}   among {MOST_CANDIDATES} {among:>7}   {seconds:5.2f} s")


def _hits(chosen: pl.DataFrame, apps: pl.DataFrame) -> str:
    hits = chosen.join(apps, on="appid").filter(pl.col("igdb_id").is_in(pl.col("right")))
    return _percent(hits["appid"].n_unique(), apps)


def _search(apps: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    """Return for each app the games whose names share the rarest words with its own, as a search of IGDB would."""
    places = _words(games, "igdb_id")
    weights = places.group_by("word").len("names").filter(pl.col("names") <= COMMON)
    rare = weights.select("word", weight=(games.height / pl.col("names")).log())
    sizes = places.group_by("igdb_id").agg(words=pl.len())
    shared = _words(apps, "appid").join(rare, on="word").join(places, on="word").group_by("appid", "igdb_id")
    ranked = (
        shared.agg(pl.col("weight").sum())
        .join(sizes, on="igdb_id")
        .with_columns(rank=pl.col("weight") / pl.col("words").sqrt())
        .sort("appid", "rank", "igdb_id", descending=[False, True, False])
    )
    return (
        ranked.group_by("appid", maintain_order=True)
        .head(SEARCHED)
        .join(games, on="igdb_id")
        .select("appid", "igdb_id", igdb_name="name", other_names=pl.lit([], pl.List(pl.String)))
    )


def _words(rows: pl.DataFrame, owner: str) -> pl.DataFrame:
    words = normalise_name(pl.col("name")).str.split(" ")
    return rows.select(owner, word=words.list.unique()).explode("word").filter(pl.col("word") != "")


def _equal(apps: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    pairs = found.join(apps.select("appid", "name"), on="appid")
    is_equal = pl.col("name").str.to_lowercase() == pl.col("igdb_name").str.to_lowercase()
    return pairs.filter(is_equal).select("appid", "igdb_id", likeness=pl.lit(100.0))


def _plain(apps: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    pairs = found.join(apps.select("appid", "name"), on="appid")
    alike = process.cpdist(pairs["name"].to_list(), pairs["igdb_name"].to_list(), scorer=fuzz.ratio)
    return pairs.select("appid", "igdb_id", likeness=pl.Series(alike))


WAYS: dict[str, Likeness] = {"equal but for case": _equal, "plain ratio": _plain, "normalised": score_names}


def _percent(count: int, apps: pl.DataFrame) -> str:
    return f"{100 * count / apps.height:.2f} %"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
