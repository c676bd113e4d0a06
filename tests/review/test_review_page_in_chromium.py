"""The page in which a person reviews games, in a real browser: Debian's chromium, driven by Playwright."""

import csv
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from pandera.typing.polars import DataFrame
from playwright.sync_api import Browser, Page, expect

from pipeline.review.sheet import render_review_page
from pipeline.sandbox.server import Sandbox
from schemas.review import ReviewSheet
from tests.review.test_sheet import HOSTILE, sheet_of
from tests.support.chromium import DESKTOP, IN_CHROMIUM, PHONE, Watched, find_violations, is_as_wide_as_the_window
from tests.support.databases import NewDatabase, fetch
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.libraries import app, matched
from tests.support.programs import PROGRAM, environment

pytestmark = IN_CHROMIUM

BUDGET_MS = 1000
GAME = 9001
UNKNOWN = 999_010

Open = Callable[..., Page]


@pytest.fixture
def open_file(watched: Watched) -> Iterator[Open]:
    """Opens a page as a file; afterwards it has asked for nothing."""
    opened: set[str] = set()

    def open_page(path: Path, size: tuple[int, int] = DESKTOP) -> Page:
        opened.add(path.as_uri())
        return watched.open(path.as_uri(), size)

    yield open_page
    assert {url for url in watched.asked if not url.startswith("blob:")} <= opened


@pytest.fixture
def open_sheet(open_file: Open, tmp_path: Path) -> Open:
    """Opens the page of a review sheet."""

    def open_page(sheet: DataFrame[ReviewSheet], size: tuple[int, int] = DESKTOP) -> Page:
        (tmp_path / "games.html").write_text(render_review_page(sheet), encoding="utf-8")
        return open_file(tmp_path / "games.html", size)

    return open_page


def few() -> DataFrame[ReviewSheet]:
    return sheet_of(
        app(1, name="Portal Too", playtime_forever=900),
        app(2, name="Zebra, the = game", playtime_forever=60),
        app(3, name=None),
        candidates=[(1, 72, "Portal 2 (2011, main game, PC)", 90), (1, 71, "Portal (2007, main game, PC)", 80)],
    )


def many(games: int) -> DataFrame[ReviewSheet]:
    rows = (app(number, name=f"Game {number}", playtime_forever=games - number) for number in range(1, games + 1))
    numbers = range(1, games + 1)
    return sheet_of(
        *rows, candidates=[(n, 5 * n + i, f"Game {n} ({2000 + i})", 99 - i) for n in numbers for i in range(5)]
    )


def saved(page: Page, folder: Path) -> list[dict[str, str]]:
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save decisions").press("Enter")
    assert saving.value.suggested_filename == "games.csv"
    saving.value.save_as(folder / "games.csv")
    with (folder / "games.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def counted(page: Page) -> str:
    return page.locator("#count").inner_text()


def test_decisions_are_made_by_keyboard_alone_counted_undone_kept_and_saved(open_sheet: Open, tmp_path: Path) -> None:
    page = open_sheet(few())
    assert counted(page) == "0 of 3 games decided"
    expect(page.get_by_role("button", name="Save decisions")).to_be_disabled()
    page.get_by_label("Show", exact=True).focus()
    for _ in range(3):  # the two links, then the first game's choice
        page.keyboard.press("Tab")
    page.keyboard.press("1")
    expect(page.get_by_label("Portal 2 (2011")).to_be_checked()
    page.keyboard.press("2")
    expect(page.get_by_label("Portal (2007")).to_be_checked()
    page.keyboard.press("n")
    page.keyboard.press("x")
    page.keyboard.press("n")
    page.keyboard.press("ArrowUp")
    assert counted(page) == "3 of 3 games decided"
    page.keyboard.press("u")
    page.keyboard.press("p")
    assert counted(page) == "2 of 3 games decided"
    page.reload()
    assert counted(page) == "2 of 3 games decided"
    expect(page.get_by_label("Portal (2007")).to_be_checked()
    page.locator("#app-3").get_by_label("Another game, by its number").check()
    other = page.get_by_label("IGDB's number of the game that App 3 is")
    expect(other).to_be_focused()
    page.keyboard.type("none")
    page.keyboard.press("Enter")
    assert (counted(page), other.get_attribute("aria-invalid")) == ("2 of 3 games decided", "true")
    other.fill(" 77 ")
    other.blur()
    assert counted(page) == "3 of 3 games decided"
    assert saved(page, tmp_path) == [
        {"appid": "1", "name": "Portal Too", "action": "match", "igdb_id": "71", "note": ""},
        {"appid": "2", "name": "Zebra, the = game", "action": "ignore", "igdb_id": "", "note": ""},
        {"appid": "3", "name": "", "action": "match", "igdb_id": "77", "note": ""},
    ]
    expect(page.get_by_text("3 decisions saved.")).to_be_visible()


def test_arrow_keys_walk_through_all_choices_and_pass_over_a_number_without_losing_the_decision(
    open_sheet: Open,
) -> None:
    page = open_sheet(few())
    checked = page.locator("#app-1 input:checked")
    checked.press("2")
    for value, count in {
        "other": "1 of 3 games decided",
        "ignore": "1 of 3 games decided",
        "later": "0 of 3 games decided",
        "match 72": "1 of 3 games decided",
        "match 71": "1 of 3 games decided",
    }.items():
        page.keyboard.press("ArrowDown")
        expect(checked).to_be_focused()
        assert (checked.get_attribute("value"), counted(page)) == (value, count)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("none")
    page.keyboard.press("Enter")
    assert counted(page) == "1 of 3 games decided"
    page.get_by_label("Search", exact=True).focus()
    expect(page.get_by_label("Portal (2007")).to_be_checked()
    page.reload()
    expect(page.get_by_label("Portal (2007")).to_be_checked()


def test_decisions_are_made_by_touch(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "games.html"
    file.write_text(render_review_page(few()), encoding="utf-8")
    touched = Watched(browser.new_context(has_touch=True, is_mobile=True))
    page = touched.open(file.as_uri(), PHONE)
    first, second = page.locator("#app-1"), page.locator("#app-2")
    first.get_by_text("Portal (2007").tap()
    first.get_by_text("Another game, by its number").tap()
    expect(first.get_by_role("textbox")).to_be_focused()
    second.get_by_text("No game").tap()
    assert counted(page) == "2 of 3 games decided"
    expect(first.get_by_label("Portal (2007")).to_be_checked()
    first.get_by_text("Another game, by its number").tap()
    page.keyboard.type("77")
    page.get_by_role("button", name="Undo").tap()
    assert counted(page) == "2 of 3 games decided"
    expect(first.get_by_label("Portal (2007")).to_be_checked()
    page.get_by_role("button", name="Undo").tap()
    assert counted(page) == "1 of 3 games decided"
    assert [row["igdb_id"] for row in saved(page, tmp_path)] == ["71"]
    touched.context.close()
    assert touched.said == []


def test_a_game_has_its_facts_a_link_to_the_store_the_reason_and_its_candidates_with_scores(open_sheet: Open) -> None:
    page = open_sheet(
        sheet_of(
            matched(1, 72, name="Portal Too", playtime_forever=900, igdb_name="Portal 2"),
            app(2, name=None, playtime_forever=60),
            app(3, name="A demo", playtime_forever=90, match_status="IGNORED", match_reason="filtered", kind="demo"),
            app(4, name="A tool", match_status="IGNORED", match_reason="override", kind_reason="override"),
            candidates=[(1, 71, "Portal (2007, main game, PC)", 80)],
            appids=(1, 2, 3, 4),
        )
    )
    facts = {
        1: ("App 1, 15 hours, 1 owner", "Matched by IGDB's list of Steam ids; now Portal 2 (72)."),
        2: ("1 hour, 1 owner", "IGDB does not list its Steam id."),
        3: ("App 3, 1.5 hours, 1 owner", "Filtered as demo."),
        4: ("App 4, 0 hours, 1 owner", "Decided by hand."),
    }
    for appid, (played, why) in facts.items():
        game = page.locator(f"#app-{appid}")
        expect(game.locator(".facts")).to_have_text(f"{played} Steam Search IGDB")
        expect(game.locator(".store")).to_have_attribute("href", f"https://store.steampowered.com/app/{appid}")
        expect(game.locator(".why")).to_have_text(why)
    other, rest = "Another game, by its number on IGDB", ["No game: it is not imported", "Decide later"]
    again = [other, rest[0], "A game, to be matched to IGDB", rest[1]]
    choices = {1: ["Portal (2007, main game, PC)", other, *rest], 2: [other, *rest], 3: again, 4: again}
    for appid, labels in choices.items():
        assert page.locator(f"#app-{appid} .choice bdi").all_inner_texts() == labels
    assert page.locator(".score").all_inner_texts()[0] == "80 % alike"


def test_games_are_filtered_by_name_and_by_whether_they_are_decided(open_sheet: Open) -> None:
    page = open_sheet(few(), PHONE)
    page.locator("#app-1").get_by_text("Portal 2 (2011").click()
    page.get_by_label("Show", exact=True).select_option("open")
    assert page.locator("h2").all_inner_texts() == ["Zebra, the = game", "App 3"]
    page.get_by_label("Search", exact=True).fill("zebra")
    expect(page.locator("h2")).to_have_count(1)
    page.get_by_label("Show", exact=True).select_option("decided")
    expect(page.get_by_text("No game is like that.")).to_be_visible()


def test_decisions_about_one_sheet_are_not_those_about_another(open_sheet: Open) -> None:
    page = open_sheet(few())
    page.get_by_label("Portal 2 (2011").check()
    assert counted(open_sheet(sheet_of(app(1, name="Portal Too")))) == "0 of 1 game decided"
    assert counted(open_sheet(few())) == "1 of 3 games decided"


def test_two_tabs_of_a_sheet_do_not_undo_each_others_decisions(open_sheet: Open) -> None:
    one, other = open_sheet(few()), open_sheet(few())
    one.get_by_label("Portal 2 (2011").check()
    expect(other.locator("#count")).to_have_text("1 of 3 games decided")
    other.locator("#app-2").get_by_label("No game").check()
    expect(one.locator("#count")).to_have_text("2 of 3 games decided")
    one.reload()
    assert counted(one) == "2 of 3 games decided"


def test_a_browser_that_keeps_nothing_says_so_and_still_saves(open_sheet: Open, tmp_path: Path) -> None:
    page = open_sheet(few())
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') } }")
    page.get_by_label("Portal 2 (2011").check()
    expect(page.get_by_text("This browser keeps nothing")).to_be_visible()
    assert len(saved(page, tmp_path)) == 1


def test_names_that_are_html_are_text(open_sheet: Open) -> None:
    page = open_sheet(sheet_of(app(1, name=HOSTILE), candidates=[(1, 5, HOSTILE, 90)]), PHONE)
    assert page.locator("img").count() == 0
    assert page.locator("bdi").all_inner_texts()[0].startswith("</script><img")
    assert is_as_wide_as_the_window(page)


@pytest.mark.parametrize(
    ("size", "games"), [(PHONE, 2_000), (DESKTOP, 10_000)], ids=["2,000 on a phone", "10,000 on a desktop"]
)
def test_thousands_of_games_stay_quick_and_accessible_light_and_dark(
    open_sheet: Open, size: tuple[int, int], games: int
) -> None:
    page = open_sheet(many(games), size)
    loaded = page.evaluate("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart")
    assert loaded < 3 * BUDGET_MS
    for action in (
        "document.querySelector('#app-1 input').click()",
        "const show = document.getElementById('show'); show.value = 'open'; show.dispatchEvent(new Event('change'))",
        "document.getElementById('more').click()",
        "document.getElementById('undo').click()",
    ):
        done = f"{action}; document.body.offsetHeight; return performance.now() - start"
        assert page.evaluate(f"() => {{ const start = performance.now(); {done}; }}") < BUDGET_MS
    page.evaluate("scrollTo(0, 0)")  # where nothing is half under what stays at the top
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert find_violations(page) == []
    assert is_as_wide_as_the_window(page)


def test_from_the_export_to_the_loaded_rows(
    sandbox: Sandbox, new_database: NewDatabase, open_file: Open, tmp_path: Path
) -> None:
    url = new_database(2026)
    settings = environment(sandbox, DATABASE_URL=url)

    def steam_import(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - our own program
            [*PROGRAM, *arguments], cwd=tmp_path, env=settings, check=True, capture_output=True, text=True
        ).stdout

    sandbox.world.add_game(1, GAME, "Nobody Knows Me!", platforms=[6], first_release_date=1303084800, genres=[9])
    steam_import("run", ACCOUNT, "--user", USER)
    assert "Open games.html in a browser" in steam_import("review", "export", "-o", "games.html")
    page = open_file(tmp_path / "games.html")
    expect(page.get_by_label("Nobody Knows Me! (2011, main game, PC)")).to_be_visible()
    page.locator(f"#app-{UNKNOWN} input").first.press("1")
    assert [row["igdb_id"] for row in saved(page, tmp_path)] == [str(GAME)]
    assert "(IGDB 9001)" in steam_import("review", "apply", "games.csv")
    items = 'SELECT g."igdbId" FROM "LibraryItem" l JOIN "Game" g ON g.id = l."gameId"'
    assert GAME in fetch(url, items)["igdbId"].to_list()
