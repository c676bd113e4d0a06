"""The report in a real browser: Debian's chromium, without a window, driven by Playwright."""

import csv
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pandera.typing.polars import DataFrame
from playwright.sync_api import Page, expect

from pipeline.report.page import IMAGE_HOST, Origin, render_report
from schemas.frames import conform
from schemas.library import EnrichedLibrary
from tests.support.chromium import DESKTOP, IN_CHROMIUM, PHONE, Watched, find_violations, is_as_wide_as_the_window
from tests.support.libraries import FIGHTING, SHOOTER, app, library, matched

pytestmark = IN_CHROMIUM

ORIGIN = Origin("enriched.csv", datetime(2026, 11, 23, tzinfo=UTC))
HOSTILE = "</script><img src=x onerror=alert(1)>"
COVER = f"{IMAGE_HOST}/igdb/image/upload/t_cover_big/co1.jpg"
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="264" height="374"><rect width="264" height="374"/></svg>'
CHUNK = 100
PAGES = 30
BUDGET_MS = 1000
TYPING_MS = 400

Open = Callable[..., Page]


@pytest.fixture
def open_report(watched: Watched, tmp_path: Path) -> Iterator[Open]:
    """Opens the report of a library as a file; afterwards it has asked for nothing but the covers that were allowed."""
    address = (tmp_path / "report.html").as_uri()
    allowed = {address}
    watched.context.route(f"{IMAGE_HOST}/**", lambda route: route.fulfill(body=PICTURE, content_type="image/svg+xml"))

    def open_page(
        enriched: DataFrame[EnrichedLibrary], size: tuple[int, int] = DESKTOP, state: str = "", **options: Any
    ) -> Page:
        (tmp_path / "report.html").write_text(render_report(enriched, ORIGIN, **options), encoding="utf-8")
        if options.get("covers"):
            allowed.add(COVER)
        return watched.open(address + state, size)

    yield open_page
    assert {url.split("#")[0] for url in watched.asked} <= allowed


def few() -> DataFrame[EnrichedLibrary]:
    return library(
        matched(1, 10, name="Pokémon Arena", playtime_forever=90, igdb_genres=[FIGHTING], igdb_cover_url=COVER)
        | {"playtime_windows_forever": 90, "rtime_last_played": datetime(2024, 5, 1, tzinfo=UTC)},
        matched(2, 11, name="Zebra", playtime_forever=600, igdb_genres=[SHOOTER], playtime_2weeks=60)
        | {"playtime_deck_forever": 60, "igdb_first_release_date": datetime(2011, 5, 1, tzinfo=UTC)},
        app(3, name="=apple", playtime_forever=30, match_reason="ambiguous", igdb_candidates="[7,8]"),
        app(
            4, name="Never Demo", match_status="IGNORED", match_reason="filtered", kind="demo", kind_reason="name:demo"
        ),
    )


@cache
def many(games: int) -> DataFrame[EnrichedLibrary]:
    return library(
        *(
            matched(
                number, number, name=f"Game of {number * 7919 % games}", igdb_name="", playtime_forever=number % 5000
            )
            | {"igdb_genres": '[{"id":5,"name":"Shooter","slug":"shooter","checksum":"s"}]'}
            | ({"match_status": "UNMATCHED", "match_reason": "not_found"} if number % 20 == 0 else {})
            | {"rtime_last_played": datetime(2005 + number % 20, 1, 1, tzinfo=UTC), "igdb_cover_url": COVER}
            for number in range(1, games + 1)
        )
    )


def names(page: Page) -> list[str]:
    return page.locator("#games tbody bdi").all_inner_texts()


def count(page: Page) -> str:
    return page.get_by_role("status").inner_text()


def search(page: Page, text: str) -> None:
    """Type, and wait for what stops the typing."""
    page.get_by_label("Search").fill(text)
    page.wait_for_timeout(TYPING_MS)


def heading(page: Page, name: str) -> str | None:
    return (
        page.get_by_role("table", name="All games and apps")
        .get_by_role("columnheader", name=name)
        .get_attribute("aria-sort")
    )


def milliseconds(page: Page, action: str) -> float:
    """How long the page is busy with an action, with its layout."""
    measured: float = page.evaluate(
        f"() => {{ const start = performance.now(); {action}; document.body.offsetHeight;"
        " return performance.now() - start; }"
    )
    return measured


def test_the_most_played_come_first_with_links_to_steam_and_igdb(open_report: Open) -> None:
    page = open_report(few())
    assert names(page) == ["Zebra", "Pokémon Arena", "=apple", "Never Demo"]
    links = {link.get_attribute("aria-label"): link.get_attribute("href") for link in page.locator("#games a").all()}
    assert links["Zebra on Steam"] == "https://store.steampowered.com/app/2"
    assert links["Zebra on IGDB"] == "https://www.igdb.com/games/game-11"
    assert "=apple on IGDB" not in links


def test_search_finds_names_without_accents_genres_and_appids_and_the_choice_a_match_status(open_report: Open) -> None:
    page = open_report(few())
    for text, found in {
        "POKEMON arena": ["Pokémon Arena"],
        "shoot": ["Zebra"],
        " 3 ": ["=apple"],
        "demo": ["Never Demo"],
        "nothing like it": [],
    }.items():
        search(page, text)
        assert (names(page), count(page)) == (found, f"{len(found)} of 4 apps")
    expect(page.get_by_text("No app is like that.")).to_be_visible()
    search(page, "")
    assert count(page) == "4 of 4 apps"
    page.get_by_label("Status").select_option("unmatched")
    assert names(page) == ["=apple"]
    expect(page.locator("#games td.match")).to_contain_text("Several games on IGDB")
    assert page.locator("#games td.match a").all_inner_texts() == ["Search IGDB"]
    page.get_by_label("Status").select_option("filtered")
    expect(page.locator("#games td.match")).to_have_text("Filtered: demo")


def test_columns_sort_by_keyboard_and_mouse_and_say_so(open_report: Open) -> None:
    page = open_report(few())
    assert heading(page, "Hours") == "descending"
    page.get_by_role("button", name="Save these rows as CSV").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert names(page) == ["=apple", "Never Demo", "Pokémon Arena", "Zebra"]
    assert (heading(page, "Name"), heading(page, "Hours")) == ("ascending", None)
    page.keyboard.press("Space")
    assert names(page) == ["Zebra", "Pokémon Arena", "Never Demo", "=apple"]
    assert heading(page, "Name") == "descending"
    for genres in (["Pokémon Arena", "Zebra"], ["Zebra", "Pokémon Arena"]):
        page.get_by_role("button", name="Genres").click()
        assert names(page)[:2] == genres, "blank cells come last in both directions"


def test_names_that_are_html_are_text_and_run_nothing(open_report: Open) -> None:
    genre = {**SHOOTER, "name": HOSTILE}
    page = open_report(
        library(
            matched(1, 10, name=HOSTILE, igdb_name=HOSTILE, igdb_slug=f"../{HOSTILE}", igdb_genres=[genre]),
            app(2, name=HOSTILE),
            app(3, name="x" * 500),
        ),
        PHONE,
    )
    page.wait_for_timeout(200)
    assert names(page) == [HOSTILE, HOSTILE, "x" * 500]
    assert page.locator("img").count() == 0
    steam, igdb = page.locator("#games a").all()[:2]
    assert (steam.get_attribute("href"), igdb.get_attribute("href")) == (
        "https://store.steampowered.com/app/1",
        "https://www.igdb.com/games/..%2F%3C%2Fscript%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    )
    assert is_as_wide_as_the_window(page)


def test_ten_thousand_games_are_drawn_in_pieces_and_stay_quick(open_report: Open) -> None:
    page = open_report(many(10_000))
    rows = page.locator("#games tbody tr")
    assert rows.count() == CHUNK
    for column in ("name", "genre_names", "year", "match", "playtime_forever"):
        button = f"document.querySelector('[data-column={column}]')"
        assert milliseconds(page, f"{button}.click()") < BUDGET_MS
        assert rows.count() == CHUNK
    search(page, "of 77")
    named = sum("77" in str(number) for number in range(10_000))
    assert count(page) == f"{named + 1} of 10,000 apps", "and the one whose appid it is"
    assert rows.count() == CHUNK
    choose = "document.getElementById('status').dispatchEvent(new Event('change'))"
    assert milliseconds(page, f"document.getElementById('q').value = 'game of'; {choose}") < BUDGET_MS
    assert count(page) == "10,000 of 10,000 apps"


def test_more_rows_come_by_keyboard_and_the_end_of_the_page_is_within_reach(open_report: Open) -> None:
    page = open_report(many(2 * CHUNK + 1))
    rows = page.locator("#games tbody tr")
    page.get_by_role("heading", name="How this was made").scroll_into_view_if_needed()
    expect(rows).to_have_count(CHUNK)
    for shown in (2 * CHUNK, 2 * CHUNK + 1):
        page.get_by_role("button", name="Show more").press("Enter")
        expect(rows).to_have_count(shown)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_filters_are_in_the_address_and_the_address_brings_them_back(open_report: Open) -> None:
    page = open_report(few())
    for label, value, found in (
        ("Genre", "Shooter", ["Zebra"]),
        ("Year of release", "2011", ["Zebra"]),
        ("Year of last play", "2024", ["Pokémon Arena"]),
        ("Played on", "Steam Deck", ["Zebra"]),
        ("Status", "recent", ["Zebra"]),
        ("Status", "filtered", ["Never Demo"]),
    ):
        page.get_by_label(label).select_option(value)
        assert names(page) == found
        page.reload()
        assert (page.get_by_label(label).input_value(), names(page)) == (value, found)
        page.get_by_role("button", name="Clear filters").click()
        assert count(page) == "4 of 4 apps"
    search(page, "a")
    page.get_by_role("button", name="Name").click()
    state = "#" + page.url.split("#")[1]
    assert state == "#q=a&sort=name+ascending"
    page = open_report(few(), state=state)
    assert names(page) == ["=apple", "Pokémon Arena", "Zebra"]
    page = open_report(few(), state="#genre=Unheard-of&status=%3Cb%3E&sort=x")
    assert count(page) == "4 of 4 apps", "what this library has not is no filter"


def test_a_bar_leads_to_the_rows_that_it_counts(open_report: Open) -> None:
    demo = app(9, name="Zebra Demo", playtime_forever=30, playtime_2weeks=30, match_status="IGNORED", kind="demo")
    played = {"match_reason": "filtered", "playtime_windows_forever": 30}
    page = open_report(conform(pl.concat([few(), library(demo | played)]), EnrichedLibrary))
    page.get_by_role("link", name="Zebra", exact=True).press("Enter")
    expect(page.locator("#games tbody bdi")).to_have_text(["Zebra"])
    page.go_back()
    page.get_by_role("link", name="Windows").press("Enter")
    expect(page.locator("#games tbody bdi")).to_have_text(["Pokémon Arena"])
    expect(page.get_by_role("heading", name="All games and apps")).to_be_in_viewport()
    expect(page.get_by_label("Played on")).to_have_value("Windows")
    page.go_back()
    expect(page.get_by_role("status")).to_have_text("5 of 5 apps")


def test_the_rows_shown_are_saved_as_csv(open_report: Open, tmp_path: Path) -> None:
    page = open_report(few(), state="#status=played")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save these rows as CSV").press("Enter")
    saving.value.save_as(tmp_path / saving.value.suggested_filename)
    with (tmp_path / "games.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["appid"], row["name"]) for row in rows] == [("2", "Zebra"), ("1", "Pokémon Arena"), ("3", "'=apple")]
    assert rows[1] | {"last_played": "2024-05-01", "genres": "Fighting", "platforms": "Windows"} == rows[1]


def test_ten_thousand_games_print_as_a_summary_without_controls(open_report: Open) -> None:
    page = open_report(many(10_000))
    page.get_by_role("button", name="Show more").press("Enter")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) < PAGES
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#games tbody tr:visible").count() == CHUNK
    expect(page.get_by_text("The first 100 of 10,000 rows.")).to_be_visible()
    for control in ("#filter", "#games .links >> nth=0"):
        expect(page.locator(control)).to_be_hidden()


def test_covers_are_asked_for_and_shown_if_the_report_has_them(open_report: Open) -> None:
    page = open_report(few(), covers=True)
    expect(page.locator(".cover img")).to_have_js_property("naturalWidth", 264)
    assert find_violations(page) == []


@pytest.mark.parametrize("games", [2_000, 10_000])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_the_page_is_accessible_light_and_dark_at_any_size(
    open_report: Open, size: tuple[int, int], games: int
) -> None:
    page = open_report(many(games), size)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert find_violations(page) == []
    page.goto(page.url.split("#")[0] + "#status=unmatched")
    expect(page.locator("#games td.match a").first).to_be_visible()
    assert find_violations(page) == []
    assert is_as_wide_as_the_window(page)


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_everything_is_reached_by_keyboard_in_the_order_of_reading(open_report: Open, size: tuple[int, int]) -> None:
    page = open_report(few(), size)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the table")).to_be_in_viewport()
    reached: list[str] = []
    focused = "() => { const e = document.activeElement; return e === document.body ? '' : e.id || e.textContent; }"
    while here := page.evaluate(focused):
        reached.append(here)
        page.keyboard.press("Tab")
    controls = ["q", "genre", "year", "played", "platform", "status", "save", "Name", "Hours", "Last played"]
    places = [reached.index(control) for control in ("Zebra", "Shooter", "Windows", *controls) if control in reached]
    assert places == sorted(places)
    assert set(controls) <= set(reached)
    page.get_by_label("Search").focus()
    page.keyboard.type("zebra")
    page.wait_for_timeout(TYPING_MS)
    assert names(page) == ["Zebra"]
