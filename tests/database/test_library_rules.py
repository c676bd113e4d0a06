"""What a load may change of imported games and library items, and what belongs to their user."""

import itertools

import pytest

from tests.support.databases import (
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
FILE_DECIDES = dict(zip(STATUSES, STATUSES, strict=True))
STAYS = {status: dict.fromkeys(STATUSES, status) for status in STATUSES}
NEXT_STATUS = {
    "default": STAYS | {"PENDING": FILE_DECIDES, "UNMATCHED": FILE_DECIDES | {"PENDING": "UNMATCHED"}},
    "match_reason": dict.fromkeys(STATUSES, FILE_DECIDES),
    "kind_reason": dict.fromkeys(STATUSES, FILE_DECIDES) | {"MATCHED": STAYS["MATCHED"]},
}
"""The status after a load, by the column that says `override`, then by the status in the database and in the file."""

DECISIONS = ({"igdbMatchStatus": "MATCHED"}, {"igdbMatchStatus": "IGNORED"}, {"deletedAt": "2021-01-01"})
"""The columns of a row that its user decided about."""


newer_tables = pytest.mark.parametrize("generation", [2026])
"""For tests of columns that the older tables lack."""


def statuses(url: str) -> dict[int, str]:
    """The match status of each app in the database."""
    return dict(rows_of(url, "ImportedGame", '"storefrontGameId"::int, "igdbMatchStatus"::text'))


def games_of_items(url: str) -> list[int]:
    """The IGDB ids of the games of all library items."""
    query = 'SELECT "igdbId" FROM "LibraryItem" JOIN "Game" g ON g.id = "gameId" ORDER BY 1'
    return fetch(url, query).to_series().to_list()


def as_status(appid: int, status: str) -> dict[str, object]:
    return matched(appid, appid) if status == "MATCHED" else app(appid, match_status=status)


def test_a_new_row_takes_the_status_of_the_file(database_url: str) -> None:
    load(database_url, *(as_status(appid, status) for appid, status in enumerate(STATUSES, start=10)))

    assert statuses(database_url) == dict(enumerate(STATUSES, start=10))


@pytest.mark.parametrize("overridden", NEXT_STATUS)
def test_a_row_that_is_there_follows_the_table_of_statuses(database_url: str, overridden: str) -> None:
    pairs = dict(enumerate(itertools.product(STATUSES, STATUSES), start=10))
    reason = {} if overridden == "default" else {overridden: "override"}
    for appid, (there, _) in pairs.items():
        insert_import(database_url, appid, igdbMatchStatus=there)

    load(database_url, *(as_status(appid, in_file) | reason for appid, (_, in_file) in pairs.items()))

    table = NEXT_STATUS[overridden]
    assert statuses(database_url) == {appid: table[there][in_file] for appid, (there, in_file) in pairs.items()}
    newly_matched = {("PENDING", "MATCHED"), ("UNMATCHED", "MATCHED")}
    assert games_of_items(database_url) == [appid for appid, pair in pairs.items() if pair in newly_matched]


def test_a_removed_row_is_neither_updated_nor_inserted_again_by_an_override_either(database_url: str) -> None:
    insert_import(database_url, 10, igdbMatchStatus="IGNORED", deletedAt="2021-01-01")
    insert_import(database_url, 11, deletedAt="2021-01-01")
    before = rows_of(database_url, "ImportedGame")

    load(database_url, matched(10, 100, match_reason="override"), matched(11, 101, name="New name", playtime_forever=9))

    assert rows_of(database_url, "ImportedGame") == before
    assert rows_of(database_url, "LibraryItem") == []


@newer_tables
def test_playtimes_and_the_last_play_only_grow(database_url: str) -> None:
    insert_import(database_url, 10, playtime="50", playtimeWindows="5", playtimeMac="5", lastPlayedAt="2025-06-01")
    playtimes = {"playtime_forever": 0, "playtime_windows_forever": None, "playtime_mac_forever": 9}

    load(database_url, app(10, **playtimes, rtime_last_played=None))

    columns = 'playtime, "playtimeWindows", "playtimeMac", "lastPlayedAt"::text'
    assert rows_of(database_url, "ImportedGame", columns) == [(50, 5, 9, "2025-06-01 00:00:00")]


def test_a_name_and_an_icon_are_replaced_but_not_by_nothing(database_url: str) -> None:
    insert_import(database_url, 10, img_icon_url="old")
    insert_import(database_url, 11, img_icon_url="old")

    load(database_url, app(10, name=None, img_icon_url=" "), app(11, name="New", img_icon_url="new"))

    assert rows_of(database_url, "ImportedGame", "name, img_icon_url", "id") == [("Name 10", "old"), ("New", "new")]


def test_a_row_of_another_storefront_with_the_same_id_is_not_touched(database_url: str) -> None:
    insert_import(database_url, 10, storefront="XBOX", name="Theirs")

    loaded = load(database_url, app(10, name="Ours"))

    assert loaded.counts["imported_games_created"] == 1
    storefronts = rows_of(database_url, "ImportedGame", "storefront::text, name", "name")
    assert storefronts == [("STEAM", "Ours"), ("XBOX", "Theirs")]


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


@newer_tables
def test_several_apps_of_one_game_make_one_item_with_their_total_playtime(database_url: str) -> None:
    load(database_url, matched(20, 100), matched(10, 100), matched(15, 100, playtime_forever=3))

    assert rows_of(database_url, "LibraryItem", '"hasBeenPlayed"') == [(True,)]
    assert rows_of(database_url, "Game", '"steamAppId"') == [(10,)]


@pytest.mark.parametrize("decision", DECISIONS, ids=["matched", "ignored", "removed"])
def test_no_item_is_inserted_for_a_game_that_the_user_decided_about(
    database_url: str, decision: dict[str, str]
) -> None:
    for igdb_id, appid in ((100, 10), (200, 20), (300, 30)):
        insert_game(database_url, igdb_id, steamAppId=str(appid))
    insert_import(database_url, 11, **decision)
    insert_import(database_url, 20, **decision)
    insert_import(database_url, 30, createdAt="2021-01-01", id="second", **decision)
    insert_import(database_url, 30, id="first")

    # Another app of the game; an app that is no longer owned; a second row of the app.
    load(database_url, matched(10, 100), matched(11, 100), matched(21, 200), matched(30, 300), matched(40, 400))

    assert games_of_items(database_url) == [400]


@newer_tables
def test_a_hidden_playtime_does_not_make_a_played_game_unplayed(database_url: str) -> None:
    insert_import(database_url, 10, playtime="60", igdbMatchStatus="PENDING")

    load(database_url, matched(10, 100, playtime_forever=0))

    assert rows_of(database_url, "LibraryItem", '"hasBeenPlayed"') == [(True,)]
