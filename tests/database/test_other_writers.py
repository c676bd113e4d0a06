"""Loads while other writers are in the database: locks, retries, and what users decide meanwhile."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import sleep
from typing import Any

import pytest
from adbc_driver_postgresql import dbapi
from sqlalchemy import text

from pipeline.database.connection import DatabaseUrl, Timeouts, transaction
from pipeline.database.database import Database, LoadResult
from pipeline.errors import Retryable
from pipeline.frames.staging import stage_library
from tests.support.databases import NewDatabase, add_user, execute, fetch, insert_import, load, rows_of
from tests.support.libraries import FIGHTING, library, matched
from tests.support.surroundings import handled

OTHER_GAME = """
INSERT INTO "Game" (id, "igdbId", title, slug, "updatedAt") VALUES ('other', 1, 'Other', 'new', now())
"""


def wait_for_locks(url: str, sessions: int = 1) -> None:
    """Until so many sessions wait for other ones."""
    while fetch(url, "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted").height < sessions:
        sleep(0.01)


Start = Callable[..., Future[LoadResult]]


@contextmanager
def other_writer(url: str, *statements: str) -> Iterator[tuple[dbapi.Connection, Start]]:
    """Another transaction that has run these statements, and a function that starts a load which then waits for it."""
    with ThreadPoolExecutor() as pool, dbapi.connect(url) as other, other.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)

        def start(*apps: dict[str, Any], attempts: int = 2) -> Future[LoadResult]:
            database = Database(url, attempts=attempts, retry_base_seconds=0)
            load = pool.submit(database.load, stage_library(library(*apps)), ["user-1"])
            wait_for_locks(url)
            return load

        yield other, start


def test_a_load_is_retried_after_its_connection_was_lost(database_url: str) -> None:
    with other_writer(database_url, 'LOCK TABLE "Game"') as (other, start):
        load = start(matched(10, 100))
        execute(database_url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        other.rollback()

        assert load.result().counts["games_created"] == 1


def test_a_statement_timeout_can_be_tried_again(database_url: str) -> None:
    timeouts = Timeouts(statement_seconds=0.01)

    with (
        pytest.raises(Retryable, match="statement timeout"),
        transaction(DatabaseUrl(database_url), timeouts) as session,
    ):
        session.execute(text("SELECT pg_sleep(5)"))


@pytest.mark.parametrize("before", [[], [matched(10, 100)]], ids=["new game", "renamed game"])
def test_a_load_is_retried_when_another_writer_takes_a_slug_that_it_needs(
    database_url: str, before: list[dict[str, Any]]
) -> None:
    load(database_url, *before)

    with other_writer(database_url, OTHER_GAME) as (other, start):
        started = start(matched(10, 100, igdb_slug="new"))
        other.commit()

        assert started.result().counts["games_with_taken_slug"] == 1

    assert rows_of(database_url, "Game", '"igdbId", slug') == [(1, "new-igdb-1"), (100, "new")]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["deadlock", "serialization"])
def test_what_other_writers_are_in_the_way_of_may_pass(new_database: NewDatabase, case: str) -> None:
    url = new_database(2026)
    games = [matched(10, 100), matched(11, 101)]
    load(url, *games)
    name = fetch(url, "SELECT current_database()").item()
    execute(url, f"ALTER DATABASE {name} SET deadlock_timeout TO '1500ms'")
    if case == "serialization":
        execute(url, f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'")
    update = 'UPDATE "Game" SET "hltbId" = NULL WHERE "igdbId" = '

    with other_writer(url, "SET deadlock_timeout TO '1min'", f"{update} 101") as (other, start):
        started = start(*(game | {"igdb_name": "New"} for game in games), attempts=1)
        if case == "deadlock":
            with other.cursor() as cursor:
                cursor.execute(f"{update} 100")
        other.commit()
        handled(case, started.result)


def test_a_decision_that_a_user_makes_while_a_load_waits_stays(database_url: str) -> None:
    decisions = {
        10: """"igdbMatchStatus" = 'IGNORED'""",
        11: """"igdbMatchStatus" = 'MATCHED'""",
        12: '"deletedAt" = now()',
    }
    for appid in decisions:
        insert_import(database_url, appid, igdbMatchStatus="UNMATCHED")
    edits = [f"""UPDATE "ImportedGame" SET {edit} WHERE id = 'import-{appid}'""" for appid, edit in decisions.items()]  # noqa: S608

    with other_writer(database_url, *edits) as (other, start):
        started = start(*(matched(n, n, playtime_forever=5) for n in decisions), attempts=1)
        other.commit()
        started.result()

    statuses = rows_of(database_url, "ImportedGame", '"igdbMatchStatus"::text', "id")
    assert statuses == [("IGNORED",), ("MATCHED",), ("UNMATCHED",)]
    assert rows_of(database_url, "LibraryItem") == []


def test_loads_that_add_or_rename_the_same_games_meet_no_deadlock(own_database_url: str) -> None:
    users = [f"user-{number}" for number in range(1, 5)]
    for user in users:
        add_user(own_database_url, user)

    def load_shared(user: str, name: str = "Game {}") -> None:
        games = [matched(n, n, user_id=user, igdb_name=name.format(n), igdb_genres=[FIGHTING]) for n in range(1, 80)]
        ordered = games if user in users[::2] else reversed(games)
        Database(own_database_url, attempts=1).load(stage_library(library(*ordered)), [user])

    with ThreadPoolExecutor(len(users)) as pool:
        list(pool.map(load_shared, users))
        list(pool.map(load_shared, users, [f"{user} {{}}" for user in users]))

    assert len(rows_of(own_database_url, "Game")) == 79
    assert len(rows_of(own_database_url, "LibraryItem")) == 79 * len(users)
    assert (
        fetch(own_database_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").item() == 0
    )


@contextmanager
def load_before_its_commit(url: str, **facts: str) -> Iterator[Callable[[], LoadResult]]:
    """A load of user-1 that has added the game 100 of the app 10, and has not committed.

    The function that is yielded lets it go on, and returns its result.
    """
    load(url, matched(1, 1, igdb_genres=[FIGHTING]))
    with other_writer(url, 'SELECT 1 FROM "Genre" FOR UPDATE') as (other, start):
        started = start(matched(10, 100, igdb_genres=[FIGHTING], **facts))

        def go_on() -> LoadResult:
            other.commit()
            return started.result()

        yield go_on


def load_at_once(url: str, user: str, *apps: dict[str, Any]) -> LoadResult:
    """Load the apps of a user, but wait for no lock for longer than a fifth of a second."""
    database = Database(url, attempts=1, timeouts=Timeouts(lock_seconds=0.2))
    return database.load(stage_library(library(*(app | {"user_id": user} for app in apps))), [user])


def test_a_load_that_only_adds_games_waits_for_no_other_such_load(database_url: str) -> None:
    add_user(database_url, "user-2")
    with load_before_its_commit(database_url) as go_on:
        assert load_at_once(database_url, "user-2", matched(11, 101)).counts["games_created"] == 1
        with pytest.raises(Retryable, match="lock timeout"):
            load_at_once(database_url, "user-2", matched(10, 100))
        with pytest.raises(Retryable, match="lock timeout"):
            load_at_once(database_url, "user-2", matched(1, 1, igdb_name="Another name"))
        with pytest.raises(Retryable, match="lock timeout"):
            load_at_once(database_url, "user-2", *(matched(n, n) for n in range(200, 301)))

        assert go_on().counts["games_created"] == 1

    assert [game for (game,) in rows_of(database_url, "Game", '"igdbId"')] == [1, 100, 101]


def test_loads_that_match_an_app_to_two_new_games_at_once_give_it_to_one(database_url: str) -> None:
    add_user(database_url, "user-2")
    other = stage_library(library(matched(10, 101, user_id="user-2")))
    with load_before_its_commit(database_url) as go_on, ThreadPoolExecutor() as pool:
        second = pool.submit(Database(database_url, attempts=1).load, other, ["user-2"])
        wait_for_locks(database_url, 2)
        go_on()
        assert second.result().counts["steam_app_id_conflicts"] == 1

    assert rows_of(database_url, "Game", '"igdbId", "steamAppId"') == [(1, 1), (100, 10), (101, None)]


def test_of_loads_that_add_two_games_of_one_slug_at_once_the_second_tries_again(database_url: str) -> None:
    add_user(database_url, "user-2")
    other = stage_library(library(matched(11, 101, igdb_slug="same", user_id="user-2")))
    with (
        load_before_its_commit(database_url, igdb_slug="same") as go_on,
        ThreadPoolExecutor() as pool,
    ):
        second = pool.submit(Database(database_url, attempts=2, retry_base_seconds=0).load, other, ["user-2"])
        wait_for_locks(database_url, 2)
        go_on()
        assert second.result().counts["games_with_taken_slug"] == 1

    assert rows_of(database_url, "Game", '"igdbId", slug')[1:] == [(100, "same-igdb-100"), (101, "same")]


def test_a_load_whose_game_another_load_adopts_meanwhile_tries_again(database_url: str) -> None:
    add_user(database_url, "user-2")
    same = {"igdb_name": "Same", "igdb_slug": "old"}
    load(database_url, matched(10, 100, **same), matched(1, 1, igdb_genres=[FIGHTING]))
    adopting = matched(10, 200, igdb_name="Same", igdb_slug="new")

    with other_writer(database_url, 'SELECT 1 FROM "Genre" FOR UPDATE') as (other, start):
        started = start(matched(10, 100, **same), matched(11, 101, igdb_genres=[FIGHTING]))
        assert load_at_once(database_url, "user-2", adopting).counts["games_adopted"] == 1
        other.commit()
        assert started.result().counts["games_adopted"] == 1

    assert rows_of(database_url, "Game", '"igdbId", slug') == [(1, "game-1"), (100, "old"), (101, "game-101")]


def test_loads_of_one_user_wait_for_each_other(database_url: str) -> None:
    staged = stage_library(library(*(matched(n, n) for n in range(1, 30))))

    with ThreadPoolExecutor(4) as pool:
        loads = list(pool.map(lambda _: Database(database_url).load(staged, ["user-1"]), range(4)))

    assert sorted(load.counts["imported_games_created"] for load in loads) == [0, 0, 0, 29]
    assert len(rows_of(database_url, "ImportedGame")) == len(rows_of(database_url, "LibraryItem")) == 29
