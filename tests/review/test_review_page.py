"""The page in which a person reviews games: its text; its behaviour is tested in test_review_page_in_chromium.py."""

import json
import re
from collections.abc import Collection
from typing import Any

from pandera.typing.polars import DataFrame

from pipeline.review.page import render_review_page
from pipeline.review.sheet import Choice, build_review_sheet, choose_apps, count_owners
from schemas.catalogue import Catalogue, Overrides
from schemas.frames import conform, dtypes, empty_frame
from schemas.library import RawLibrary
from schemas.review import Candidates, ReviewSheet
from tests.support.libraries import app, frame, library, matched

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028{{ data }}"


def sheet_of(
    *apps: dict[str, Any], candidates: list[tuple[Any, ...]] | None = None, appids: Collection[int] = ()
) -> DataFrame[ReviewSheet]:
    """A review sheet of apps that one user owns, with candidates of appid, IGDB id, label and score."""
    enriched, overrides = library(*apps), empty_frame(Overrides)
    owned = count_owners([conform(enriched.select(dtypes(RawLibrary).keys()), RawLibrary)])
    chosen = choose_apps(enriched, empty_frame(Catalogue), overrides, Choice(with_matched=True, appids=appids))
    return build_review_sheet(chosen, owned, frame(Candidates, candidates or []), overrides)


def data_of(page: str) -> dict[str, Any]:
    text = page.split('<script type="application/json" id="data">')[1].split("</script>", maxsplit=1)[0]
    assert "<" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_has_every_app_of_the_sheet_and_is_always_the_same() -> None:
    sheet = sheet_of(app(1, name=HOSTILE, playtime_forever=90), app(2, name=None), candidates=[(1, 72, HOSTILE, 99)])
    page = render_review_page(sheet)
    assert render_review_page(sheet) == page
    first, second = data_of(page)["apps"]
    assert (first["appid"], first["name"], first["owners"], first["playtime_forever"]) == (1, HOSTILE, 1, 90)
    assert first["candidates"] == [{"id": 72, "label": HOSTILE, "score": 99}]
    assert (second["name"], second["candidates"]) == (None, [])
    assert data_of(render_review_page(sheet_of(app(1))))["digest"] != data_of(page)["digest"]


def test_the_page_knows_of_each_app_its_match_and_of_each_candidate_its_score() -> None:
    sheet = sheet_of(
        matched(1, 72, igdb_name="Portal 2"),
        app(2, match_status="IGNORED", match_reason="override", kind_reason="override"),
        candidates=[(1, 71, "Portal (2007)", 80)],
        appids=(1, 2),
    )
    first, second = data_of(render_review_page(sheet))["apps"]
    assert (first["match_status"], first["matched_id"], first["matched"]) == ("MATCHED", 72, "Portal 2")
    assert first["candidates"] == [{"id": 71, "label": "Portal (2007)", "score": 80}]
    assert (second["match_status"], second["match_reason"]) == ("IGNORED", "override")


def test_the_page_loads_nothing_and_runs_its_own_script_alone() -> None:
    page = render_review_page(sheet_of(app(1, name="Portal Too")))
    assert re.findall(r" (?:src|srcset|action|on[a-z]+)=|url\(|@import|fetch\(|XMLHttpRequest|innerHTML", page) == []
    assert re.findall(r' href="', page) == []
    assert page.count("<script") == 2
    assert "default-src 'none'" in page
    assert "There is nothing to review." in render_review_page(sheet_of())
