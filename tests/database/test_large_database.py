"""Loads beside the rows of many other users: what they read of these, and of the games."""

from collections.abc import Callable
from time import sleep

import polars as pl
from adbc_driver_postgresql import dbapi
from pandera.typing.polars import DataFrame

from pipeline.database.database import Database
from pipeline.frames.staging import stage_library
from schemas.library import EnrichedLibrary
from schemas.staging import LoadOptions
from tests.support.databases import NewDatabase, fetch, load_library
from tests.support.libraries import FIGHTING, library, matched

OTHERS, GAMES = 400, 4_000

FILL = (
    "SET session_replication_role = replica",
    """INSERT INTO "user" (id, "updatedAt") SELECT 'other-' || n, now() FROM generate_series(1, 400) n""",
    """INSERT INTO "Game" (id, "igdbId", title, slug, "steamAppId", "updatedAt")
    SELECT 'other-' || n, 1000 + n, 'Other ' || n, 'other-' || n, 1000 + n, now() FROM generate_series(1, 4000) n""",
    """INSERT INTO "ImportedGame" (id, name, storefront, "storefrontGameId", "userId", "updatedAt")
    SELECT o || '-' || app, 'App', 'STEAM', app::text, 'other-' || o, now()
    FROM generate_series(1, 400) o, generate_series(1, 20) app""",
    """INSERT INTO "LibraryItem" ("userId", "gameId", "updatedAt")
    SELECT 'other-' || o, id, now() FROM generate_series(1, 400) o, "Game" WHERE "igdbId" <= 20""",
    "VACUUM ANALYZE",
)
"""SQL that gives 400 other users the same 20 apps, and a few thousand games that nobody owns."""

READ = """
SELECT t.relname, t.seq_tup_read, coalesce(sum(i.idx_tup_read), 0)::bigint
FROM pg_stat_user_tables t LEFT JOIN pg_stat_user_indexes i USING (relid) GROUP BY 1, 2
"""
SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

NEVER = {"ImportedGame": 0, "LibraryItem": 0, "Game": 0}


def apps(*users: str, first: int = 1) -> DataFrame[EnrichedLibrary]:
    """Twenty apps of each user; the first twenty of all are those of the others."""
    numbers = range(first, first + 20)
    return library(*(matched(n, n, user_id=user, igdb_genres=[FIGHTING]) for user in users for n in numbers))


def rows_read(url: str, load: Callable[[], object]) -> tuple[dict[str, int], int]:
    """What a load reads: by table the rows of scans from end to end; and the rows of users that it finds by indices."""
    before = _rows_read_so_far(url)
    load()
    read = (
        _rows_read_so_far(url)
        .join(before, on="relname", validate="1:1", suffix="_before")
        .select(
            "relname",
            by_scan=pl.col("seq_tup_read") - pl.col("seq_tup_read_before"),
            by_index=pl.col("coalesce") - pl.col("coalesce_before"),
        )
        .filter(pl.col("relname").is_in(list(NEVER)))
    )
    own = read.filter(pl.col("relname") != "Game")
    return dict(read.select("relname", "by_scan").rows()), int(own["by_index"].sum())


def _rows_read_so_far(url: str) -> pl.DataFrame:
    while fetch(url, SESSIONS).height:  # a session counts what it has read when it ends
        sleep(0.01)
    return fetch(url, READ)


def test_no_load_reads_the_rows_of_other_users_and_only_news_the_games_and_those_once(
    new_database: NewDatabase,
) -> None:
    url = new_database(2026)
    database, users = Database(url), [f"user-{n}" for n in range(1, 40)]
    database.ensure_users(users)
    load_library(url, apps("user-1"))
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in FILL:
            cursor.executemany(statement, None)
    override = library(matched(1, 500, match_reason="override", user_id="user-2"))
    details = LoadOptions(dry_run=True, details=True)
    is_news = {"new games", "override", "details of new games"}
    loads: dict[str, Callable[[], object]] = {
        "new user": lambda: load_library(url, apps("user-2"), "user-2"),
        "the same again": lambda: load_library(url, apps("user-2"), "user-2"),
        "details": lambda: database.load(stage_library(apps("user-3")), ["user-3"], details),
        "details of new games": lambda: database.load(stage_library(apps("user-3", first=700)), ["user-3"], details),
        "new games": lambda: load_library(url, apps("user-3", first=600), "user-3"),
        "shard": lambda: load_library(url, apps(*users[10:30]), *users[10:30]),
        "override": lambda: load_library(url, override, "user-2"),
        "ensure_users": lambda: database.ensure_users(["user-1", "user-100"]),
    }

    read = {name: rows_read(url, load) for name, load in loads.items()}

    scanned = {name: by_scan for name, (by_scan, _) in read.items()}
    assert {name: scanned[name] for name in scanned.keys() - is_news} == dict.fromkeys(scanned.keys() - is_news, NEVER)
    assert [name for name in is_news if scanned[name]["Game"] > GAMES + 100] == []
    assert [name for name in is_news if scanned[name] | {"Game": 0} != NEVER] == []
    assert [name for name, (_, by_index) in read.items() if by_index > OTHERS] == []
