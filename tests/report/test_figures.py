from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from pandera.typing.polars import DataFrame

from pipeline.report.figures import (
    BARS_SHOWN,
    CARDS,
    UNKNOWN_PLAYTIME,
    Chart,
    Figures,
    backlog_by_genre,
    count_figures,
    filtered_kinds,
    format_minutes,
    hours_by_last_play,
    hours_by_platform,
    last_two_weeks,
    link_candidates,
    match_results,
    report_games,
    top_games,
)
from schemas.catalogue import Catalogue, KnownNames
from schemas.library import EnrichedLibrary
from tests.support.libraries import FIGHTING, SHOOTER, app, frame, library, matched

IGNORED = {"match_status": "IGNORED", "match_reason": "filtered", "kind": "demo", "kind_reason": "name:demo"}


def bars(chart_bars: pl.DataFrame) -> list[tuple[str, int, str]]:
    return chart_bars.rows()


def day(year: int) -> datetime:
    return datetime(year, 6, 1, tzinfo=UTC)


def played(appid: int, minutes: int, year: int) -> dict[str, Any]:
    return app(appid, playtime_forever=minutes, rtime_last_played=day(year))


def test_filtered_apps_count_neither_as_games_nor_as_time_played() -> None:
    pending = app(4, match_status="PENDING", match_reason="igdb_unavailable")
    recent = {"playtime_forever": 90, "playtime_2weeks": 30}
    filtered = {"playtime_forever": 600, "playtime_2weeks": 60}
    enriched = library(matched(1, 10, **recent), app(2), app(3, **IGNORED, **filtered), pending, app(5, **IGNORED))
    assert count_figures(enriched) == Figures(
        apps=5,
        games=3,
        filtered=2,
        matched=1,
        unmatched=1,
        pending=1,
        played=1,
        unplayed=2,
        minutes=90,
        recent=1,
        recent_minutes=30,
    )


def test_the_most_played_games_are_on_cards_with_the_initials_of_two_words() -> None:
    names = ("Half-Life 2", "ELDEN RING", "ōkami", "1 2 3", "東方 紅魔郷", "†", "Seventh")
    games = [
        matched(appid, appid, name=name, playtime_forever=100 - appid) for appid, name in enumerate(names, start=1)
    ]
    cards = top_games(library(*games, app(8, name="Unplayed"), app(9, **IGNORED, playtime_forever=900)))
    assert cards["name"].to_list() == list(names[:CARDS])
    assert cards["initials"].to_list() == ["HL", "ER", "Ō", "12", "東紅", ""]


def test_hours_are_counted_in_the_year_of_the_last_play_and_years_between_have_a_bar() -> None:
    chart = hours_by_last_play(
        library(
            played(1, 600, 2011),
            played(2, 60, 2011),
            played(3, 60, 2013),
            played(4, 120, 9999),
            app(5, playtime_forever=6),
            app(6, **IGNORED, playtime_forever=999, rtime_last_played=day(2020)),
        )
    )
    assert bars(chart.bars) == [("2011", 660, "main"), ("2012", 0, "main"), ("2013", 60, "main")]
    assert chart.title == "Games last played in 2011 have the most hours: 11 h of 14 h"
    assert chart.note == "2 games without a date of last play: 2.1 h."


def test_games_of_the_last_two_weeks_are_charted_the_most_played_first_and_the_rest_noted() -> None:
    games = [app(number, playtime_forever=600, playtime_2weeks=number) for number in range(1, BARS_SHOWN + 2)]
    chart = last_two_weeks(library(*games, app(99, playtime_forever=1)))
    assert chart.bars["label"].to_list()[:2] == ["Name 7", "Name 6"]
    assert (chart.title, chart.note) == (
        "7 games were played in the last two weeks: 28 min",
        "One more game has 1 min.",
    )


def test_an_unplayed_game_of_two_genres_counts_in_each_and_one_of_none_comes_last() -> None:
    chart = backlog_by_genre(
        library(
            matched(1, 10, igdb_genres=[FIGHTING, SHOOTER]),
            matched(2, 11, igdb_genres=[SHOOTER, SHOOTER]),
            matched(3, 12, igdb_genres=[]),
            app(4),
            app(5, **IGNORED),
            matched(6, 13, igdb_genres=[FIGHTING], playtime_forever=5),
        )
    )
    assert bars(chart.bars) == [("Shooter", 2, "main"), ("Fighting", 1, "main"), ("No genre known", 2, "muted")]
    assert chart.title == "Shooter has the most unplayed games: 2 of 4"


def test_genres_that_the_chart_has_no_room_for_are_counted_in_its_note() -> None:
    genres = [{**SHOOTER, "name": f"Genre {number:02}"} for number in range(BARS_SHOWN + 2)]
    chart = backlog_by_genre(library(matched(1, 10, igdb_genres=genres), app(2, playtime_forever=1)))
    assert chart.bars.height == BARS_SHOWN
    assert chart.note.endswith("2 more genres have 1 or less each.")
    assert chart.title == "1 game is left unplayed: Genre 00, Genre 01 and 6 more"


def test_hours_are_counted_by_the_platform_that_they_were_played_on() -> None:
    on_deck = {"playtime_linux_forever": 90, "playtime_deck_forever": 30}
    chart = hours_by_platform(
        library(app(1, playtime_forever=200, playtime_windows_forever=90), app(2, playtime_forever=90, **on_deck))
    )
    expected = [("Windows", 90), ("macOS", 0), ("Linux", 60), ("Steam Deck", 30)]
    assert [(label, value) for label, value, _ in bars(chart.bars)] == expected
    assert chart.title == "Windows has the most hours counted by platform: 1.5 h of 3.0 h"


@pytest.mark.parametrize(("deck", "system"), [(None, "Linux"), (60, "Steam Deck")])
def test_minutes_on_a_deck_which_steam_counts_as_linux_too_are_no_time_on_linux(deck: int | None, system: str) -> None:
    on_deck = {"playtime_linux_forever": 60, "playtime_deck_forever": deck}
    enriched = library(app(1, playtime_forever=60, **on_deck), app(2, **IGNORED))
    assert hours_by_platform(enriched).title == f"{system} has all the hours: 1.0 h"
    assert report_games(enriched)["platforms"].to_list() == [[system], []]


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
    assert chart.title == "4 of 5 apps are filtered"


def test_the_table_has_every_app_the_most_played_first() -> None:
    several = {"match_reason": "ambiguous", "igdb_candidates": "[7,8]"}
    rows = report_games(
        library(
            app(1, name=" ", **several),
            app(2, name=None, **IGNORED),
            matched(3, 10, playtime_forever=5, igdb_genres=[SHOOTER, FIGHTING], igdb_first_release_date=day(2011))
            | {"playtime_mac_forever": 3, "playtime_deck_forever": 2, "playtime_linux_forever": 0},
        )
    )
    shown = rows.select("appid", "name", "year", "genres", "platforms", "candidates")
    assert shown.rows() == [
        (3, "Name 3", 2011, ["Fighting", "Shooter"], ["macOS", "Steam Deck"], ""),
        (1, "App 1", None, [], [], "7, 8"),
        (2, "App 2", None, [], [], ""),
    ]


def test_candidates_of_igdbs_list_come_before_similar_names_with_what_the_store_knows_of_them() -> None:
    similar = [
        {"igdb_id": 9, "label": "Nine (2019, main game)", "score": 90},
        {"igdb_id": 8, "label": "8", "score": 60},
    ]
    names = frame(KnownNames, [{"name": "Twice", "looked_up_at": day(2026), "candidates": similar}])
    known = {"match_status": "MATCHED", "match_reason": "external_game", "igdb_id": 8, "igdb_slug": "eight"}
    catalogue = frame(Catalogue, [{"appid": 80, **known, "igdb_name": "Eight"}])
    enriched = library(
        app(1, name="Twice", match_reason="ambiguous", igdb_candidates="[7,8]"),
        app(2, name="Twice"),
        app(3, name="Unknown"),
        matched(4, 8, name="Twice"),
    )
    assert link_candidates(enriched, names, catalogue).rows() == [
        (1, 7, None, None),
        (1, 8, "8", "eight"),
        (1, 9, "Nine (2019, main game)", None),
        (2, 9, "Nine (2019, main game)", None),
        (2, 8, "8", "eight"),
    ]


ONE_HOUR = played(1, 60, 2024)
UNPLAYED = matched(2, 10, igdb_genres=[SHOOTER])


@pytest.mark.parametrize(
    ("chart", "rows", "title"),
    [
        (hours_by_last_play, [app(1)], UNKNOWN_PLAYTIME),
        (hours_by_last_play, [app(1, playtime_forever=90)], "When the 1.5 h were played is not known"),
        (hours_by_last_play, [app(1, playtime_forever=1)], "When the 1 min was played is not known"),
        (hours_by_last_play, [ONE_HOUR], "The game last played in 2024 has all the hours: 1.0 h"),
        (hours_by_last_play, [ONE_HOUR, played(2, 60, 2024)], "Games last played in 2024 have all the hours: 2.0 h"),
        (
            hours_by_last_play,
            [played(1, 60, 2021), played(2, 60, 2024), played(3, 6, 2023)],
            "Games last played in 2021 and 2024 have the most hours: 1.0 h each of 2.1 h",
        ),
        (last_two_weeks, [app(1)], UNKNOWN_PLAYTIME),
        (last_two_weeks, [ONE_HOUR], "No game was played in the last two weeks"),
        (last_two_weeks, [ONE_HOUR | {"playtime_2weeks": 45}], "1 game was played in the last two weeks: 45 min"),
        (backlog_by_genre, [app(1)], UNKNOWN_PLAYTIME),
        (backlog_by_genre, [ONE_HOUR], "No game is left unplayed"),
        (backlog_by_genre, [ONE_HOUR, app(2)], "No genre is known of the 1 unplayed game"),
        (backlog_by_genre, [ONE_HOUR, UNPLAYED], "1 game is left unplayed: Shooter"),
        (
            backlog_by_genre,
            [ONE_HOUR, UNPLAYED, matched(3, 11, igdb_genres=[FIGHTING])],
            "Fighting and Shooter have the most unplayed games: 1 each of 2",
        ),
        (hours_by_platform, [], UNKNOWN_PLAYTIME),
        (hours_by_platform, [ONE_HOUR], "On which platforms the games were played is not known"),
        (
            hours_by_platform,
            [ONE_HOUR | {"playtime_windows_forever": 30, "playtime_mac_forever": 30}],
            "Windows and macOS have the most hours: 30 min each of 1.0 h",
        ),
        (match_results, [], "No games"),
        (match_results, [UNPLAYED], "1 of 1 game is matched to IGDB"),
        (match_results, [UNPLAYED, app(1)], "1 of 2 games is matched to IGDB"),
        (filtered_kinds, [app(1)], "No app is filtered"),
        (filtered_kinds, [app(1, **IGNORED)], "1 of 1 app is filtered"),
        (filtered_kinds, [app(1, **IGNORED), app(2)], "1 of 2 apps is filtered"),
    ],
)
def test_the_title_of_a_chart_is_right_where_there_is_none_one_or_a_tie(
    chart: Callable[[DataFrame[EnrichedLibrary]], Chart], rows: list[dict[str, Any]], title: str
) -> None:
    assert chart(library(*rows)).title == title


@pytest.mark.parametrize(
    ("minutes", "text"), [(0, "0 h"), (1, "1 min"), (59, "59 min"), (60, "1.0 h"), (599, "10 h"), (74_070, "1,234 h")]
)
def test_minutes_are_told_in_hours_with_a_decimal_below_ten_and_as_minutes_below_one(minutes: int, text: str) -> None:
    assert format_minutes(minutes) == text
