"""The embedded database: SavePoint's tables in a PostgreSQL of our own, for the demo and whoever has no database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pipeline.database.database import Database
from pipeline.sandbox.postgres import serve_postgres

Generation = Literal[2025, 2026]


@contextmanager
def embedded_database(folder: Path) -> Iterator[str]:
    """The URL of a served database that has SavePoint's tables of 2026."""
    with serve_postgres(folder) as url:
        create_tables(url)
        yield url


def create_tables(url: str, generation: Generation = 2026) -> bool:
    """Create SavePoint's tables if there are none; return True if they were made. Only for a database of our own."""
    return Database(url).create_tables(statements_of(generation))


def statements_of(generation: Generation) -> list[str]:
    """The statements that make SavePoint's tables; in those files every one ends with a semicolon at a line's end."""
    script = Path(__file__).with_name(f"savepoint-{generation}.sql").read_text(encoding="utf-8")
    return [statement for statement in script.split(";\n") if statement.strip()]
