"""A real browser for tests of pages: Debian's Chromium, without a window, driven by Playwright."""

import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = shutil.which("chromium", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
IN_CHROMIUM = [
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
PHONE, DESKTOP = (390, 844), (1280, 900)
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium that the tests of a module share."""
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS) as opened,
    ):
        yield opened


class Watched:
    """A browser context whose pages are watched: what they ask for, and what they say on the console or in dialogs."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.asked: list[str] = []
        self.said: list[str] = []

    def open(self, address: str, size: tuple[int, int]) -> Page:
        """Open an address in a new page of a size."""
        page = self.context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.goto(address)
        return page


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A context of its own; afterwards its pages have said nothing."""
    opened = Watched(browser.new_context())
    yield opened
    opened.context.close()
    assert opened.said == []


def find_violations(page: Page) -> list[str]:
    """Return what axe-core finds on a page against WCAG 2.2 AA and its own best practices: rule and element."""
    found = Axe().run(page, options={"runOnly": WCAG_AA, "resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def is_as_wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.scrollingElement.scrollWidth <= innerWidth"))
