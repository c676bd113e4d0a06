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
    """Serve a database with SavePoint's tables of 2026 from a folder, and yield its URL."""
    with serve_postgres(folder) as url:
        create_tables(url)
        yield url


def create_tables(url: str, generation: Generation = 2026) -> bool:
    """Create SavePoint's tables if there are none; return True if they were made. Only for a database of our own."""
    return Database(url).create_tables(statements_of(generation))


def statements_of(generation: Generation) -> list[str]:
    """Return the SQL statements that make SavePoint's tables; each ends with a semicolon at the end of a line."""
    script = Path(__file__).with_name(f"savepoint-{generation}.sql").read_text(encoding="utf-8")
    return [statement for statement in script.split(";\n") if statement.strip()]
