"""Real PostgreSQL databases for tests, rows that SavePoint wrote there, and loads of a few apps on top of them."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from adbc_driver_postgresql import dbapi

from pipeline.database.database import Database, LoadResult
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import Generation, create_tables
from pipeline.sandbox.postgres import serve_postgres
from schemas.frames import conform
from schemas.library import EnrichedLibrary
from tests.support.libraries import library

EMPTY = """
DO $$ BEGIN
    SET LOCAL session_replication_role = replica; -- no foreign key says which table has to come first
    EXECUTE (SELECT string_agg(format('DELETE FROM %s', oid::regclass)
                               || CASE WHEN lower(relname) = 'user' THEN ' WHERE id <> ''user-1''' ELSE '' END, ';')
             FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r');
END $$
"""
"""Deletes all rows but that of `user-1`, in less time than TRUNCATE takes with its new files."""

TABLES = ("Genre", "Platform", "Game", "GameGenre", "GamePlatform", "ImportedGame", "LibraryItem")

LOADER = "loader"
"""The role with the least privileges, as which tests load."""

NewDatabase = Callable[[Generation], str]

_IDLE: defaultdict[str, list[dbapi.Connection]] = defaultdict(list)
"""Connections to be used again, by URL: to make one takes longer than most statements."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)  # for the server's own user, where root starts it
    with serve_postgres(folder / "postgres") as url:
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum", "jit"):
            execute(url, f"ALTER SYSTEM SET {setting} = off")  # what makes it safe or fast in the long run costs half
        execute(url, "SELECT pg_reload_conf()")
        yield url
        for used in list(_IDLE):
            hang_up(used)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def templates(postgres_server: str) -> dict[Generation, str]:
    generations: tuple[Generation, ...] = (2025, 2026)
    names = {generation: f"savepoint_{generation}" for generation in generations}
    execute(postgres_server, f"CREATE ROLE {LOADER} LOGIN")
    for generation, name in names.items():
        url = url_of(postgres_server, name)
        execute(postgres_server, f"CREATE DATABASE {name}")
        create_tables(url, generation)
        add_user(url, "user-1")
        for grant in Database(url).grant_statements(LOADER):
            execute(url, grant)
    return names


@pytest.fixture
def new_database(postgres_server: str, templates: dict[Generation, str]) -> Iterator[NewDatabase]:
    """Makes databases with SavePoint's tables and the user `user-1`, gone after the test."""
    numbers = count()
    made: list[str] = []

    def create(generation: Generation) -> str:
        name = f"test_{next(numbers)}"
        hang_up(url_of(postgres_server, templates[generation]))
        execute(postgres_server, f"CREATE DATABASE {name} TEMPLATE {templates[generation]}")
        made.append(name)
        return url_of(postgres_server, name)

    yield create
    for name in made:
        hang_up(url_of(postgres_server, name))
        execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=[2025, 2026])
def generation(request: pytest.FixtureRequest) -> Generation:
    asked: Generation = request.param
    return asked


@contextmanager
def emptied_afterwards(postgres_server: str, templates: dict[Generation, str], generation: Generation) -> Iterator[str]:
    """The database of a generation from which others are made: afterwards its rows are gone but the user `user-1`."""
    url = url_of(postgres_server, templates[generation])
    yield url
    execute(url, EMPTY)
    users = {2025: """DELETE FROM "User" WHERE id <> 'user-1'""", 2026: """DELETE FROM "user" WHERE id <> 'user-1'"""}
    execute(url, users[generation])


@pytest.fixture
def database_url(postgres_server: str, templates: dict[Generation, str], generation: Generation) -> Iterator[str]:
    """A database of either generation with the user `user-1`; for tests that only write rows."""
    with emptied_afterwards(postgres_server, templates, generation) as url:
        yield url


@pytest.fixture
def own_database_url(new_database: NewDatabase, generation: Generation) -> str:
    """A database of either generation with the user `user-1`; for tests that change more than rows."""
    return new_database(generation)


def url_of(server: str, database: str) -> str:
    return server.replace("/postgres?", f"/{database}?")


def as_role(url: str, role: str = LOADER) -> str:
    return url.replace("postgres:@", f"{quote(role)}@")


def add_user(url: str, user_id: str) -> None:
    Database(url).ensure_users([user_id])


def give_steam_ids(url: str, **steam_ids: str | None) -> None:
    """Have the users in the database, each with that value in the column steamId64."""
    Database(url).ensure_users(list(steam_ids))
    table = "User" if fetch(url, "SELECT to_regclass('\"user\"') IS NULL").item() else "user"
    for user_id, steam_id64 in steam_ids.items():
        value = "NULL" if steam_id64 is None else f"'{steam_id64}'"
        execute(url, f'UPDATE "{table}" SET "steamId64" = {value} WHERE id = \'{user_id}\'')  # noqa: S608


def execute(url: str, statement: str) -> None:
    with _cursor(url) as cursor:
        cursor.executemany(statement, None)


def fetch(url: str, query: str) -> pl.DataFrame:
    with _cursor(url) as cursor:
        rows: pl.DataFrame = cursor.execute(query).fetch_polars()
        return rows


def hang_up(url: str) -> None:
    """Close the idle connections, without which no database can be dropped or copied."""
    for connection in _IDLE.pop(url, []):
        connection.close()


@contextmanager
def _cursor(url: str) -> Iterator[dbapi.Cursor]:
    """Open a cursor on an idle connection, or on a new one; a connection that met an error is not used again."""
    try:
        connection = _IDLE[url].pop()
    except IndexError:
        connection = dbapi.connect(url, autocommit=True)
    try:
        with connection.cursor() as cursor:
            yield cursor
    except BaseException:
        connection.close()
        raise
    _IDLE[url].append(connection)


def rows_of(url: str, table: str, columns: str = "t::text", order: str = "1") -> list[tuple[Any, ...]]:
    """The rows of one of SavePoint's tables, by default as text."""
    return fetch(url, f'SELECT {columns} FROM "{table}" t ORDER BY {order}').rows()  # noqa: S608 - the tests' own words


def contents(url: str) -> dict[str, list[tuple[str, str]]]:
    """Every row of the seven tables, with the transaction that wrote it."""
    return {name: rows_of(url, name, "xmin::text, t::text", "2") for name in TABLES}


def load(url: str, *apps: dict[str, Any]) -> LoadResult:
    """Load a library of `user-1`."""
    return load_library(url, library(*apps))


def load_library(url: str, rows: pl.DataFrame, *users: str) -> LoadResult:
    """Load a library of these users, by default of `user-1`, with the least privileges and one attempt."""
    staged = stage_library(conform(rows, EnrichedLibrary))
    return Database(as_role(url), attempts=1).load(staged, users or ("user-1",))


def written(loaded: LoadResult) -> dict[str, int]:
    """The counts of a load that are not 0."""
    return {name: rows for name, rows in loaded.counts.items() if rows}


def insert_import(url: str, appid: int, **columns: str) -> None:
    row = {
        "id": f"import-{appid}",
        "name": f"Name {appid}",
        "storefront": "STEAM",
        "storefrontGameId": str(appid),
        "createdAt": "2020-01-01",
        "updatedAt": "2020-01-01",
        "userId": "user-1",
    }
    _insert(url, "ImportedGame", row | columns)


def insert_game(url: str, igdb_id: int, **columns: str) -> None:
    row = {
        "id": f"game-row-{igdb_id}",
        "igdbId": str(igdb_id),
        "title": f"Game {igdb_id}",
        "slug": f"game-{igdb_id}",
        "createdAt": "2020-01-01",
        "updatedAt": "2020-01-01",
    }
    _insert(url, "Game", row | columns)


def insert_item(url: str, igdb_id: int, **columns: str) -> None:
    row = {"userId": "user-1", "gameId": f"game-row-{igdb_id}", "status": "WISHLIST", "updatedAt": "2020-01-01"}
    _insert(url, "LibraryItem", row | columns)


def _insert(url: str, table: str, row: dict[str, str]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(f"'{value}'" for value in row.values())
    execute(url, f'INSERT INTO "{table}" ({names}) VALUES ({values})')  # noqa: S608 - the tests' own words
