from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.typing.polars import DataFrame

from pipeline.frames.match import normalise_name, strip_edition
from pipeline.review.candidates import rank_candidates, search_terms, tabulate_games
from schemas.apis import parse_rows
from schemas.review import Candidates, FoundGame, SearchTerms

APP = 10


def terms(name: str | None) -> DataFrame[SearchTerms]:
    return search_terms(pl.DataFrame({"appid": [APP], "name": [name]}, schema={"appid": pl.Int32, "name": pl.String}))


def game(number: int, name: str, **fields: Any) -> dict[str, Any]:
    return {"id": number, "name": name, **fields}


def candidates(name: str | None, *rows: Any, least_score: int = 0) -> DataFrame[Candidates]:
    """The candidates for an app of that name among rows of IGDB's games."""
    return rank_candidates(terms(name), tabulate_games({APP: parse_rows(rows, FoundGame)[0]}), least_score)


def scored(name: str | None, *rows: Any, least_score: int = 0) -> list[tuple[Any, ...]]:
    """Ids and scores of these candidates."""
    return candidates(name, *rows, least_score=least_score).select("igdb_id", "score").rows()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("PORTAL 2", "portal 2", id="case"),
        pytest.param("Ghostbusters™: The Video Game® ©2009", "ghostbusters the video game 2009", id="marks"),
        pytest.param("Pokémon", "pokemon", id="accents"),
        pytest.param("\uff37\uff49\uff44\uff45", "wide", id="full-width letters"),
        pytest.param("Half-Life 2: Lost Coast!", "half life 2 lost coast", id="punctuation"),
        pytest.param("No Man\u2019s Sky", "no mans sky", id="a curved apostrophe"),
        pytest.param("Tom & Jerry", "tom and jerry", id="ampersand"),
        pytest.param("S.T.A.L.K.E.R.", "stalker", id="initials"),
        pytest.param("Version 1.5", "version 1 5", id="a decimal point"),
        pytest.param("Mafia II", "mafia 2", id="Roman numeral"),
        pytest.param("Final Fantasy XIV Online", "final fantasy 14 online", id="Roman numeral within"),
        pytest.param("ゼルダが", "ゼルダが", id="Japanese keeps its voicing marks"),
        pytest.param("♥", "♥", id="nothing but punctuation"),
    ],
)
def test_a_normalised_name_has_nothing_that_does_not_tell_names_apart(name: str, expected: str) -> None:
    assert pl.select(normalise_name(pl.lit(name))).item() == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("mafia 2 definitive edition", "mafia 2"),
        ("the witcher 3 wild hunt game of the year edition", "the witcher 3 wild hunt"),
        ("borderlands goty enhanced", "borderlands"),
        ("foo the special edition", "foo"),
        ("minecraft bedrock edition", "minecraft"),
        ("dark souls remastered", "dark souls"),
        ("black gold", "black gold"),
        ("deluxe edition", "deluxe edition"),
    ],
)
def test_an_edition_is_stripped_and_a_name_stays(name: str, base: str) -> None:
    assert pl.select(strip_edition(pl.lit(name))).item() == base


@pytest.mark.parametrize(
    ("name", "asked", "not_asked"),
    [
        pytest.param("Deluxe: A Game", ["Deluxe: A Game", "Deluxe - A Game"], ["Deluxe"], id="an edition word"),
        pytest.param("The: Game of Games", ["The: Game of Games"], ["The"], id="a stop word"),
        pytest.param("It™", ["It™", "It"], [], id="an app that is called so"),
        pytest.param("Dark Souls", ["Dark Souls"], ["Dark"], id="the first of two words"),
        pytest.param("Dark Souls Reborn", ["Dark Souls Reborn", "Dark Souls"], ["Dark"], id="two of three words"),
        pytest.param("Portal: Still Alive", ["Portal: Still Alive", "Portal"], [], id="a title of one word"),
    ],
)
def test_a_name_is_asked_for_in_forms_that_say_whose_it_is(name: str, asked: list[str], not_asked: list[str]) -> None:
    spellings = terms(name)["spellings"].item().to_list()
    assert set(asked) <= set(spellings)
    assert not set(not_asked) & set(spellings)


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("X-Men™ Origins: Wolverine®", "X Men Origins Wolverine"),
        ("Mafia II: Definitive Edition", "Mafia II"),
        ("No Man's Sky", "No Man's Sky"),
        ('The "Best"\\Game\n', "The Best Game"),
        ("東方紅魔郷", "東方紅魔郷"),
        ("♥ / ♥", None),
        ("", None),
    ],
)
def test_search_terms_lack_what_a_search_stumbles_over(name: str, search: str | None) -> None:
    assert terms(name)["search_text"].to_list() == [search]


BIOHAZARD = [{"id": 5, "name": "Biohazard 4"}, {"id": 6, "name": "BH4"}]
MAFIAS = [game(1, "Mafia"), game(2, "Mafia II"), game(3, "Mafia II: Definitive Edition")]
DOOMS = [
    game(1, "Doom", platforms=[48]),
    game(2, "Doom", platforms=[6], version_parent=9),
    game(3, "Doom", platforms=[{"id": 6, "name": "PC"}], game_type=5),
    game(4, "Doom", platforms=[6, 48], game_type=0),
]
SCORES = {
    "the same name": ("PORTAL 2", [game(1, "Portal 2"), game(2, "Portal II"), game(3, "Chess")], [100, 98, 0]),
    "a main title": ("Castan: A Game of Cards", [game(1, "Castan"), game(2, "Cast of Cards")], [82, 74]),
    "a name with more": ("Castan", [game(1, "Castan - A Game of Cards")], [82]),
    "a name with its year": ("Castan (2020)", [game(1, "Castan")], [82]),
    "the best of its names": ("Biohazard 4", [game(1, "Resident Evil 4", alternative_names=BIOHAZARD)], [100]),
    "an edition before its game": ("Mafia II: Definitive Edition", MAFIAS[::-1], [100, 91, 61]),
    "a game before its edition, and the edition before another number": (
        "Mafia II",
        [MAFIAS[1], MAFIAS[2], MAFIAS[0]],
        [100, 91, 66],
    ),
    "computers, then no editions, then main games": ("DOOM", DOOMS[::-1], [100] * 4),
}


@pytest.mark.parametrize(("name", "games", "scores"), SCORES.values(), ids=SCORES)
def test_candidates_are_ranked_by_how_like_their_names_are(
    name: str, games: list[dict[str, Any]], scores: list[int]
) -> None:
    ranked = [(game["id"], score) for game, score in zip(games, scores, strict=True)]
    assert scored(name, *sorted(games, key=lambda game: game["id"])) == ranked


def test_five_games_of_at_least_the_least_score_are_candidates() -> None:
    assert [number for number, _ in scored("Doom", *(game(number, "Doom") for number in range(9, 0, -1)))] == [
        *range(1, 6)
    ]
    assert scored("Doom", game(1, "Chess"), least_score=50) == []


def test_a_label_has_name_year_and_type_where_known() -> None:
    games = [
        game(1, "Doom", first_release_date=755308800, game_type=0),
        game(2, "Doom", game_type=8),
        game(3, "Doom", first_release_date=-86400),
        game(4, "Doom", game_type=99),
    ]
    labels = candidates("Doom", *games).sort("igdb_id")["label"].to_list()
    assert labels == ["Doom (1993, main game)", "Doom (remake)", "Doom (1969)", "Doom"]


def test_a_nameless_app_is_not_searched_for_and_keeps_the_candidates_it_is_known_to_have() -> None:
    assert terms(None).is_empty()
    assert scored(None, game(1, "Doom"), game(2, "Quake"), game(1, "Doom")) == [(1, 0), (2, 0)]
    assert scored("Doom") == []


@settings(max_examples=3)
@given(ours=st.text(), theirs=st.lists(st.text(), min_size=10))
def test_any_two_names_have_a_score(ours: str, theirs: list[str]) -> None:
    rows = candidates(ours, *(game(number, name) for number, name in enumerate(theirs, start=1)))
    Candidates.validate(rows)
