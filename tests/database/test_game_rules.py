"""What a load may change of games, genres and platforms that are there, and which of them are which."""

import pytest

from tests.database.rows import insert_game, load, load_library, written
from tests.support.databases import add_user, fetch, rows_of
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, library, matched


def test_a_games_own_columns_of_savepoint_stay(database_url: str) -> None:
    insert_game(database_url, 100, hltbId="hltb", mainStory="12", franchiseId="3", steamAppId="77", description="Ours")

    load(database_url, matched(10, 100, igdb_name="New title", igdb_summary=None))

    columns = 'title, description, "hltbId", "mainStory", "franchiseId", "steamAppId", "createdAt"::text'
    assert rows_of(database_url, "Game", columns) == [("New title", "Ours", "hltb", 12, 3, 77, "2020-01-01 00:00:00")]


@pytest.mark.parametrize("same", [{"igdb_slug": "game-100"}, {"igdb_name": "gAME 100"}])
def test_a_game_with_the_appid_and_the_same_slug_or_title_is_adopted(database_url: str, same: dict[str, str]) -> None:
    insert_game(database_url, 100, steamAppId="10")

    loaded = load(database_url, matched(10, 200, **same))

    assert (loaded.counts["games_adopted"], loaded.counts["games_created"]) == (1, 0)
    assert rows_of(database_url, "Game", 'id, "igdbId"') == [("game-row-100", 200)]


def test_a_game_with_the_appid_alone_keeps_it_and_the_new_one_goes_without(database_url: str) -> None:
    insert_game(database_url, 100, steamAppId="10")

    loaded = load(database_url, matched(10, 200))

    assert loaded.counts["steam_app_id_conflicts"] == 1
    games = 'SELECT "igdbId", "steamAppId" FROM "Game" ORDER BY 1'
    assert fetch(database_url, games).rows() == [(100, 10), (200, None)]


def test_links_follow_igdb_and_an_empty_list_removes_none(database_url: str) -> None:
    links = 'SELECT name FROM "GameGenre" JOIN "Genre" ON "Genre".id = "genreId" ORDER BY 1'
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING]))

    load(database_url, matched(10, 100, igdb_genres=[SHOOTER]))
    assert fetch(database_url, links).rows() == [("Shooter",)]

    for nothing in (matched(10, 100, igdb_genres=[]), matched(10, 100)):
        load(database_url, nothing)
        assert fetch(database_url, links).rows() == [("Shooter",)]


def test_two_games_can_swap_their_slugs(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_slug="a"), matched(11, 101, igdb_slug="b"))
    swapped = matched(10, 100, igdb_slug="b"), matched(11, 101, igdb_slug="a")

    loaded = load(database_url, *swapped)

    assert loaded.counts["games_updated"] == 2
    assert rows_of(database_url, "Game", '"igdbId", slug') == [(100, "b"), (101, "a")]
    assert load(database_url, *swapped).counts["games_updated"] == 0


def test_a_game_outside_the_file_gives_way_to_the_slug_until_its_own_truth_arrives(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_slug="a"), matched(11, 101, igdb_slug="b"))
    slugs = '"igdbId", slug'

    first = load(database_url, matched(10, 100, igdb_slug="b"))
    assert first.counts["games_with_taken_slug"] == 1
    assert rows_of(database_url, "Game", slugs) == [(100, "b"), (101, "b-igdb-101")]
    assert written(load(database_url, matched(10, 100, igdb_slug="b"))) == {
        "no_longer_owned": 1,
        "playtimes_hidden": 1,
    }

    load(database_url, matched(11, 101, igdb_slug="a"))
    assert rows_of(database_url, "Game", slugs) == [(100, "b"), (101, "a")]


def test_of_two_games_of_a_file_with_one_slug_the_second_is_stored_under_its_fallback(database_url: str) -> None:
    rows = matched(11, 101, igdb_slug="new"), matched(12, 102, igdb_slug="new")

    loaded = load(database_url, *rows)

    assert loaded.counts["games_with_taken_slug"] == 1
    assert rows_of(database_url, "Game", '"igdbId", slug') == [(101, "new"), (102, "new-igdb-102")]
    assert load(database_url, *rows).counts["games_updated"] == 0


def test_a_fallback_that_is_taken_too_fails_no_load(database_url: str) -> None:
    insert_game(database_url, 7, slug="taken")
    insert_game(database_url, 8, slug="taken-igdb-7")
    insert_game(database_url, 9, slug="other")

    load(database_url, matched(10, 100, igdb_slug="taken"), matched(11, 101, igdb_slug="other-igdb-9"))
    load(database_url, matched(12, 102, igdb_slug="other"))

    assert rows_of(database_url, "Game", '"igdbId", slug') == [
        (7, "taken-igdb-7-game-row-7"),
        (8, "taken-igdb-7"),
        (9, "other-igdb-9-game-row-9"),
        (100, "taken"),
        (101, "other-igdb-9"),
        (102, "other"),
    ]


def test_a_genre_outside_the_file_gives_way_to_the_name_and_is_counted(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING]))

    loaded = load(database_url, matched(11, 101, igdb_genres=[{**FIGHTING, "id": 99}], igdb_platforms=[WINDOWS]))

    assert (loaded.counts["genres_with_taken_name"], loaded.counts["genres_with_taken_slug"]) == (1, 1)
    assert fetch(database_url, 'SELECT name, slug FROM "Genre" ORDER BY "igdbId"').rows() == [
        ("Fighting (IGDB 4)", "fighting-igdb-4"),
        ("Fighting", "fighting"),
    ]


def test_one_app_that_users_matched_differently_is_the_lowest_games_own(database_url: str) -> None:
    add_user(database_url, "user-2")
    insert_game(database_url, 100, steamAppId="10")
    rows = library(matched(10, 300, igdb_slug="game-100"), matched(10, 200, igdb_name="Game 100", user_id="user-2"))

    load_library(database_url, rows, ("user-1", "user-2"))

    assert rows_of(database_url, "Game", '"igdbId", "steamAppId"') == [(200, 10), (300, None)]


def test_genres_can_swap_their_names(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING, SHOOTER]))
    swapped = [{**FIGHTING, "name": "Shooter", "slug": "shooter"}, {**SHOOTER, "name": "Fighting", "slug": "fighting"}]

    load(database_url, matched(10, 100, igdb_genres=swapped))

    names = fetch(database_url, 'SELECT "igdbId", name, slug FROM "Genre" ORDER BY 1')
    assert names.rows() == [(4, "Shooter", "shooter"), (5, "Fighting", "fighting")]
