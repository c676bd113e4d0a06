"""The enriched library becomes the rows of a load."""

import pytest

from pipeline.errors import Failed
from pipeline.frames.staging import stage_library
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched


def test_an_app_that_comes_twice_counts_once_by_its_highest_playtime() -> None:
    twice = library(app(10, name="Less", playtime_forever=1), app(10, name="More", playtime_forever=2), app(9))

    imported = stage_library(twice).imported_games

    assert imported.select("number", "storefrontGameId", "name").rows() == [(0, "9", "Name 9"), (1, "10", "More")]


def test_several_apps_of_one_game_are_one_game_with_the_lowest_appid() -> None:
    staged = stage_library(library(matched(20, 100), matched(3, 100), matched(10, 50)))

    assert staged.games.select("number", "igdbId", "steamAppId").rows() == [(0, 50, 10), (1, 100, 3)]
    assert staged.imported_games["igdbId"].to_list() == [100, 50, 100]


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"igdb_id": None}, "UNMATCHED"),
        ({"igdb_name": None}, "UNMATCHED"),
        ({"igdb_slug": ""}, "UNMATCHED"),
        ({"match_status": "IGNORED", "match_reason": "filtered"}, "IGNORED"),
    ],
)
def test_an_app_that_is_not_matched_or_whose_game_lacks_something_brings_no_game(
    columns: dict[str, object], status: str
) -> None:
    staged = stage_library(library(matched(10, 100) | columns))

    assert staged.imported_games.select("igdbMatchStatus", "igdbId").row(0) == (status, None)
    assert staged.games.is_empty()


def test_users_whose_playtimes_are_all_0_are_counted() -> None:
    hidden, shown = app(10), app(11, playtime_forever=1)

    staged = stage_library(library(hidden, shown, hidden | {"user_id": "b"}, hidden | {"user_id": "c"}))

    assert staged.counts["playtimes_hidden"] == 2


def test_the_lowest_igdb_id_keeps_a_slug_and_the_others_take_their_fallback() -> None:
    slugs = {1: "new", 2: "new", 3: "new-igdb-2", 4: "other"}

    staged = stage_library(library(*(matched(n, n, igdb_slug=slug) for n, slug in slugs.items())))

    assert staged.games["slug"].to_list() == ["new", "new-igdb-2", "new-igdb-2-igdb-3", "other"]
    assert staged.counts["games_with_taken_slug"] == 2


def test_two_genres_of_one_name_are_told_apart() -> None:
    staged = stage_library(library(matched(10, 100, igdb_genres=[SHOOTER, {**SHOOTER, "id": 9}])))

    assert staged.genres.select("name", "slug").rows() == [
        ("Shooter", "shooter"),
        ("Shooter (IGDB 9)", "shooter-igdb-9"),
    ]


def test_an_app_of_two_games_is_the_overridden_ones() -> None:
    rows = matched(10, 100, user_id="a"), matched(10, 200, user_id="b", match_reason="override"), matched(11, 100)

    assert stage_library(library(*rows)).games.select("igdbId", "steamAppId").rows() == [(100, 11), (200, 10)]


@pytest.mark.parametrize("nothing", [None, "", " ", "[]"])
def test_genres_and_platforms_come_once_and_are_linked_to_each_game_that_has_some(nothing: str | None) -> None:
    staged = stage_library(
        library(
            matched(9, 99, igdb_genres=nothing),
            matched(10, 100, igdb_genres=[SHOOTER, FIGHTING], igdb_platforms=[{**WINDOWS, "new_field": [1]}]),
            matched(11, 101, igdb_genres=[SHOOTER, SHOOTER]),
        )
    )

    assert staged.genres.rows() == [(0, *FIGHTING.values()), (1, *SHOOTER.values())]
    assert staged.game_genres.rows() == [(100, 5), (100, 4), (101, 5)]
    in_igdbs_names = {
        "igdbId": "id",
        "alternativeName": "alternative_name",
        "platformFamily": "platform_family",
        "platformType": "platform_type",
    }
    assert staged.platforms.drop("number").rename(in_igdbs_names).to_dicts() == [WINDOWS]
    assert staged.game_platforms.rows() == [(100, 6)]


@pytest.mark.parametrize("lack", [{"id": None}, {"id": 5_000_000_000}, {"name": None}, {"slug": " "}])
def test_a_genre_that_cannot_become_a_row_is_left_out(lack: dict[str, object]) -> None:
    staged = stage_library(library(matched(10, 100, igdb_genres=[{**FIGHTING, **lack}, SHOOTER])))

    assert staged.genres["igdbId"].to_list() == [5]
    assert staged.game_genres.rows() == [(100, 5)]


@pytest.mark.parametrize("text", ["fighting", '{"id": 4}', '[{"id": "four"}]', "[], []"])
def test_genres_that_are_not_the_json_of_the_schema_are_refused(text: str) -> None:
    with pytest.raises(Failed, match="igdb_genres") as raised:
        stage_library(library(matched(10, 100, igdb_genres=text)))

    assert raised.value.code == "checkpoint_invalid"
