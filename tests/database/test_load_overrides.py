"""What an override of the match changes: which game has the appid, and the user's item."""

from typing import Any

import pytest

from pipeline.database.database import Database
from tests.support.databases import (
    add_user,
    execute,
    fetch,
    insert_game,
    insert_item,
    load,
    load_library,
    rows_of,
    written,
)
from tests.support.libraries import library, matched

OVERRIDDEN = matched(10, 200, match_reason="override")
"""App 10, which was game 100, is game 200 by an override."""

EDITS = (
    "status = 'WISHLIST'",
    "platform = 'Linux'",
    "platform = NULL",
    "\"acquisitionType\" = 'PHYSICAL'",
    '"updatedAt" = "updatedAt" + interval \'1 ms\'',
    "\"startedAt\" = '2026-01-01'",
    "\"completedAt\" = '2026-01-01'",
    "rating = 7",
    '"statusIsManual" = true',
)


def items(url: str) -> list[tuple[Any, ...]]:
    query = 'SELECT i."userId", g."igdbId" FROM "LibraryItem" i JOIN "Game" g ON g.id = i."gameId" ORDER BY i.id'
    return fetch(url, query).rows()


def games(url: str) -> list[tuple[Any, ...]]:
    return rows_of(url, "Game", '"igdbId", "steamAppId"')


def test_an_override_moves_the_appid_and_the_untouched_item_once(database_url: str) -> None:
    load(database_url, matched(10, 100))

    counts = load(database_url, OVERRIDDEN).counts

    assert items(database_url) == [("user-1", 200)]
    assert games(database_url) == [(100, None), (200, 10)]
    assert (counts["steam_app_ids_moved"], counts["library_items_moved"]) == (1, 1)
    assert counts["library_items_created"] == counts["library_items_to_review"] == 0
    assert written(load(database_url, OVERRIDDEN)) == {"playtimes_hidden": 1}


def test_a_game_takes_the_appid_that_is_moved_to_it_instead_of_its_own(database_url: str) -> None:
    insert_game(database_url, 100, steamAppId="10")
    insert_game(database_url, 150, steamAppId="10")
    insert_game(database_url, 200, steamAppId="77")

    assert load(database_url, OVERRIDDEN).counts["steam_app_ids_moved"] == 2

    assert games(database_url) == [(100, None), (150, None), (200, 10)]


def test_a_game_that_loses_an_appid_takes_the_next_of_its_apps(database_url: str) -> None:
    load(database_url, matched(10, 100), matched(15, 100))

    load(database_url, OVERRIDDEN, matched(15, 100))

    assert games(database_url) == [(100, 15), (200, 10)]


def test_a_game_of_the_same_title_is_not_adopted_against_an_override(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_name="Doom"))

    load(database_url, OVERRIDDEN | {"igdb_name": "DOOM"})

    assert games(database_url) == [(100, None), (200, 10)]
    assert items(database_url) == [("user-1", 200)]


@pytest.mark.parametrize("generation", [2026])  # the older tables lack some of these columns
def test_an_item_that_the_user_edited_is_left_and_counted(database_url: str) -> None:
    users = {f"user-{number}": edit for number, edit in enumerate(EDITS)}
    Database(database_url).ensure_users([*users])
    load_library(database_url, library(*(matched(10, 100, user_id=user) for user in users)), *users)
    for user, edit in users.items():
        execute(database_url, f"""UPDATE "LibraryItem" SET {edit} WHERE "userId" = '{user}'""")  # noqa: S608 - the tests' own words

    loaded = load_library(database_url, library(*(OVERRIDDEN | {"user_id": user} for user in users)), *users)

    assert [users[user] for user, igdb_id in items(database_url) if igdb_id != 100] == []
    counts = loaded.counts
    assert (counts["library_items_moved"], counts["library_items_to_review"]) == (0, len(EDITS))


def test_an_item_is_left_and_counted_where_its_user_has_one_of_the_new_game_or_another_app_of_the_old_one(
    database_url: str,
) -> None:
    users = ("user-1", "user-2", "user-3", "user-4")
    for user in users:
        add_user(database_url, user)
    load_library(database_url, library(*(matched(10, 100, user_id=user) for user in users)), *users)
    insert_game(database_url, 200)
    insert_item(database_url, 200, userId="user-2")
    overridden = [OVERRIDDEN | {"user_id": user} for user in users]

    loaded = load_library(database_url, library(*overridden, matched(15, 100, user_id="user-3")), *users)

    left = [("user-2", 100), ("user-2", 200), ("user-3", 100)]
    assert sorted(items(database_url)) == [("user-1", 200), *left, ("user-4", 200)]
    assert loaded.counts["library_items_to_review"] == 2


def test_two_items_of_one_game_are_left_and_counted(database_url: str) -> None:
    load(database_url, matched(10, 100))
    columns = '"status", "createdAt", "updatedAt", platform, "userId", "acquisitionType", "gameId"'
    execute(database_url, f'INSERT INTO "LibraryItem" ({columns}) SELECT {columns} FROM "LibraryItem"')  # noqa: S608

    assert load(database_url, OVERRIDDEN).counts["library_items_to_review"] == 2
    assert items(database_url) == [("user-1", 100)] * 2


def test_the_items_of_two_apps_that_become_one_game_are_left_and_counted(database_url: str) -> None:
    load(database_url, matched(10, 100), matched(11, 101))

    loaded = load(database_url, OVERRIDDEN, matched(11, 200, match_reason="override"))

    assert items(database_url) == [("user-1", 100), ("user-1", 101)]
    assert loaded.counts["library_items_to_review"] == 2


def test_an_item_is_left_and_counted_where_an_earlier_load_has_moved_the_appid(database_url: str) -> None:
    add_user(database_url, "user-2")
    for user in ("user-1", "user-2"):
        load_library(database_url, library(matched(10, 100, user_id=user), matched(11, 101, user_id=user)), user)

    moved, to_review = [], []
    for user in ("user-1", "user-2", "user-2"):
        rows = library(OVERRIDDEN | {"user_id": user}, matched(11, 101, user_id=user))
        counts = load_library(database_url, rows, user).counts
        moved.append(counts["library_items_moved"])
        to_review.append(counts["library_items_to_review"])

    assert (moved, to_review) == ([1, 0, 0], [0, 1, 1])
    assert items(database_url) == [("user-1", 200), ("user-1", 101), ("user-2", 100), ("user-2", 101)]


def test_an_item_that_the_user_deleted_is_not_counted(database_url: str) -> None:
    load(database_url, matched(10, 100), matched(11, 101))
    load(database_url, OVERRIDDEN, matched(11, 101))
    execute(database_url, """DELETE FROM "LibraryItem" i USING "Game" g WHERE g.id = i."gameId" AND "igdbId" = 200""")

    assert load(database_url, OVERRIDDEN, matched(11, 101)).counts["library_items_to_review"] == 0


def test_an_item_is_left_where_its_app_was_not_matched(database_url: str) -> None:
    load(database_url, matched(10, 100), matched(11, 101))
    execute(database_url, """UPDATE "ImportedGame" SET "igdbMatchStatus" = 'IGNORED' WHERE "storefrontGameId" = '10'""")
    execute(database_url, """UPDATE "ImportedGame" SET "deletedAt" = now() WHERE "storefrontGameId" = '11'""")

    loaded = load(database_url, OVERRIDDEN, matched(11, 201, match_reason="override"))

    assert items(database_url) == [("user-1", 100), ("user-1", 101)]
    assert loaded.counts["library_items_to_review"] == 0
