from collections.abc import Callable
from datetime import UTC, datetime

import polars as pl
import pytest
from pandera.typing.polars import DataFrame

from pipeline.report.figures import (
    GENRES_SHOWN,
    Chart,
    Figures,
    count_figures,
    filtered_kinds,
    games_by_year,
    match_results,
    playtime_by_genre,
    report_games,
)
from schemas.library import EnrichedLibrary
from tests.support.libraries import FIGHTING, SHOOTER, app, library, matched

IGNORED = {"match_status": "IGNORED", "match_reason": "filtered", "kind": "demo", "kind_reason": "name:demo"}


def bars(chart_bars: pl.DataFrame) -> list[tuple[str, int, str]]:
    return chart_bars.rows()


def released(year: int) -> datetime:
    return datetime(year, 6, 1, tzinfo=UTC)


def test_filtered_apps_count_neither_as_games_nor_as_time_played() -> None:
    pending = app(4, match_status="PENDING", match_reason="igdb_unavailable")
    enriched = library(
        matched(1, 10, playtime_forever=90), app(2), app(3, **IGNORED, playtime_forever=600), pending, app(5, **IGNORED)
    )
    assert count_figures(enriched) == Figures(
        apps=5, games=3, filtered=2, matched=1, unmatched=1, pending=1, unplayed=2, minutes=90
    )


def test_a_game_of_two_genres_counts_in_each_and_one_of_none_comes_last() -> None:
    chart = playtime_by_genre(
        library(
            matched(1, 10, playtime_forever=600, igdb_genres=[FIGHTING, SHOOTER]),
            matched(2, 11, playtime_forever=60, igdb_genres=[SHOOTER, SHOOTER]),
            matched(3, 12, playtime_forever=6000, igdb_genres=[]),
            app(4, playtime_forever=6000),
            app(5, **IGNORED, playtime_forever=6000),
        )
    )
    assert bars(chart.bars) == [
        ("Shooter", 660, "main"),
        ("Fighting", 600, "main"),
        ("No genre known", 12000, "muted"),
    ]
    assert chart.title == "Most hours went to Shooter: 11 h of 211 h"


def test_genres_that_the_chart_has_no_room_for_are_counted_in_its_note() -> None:
    genres = [{**SHOOTER, "name": f"Genre {number:02}"} for number in range(GENRES_SHOWN + 2)]
    chart = playtime_by_genre(library(matched(1, 10, playtime_forever=60, igdb_genres=genres)))
    assert chart.bars.height == GENRES_SHOWN
    assert chart.note.endswith("2 more genres have 1.0 h or less each.")


def test_years_without_a_game_have_a_bar_and_impossible_years_have_none() -> None:
    chart = games_by_year(
        library(
            *(
                matched(number, number, igdb_first_release_date=released(year))
                for number, year in enumerate((2011, 2011, 2013, 9999), start=1)
            ),
            app(5),
        )
    )
    assert bars(chart.bars) == [("2011", 2, "main"), ("2012", 0, "main"), ("2013", 1, "main")]
    assert chart.title == "No year has more games than 2011: 2 of 3"


def test_matched_games_come_before_the_others() -> None:
    chart = match_results(
        library(
            app(1),
            app(2),
            matched(3, 10),
            matched(4, 11, match_reason="override"),
            app(5, match_status="PENDING", match_reason="igdb_unavailable"),
            app(6, **IGNORED),
        )
    )
    assert bars(chart.bars) == [
        ("By hand, in overrides.csv", 1, "main"),
        ("By IGDB's list of Steam ids", 1, "main"),
        ("Not found on IGDB", 2, "warn"),
        ("IGDB did not answer", 1, "warn"),
    ]
    assert chart.title == "2 of 5 games are matched to IGDB"


def test_filtered_apps_are_counted_by_kind_and_what_decided_it() -> None:
    chart = filtered_kinds(
        library(
            app(1, **IGNORED),
            app(2, **IGNORED),
            app(3, **IGNORED | {"kind": "bonus_content", "kind_reason": "store:guide"}),
            app(4, **IGNORED | {"kind": "game", "kind_reason": "default", "match_reason": "override"}),
            app(5),
        )
    )
    assert bars(chart.bars) == [
        ("demo, by its name (demo)", 2, "muted"),
        ("bonus content, by its type in Steam's store", 1, "muted"),
        ("ignored, by hand in overrides.csv", 1, "muted"),
    ]
    assert chart.title == "4 of 5 apps are filtered: 2 as demo, by its name (demo)"


def test_the_table_has_every_app_the_most_played_first() -> None:
    several = {"match_reason": "ambiguous", "igdb_candidates": "[7,8]"}
    rows = report_games(
        library(
            app(1, name=" ", **several),
            app(2, name=None, **IGNORED),
            matched(3, 10, playtime_forever=5, igdb_genres=[FIGHTING, SHOOTER], igdb_first_release_date=released(2011)),
        )
    )
    shown = rows.select("appid", "name", "year", "genres", "candidates")
    assert shown.rows() == [
        (3, "Name 3", 2011, "Fighting, Shooter", ""),
        (1, "App 1", None, "", "7, 8"),
        (2, "App 2", None, "", ""),
    ]


UNKNOWN_PLAYTIME = "No playtime is known: the owner hides it, or never played"


@pytest.mark.parametrize(
    ("chart", "enriched", "title"),
    [
        pytest.param(playtime_by_genre, library(), UNKNOWN_PLAYTIME, id="no playtime"),
        pytest.param(
            playtime_by_genre,
            library(app(1, playtime_forever=90)),
            "No genre is known of the 1.5 h played",
            id="no genre",
        ),
        pytest.param(games_by_year, library(app(1)), "No year of release is known", id="no year"),
        pytest.param(match_results, library(), "No games", id="no games"),
        pytest.param(filtered_kinds, library(app(1)), "No app is filtered", id="nothing filtered"),
    ],
)
def test_a_chart_that_has_nothing_to_show_has_a_title_that_says_so(
    chart: Callable[[DataFrame[EnrichedLibrary]], Chart], enriched: DataFrame[EnrichedLibrary], title: str
) -> None:
    assert chart(enriched).title == title
