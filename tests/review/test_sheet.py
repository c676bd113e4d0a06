from typing import Any

from pandera.typing.polars import DataFrame

from pipeline.frames.overrides import parse_overrides
from pipeline.review.candidates import parse_found_games, rank_candidates
from pipeline.review.sheet import build_review_sheet, no_longer_filtered, unmatched_games
from pipeline.review.spellings import search_terms
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import conform, empty_frame
from schemas.library import EnrichedLibrary
from schemas.review import MOST_CANDIDATES, Candidates, ReviewSheet
from tests.support.libraries import app, frame, library, matched

KEY = "imports/user-1/20261123T031749Z-enriched.csv"


def filtered(appid: int, **columns: Any) -> dict[str, Any]:
    reasons = {"match_status": "IGNORED", "match_reason": "filtered", "kind": "demo", "kind_reason": "name:demo"}
    return app(appid, **reasons | columns)


def decided(*lines: str) -> DataFrame[Overrides]:
    rows, skipped = parse_overrides("\n".join(lines).encode())
    assert skipped == []
    return rows


def test_unmatched_apps_are_listed_once_and_the_most_played_first() -> None:
    played = {3: 60, 1: 60, 2: 90}
    rows = [app(appid, playtime_forever=minutes) for appid, minutes in played.items()]
    pending = app(5, match_status="PENDING", match_reason="igdb_unavailable")
    enriched = library(*rows, app(3), matched(4, 72), pending, filtered(6))
    assert unmatched_games(enriched)["appid"].to_list() == [2, 1, 3]


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
    assert no_longer_filtered(enriched, known, overrides)["appid"].to_list() == [2, 4, 5]


def test_the_columns_that_a_person_fills_in_are_blank_whatever_the_score() -> None:
    enriched = library(app(1, name="Doom"), app(2, name=None), filtered(3))
    games = [{"id": number, "name": "Doom"} for number in range(10, 20)]
    candidates = rank_candidates(search_terms(enriched), parse_found_games({1: games}))
    unfiltered = conform(enriched.filter(appid=3), EnrichedLibrary)
    overrides = decided("1,match,72,", "2,ignore,,")
    sheet = build_review_sheet(unmatched_games(enriched), unfiltered, candidates, overrides, KEY)
    ReviewSheet.validate(sheet)
    assert sheet["appid"].to_list() == [1, 2, 3]
    assert sheet.select("action", "igdb_id", "note").null_count().row(0) == (3, 3, 3)
    assert sheet["proposed"].to_list() == [None, None, "game"]
    assert sheet["decided"].to_list() == ["match 72", "ignore", None]
    assert sheet["checkpoint"].unique().to_list() == [KEY]
    numbers = [sheet[f"candidate_{number}_id"].to_list() for number in range(1, MOST_CANDIDATES + 1)]
    assert numbers == [[number, None, None] for number in range(10, 15)]
    assert sheet["candidate_1_score"].to_list() == [100, None, None]


def test_a_sheet_of_nothing_has_its_columns() -> None:
    nothing = empty_frame(EnrichedLibrary)
    sheet = build_review_sheet(nothing, nothing, empty_frame(Candidates), empty_frame(Overrides), KEY)
    assert ReviewSheet.validate(sheet).height == 0
