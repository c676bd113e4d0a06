"""What a load may change of imported games and library items, and what belongs to their user."""

import itertools

import pytest

from tests.support.databases import (
    NewDatabase,
    execute,
    fetch,
    insert_game,
    insert_import,
    insert_item,
    load,
    rows_of,
)
from tests.support.libraries import app, matched

STATUSES = ("PENDING", "UNMATCHED", "MATCHED", "IGNORED")
NEXT_STATUS = {
    "PENDING": {"PENDING": "PENDING", "UNMATCHED": "UNMATCHED", "MATCHED": "MATCHED", "IGNORED": "IGNORED"},
    "UNMATCHED": {"PENDING": "UNMATCHED", "UNMATCHED": "UNMATCHED", "MATCHED": "MATCHED", "IGNORED": "IGNORED"},
    "MATCHED": dict.fromkeys(STATUSES, "MATCHED"),
    "IGNORED": dict.fromkeys(STATUSES, "IGNORED"),
}
"""The status after a load, by the status in the database, then by the status in the file."""

DECISIONS = ({"igdbMatchStatus": "MATCHED"}, {"igdbMatchStatus": "IGNORED"}, {"deletedAt": "2021-01-01"})
"""The columns of a row that its user decided about."""


def as_status(appid: int, status: str) -> dict[str, object]:
    return matched(appid, appid) if status == "MATCHED" else app(appid, match_status=status)


def test_a_new_row_takes_the_status_of_the_file(database_url: str) -> None:
    load(database_url, *(as_status(appid, status) for appid, status in enumerate(STATUSES, start=10)))

    statuses = rows_of(database_url, "ImportedGame", '"igdbMatchStatus"::text', '"storefrontGameId"')
    assert statuses == [(status,) for status in STATUSES]


def test_a_row_that_is_there_follows_the_table_of_statuses(database_url: str) -> None:
    pairs = dict(enumerate(itertools.product(STATUSES, STATUSES), start=10))
    for appid, (there, _) in pairs.items():
        insert_import(database_url, appid, igdbMatchStatus=there)

    load(database_url, *(as_status(appid, in_file) for appid, (_, in_file) in pairs.items()))

    statuses = 'SELECT "storefrontGameId"::int AS appid, "igdbMatchStatus"::text AS status FROM "ImportedGame"'
    assert dict(fetch(database_url, statuses).rows()) == {
        appid: NEXT_STATUS[there][in_file] for appid, (there, in_file) in pairs.items()
    }


def test_a_removed_row_is_neither_updated_nor_inserted_again(database_url: str) -> None:
    insert_import(database_url, 10, deletedAt="2021-01-01")
    before = rows_of(database_url, "ImportedGame")

    load(database_url, matched(10, 100, name="New name", playtime_forever=99))

    assert rows_of(database_url, "ImportedGame") == before
    assert rows_of(database_url, "LibraryItem") == []


def test_playtimes_and_the_last_play_only_grow(new_database: NewDatabase) -> None:
    url = new_database(2026)
    insert_import(url, 10, playtime="50", playtimeWindows="5", playtimeMac="5", lastPlayedAt="2025-06-01")
    playtimes = {"playtime_forever": 0, "playtime_windows_forever": None, "playtime_mac_forever": 9}

    load(url, app(10, **playtimes, rtime_last_played=None))

    columns = 'playtime, "playtimeWindows", "playtimeMac", "lastPlayedAt"::text'
    assert rows_of(url, "ImportedGame", columns) == [(50, 5, 9, "2025-06-01 00:00:00")]


def test_a_name_and_an_icon_are_replaced_but_not_by_nothing(database_url: str) -> None:
    insert_import(database_url, 10, img_icon_url="old")
    insert_import(database_url, 11, img_icon_url="old")

    load(database_url, app(10, name=None, img_icon_url=" "), app(11, name="New", img_icon_url="new"))

    assert rows_of(database_url, "ImportedGame", "name, img_icon_url", "id") == [("Name 10", "old"), ("New", "new")]


@pytest.mark.parametrize("storefront", ["PLAYSTATION", "XBOX"])
def test_a_row_of_another_storefront_with_the_same_id_is_not_touched(database_url: str, storefront: str) -> None:
    insert_import(database_url, 10, storefront=storefront, name="Theirs")

    loaded = load(database_url, app(10, name="Ours"))

    assert loaded.counts["imported_games_created"] == 1
    assert rows_of(database_url, "ImportedGame", "storefront::text, name", "name") == [
        ("STEAM", "Ours"),
        (storefront, "Theirs"),
    ]


def test_of_several_live_rows_for_one_app_the_oldest_is_updated(database_url: str) -> None:
    insert_import(database_url, 10, id="younger", createdAt="2022-01-01")
    insert_import(database_url, 10, id="older", createdAt="2021-01-01")
    insert_import(database_url, 10, id="removed", createdAt="2020-01-01", deletedAt="2021-01-01")

    load(database_url, app(10, playtime_forever=7))

    playtimes = rows_of(database_url, "ImportedGame", "id, playtime", "id")
    assert playtimes == [("older", 7), ("removed", 0), ("younger", 0)]


def test_apps_that_are_no_longer_owned_are_left_and_counted(database_url: str) -> None:
    load(database_url, app(10), app(11))

    assert load(database_url, app(11)).counts["no_longer_owned"] == 1
    assert len(rows_of(database_url, "ImportedGame")) == 2


@pytest.mark.parametrize(("there", "items"), [("PENDING", 1), ("UNMATCHED", 1), ("MATCHED", 0), ("IGNORED", 0)])
def test_an_item_is_inserted_only_by_the_load_that_makes_its_app_matched(
    database_url: str, there: str, items: int
) -> None:
    insert_import(database_url, 10, igdbMatchStatus=there)

    load(database_url, matched(10, 100))

    assert len(rows_of(database_url, "LibraryItem")) == items


def test_an_item_that_the_user_deleted_is_not_inserted_again(database_url: str) -> None:
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

    assert rows_of(url, "LibraryItem", '"hasBeenPlayed"') == [(True,)]
    assert rows_of(url, "Game", '"steamAppId"') == [(10,)]


@pytest.mark.parametrize("decision", DECISIONS, ids=["matched", "ignored", "removed"])
@pytest.mark.parametrize(
    ("rows", "apps"),
    [
        pytest.param([{}], (10, 11), id="another app of the game"),
        pytest.param([{}], (11,), id="an app that is no longer owned"),
        pytest.param([{"createdAt": "2021-01-01", "id": "second"}, {"id": "first"}], (10,), id="a second row"),
    ],
)
def test_no_item_is_inserted_for_a_game_that_the_user_decided_about(
    database_url: str, decision: dict[str, str], rows: list[dict[str, str]], apps: tuple[int, ...]
) -> None:
    insert_game(database_url, 100, steamAppId="10")
    insert_import(database_url, 10, **rows[0], **decision)
    for row in rows[1:]:
        insert_import(database_url, 10, **row)

    load(database_url, *(matched(appid, 100) for appid in apps))

    assert rows_of(database_url, "LibraryItem") == []


def test_a_hidden_playtime_does_not_make_a_played_game_unplayed(new_database: NewDatabase) -> None:
    url = new_database(2026)
    insert_import(url, 10, playtime="60", igdbMatchStatus="PENDING")

    load(url, matched(10, 100, playtime_forever=0))

    assert rows_of(url, "LibraryItem", '"hasBeenPlayed"') == [(True,)]
