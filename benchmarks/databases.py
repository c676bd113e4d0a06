"""Databases to measure loads in, and the libraries that are loaded."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from adbc_driver_postgresql import dbapi

from pipeline.database.database import Database, LoadResult
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import create_tables
from pipeline.sandbox.postgres import serve_postgres
from schemas.frames import dtypes
from schemas.library import EnrichedLibrary

SCHEMA = dtypes(EnrichedLibrary)


def libraries(rows: int, users: int, games: int, first_user: int = 0, first_game: int = 1) -> pl.DataFrame:
    """An enriched frame of many users, each of whom owns as many games, every one of them MATCHED."""
    each = rows // users
    genres = [f'{{"id":{n},"name":"Genre {n}","slug":"genre-{n}","checksum":"g{n}"}}' for n in range(1, 24)]
    platforms = [
        f'{{"id":{n},"name":"Platform {n}","slug":"platform-{n}","abbreviation":"P{n}","alternative_name":null,'
        f'"generation":{n},"platform_family":1,"platform_type":1,"checksum":"p{n}"}}'
        for n in range(1, 42)
    ]
    game = pl.int_range(first_game, first_game + games, eager=True).alias("game").to_frame()
    facts = game.select(
        "game",
        appid=(pl.col("game") * 10).cast(pl.Int32),
        name=pl.format("Game number {}", "game"),
        igdb_id=(pl.col("game") + 1000).cast(pl.Int32),
        igdb_name=pl.format("Game number {}", "game"),
        igdb_slug=pl.format("game-number-{}", "game"),
        igdb_summary=pl.format("The {}th game of this benchmark, told in a sentence of the usual length.", "game"),
        igdb_genres=_two_of(genres),
        igdb_platforms=_two_of(platforms),
    )
    owned = pl.DataFrame({"user": pl.int_range(first_user, first_user + users, eager=True)}).select(
        "user", game=((pl.col("user") * 7919 + pl.int_ranges(0, each) * 97) % games + first_game)
    )
    return (
        owned.explode("game")
        .join(facts, on="game", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            user_id=pl.format("user-{}", "user"),
            steam_id64=pl.lit("76561197960287930"),
            playtime_forever=((pl.col("user") * pl.col("game")) % 500).cast(pl.Int32),
            img_icon_url=pl.lit("5406b4e3d8b8ac6a4f8b9d4bd1a0f5f8ab2e9b27"),
            kind=pl.lit("game"),
            kind_reason=pl.lit("default"),
            match_status=pl.lit("MATCHED"),
            match_reason=pl.lit("external_game"),
            igdb_game_type=pl.lit(0, pl.Int32),
        )
        .pipe(_conforming)
    )


def _two_of(entries: list[str]) -> pl.Expr:
    listed = pl.Series(entries)
    first, second = (pl.lit(listed).gather((pl.col("game") * step) % len(entries)) for step in (1, 3))
    return pl.when(first == second).then(pl.format("[{}]", first)).otherwise(pl.format("[{},{}]", first, second))


def _conforming(rows: pl.DataFrame) -> pl.DataFrame:
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in rows.columns]
    return EnrichedLibrary.validate(rows.with_columns(absent).select(SCHEMA.keys()).cast(SCHEMA), lazy=True)


@contextmanager
def server() -> Iterator[str]:
    """A PostgreSQL of this benchmark's own, as it comes."""
    temporary = tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, serve_postgres(Path(folder)) as url:
        yield url


def new_database(url: str, name: str, users: int) -> str:
    """An empty database with SavePoint's tables of 2026 and its users."""
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    made = url.replace("/postgres?", f"/{name}?")
    create_tables(made)
    execute(
        made,
        f"""INSERT INTO "user" (id, "updatedAt") SELECT 'user-' || n, now() FROM generate_series(0, {users - 1}) n""",
    )
    execute(made, "ANALYZE")
    return made


def execute(url: str, statement: str) -> None:
    """Run a statement, outside a transaction."""
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


def fetch(url: str, query: str) -> pl.DataFrame:
    """The rows of a query."""
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        rows: pl.DataFrame = cursor.execute(query).fetch_polars()
        return rows


def load(url: str, rows: pl.DataFrame) -> LoadResult:
    """What is measured: from a validated frame to the commit."""
    return Database(url).load(stage_library(rows), rows["user_id"].unique())


def timed(what: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
