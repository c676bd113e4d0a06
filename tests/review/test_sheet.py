import json
import re
from collections.abc import Collection, Iterable
from typing import Any

import polars as pl
import pytest
from pandera.typing.polars import DataFrame

from pipeline.errors import Refused
from pipeline.frames.overrides import parse_overrides
from pipeline.review.sheet import (
    LIBRARIES_AT_ONCE,
    Choice,
    add_unowned_apps,
    build_review_sheet,
    choose_apps,
    count_owners,
    render_review_page,
)
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import conform, dtypes, empty_frame
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import MOST_CANDIDATES, Candidates, ReviewSheet
from tests.support.libraries import app, frame, library, matched

NOTHING_KNOWN, NO_OVERRIDES = empty_frame(Catalogue), empty_frame(Overrides)
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028{{ data }}"


def filtered(appid: int, **columns: Any) -> dict[str, Any]:
    reasons = {"match_status": "IGNORED", "match_reason": "filtered", "kind": "demo", "kind_reason": "name:demo"}
    return app(appid, **reasons | columns)


def decided(*lines: str) -> DataFrame[Overrides]:
    rows, skipped = parse_overrides("\n".join(lines).encode())
    assert skipped == []
    return rows


def raw(rows: DataFrame[EnrichedLibrary]) -> DataFrame[RawLibrary]:
    return conform(rows.select(dtypes(RawLibrary).keys()), RawLibrary)


def sheet_of(
    *apps: dict[str, Any],
    candidates: Iterable[tuple[Any, ...]] = (),
    appids: Collection[int] = (),
    overrides: DataFrame[Overrides] = NO_OVERRIDES,
) -> DataFrame[ReviewSheet]:
    """A review sheet of all these apps that are unmatched, matched or chosen by their appids.

    The candidates are appid, IGDB id, label and score.
    """
    enriched = library(*apps)
    chosen = choose_apps(enriched, NOTHING_KNOWN, overrides, Choice(with_matched=True, appids=appids))
    return build_review_sheet(chosen, count_owners([raw(enriched)]), frame(Candidates, candidates), overrides)


def test_apps_are_listed_once_the_most_owned_first_then_the_most_played() -> None:
    mine = (app(appid, playtime_forever=minutes) for appid, minutes in {3: 60, 1: 60, 2: 90}.items())
    theirs = (app(3, user_id="user-2", playtime_forever=7), app(9, user_id="user-2", playtime_forever=99))
    sheet = sheet_of(*mine, *theirs).select("appid", "owners", "playtime_forever")
    assert sheet.rows() == [(3, 2, 67), (9, 1, 99), (2, 1, 90), (1, 1, 60)]


def test_owners_and_minutes_are_added_up_over_more_libraries_than_are_in_memory() -> None:
    of_one = raw(library(app(1, name=None, playtime_forever=2**31 - 1)))
    users = [
        conform(of_one.with_columns(user_id=pl.lit(f"user-{n}")), RawLibrary) for n in range(LIBRARIES_AT_ONCE + 1)
    ]
    named = raw(library(app(1, user_id="last", name="Portal", playtime_forever=2**31 - 1)))
    assert count_owners([*users, named]).rows() == [(1, "Portal", 102, 102 * (2**31 - 1))]
    assert count_owners([]).is_empty()


def test_what_the_catalogue_has_and_nobody_owns_is_added_if_it_is_unmatched_or_was_asked_for() -> None:
    statuses = {1: "UNMATCHED", 2: "UNMATCHED", 3: "MATCHED", 4: "MATCHED", 5: None}
    known = frame(Catalogue, [{"appid": appid, "match_status": status} for appid, status in statuses.items()])
    mine = count_owners([raw(library(app(1, name="Portal", playtime_forever=60)))])
    assert add_unowned_apps(mine, known, [4]).rows() == [(1, "Portal", 1, 60), (2, None, 0, 0), (4, None, 0, 0)]


@pytest.mark.parametrize(
    ("choice", "appids"),
    [
        (Choice(), [1]),
        (Choice(with_matched=True), [1, 4]),
        (Choice(appids=[4, 6, 5]), [4, 5, 6]),
    ],
    ids=str,
)
def test_what_is_unmatched_is_reviewed_and_what_was_asked_for(choice: Choice, appids: list[int]) -> None:
    pending = app(5, match_status="PENDING", match_reason="igdb_unavailable")
    enriched = library(app(1), matched(4, 72), pending, filtered(6, name="Portal Demo"))
    assert choose_apps(enriched, NOTHING_KNOWN, NO_OVERRIDES, choice)["appid"].to_list() == appids


def test_an_app_that_nobody_owns_cannot_be_chosen() -> None:
    with pytest.raises(Refused, match="App 7 is in none"):
        choose_apps(library(app(1)), NOTHING_KNOWN, NO_OVERRIDES, Choice(appids=[1, 7]))


def test_a_matched_game_shows_its_match() -> None:
    sheet = sheet_of(matched(4, 72, igdb_name="Portal 2"))
    assert sheet.select("match_status", "matched_id", "matched", "igdb_id").rows() == [
        ("MATCHED", 72, "Portal 2", None)
    ]


def test_filtered_apps_that_todays_rules_types_and_overrides_make_games_are_found() -> None:
    enriched = library(
        filtered(1, name="Half-Life Demo"),
        filtered(2, name="Demons of the Past"),
        filtered(3, name="Hidden"),
        filtered(4, name="A Mod"),
        filtered(5, name="Portal Demo"),
        filtered(6, name="Ignored by hand", match_reason="override"),
        filtered(7, name="Portal OST"),
        app(8),
    )
    types = {3: "demo", 4: "mod", 7: "music"}
    known = frame(Catalogue, [{"appid": appid, "store_type": store_type} for appid, store_type in types.items()])
    overrides = decided("5,game,,", "3,ignore,,")
    chosen = choose_apps(enriched, known, overrides, Choice())
    assert chosen.select("appid", "proposed").rows() == [(8, None), (2, "game"), (4, "game"), (5, "game")]


def test_the_columns_that_a_person_fills_in_are_blank_whatever_the_score() -> None:
    apps = (app(1, name="Doom"), app(2, name=None), filtered(3, name="Portal"))
    candidates = [(1, number, "Doom", 100) for number in range(10, 15)]
    sheet = ReviewSheet.validate(sheet_of(*apps, candidates=candidates, overrides=decided("1,match,72,", "2,ignore,,")))
    assert sheet["appid"].to_list() == [1, 2, 3]
    assert sheet.select("action", "igdb_id", "note").null_count().row(0) == (3, 3, 3)
    assert sheet["proposed"].to_list() == [None, None, "game"]
    assert sheet["decided"].to_list() == ["match 72", "ignore", None]
    numbers = [sheet[f"candidate_{number}_id"].to_list() for number in range(1, MOST_CANDIDATES + 1)]
    assert numbers == [[number, None, None] for number in range(10, 15)]
    assert sheet["candidate_1_score"].to_list() == [100, None, None]


def test_a_sheet_of_nothing_has_its_columns() -> None:
    assert ReviewSheet.validate(sheet_of()).height == 0


def data_of(page: str) -> dict[str, Any]:
    text = page.split('<script type="application/json" id="data">')[1].split("</script>", maxsplit=1)[0]
    assert "<" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_has_every_app_of_the_sheet_with_its_match_and_candidates_and_is_always_the_same() -> None:
    sheet = sheet_of(
        matched(1, 72, name=HOSTILE, playtime_forever=90, igdb_name="Portal 2"),
        app(2, name=None, match_status="IGNORED", match_reason="override", kind_reason="override"),
        candidates=[(1, 71, HOSTILE, 80)],
        appids=(1, 2),
    )
    page = render_review_page(sheet)
    assert render_review_page(sheet) == page
    first, second = data_of(page)["apps"]
    assert first["candidates"] == [{"id": 71, "label": HOSTILE, "score": 80}]
    assert [first[name] for name in ("name", "playtime_forever", "matched_id", "matched")] == [
        HOSTILE, 90, 72, "Portal 2"
    ]  # fmt: skip
    assert [second[name] for name in ("name", "match_reason", "candidates")] == [None, "override", []]
    assert data_of(render_review_page(sheet_of(app(1))))["digest"] != data_of(page)["digest"]


def test_the_page_loads_nothing_and_runs_its_own_script_alone() -> None:
    page = render_review_page(sheet_of(app(1, name="Portal Too")))
    assert re.findall(r" (?:src|srcset|action|on[a-z]+)=|url\(|@import|fetch\(|XMLHttpRequest|innerHTML", page) == []
    assert re.findall(r' href="', page) == []
    assert page.count("<script") == 2
    assert "default-src 'none'" in page
    assert "There is nothing to review." in render_review_page(sheet_of())
