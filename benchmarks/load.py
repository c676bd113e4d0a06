"""The speed of a load relative to bare COPY, and its memory: `python -m benchmarks.load`."""

import argparse
import subprocess
import sys
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
from schemas.savepoint import SAVEPOINT

ROWS, USERS, GAMES = 1_000_000, 5_000, 50_000
LEAST_OF_COPY, MOST_OF_FIRST, MOST_MEMORY = 0.7, 1 / 3, 3.0
TABLES = ("Genre", "Platform", "Game", "GameGenre", "GamePlatform", "ImportedGame", "LibraryItem")
"""In an order that the foreign keys allow."""

SCHEMA = dtypes(EnrichedLibrary)


def libraries(rows: int, users: int, games: int) -> pl.DataFrame:
    """An enriched frame of many users, each of whom owns as many games, every one of them MATCHED."""
    each = rows // users
    genres = [f'{{"id":{n},"name":"Genre {n}","slug":"genre-{n}","checksum":"g{n}"}}' for n in range(1, 24)]
    platforms = [
        f'{{"id":{n},"name":"Platform {n}","slug":"platform-{n}","abbreviation":"P{n}","alternative_name":null,'
        f'"generation":{n},"platform_family":1,"platform_type":1,"checksum":"p{n}"}}'
        for n in range(1, 42)
    ]
    game = pl.int_range(1, games + 1, eager=True).alias("game").to_frame()
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
    owned = pl.DataFrame({"user": pl.int_range(users, eager=True)}).select(
        "user", game=((pl.col("user") * 7919 + pl.int_ranges(0, each) * 97) % games + 1)
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


def copy_of(url: str) -> dict[str, pl.DataFrame]:
    """The rows of all tables as they lie, as COPY takes them."""
    return {table: fetch(url, f'SELECT {_columns(table, url)} FROM "{table}" ORDER BY ctid') for table in TABLES}


def _columns(table: str, url: str) -> str:
    """All columns, enums as text."""
    names = fetch(
        url,
        "SELECT quote_ident(a.attname) AS name, t.typtype = 'e' AS is_enum FROM pg_attribute a "
        f"""JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = '"{table}"'::regclass AND a.attnum > 0 """
        "ORDER BY a.attnum",
    )
    return ", ".join(f"{name}::text AS {name}" if is_enum else name for name, is_enum in names.rows())


def copy_in(url: str, tables: dict[str, pl.DataFrame]) -> None:
    """One bare COPY a table, in one transaction."""
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        for table, rows in tables.items():
            cursor.adbc_ingest(table, rows, mode="append")
        connection.commit()


def written(url: str) -> int:
    """Tuples inserted, updated or deleted so far in SavePoint's tables."""
    execute(url, "SELECT pg_stat_force_next_flush()")
    time.sleep(1.5)
    names = ", ".join(f"'{table}'" for table in SAVEPOINT.tables)
    counted = fetch(
        url,
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS n FROM pg_stat_user_tables "
        f"WHERE relname IN ({names})",
    )
    return int(counted.item())


def timed(what: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def measure(rows: int, users: int, games: int) -> list[bool]:
    """Print every figure; whether each met its target."""
    frame = libraries(rows, users, games)
    print(f"{rows:,} rows of {users:,} users over {games:,} games; the frame is {frame.estimated_size('mb'):,.0f} MB")
    with server() as url:
        first_url = new_database(url, "first", users)
        small = load(new_database(url, "small", users), frame.head(10))
        loaded: list[LoadResult] = []
        first = timed(lambda: loaded.append(load(first_url, frame)))
        print(f"first load: {first:.1f} s, {rows / first:,.0f} rows a second, {loaded[0].statements} statements")
        print(f"statements for 10 rows: {small.statements}")
        met = [small.statements == loaded[0].statements, _copies(url, first_url, users, first)]
        met += [_again(first_url, frame, first), _one_percent(first_url, frame)]
        return [*met, _memory(url, frame, users)]


def _copies(url: str, first_url: str, users: int, first: float) -> bool:
    tables = copy_of(first_url)
    bare_url = new_database(url, "bare", users)
    bare = timed(lambda: copy_in(bare_url, tables))
    print(f"bare COPY of the same {sum(map(len, tables.values())):,} final rows: {bare:.1f} s")
    print(f"speed of the load to that of bare COPY: {bare / first:.0%} (target: at least {LEAST_OF_COPY:.0%})")
    return bare / first >= LEAST_OF_COPY


def _again(url: str, frame: pl.DataFrame, first: float) -> bool:
    before = written(url)
    again = timed(lambda: load(url, frame))
    tuples = written(url) - before
    print(f"the same again: {again:.1f} s, {again / first:.0%} of the first (target: at most {MOST_OF_FIRST:.0%})")
    print(f"tuples written by that: {tuples} (target: 0)")
    return again / first <= MOST_OF_FIRST and tuples == 0


def _one_percent(url: str, frame: pl.DataFrame) -> bool:
    is_changed = pl.int_range(pl.len()) % 100 == 0
    changed = frame.with_columns(
        pl.when(is_changed).then(pl.col("playtime_forever") + 1000).otherwise("playtime_forever").cast(pl.Int32)
    )
    expected = -(-frame.height // 100)
    before = written(url)
    seconds = timed(lambda: load(url, changed))
    tuples = written(url) - before
    print(f"1 % of the rows changed: {seconds:.1f} s, {tuples:,} tuples written (target: {expected:,})")
    return tuples == expected


def _memory(url: str, frame: pl.DataFrame, users: int) -> bool:
    """In a process of its own, whose peak is nobody else's."""
    lean_url = new_database(url, "lean", users)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "libraries.parquet"
        frame.write_parquet(path)
        command = [sys.executable, "-m", "benchmarks.load", "--memory-of", str(path), lean_url]
        factor = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"peak memory beyond the imports: {factor:.1f} times the frame (target: at most {MOST_MEMORY:.0f})")
    return factor <= MOST_MEMORY


def _peak_factor(path: str, url: str) -> float:
    before = _kilobytes("VmRSS")
    frame = pl.read_parquet(path)
    load(url, frame)
    return (_kilobytes("VmHWM") - before) * 1024 / frame.estimated_size()


def _kilobytes(figure: str) -> int:
    """Of this process, as Linux counts; getrusage would count the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{figure}:")[1].split()[0])


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=ROWS)
    arguments.add_argument("--users", type=int, default=USERS)
    arguments.add_argument("--games", type=int, default=GAMES)
    arguments.add_argument("--memory-of", nargs=2, metavar=("FILE", "URL"))
    options = arguments.parse_args()
    if options.memory_of:
        print(_peak_factor(*options.memory_of))
        return
    sys.exit(0 if all(measure(options.rows, options.users, options.games)) else 1)


if __name__ == "__main__":
    main()
