"""The report in a real browser: Debian's chromium, without a window, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pandera.typing.polars import DataFrame
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeline.report.page import render_report
from schemas.library import EnrichedLibrary
from tests.support.libraries import FIGHTING, SHOOTER, app, library, matched

CHROMIUM = shutil.which("chromium", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = "</script><img src=x onerror=alert(1)>"
CHUNK = 50
BUDGET_MS = 1000
TYPING_MS = 400
PHONE, DESKTOP = (390, 844), (1280, 900)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as opened,
    ):
        yield opened


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the report of a library as a file; afterwards it has asked for nothing, said nothing and run no one's."""
    context = browser.new_context()
    said: list[str] = []
    asked: list[str] = []
    address = (tmp_path / "report.html").as_uri()

    def open_page(enriched: DataFrame[EnrichedLibrary], size: tuple[int, int] = DESKTOP) -> Page:
        (tmp_path / "report.html").write_text(render_report(enriched, "enriched.csv"), encoding="utf-8")
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(address)
        return page

    yield open_page
    context.close()
    assert said == []
    assert set(asked) <= {address}


def few() -> DataFrame[EnrichedLibrary]:
    return library(
        matched(1, 10, name="Pokémon Arena", playtime_forever=90, igdb_genres=[FIGHTING]),
        matched(2, 11, name="Zebra", playtime_forever=600, igdb_genres=[SHOOTER]),
        app(3, name="apple", playtime_forever=30, match_reason="ambiguous", igdb_candidates="[7,8]"),
        app(
            4, name="Never Demo", match_status="IGNORED", match_reason="filtered", kind="demo", kind_reason="name:demo"
        ),
    )


def many(games: int) -> DataFrame[EnrichedLibrary]:
    return library(
        *(
            matched(
                number, number, name=f"Game of {number * 7919 % games}", igdb_name="", playtime_forever=number % 5000
            )
            | {"igdb_genres": '[{"id":5,"name":"Shooter","slug":"shooter","checksum":"s"}]'}
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
    return page.get_by_role("table", name="All apps").get_by_role("columnheader", name=name).get_attribute("aria-sort")


def milliseconds(page: Page, action: str) -> float:
    """How long the page is busy with an action, with its layout."""
    measured: float = page.evaluate(
        f"() => {{ const start = performance.now(); {action}; document.body.offsetHeight;"
        " return performance.now() - start; }"
    )
    return measured


def test_the_most_played_come_first_with_links_to_steam_and_igdb(open_report: Open) -> None:
    page = open_report(few())
    assert names(page) == ["Zebra", "Pokémon Arena", "apple", "Never Demo"]
    links = {link.get_attribute("aria-label"): link.get_attribute("href") for link in page.locator("#games a").all()}
    assert links["Zebra on Steam"] == "https://store.steampowered.com/app/2"
    assert links["Zebra on IGDB"] == "https://www.igdb.com/games/game-11"
    assert "apple on IGDB" not in links


def test_search_finds_names_without_accents_genres_and_appids_and_the_choice_a_match_status(open_report: Open) -> None:
    page = open_report(few())
    for text, found in {
        "POKEMON arena": ["Pokémon Arena"],
        "shoot": ["Zebra"],
        " 3 ": ["apple"],
        "demo": ["Never Demo"],
        "nothing like it": [],
    }.items():
        search(page, text)
        assert (names(page), count(page)) == (found, f"{len(found)} of 4 apps")
    expect(page.get_by_text("No app is like that.")).to_be_visible()
    search(page, "")
    assert count(page) == "4 of 4 apps"
    page.get_by_label("Show").select_option("UNMATCHED")
    assert names(page) == ["apple"]
    expect(page.locator("#games td.match")).to_have_text("Several games on IGDB: 7, 8")
    page.get_by_label("Show").select_option("IGNORED")
    expect(page.locator("#games td.match")).to_have_text("Filtered: demo")


def test_columns_sort_by_keyboard_and_mouse_and_say_so(open_report: Open) -> None:
    page = open_report(few())
    assert heading(page, "Hours") == "descending"
    page.get_by_label("Show").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert names(page) == ["apple", "Never Demo", "Pokémon Arena", "Zebra"]
    assert (heading(page, "Name"), heading(page, "Hours")) == ("ascending", None)
    page.keyboard.press("Space")
    assert names(page) == ["Zebra", "Pokémon Arena", "Never Demo", "apple"]
    assert heading(page, "Name") == "descending"
    for genres in (["Pokémon Arena", "Zebra"], ["Zebra", "Pokémon Arena"]):
        page.get_by_role("button", name="Genres").click()
        assert names(page)[:2] == genres, "blank cells come last in both directions"


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_names_that_are_html_are_text_and_run_nothing(open_report: Open, size: tuple[int, int]) -> None:
    genre = {**SHOOTER, "name": HOSTILE}
    page = open_report(
        library(
            matched(1, 10, name=HOSTILE, igdb_name=HOSTILE, igdb_slug=f"../{HOSTILE}", igdb_genres=[genre]),
            app(2, name=HOSTILE),
            app(3, name="x" * 500),
        ),
        size,
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


def test_a_phone_shows_a_list_that_is_as_wide_as_the_window(open_report: Open) -> None:
    page = open_report(few(), PHONE)
    assert is_as_wide_as_the_window(page)
    page.get_by_role("button", name="Name").click()
    assert names(page)[0] == "apple"
    assert heading(page, "Name") == "ascending"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def is_as_wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"))


def test_ten_thousand_games_are_drawn_in_pieces_and_stay_quick(open_report: Open) -> None:
    page = open_report(many(10_000))
    rows = page.locator("#games tbody tr")
    assert rows.count() == CHUNK
    for column in ("name", "genres", "year", "match", "playtime_forever"):
        button = f"document.querySelector('[data-column={column}]')"
        assert milliseconds(page, f"{button}.click()") < BUDGET_MS
        assert rows.count() == CHUNK
    search(page, "of 77")
    named = sum("77" in str(number) for number in range(10_000))
    assert count(page) == f"{named + 1} of 10,000 apps", "and the one whose appid it is"
    assert rows.count() == CHUNK
    choose = "document.getElementById('show').dispatchEvent(new Event('change'))"
    assert milliseconds(page, f"document.getElementById('search').value = 'game of'; {choose}") < BUDGET_MS
    assert count(page) == "10,000 of 10,000 apps"


def test_more_rows_come_with_the_end_of_the_page_and_by_keyboard(open_report: Open) -> None:
    page = open_report(many(2 * CHUNK + 1))
    rows = page.locator("#games tbody tr")
    page.get_by_role("button", name="Show more").scroll_into_view_if_needed()
    expect(rows).to_have_count(2 * CHUNK)
    page.get_by_role("button", name="Show more").press("Enter")
    expect(rows).to_have_count(2 * CHUNK + 1)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()


def test_paper_has_every_row_and_no_controls(open_report: Open) -> None:
    page = open_report(many(3 * CHUNK))
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert page.locator("#games tbody tr").count() == 3 * CHUNK
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("#filter", "#games .links >> nth=0"):
        expect(page.locator(control)).to_be_hidden()
