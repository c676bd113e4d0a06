"""The speed of a load: relative to bare COPY, beside other users' rows, and beside other loads; and its memory.

`python -m benchmarks.load`; `--only copy|large|beside` prints one part.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from adbc_driver_postgresql import dbapi

from benchmarks import concurrent_loads, large_database
from benchmarks.databases import execute, fetch, libraries, load, new_database, server, timed
from schemas.savepoint import SAVEPOINT

ROWS, USERS, GAMES = 1_000_000, 5_000, 50_000
LEAST_OF_COPY, MOST_OF_FIRST, MOST_MEMORY = 0.7, 1 / 3, 3.0
TABLES = ("Genre", "Platform", "Game", "GameGenre", "GamePlatform", "ImportedGame", "LibraryItem")
"""In an order that the foreign keys allow."""


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


def measure(rows: int, users: int, games: int) -> list[bool]:
    """Print every figure; whether each met its target."""
    frame = libraries(rows, users, games)
    print(f"{rows:,} rows of {users:,} users over {games:,} games; the frame is {frame.estimated_size('mb'):,.0f} MB")
    with server() as url:
        first_url = new_database(url, "first", users)
        small = load(new_database(url, "small", users), frame.head(10))
        statements: list[int] = []
        first = timed(lambda: statements.append(load(first_url, frame).statements))
        print(f"first load: {first:.1f} s, {rows / first:,.0f} rows a second, {statements[0]} statements")
        print(f"statements for 10 rows: {small.statements}")
        met = [small.statements == statements[0], _copies(url, first_url, users, first)]
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
    arguments.add_argument("--only", choices=["copy", "large", "beside"])
    arguments.add_argument("--imports-of-others", type=int, default=large_database.IMPORTS)
    arguments.add_argument("--games-of-others", type=int, default=large_database.GAMES)
    arguments.add_argument("--memory-of", nargs=2, metavar=("FILE", "URL"))
    options = arguments.parse_args()
    if options.memory_of:
        print(_peak_factor(*options.memory_of))
        return
    met = []
    if options.only in {None, "copy"}:
        met += measure(options.rows, options.users, options.games)
    with server() as url:
        if options.only in {None, "beside"}:
            met.append(concurrent_loads.measure(url))
        if options.only in {None, "large"}:
            met.append(large_database.measure(url, options.imports_of_others, options.games_of_others))
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
