"""How often names that IGDB spells otherwise are found, and by how many requests: `python -m benchmarks.candidates`."""

import argparse
import asyncio
import itertools
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline import clients
from pipeline.frames.match import ARABIC_NUMERALS, normalise_name
from pipeline.review.candidates import search_terms
from pipeline.review.look_up import NameFile, NameLookup
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from pipeline.storage.store import DirectoryStore
from schemas.review import Candidates

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = ("steam_igdb_games", "igdb_names")
GAMES, SEEDS = 200, (1, 2, 3)
OTHER_NAMES = 20_000
"""The number of IGDB's games that Steam does not sell, among which those that it sells have to be found."""

LEAST_FIRST, LEAST_AMONG = 90, 97
"""The targets: percentages of the right games that are first, and among five."""

NAMES_AN_EXACT_REQUEST = 20

MOST_AGAIN = 1
"""The highest number of requests of a second export at once."""

EDITIONS = (": Deluxe Edition", " - Game of the Year Edition", " Definitive Edition", " GOTY", " (Complete Edition)")
SUBTITLES = (": The Beginning", " - Rise of the Machines", ": A Tale of Two Moons", " - Blood & Honour")

Alteration = Callable[[str, random.Random], str | None]
"""The type of a function that returns another spelling of a name, None if the name gives none of its kind."""


def _with_mark(name: str, _: random.Random) -> str:
    head, colon, rest = name.partition(":")
    return f"{head}™{colon}{rest}"


def _without_edition(name: str, _: random.Random) -> str | None:
    found = re.match(r"(?i)(.*\w[!?.)]?)[:\s(-]+(?:\w+ )?(?:\w+|game of the year) edition\)?$", name)
    return found and found[1]


def _with_other_numerals(name: str, _: random.Random) -> str | None:
    roman = {number: numeral.upper() for numeral, number in ARABIC_NUMERALS.items() if number != "1"}
    arabic = {numeral: number for number, numeral in roman.items() if len(numeral) > 1}
    return re.sub(r"(?<= )\w+\b", lambda word: (roman | arabic).get(word[0], word[0]), name)


def _without_subtitle(name: str, _: random.Random) -> str | None:
    return re.split(": | - ", name)[0]


ALTERATIONS: Mapping[str, Alteration] = {
    "case": lambda name, _: name.upper(),
    "mark": _with_mark,
    "edition": lambda name, rng: name + rng.choice(EDITIONS),
    "edition on IGDB": _without_edition,
    "numeral": _with_other_numerals,
    "subtitle": lambda name, rng: None if re.search(": | - ", name) else name + rng.choice(SUBTITLES),
    "subtitle on IGDB": _without_subtitle,
}
EXACT = {"case", "mark"}
"""The kinds whose names are found without a search."""


@dataclass(frozen=True)
class Measured:
    """The figures of a look-up: percentages of right games first and among five, and numbers of requests."""

    first: float
    among: float
    requests: int
    allowed: int
    again: int

    @property
    def is_good(self) -> bool:
        """True if all targets are met."""
        is_found = self.first >= LEAST_FIRST and self.among >= LEAST_AMONG
        return is_found and self.requests <= self.allowed and self.again <= MOST_AGAIN


def altered_games(games: Mapping[int, str], names: Mapping[int, str], count: int, seed: int) -> pl.DataFrame:
    """Return `count` of the games with a name altered in one way, in turn: `appid, name, right, kind`.

    A name that is another game's is not used, and neither is a shorter one with which several games begin.
    """
    rng, keys = random.Random(seed), _normalised(names.values())
    taken = set(keys.values())
    begins = [f"{key} " for key in keys.values()]
    rows: list[tuple[int, str, int, str]] = []
    pools = {kind: iter(rng.sample(sorted(games), len(games))) for kind in ALTERATIONS}
    for number, kind in zip(range(count), itertools.cycle(pools), strict=False):
        for game in pools[kind]:
            name = ALTERATIONS[kind](names[game], rng)
            if name and name != names[game] and _is_clear(name, keys[names[game]], taken, begins):
                rows.append((number + 1, name, game, kind))
                break
    return pl.DataFrame(
        rows, schema={"appid": pl.Int32, "name": pl.String, "right": pl.Int32, "kind": pl.String}, orient="row"
    )


def _is_clear(name: str, right: str, taken: set[str], begins: Sequence[str]) -> bool:
    key = _normalised([name])[name]
    if key == right:
        return True
    return key not in taken and (len(key) > len(right) or sum(begin.startswith(f"{key} ") for begin in begins) == 1)


def _normalised(names: Iterable[str]) -> dict[str, str]:
    """Return a mapping of each name to its normalised form."""
    rows = pl.DataFrame({"name": list(names)})
    return dict(rows.select("name", key=normalise_name(pl.col("name"))).rows())


def measure(apps: pl.DataFrame, world: World) -> Measured:
    """Look up the names of `altered_games` as `review export` does, against the sandbox, and again at once."""
    with TemporaryDirectory() as folder, Sandbox(world, limits=False) as sandbox:
        names, counts = NameFile(DirectoryStore(Path(folder)), timedelta(days=7)), list[int]()
        for _ in range(2):
            sandbox.requests.clear()
            candidates = asyncio.run(_look_up(sandbox, names, apps))
            counts.append(len(sandbox.asked("igdb")))
    ranked = candidates.with_columns(rank=pl.int_range(pl.len()).over("appid")).join(apps, on="appid")
    right = ranked.filter(pl.col("igdb_id") == pl.col("right"))
    exact = apps.filter(pl.col("kind").is_in(list(EXACT))).height
    return Measured(
        first=100 * right.filter(rank=0).height / apps.height,
        among=100 * right.height / apps.height,
        requests=counts[0],
        allowed=-(-exact // NAMES_AN_EXACT_REQUEST) + apps.height - exact,
        again=counts[1],
    )


async def _look_up(sandbox: Sandbox, names: NameFile, apps: pl.DataFrame) -> DataFrame[Candidates]:
    environment = {name.lower(): value for name, value in sandbox.environment.items()}
    settings = Settings.read(**environment, igdb_requests_per_second=1_000)
    async with clients.open_igdb(settings) as igdb:
        return (await NameLookup(igdb, names).look_up(search_terms(apps))).candidates


def recorded_world() -> tuple[World, dict[int, str]]:
    """Return the sandbox's recorded library, and the names of its games by id."""
    world = World.recorded()
    return world, {igdb_id: game["name"] for igdb_id, game in world.games.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures for each seed; the exit status is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.candidates", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Folder of the Parquet files")
    parser.add_argument("--games", type=int, default=GAMES, help="How many games to look for")
    given = parser.parse_args(arguments)
    paths = [given.data / f"{name}.parquet" for name in FILES]
    if all(path.exists() for path in paths):
        on_steam, on_igdb = (pl.read_parquet(path) for path in paths)
        sold = on_igdb.join(on_steam, on="igdb_id", how="semi").sort("igdb_id")
        names = dict(pl.concat([sold, on_igdb.sample(OTHER_NAMES, seed=SEEDS[0])]).rows())
        world, games = World(), dict(sold.rows())
        world.games = {igdb_id: {"id": igdb_id, "name": name} for igdb_id, name in names.items()}
    else:
        world, names = recorded_world()
        games = names
    _say(f"{given.games} games with another spelling on Steam, among {len(names):,} names on IGDB")
    measured = [_measure_seed(seed, altered_games(games, names, given.games, seed), world) for seed in SEEDS]
    return 0 if all(figures.is_good for figures in measured) else 1


def _measure_seed(seed: int, apps: pl.DataFrame, world: World) -> Measured:
    start = time.perf_counter()
    figures = measure(apps, world)
    _say(
        f"seed {seed}: first {figures.first:.1f} % (target {LEAST_FIRST}), among five {figures.among:.1f} % (target "
        f"{LEAST_AMONG}), {figures.requests} requests (at most {figures.allowed}), again {figures.again}, "
        f"{time.perf_counter() - start:.1f} s"
    )
    return figures


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
