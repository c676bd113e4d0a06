"""Loads at the same time: of users whose games are all known, and of users who bring new games."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import count

import polars as pl

from benchmarks.databases import libraries, load, new_database, timed
from pipeline.database.database import Database

AT_ONCE, LOADS, ROUNDS = 8, 16, 5
APPS, KNOWN_GAMES = 100, 2_000
LEAST_WITH_NEWS = 0.85


def measure(server: str) -> bool:
    """Print the rates of loads with and without new games, and their ratio; return whether it meets the target."""
    url = new_database(server, "beside", 1)
    load(url, libraries(KNOWN_GAMES, 1, KNOWN_GAMES))
    print(f"{AT_ONCE} loads at once, {LOADS} loads in each of {ROUNDS} rounds, {APPS} apps each:")
    met = []
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("forkserver")) as pool:
        _load_users(pool, url, 0, 0)  # starts the processes
        numbers = count(1)
        for news in (APPS // 10, APPS):
            seconds = [[_load_users(pool, url, next(numbers), of_it) for of_it in (0, news)] for _ in range(ROUNDS)]
            without, with_news = (ROUNDS * LOADS / sum(spent) for spent in zip(*seconds, strict=True))
            ratio = with_news / without
            print(f"  {without:.1f} a second without news, {with_news:.1f} with {news} new games each: {ratio:.0%}")
            met.append(ratio >= LEAST_WITH_NEWS)
    print(f"  (target: at least {LEAST_WITH_NEWS:.0%})")
    return all(met)


def _load_users(pool: ProcessPoolExecutor, url: str, number: int, news: int) -> float:
    """Load libraries of new users, in all of which so many of the games are new; return the seconds of the loads."""
    first = 1_000_000 + number * 100 * LOADS
    users = range(first, first + LOADS)
    Database(url).ensure_users([f"user-{user}" for user in users])
    orders = [(url, _library(user, news)) for user in users]
    return timed(lambda: list(pool.map(_load, orders)))


def _library(user: int, news: int) -> pl.DataFrame:
    known = libraries(APPS - news, 1, KNOWN_GAMES, user)
    return pl.concat([known, libraries(news, 1, news, user, user * 100)]) if news else known


def _load(order: tuple[str, pl.DataFrame]) -> None:
    load(*order)
