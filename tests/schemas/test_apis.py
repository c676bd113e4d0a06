from typing import Any

import pytest

from schemas.apis import Game, Genre, Platform, parse_rows

GAME: dict[str, Any] = {"id": 72, "name": "Portal 2", "slug": "portal-2"}
GENRE = {"id": 5, "name": "Shooter", "slug": "shooter"}
PLATFORM = {"id": 6, "name": "PC (Microsoft Windows)", "slug": "win"}


def game(**fields: Any) -> Game:
    (row,), faults = parse_rows([GAME | fields], Game)
    assert faults == []
    return row


def test_a_game_needs_no_more_than_id_name_and_slug() -> None:
    assert game() == Game(id=72, name="Portal 2", slug="portal-2", genres=[], platforms=[])


def test_a_null_is_the_same_as_a_field_left_out() -> None:
    assert game(**dict.fromkeys(("summary", "cover", "version_parent", "genres", "platforms"))) == game()


def test_a_reference_may_be_an_object_or_a_bare_id() -> None:
    assert game(version_parent={"id": 71}) == game(version_parent=71)


def test_a_cover_that_was_not_expanded_says_nothing() -> None:
    assert game(cover=82660).cover is None


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"id": 8, "slug": "platform"}, id="no name"),
        pytest.param({"id": 8, "name": " ", "slug": "platform"}, id="blank name"),
        pytest.param({"id": "8", "name": "Platform", "slug": "platform"}, id="text for an id"),
        pytest.param({"id": 8, "name": "Plat\0form", "slug": "platform"}, id="NUL"),
        pytest.param(8, id="not expanded"),
    ],
)
def test_a_bad_genre_or_platform_is_dropped_alone(bad: object) -> None:
    kept = game(genres=[bad, GENRE], platforms=[PLATFORM, bad])
    assert kept.genres == [Genre(id=5, name="Shooter", slug="shooter")]
    assert kept.platforms == [Platform(id=6, name="PC (Microsoft Windows)", slug="win")]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        pytest.param({"name": None}, "Game 72: name ", id="null name"),
        pytest.param({"name": "Por\0tal"}, "Game 72: name ", id="NUL in the name"),
        pytest.param({"slug": None}, "Game 72: slug ", id="null slug"),
        pytest.param({"summary": "a\0b"}, "Game 72: summary ", id="NUL in the summary"),
        pytest.param({"id": 0}, "Game 0: id ", id="id 0"),
        pytest.param({"id": 2**31}, "Game 2147483648: id ", id="id above int32"),
        pytest.param({"first_release_date": "1998"}, "Game 72: first_release_date ", id="text for a date"),
        pytest.param({"first_release_date": 10**12}, "Game 72: first_release_date ", id="beyond the year 9999"),
        pytest.param({"genres": 5}, "Game 72: genres ", id="a number for genres"),
    ],
)
def test_a_bad_row_is_set_aside_with_the_field_at_fault_and_the_others_stay(fields: dict[str, Any], fault: str) -> None:
    good, (line,) = parse_rows([GAME | fields, GAME], Game)
    assert good == [game()]
    assert line.startswith(fault)


@pytest.mark.parametrize("seconds", [-86_400, 0, 253402300799])
def test_a_release_may_be_before_1970_and_far_ahead(seconds: int) -> None:
    assert game(first_release_date=seconds).first_release_date == seconds
