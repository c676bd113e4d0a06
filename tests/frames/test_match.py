from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.frames.match import mark_overrides, parse_external_games, parse_games, resolve_matches
from schemas.catalogue import ExternalGames, Games, Matches
from schemas.frames import conform
from tests.support.libraries import frame


def external(uid: Any, game: Any) -> dict[str, Any]:
    return {"id": 1, "uid": uid, "game": game}


def game(igdb_id: int, **fields: Any) -> dict[str, Any]:
    return {"id": igdb_id, "name": f"Game {igdb_id}", "slug": f"game-{igdb_id}", "game_type": 0, **fields}


def decided(
    appid: int, pairs: list[tuple[int, int]], rows: list[dict[str, Any]], **unanswered: list[int]
) -> tuple[Any, ...]:
    """Status, reason, game and candidates of one app."""
    known, _ = parse_games(rows)
    matches = Matches.validate(resolve_matches([appid], frame(ExternalGames, pairs), known, **unanswered))
    return matches.drop("appid").row(0)


@pytest.mark.parametrize(
    ("rows", "pairs"),
    [
        pytest.param([external("620", 72)], [(620, 72)], id="id"),
        pytest.param([external("620", {"id": 72, "name": "Portal 2"})], [(620, 72)], id="object"),
        pytest.param([external(" 620\n", 72)], [(620, 72)], id="blanks around"),
        pytest.param([external("620, 621,,622", 72)], [(620, 72), (621, 72), (622, 72)], id="comma list"),
        pytest.param([external("portal-2", 72)], [], id="word"),
        pytest.param([external("0", 72)], [], id="zero"),
        pytest.param([external("2147483648", 72)], [], id="above int32"),
        pytest.param([external("６２０", 72)], [], id="full-width digits"),  # noqa: RUF001
        pytest.param([external("620", None), external("620", 72)], [(620, 72)], id="one of two without a game"),
        pytest.param([external("620", {"name": "Portal 2"}), {"id": 1, "game": 72}], [], id="without ids"),
        pytest.param([external(620, 72)], [], id="a number for a uid"),
        pytest.param([external("620", 72), external("620", 72)], [(620, 72)], id="the same pair twice"),
        pytest.param([external("620", 73), external("620", 72)], [(620, 72), (620, 73)], id="two games"),
        pytest.param(["rubbish", None, external("620", 72)], [(620, 72)], id="rows that are no objects"),
        pytest.param([], [], id="no rows"),
    ],
)
def test_pairs_of_app_and_game_are_read_from_external_games(rows: list[Any], pairs: list[tuple[int, int]]) -> None:
    assert_frame_equal(parse_external_games(rows), frame(ExternalGames, pairs))


def test_a_game_is_read_with_its_cover_genres_and_platforms() -> None:
    genre = {"id": 5, "name": "Shooter", "slug": "shooter", "checksum": "g"}
    released = {"first_release_date": 1303084800}
    rows, faults = parse_games([game(72, summary="Think.", cover={"image_id": "co1rs4"}, genres=[genre], **released)])
    (row,) = Games.validate(rows).rows(named=True)
    assert faults == []
    assert row == {
        "igdb_id": 72,
        "igdb_name": "Game 72",
        "igdb_slug": "game-72",
        "igdb_summary": "Think.",
        "igdb_first_release_date": datetime(2011, 4, 18, tzinfo=UTC),
        "igdb_cover_url": "https://images.igdb.com/igdb/image/upload/t_cover_big/co1rs4.jpg",
        "igdb_game_type": 0,
        "version_parent": None,
        "genres": [genre],
        "platforms": [],
    }


def test_an_invalid_game_row_is_set_aside_and_one_that_comes_twice_is_kept_once() -> None:
    rows, faults = parse_games([game(1), game(2, name=None), game(3), game(1)])
    assert Games.validate(rows)["igdb_id"].to_list() == [1, 3]
    assert len(faults) == 1


@pytest.mark.parametrize(
    ("rows", "decision"),
    [
        pytest.param([game(1)], ("MATCHED", "external_game", 1, None), id="one game"),
        pytest.param(
            [game(2), game(1, version_parent=2)], ("MATCHED", "external_game", 2, None), id="edition goes back"
        ),
        pytest.param([game(2), game(1, game_type=3)], ("MATCHED", "external_game", 2, None), id="main type goes first"),
        pytest.param(
            [game(2, game_type=None), game(1, game_type=1)], ("MATCHED", "external_game", 2, None), id="no type"
        ),
        pytest.param(
            [game(1, version_parent=9), game(2, game_type=1)],
            ("MATCHED", "external_game", 2, None),
            id="an edition comes behind a minor type",
        ),
        pytest.param([game(2), game(1)], ("UNMATCHED", "ambiguous", None, [1, 2]), id="two of a kind"),
        pytest.param(
            [game(2, game_type=8), game(1)], ("UNMATCHED", "ambiguous", None, [1, 2]), id="remake and original"
        ),
        pytest.param(
            [game(3), game(2), game(1, version_parent=2)],
            ("UNMATCHED", "ambiguous", None, [2, 3]),
            id="only the best are candidates",
        ),
        pytest.param(
            [game(1, version_parent=9), game(2, version_parent=9)],
            ("UNMATCHED", "ambiguous", None, [1, 2]),
            id="two editions",
        ),
    ],
)
def test_of_several_games_the_best_one_is_taken_or_the_match_is_ambiguous(
    rows: list[dict[str, Any]], decision: tuple[Any, ...]
) -> None:
    for answered in (rows, rows[::-1]):
        assert decided(620, [(620, row["id"]) for row in answered], answered) == decision


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([], id="a game IGDB does not return"),
        pytest.param([game(1, name=None)], id="no name"),
        pytest.param([game(1, name=["Portal"])], id="wrong type"),
        pytest.param([game(1, summary="a\0b")], id="NUL"),
    ],
)
def test_an_app_whose_only_game_cannot_be_used_is_incomplete(bad: list[dict[str, Any]]) -> None:
    assert decided(620, [(620, 1)], bad) == ("UNMATCHED", "igdb_incomplete", None, None)


def test_beside_a_game_that_cannot_be_used_the_other_one_is_taken() -> None:
    assert decided(620, [(620, 1), (620, 2)], [game(1, name=None), game(2)]) == ("MATCHED", "external_game", 2, None)


@pytest.mark.parametrize(
    ("pairs", "unanswered"),
    [
        pytest.param([], {"unanswered_appids": [620]}, id="the app was not answered"),
        pytest.param([(620, 1)], {"unanswered_games": [1]}, id="its game was not answered"),
        pytest.param([(620, 1), (620, 2)], {"unanswered_games": [1]}, id="one of its games was not answered"),
        pytest.param([(620, 2)], {"unanswered_appids": [620]}, id="some of its pages were not answered"),
    ],
)
def test_an_app_without_an_answer_is_pending_and_no_miss(
    pairs: list[tuple[int, int]], unanswered: dict[str, list[int]]
) -> None:
    assert decided(620, pairs, [game(2)], **unanswered) == ("PENDING", "igdb_unavailable", None, None)


def test_several_apps_of_one_game_share_it_and_one_without_a_pair_is_not_found() -> None:
    known, _ = parse_games([game(72)])
    pairs = parse_external_games([external("620,621", 72)])
    matches = Matches.validate(resolve_matches([620, 621, 400], pairs, known))
    assert matches.select("match_reason", "igdb_id").rows() == [
        ("not_found", None),
        ("external_game", 72),
        ("external_game", 72),
    ]


def test_a_match_by_override_has_that_reason() -> None:
    known, _ = parse_games([game(1), game(2)])
    overridden = frame(ExternalGames, [(10, 1), (30, 9)])
    pairs = conform(pl.concat([parse_external_games([external("20", 2)]), overridden]), ExternalGames)
    matches = Matches.validate(mark_overrides(resolve_matches([10, 20, 30], pairs, known), overridden))
    assert matches.select("match_status", "match_reason", "igdb_id").rows() == [
        ("MATCHED", "override", 1),
        ("MATCHED", "external_game", 2),
        ("UNMATCHED", "igdb_incomplete", None),
    ]
    assert matches["candidates"].to_list() == [None, None, [9]]
