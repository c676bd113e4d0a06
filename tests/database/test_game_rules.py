"""What a load may change of games, genres and platforms, and how conflicts over slugs, names and appids are settled."""

from tests.support.databases import add_user, fetch, insert_game, load, load_library, rows_of, written
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, library, matched

SLUGS = '"igdbId", slug'
APPIDS = '"igdbId", "steamAppId"'


def test_columns_of_a_game_that_are_savepoints_own_stay(database_url: str) -> None:
    insert_game(database_url, 100, hltbId="hltb", mainStory="12", franchiseId="3", steamAppId="77", description="Ours")

    load(database_url, matched(10, 100, igdb_name="New title", igdb_summary=None))

    columns = 'title, description, "hltbId", "mainStory", "franchiseId", "steamAppId", "createdAt"::text'
    assert rows_of(database_url, "Game", columns) == [("New title", "Ours", "hltb", 12, 3, 77, "2020-01-01 00:00:00")]


def test_a_game_with_the_appid_and_the_same_slug_or_title_is_adopted(database_url: str) -> None:
    insert_game(database_url, 100, steamAppId="10")
    insert_game(database_url, 101, steamAppId="11")

    loaded = load(database_url, matched(10, 200, igdb_slug="game-100"), matched(11, 201, igdb_name="gAME 101"))

    assert (loaded.counts["games_adopted"], loaded.counts["games_created"]) == (2, 0)
    assert rows_of(database_url, "Game", 'id, "igdbId"') == [("game-row-100", 200), ("game-row-101", 201)]


def test_a_game_with_the_appid_alone_keeps_it_and_the_new_one_has_none(database_url: str) -> None:
    insert_game(database_url, 100, steamAppId="10")

    loaded = load(database_url, matched(10, 200))

    assert loaded.counts["steam_app_id_conflicts"] == 1
    assert rows_of(database_url, "Game", APPIDS) == [(100, 10), (200, None)]


def test_one_app_that_users_matched_differently_belongs_to_the_lowest_igdb_id(database_url: str) -> None:
    add_user(database_url, "user-2")
    insert_game(database_url, 100, steamAppId="10")
    rows = library(matched(10, 300, igdb_slug="game-100"), matched(10, 200, igdb_name="Game 100", user_id="user-2"))

    load_library(database_url, rows, "user-1", "user-2")

    assert rows_of(database_url, "Game", APPIDS) == [(200, 10), (300, None)]


def test_links_follow_igdb_and_an_empty_list_removes_none(database_url: str) -> None:
    links = 'SELECT name FROM "GameGenre" JOIN "Genre" ON "Genre".id = "genreId" ORDER BY 1'
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING]))

    for genres in ([SHOOTER], [], None):
        load(database_url, matched(10, 100, igdb_genres=genres))
        assert fetch(database_url, links).rows() == [("Shooter",)]


def test_a_game_outside_the_file_takes_its_fallback_until_a_load_brings_its_new_slug(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_slug="a"), matched(11, 101, igdb_slug="b"))

    assert load(database_url, matched(10, 100, igdb_slug="b")).counts["games_with_taken_slug"] == 1
    assert rows_of(database_url, "Game", SLUGS) == [(100, "b"), (101, "b-igdb-101")]
    assert written(load(database_url, matched(10, 100, igdb_slug="b"))) == {
        "no_longer_owned": 1,
        "playtimes_hidden": 1,
    }

    load(database_url, matched(11, 101, igdb_slug="a"))
    assert rows_of(database_url, "Game", SLUGS) == [(100, "b"), (101, "a")]


def test_a_genre_outside_the_file_takes_its_fallback_and_is_counted(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING]))

    loaded = load(database_url, matched(11, 101, igdb_genres=[{**FIGHTING, "id": 99}], igdb_platforms=[WINDOWS]))

    assert (loaded.counts["genres_with_taken_name"], loaded.counts["genres_with_taken_slug"]) == (1, 1)
    assert rows_of(database_url, "Genre", "name, slug", '"igdbId"') == [
        ("Fighting (IGDB 4)", "fighting-igdb-4"),
        ("Fighting", "fighting"),
    ]


def test_a_fallback_that_is_taken_too_is_extended_by_the_id_of_the_row(database_url: str) -> None:
    insert_game(database_url, 7, slug="taken")
    insert_game(database_url, 8, slug="taken-igdb-7")
    insert_game(database_url, 9, slug="other")

    load(database_url, matched(10, 100, igdb_slug="taken"), matched(11, 101, igdb_slug="other-igdb-9"))
    load(database_url, matched(12, 102, igdb_slug="other"))

    assert rows_of(database_url, "Game", SLUGS) == [
        (7, "taken-igdb-7-game-row-7"),
        (8, "taken-igdb-7"),
        (9, "other-igdb-9-game-row-9"),
        (100, "taken"),
        (101, "other-igdb-9"),
        (102, "other"),
    ]
