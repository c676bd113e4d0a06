import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pandera.typing.polars import DataFrame
from polars.testing import assert_frame_equal

from pipeline.errors import Failed
from pipeline.frames.catalogue import (
    Lifetimes,
    apps_to_look_up,
    apps_without_store_type,
    decode_column,
    decode_lists,
    drop_overridden,
    join_catalogue,
    matches_as_catalogue,
    merge_catalogues,
    rows_about_games,
    store_types_as_catalogue,
)
from pipeline.frames.classify import classify, parse_store_items
from pipeline.frames.match import parse_external_games, parse_games, resolve_matches
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import empty_frame
from schemas.library import ClassifiedLibrary, EnrichedLibrary, RawLibrary
from tests.support import libraries
from tests.support.libraries import app, frame, matched

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIVES = Lifetimes(hit=30 * DAY, miss=7 * DAY)
GENRE = {"id": 5, "name": 'Shooter "3D"', "slug": "shooter", "checksum": None}
NOTHING = empty_frame(Catalogue)
NO_OVERRIDES = empty_frame(Overrides)


def hit(appid: int, igdb_id: int = 72, *, age: timedelta = DAY, **columns: Any) -> dict[str, Any]:
    game = {"igdb_name": f"Game {igdb_id}", "igdb_slug": f"game-{igdb_id}", "genres": [], "platforms": []}
    decided = {"match_status": "MATCHED", "match_reason": "external_game", "igdb_id": igdb_id}
    return {"appid": appid, **decided, **game, "looked_up_at": NOW - age, **columns}


def miss(appid: int, *, age: timedelta = DAY, **columns: Any) -> dict[str, Any]:
    decided = {"match_status": "UNMATCHED", "match_reason": "not_found"}
    return {"appid": appid, **decided, "looked_up_at": NOW - age, **columns}


def lacking(appid: int, igdb_id: int) -> dict[str, Any]:
    """An app that an override matched to a game IGDB does not have."""
    return miss(appid, match_reason="igdb_incomplete", candidates=[igdb_id])


def store(appid: int, store_type: str | None, *, age: timedelta = DAY) -> dict[str, Any]:
    return {"appid": appid, "store_type": store_type, "store_asked_at": NOW - age}


def known(*rows: dict[str, Any]) -> DataFrame[Catalogue]:
    return frame(Catalogue, rows)


def library(*apps: tuple[int, str] | int) -> DataFrame[RawLibrary]:
    owner = {"user_id": "user-1", "steam_id64": "76561197960287930", "playtime_forever": 0}
    named = [app if isinstance(app, tuple) else (app, f"App {app}") for app in apps]
    return frame(RawLibrary, [{**owner, "appid": appid, "name": name} for appid, name in named])


def classified(*apps: tuple[int, str] | int) -> DataFrame[ClassifiedLibrary]:
    return classify(library(*apps), NOTHING, NO_OVERRIDES)


def overriding(*rows: tuple[int, str, int | None]) -> DataFrame[Overrides]:
    return frame(Overrides, rows)


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        pytest.param([miss(10, age=2 * DAY)], [hit(10)], [hit(10)], id="a match found since"),
        pytest.param([hit(10, genres=[GENRE], age=2 * DAY)], [miss(10)], [miss(10)], id="a match gone, with its game"),
        pytest.param([store(10, "demo", age=2 * DAY)], [store(10, None)], [store(10, None)], id="hidden since"),
        pytest.param(
            [store(10, "demo", age=3 * DAY) | hit(10, 1)],
            [store(10, "game") | hit(10, 2, age=3 * DAY)],
            [store(10, "game") | hit(10, 1)],
            id="store and IGDB apart",
        ),
        pytest.param(
            [store(10, "game")],
            [hit(10, 1), hit(20)],
            [store(10, "game") | hit(10, 1), hit(20)],
            id="one of them alone",
        ),
        pytest.param([hit(10), miss(20)], [hit(10), miss(20)], [hit(10), miss(20)], id="the same"),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_of_two_look_ups_the_latest_counts_whichever_comes_first(
    old: list[dict[str, Any]], new: list[dict[str, Any]], merged: list[dict[str, Any]]
) -> None:
    for parts in ([old, new], [new, old]):
        assert_frame_equal(merge_catalogues([known(*rows) for rows in parts]), known(*merged))


def test_of_two_look_ups_at_the_same_time_the_later_part_counts() -> None:
    one, other = known(hit(10, 1)), known(hit(10, 2))
    assert_frame_equal(merge_catalogues([one, other]), other)
    assert_frame_equal(merge_catalogues([other, one]), one)
    assert_frame_equal(merge_catalogues([]), NOTHING)


SECOND = timedelta(seconds=1)


ASKED: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "known to IGDB alone": (hit(10), True, False),
    "known to the store alone": (store(10, "game"), False, True),
    "a type of almost 30 days": (store(10, "game", age=30 * DAY - SECOND), False, True),
    "a type of 30 days": (store(10, "game", age=30 * DAY), True, True),
    "hidden, almost 7 days ago": (store(10, None, age=7 * DAY - SECOND), False, True),
    "hidden, 7 days ago": (store(10, None, age=7 * DAY), True, True),
    "asked by a clock that runs ahead": (store(10, "game", age=-DAY), False, True),
    "a hit of almost 30 days": (hit(10, age=30 * DAY - SECOND), True, False),
    "a hit of 30 days": (hit(10, age=30 * DAY), True, True),
    "a miss of almost 7 days": (miss(10, age=7 * DAY - SECOND), True, False),
    "a miss of 7 days": (miss(10, age=7 * DAY), True, True),
    "an ambiguous one is a miss": (miss(10, match_reason="ambiguous", age=8 * DAY), True, True),
}
"""Rows of the catalogue, whether the store is asked about their app again, and whether IGDB is."""


def test_store_and_igdb_are_asked_about_what_is_missing_or_old() -> None:
    apps = {case: 10 * n for n, case in enumerate(ASKED, start=1)}
    rows = known(*(row | {"appid": apps[case]} for case, (row, *_) in ASKED.items()))
    everything = library(*apps.values(), 1_000)  # the last one was never seen
    store_asked = set(apps_without_store_type(everything, rows, NOW, LIVES))
    igdb_asked = set(apps_to_look_up(everything, rows, NO_OVERRIDES, NOW, LIVES))
    assert {case: (appid in store_asked, appid in igdb_asked) for case, appid in apps.items()} == {
        case: (by_store, by_igdb) for case, (_, by_store, by_igdb) in ASKED.items()
    }
    assert 1_000 in store_asked & igdb_asked


def test_each_app_is_asked_about_once_in_order_and_igdb_not_about_no_games_of_the_store_and_ignored_ones() -> None:
    assert apps_without_store_type(library(30, 10, 10), NOTHING, NOW, LIVES).to_list() == [10, 30]
    apps, rows = (
        library((10, "X - Demo"), 20, 40, 30, 30, 50, 60, 70),
        known(store(50, "dlc"), store(60, "dlc"), store(70, "mod")),
    )
    overrides = overriding((20, "ignore", None), (60, "game", None))
    assert apps_to_look_up(apps, rows, overrides, NOW, LIVES).to_list() == [10, 30, 40, 60, 70]


FOLLOWED: dict[str, tuple[tuple[str, int | None] | None, dict[str, Any], bool]] = {
    "a hit that no human gave": (("match", 72), hit(10, 72), True),
    "as the human says": (("match", 72), hit(10, 72, match_reason="override"), False),
    "another game than the human says": (("match", 72), hit(10, 9, match_reason="override"), True),
    "a miss": (("match", 72), miss(10, match_reason="igdb_incomplete"), True),
    "another game that IGDB lacks": (("match", 72), lacking(10, 9), True),
    "no game that IGDB lacks any more": (("game", None), lacking(10, 72), True),
    "a gone override to a game that IGDB lacks": (None, lacking(10, 72), True),
    "a game anyway": (("game", None), hit(10), False),
    "no match any more": (("game", None), hit(10, match_reason="override"), True),
    "an override that is gone": (None, hit(10, match_reason="override"), True),
}
"""Overrides of app 10, the rows that the catalogue has about it, and whether IGDB is asked again."""


def test_a_match_that_does_not_follow_todays_override_is_looked_up_again() -> None:
    apps = {case: 10 * n for n, case in enumerate(FOLLOWED, start=1)}
    rows = known(*(row | {"appid": apps[case]} for case, (_, row, _) in FOLLOWED.items()))
    overrides = overriding(*((apps[case], *override) for case, (override, *_) in FOLLOWED.items() if override))
    asked = set(apps_to_look_up(library(*apps.values()), rows, overrides, NOW, LIVES))
    statuses = join_catalogue(classified(*apps.values()), rows, overrides)["match_status"]
    assert {case: appid in asked for case, appid in apps.items()} == {
        case: is_asked for case, (*_, is_asked) in FOLLOWED.items()
    }
    assert list(statuses) == ["PENDING" if is_asked else "MATCHED" for *_, is_asked in FOLLOWED.values()]


def test_a_game_of_an_override_that_igdb_lacks_is_a_miss_like_others() -> None:
    overrides, rows = overriding((10, "match", 72)), known(lacking(10, 72))
    assert apps_to_look_up(library(10), rows, overrides, NOW, LIVES).to_list() == []
    assert apps_to_look_up(library(10), rows, overrides, NOW + 7 * DAY, LIVES).to_list() == [10]
    joined = join_catalogue(classified(10), rows, overrides)
    assert decisions(joined) == [(10, "UNMATCHED", "igdb_incomplete", None)]
    assert joined["igdb_candidates"].to_list() == [None]


def test_store_types_become_rows_with_the_time_of_the_question() -> None:
    types = parse_store_items([{"id": 10, "success": 1, "type": 0}, {"id": 20, "success": 15, "type": 0}])
    assert_frame_equal(
        Catalogue.validate(store_types_as_catalogue(types, NOW)),
        known(store(10, "game", age=0 * DAY), store(20, None, age=0 * DAY)),
    )


def test_matches_become_rows_with_their_games_and_pending_apps_have_none() -> None:
    rows, _ = parse_games([{"id": 1, "name": "One", "slug": "one", "game_type": 0, "genres": [GENRE]}])
    matches = resolve_matches(
        [10, 20, 30], parse_external_games([{"uid": "10", "game": 1}]), rows, unanswered_appids=[30]
    )
    assert_frame_equal(
        Catalogue.validate(matches_as_catalogue(matches, rows, NOW)),
        known(
            hit(10, 1, igdb_name="One", igdb_slug="one", igdb_game_type=0, genres=[GENRE], age=0 * DAY),
            miss(20, age=0 * DAY),
        ),
    )


def test_an_ambiguous_app_has_the_name_and_the_type_of_its_shortest_named_candidate_and_no_game() -> None:
    rows, _ = parse_games([{"id": i, "name": n, "slug": n, "game_type": 1} for i, n in ((1, "One: GOTY"), (2, "One"))])
    matches = resolve_matches([10], parse_external_games([{"uid": "10", "game": 1}, {"uid": "10", "game": 2}]), rows)
    found = Catalogue.validate(matches_as_catalogue(matches, rows, NOW))
    of_two = {"match_reason": "ambiguous", "candidates": [1, 2], "igdb_name": "One", "igdb_game_type": 1}
    assert_frame_equal(found, known(miss(10, age=0 * DAY, **of_two)))
    assert join_catalogue(classified(10), found, NO_OVERRIDES)["igdb_name"].to_list() == [None]


def test_an_ambiguous_app_is_compared_with_a_candidate_that_is_a_game_before_a_shorter_named_dlc() -> None:
    rows, _ = parse_games(
        [{"id": i, "name": n, "slug": n, "game_type": t} for i, n, t in ((1, "A", 1), (2, "A mod", 5))]
    )
    matches = resolve_matches([10], parse_external_games([{"uid": "10", "game": 1}, {"uid": "10", "game": 2}]), rows)
    assert matches_as_catalogue(matches, rows, NOW).select("igdb_name", "igdb_game_type").rows() == [("A mod", 5)]


def test_rows_are_found_by_their_game_and_by_their_candidates() -> None:
    rows = known(hit(10, 1), hit(20, 2), miss(30, match_reason="ambiguous", candidates=[1, 3]), miss(40))
    assert rows_about_games(rows, [1, 9])["appid"].to_list() == [10, 30]
    assert rows_about_games(rows, []).is_empty()


def test_rows_of_overridden_apps_are_dropped() -> None:
    before = known(hit(10, 1, match_reason="override"), hit(20, 2))
    assert drop_overridden(known(hit(10, 5), hit(20, 5), hit(30, 5)), before)["appid"].to_list() == [20, 30]


def decisions(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    return EnrichedLibrary.validate(rows).select("appid", "match_status", "match_reason", "igdb_id").rows()


def test_a_joined_library_has_status_reason_and_game_of_every_app() -> None:
    rows = known(
        hit(10, 1, genres=[GENRE]), miss(20, match_reason="ambiguous", candidates=[2, 3]), miss(30), hit(99, 4)
    )
    apps = classified((20, "Two"), (99, "Two - Demo"), (10, "One"), (30, "None"), (40, "New"), (10, "One again"))
    joined = join_catalogue(apps, rows, NO_OVERRIDES)
    assert decisions(joined) == [
        (20, "UNMATCHED", "ambiguous", None),
        (99, "IGNORED", "filtered", None),
        (10, "MATCHED", "external_game", 1),
        (30, "UNMATCHED", "not_found", None),
        (40, "PENDING", "igdb_unavailable", None),
        (10, "MATCHED", "external_game", 1),
    ]
    assert joined["igdb_candidates"].to_list() == ["[2,3]", *[None] * 5]
    genres = [text and json.loads(text) for text in joined["igdb_genres"]]
    assert genres == [None, None, [GENRE], None, None, [GENRE]]
    assert joined["igdb_platforms"].to_list() == [None, None, "[]", None, None, "[]"]


def test_a_platform_is_written_with_every_field_and_null_where_it_has_none() -> None:
    windows = {"id": 6, "name": "PC (Microsoft Windows)", "slug": "win", "abbreviation": "PC", "platform_type": 4}
    whole = dict.fromkeys(("alternative_name", "generation", "platform_family", "checksum")) | windows
    (platforms,) = join_catalogue(classified(10), known(hit(10, platforms=[whole, whole])), NO_OVERRIDES)[
        "igdb_platforms"
    ]
    assert json.loads(platforms) == [whole, whole]


def test_only_a_match_has_columns_of_igdb() -> None:
    left_over = {"igdb_name": "Left over", "igdb_slug": "left-over", "igdb_id": 7, "genres": [GENRE]}
    joined = join_catalogue(classified(10), known(miss(10) | left_over), NO_OVERRIDES)
    igdb = joined.select(pl.selectors.starts_with("igdb_"))
    assert igdb.null_count().sum_horizontal().to_list() == [igdb.width]


def test_an_override_decides_status_reason_and_game() -> None:
    rows = known(*(hit(appid, match_reason="override") for appid in (10, 20, 30)))
    overrides = overriding((10, "ignore", None), (20, "match", 72), (30, "game", None))
    assert decisions(join_catalogue(classified(10, 20, 30), rows, overrides)) == [
        (10, "IGNORED", "override", None),
        (20, "MATCHED", "override", 72),
        (30, "PENDING", "igdb_unavailable", None),  # not yet looked up as a game
    ]


def test_lists_are_decoded_and_an_empty_cell_is_null() -> None:
    enriched = libraries.library(
        matched(1, 10, igdb_genres=[GENRE], igdb_platforms=[]),
        app(2, igdb_genres=" ", igdb_candidates=""),
        app(3, match_reason="ambiguous", igdb_candidates="[7,8]"),
    )
    rows = decode_lists(enriched)
    assert rows["igdb_genres"].to_list() == [[GENRE], None, None]
    assert rows["igdb_platforms"].to_list() == [[], None, None]
    assert rows["igdb_candidates"].to_list() == [None, None, [7, 8]]


def test_a_list_that_is_no_json_is_refused_by_column() -> None:
    with pytest.raises(Failed, match="igdb_genres") as refused:
        decode_column(libraries.library(app(1, igdb_genres="[{")), "igdb_genres")
    assert refused.value.code == "checkpoint_invalid"
