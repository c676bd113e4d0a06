"""What belongs to whom: what a load may change of rows that are there, and what it may not."""

import itertools

import pytest

from tests.database.rows import insert_game, insert_import, insert_item, load
from tests.support.databases import NewDatabase, execute, fetch, rows_of
from tests.support.libraries import app, matched

STATUSES = ("PENDING", "UNMATCHED", "MATCHED", "IGNORED")
NEXT_STATUS = {
    "PENDING": {"PENDING": "PENDING", "UNMATCHED": "UNMATCHED", "MATCHED": "MATCHED", "IGNORED": "IGNORED"},
    "UNMATCHED": {"PENDING": "UNMATCHED", "UNMATCHED": "UNMATCHED", "MATCHED": "MATCHED", "IGNORED": "IGNORED"},
    "MATCHED": dict.fromkeys(STATUSES, "MATCHED"),
    "IGNORED": dict.fromkeys(STATUSES, "IGNORED"),
}
"""By the status in the database, then by the status in the file."""


def as_status(appid: int, status: str) -> dict[str, object]:
    return matched(appid, appid) if status == "MATCHED" else app(appid, match_status=status)


@pytest.mark.parametrize("status", STATUSES)
def test_a_new_row_takes_the_status_of_the_file(database_url: str, status: str) -> None:
    load(database_url, as_status(10, status))

    assert fetch(database_url, 'SELECT "igdbMatchStatus"::text FROM "ImportedGame"').item() == status


def test_a_row_that_is_there_follows_the_table_of_statuses(database_url: str) -> None:
    pairs = dict(enumerate(itertools.product(STATUSES, STATUSES), start=10))
    for appid, (there, _) in pairs.items():
        insert_import(database_url, appid, igdbMatchStatus=there)

    load(database_url, *(as_status(appid, said) for appid, (_, said) in pairs.items()))

    statuses = 'SELECT "storefrontGameId"::int AS appid, "igdbMatchStatus"::text AS status FROM "ImportedGame"'
    assert dict(fetch(database_url, statuses).rows()) == {
        appid: NEXT_STATUS[there][said] for appid, (there, said) in pairs.items()
    }


def test_a_removed_row_is_neither_updated_nor_made_again(database_url: str) -> None:
    insert_import(database_url, 10, deletedAt="2021-01-01")
    before = rows_of(database_url, "ImportedGame")

    load(database_url, matched(10, 100, name="New name", playtime_forever=99))

    assert rows_of(database_url, "ImportedGame") == before
    assert rows_of(database_url, "LibraryItem") == []


def test_playtimes_and_the_last_play_only_grow(new_database: NewDatabase) -> None:
    url = new_database(2026)
    insert_import(url, 10, playtime="50", playtimeWindows="5", playtimeMac="5", lastPlayedAt="2025-06-01")
    told = {"playtime_forever": 0, "playtime_windows_forever": None, "playtime_mac_forever": 9}

    load(url, app(10, **told, rtime_last_played=None))

    columns = 'playtime, "playtimeWindows", "playtimeMac", "lastPlayedAt"::text'
    assert rows_of(url, "ImportedGame", columns) == [(50, 5, 9, "2025-06-01 00:00:00")]


def test_an_icon_that_is_not_told_stays(database_url: str) -> None:
    insert_import(database_url, 10, img_icon_url="hash")

    load(database_url, app(10, img_icon_url=None))

    assert fetch(database_url, 'SELECT img_icon_url FROM "ImportedGame"').item() == "hash"


@pytest.mark.parametrize("storefront", ["PLAYSTATION", "XBOX"])
def test_a_row_of_another_storefront_with_the_same_id_is_not_ours(database_url: str, storefront: str) -> None:
    insert_import(database_url, 10, storefront=storefront, name="Theirs")

    loaded = load(database_url, app(10, name="Ours"))

    names = 'SELECT storefront::text, name FROM "ImportedGame" ORDER BY 2'
    assert loaded.counts["imported_games_created"] == 1
    assert fetch(database_url, names).rows() == [("STEAM", "Ours"), (storefront, "Theirs")]


def test_of_several_live_rows_for_one_app_the_oldest_is_updated(database_url: str) -> None:
    insert_import(database_url, 10, id="younger", createdAt="2022-01-01")
    insert_import(database_url, 10, id="older", createdAt="2021-01-01")
    insert_import(database_url, 10, id="removed", createdAt="2020-01-01", deletedAt="2021-01-01")

    load(database_url, app(10, playtime_forever=7))

    playtimes = 'SELECT id, playtime FROM "ImportedGame" ORDER BY id'
    assert fetch(database_url, playtimes).rows() == [("older", 7), ("removed", 0), ("younger", 0)]


def test_apps_no_longer_owned_are_left_and_counted(database_url: str) -> None:
    load(database_url, app(10), app(11))

    loaded = load(database_url, app(11))

    assert loaded.counts["no_longer_owned"] == 1
    assert len(rows_of(database_url, "ImportedGame")) == 2


@pytest.mark.parametrize(("there", "items"), [("PENDING", 1), ("UNMATCHED", 1), ("MATCHED", 0), ("IGNORED", 0)])
def test_only_a_load_that_makes_an_app_matched_makes_an_item(database_url: str, there: str, items: int) -> None:
    insert_import(database_url, 10, igdbMatchStatus=there)

    load(database_url, matched(10, 100))

    assert len(rows_of(database_url, "LibraryItem")) == items


def test_an_item_that_the_user_deleted_is_not_made_again(database_url: str) -> None:
    load(database_url, matched(10, 100))
    execute(database_url, 'DELETE FROM "LibraryItem"')

    load(database_url, matched(10, 100))

    assert rows_of(database_url, "LibraryItem") == []


def test_an_item_that_is_there_is_left_alone(database_url: str) -> None:
    insert_game(database_url, 100)
    insert_item(database_url, 100)
    insert_item(database_url, 100)
    before = rows_of(database_url, "LibraryItem")

    load(database_url, matched(10, 100, playtime_forever=5))

    assert rows_of(database_url, "LibraryItem") == before


def test_several_apps_of_one_game_make_one_item_with_their_total_playtime(new_database: NewDatabase) -> None:
    url = new_database(2026)

    load(url, matched(20, 100), matched(10, 100), matched(15, 100, playtime_forever=3))

    assert rows_of(url, "LibraryItem", "status::text") == [("PLAYED",)]
    assert rows_of(url, "Game", '"steamAppId"') == [(10,)]


@pytest.mark.parametrize(
    "other", [{"igdbMatchStatus": "MATCHED"}, {"igdbMatchStatus": "IGNORED"}, {"deletedAt": "2021-01-01"}]
)
def test_a_second_app_of_a_game_that_the_user_decided_about_makes_no_item(
    database_url: str, other: dict[str, str]
) -> None:
    insert_import(database_url, 10, **other)

    load(database_url, matched(10, 100), matched(11, 100))

    assert rows_of(database_url, "LibraryItem") == []


@pytest.mark.parametrize(
    "other", [{"igdbMatchStatus": "MATCHED"}, {"igdbMatchStatus": "IGNORED"}, {"deletedAt": "2021-01-01"}]
)
def test_an_app_of_the_game_that_is_no_longer_owned_counts_as_decided_too(
    database_url: str, other: dict[str, str]
) -> None:
    insert_game(database_url, 100, steamAppId="10")
    insert_import(database_url, 10, **other)

    load(database_url, matched(11, 100))

    assert rows_of(database_url, "LibraryItem") == []


@pytest.mark.parametrize(
    "other", [{"igdbMatchStatus": "MATCHED"}, {"igdbMatchStatus": "IGNORED"}, {"deletedAt": "2021-01-01"}]
)
def test_a_second_row_of_the_app_that_the_user_decided_about_makes_no_item(
    database_url: str, other: dict[str, str]
) -> None:
    insert_import(database_url, 10, id="first")
    insert_import(database_url, 10, id="second", createdAt="2021-01-01", **other)

    load(database_url, matched(10, 100))

    assert rows_of(database_url, "ImportedGame", '"igdbMatchStatus"::text', "id")[0] == ("MATCHED",)
    assert rows_of(database_url, "LibraryItem") == []


def test_a_hidden_playtime_does_not_make_a_played_game_unplayed(new_database: NewDatabase) -> None:
    url = new_database(2026)
    insert_import(url, 10, playtime="60", igdbMatchStatus="PENDING")

    load(url, matched(10, 100, playtime_forever=0))

    assert fetch(url, 'SELECT status::text FROM "LibraryItem"').item() == "PLAYED"
