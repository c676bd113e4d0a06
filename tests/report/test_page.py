import json
import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser

from pandera.typing.polars import DataFrame

from pipeline.report.page import UNMATCHED_SHOWN, render_report
from schemas.frames import empty_frame
from schemas.library import EnrichedLibrary
from tests.support.libraries import FIGHTING, SHOOTER, app, library, matched

HOSTILE = "</script><img src=x onerror=alert(1)>"
SITES = ("https://store.steampowered.com/app/", "https://www.igdb.com/games/")
OF_THE_PAGE = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "figure",
    "figcaption",
} | {
    *("h1", "h2", "h3", "p", "a", "bdi", "b", "code", "span", "div", "dl", "dt", "dd", "ol", "li", "noscript"),
    *("table", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "select", "option", "button"),
    *("template", "script"),
}


class Elements(HTMLParser):
    """Every element with its attributes, as a parser that runs nothing sees them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hostile() -> DataFrame[EnrichedLibrary]:
    genre, released = {**SHOOTER, "name": HOSTILE}, datetime(2011, 4, 18, tzinfo=UTC)
    return library(
        matched(5, 11, igdb_first_release_date=released),
        matched(1, 10, name=HOSTILE, igdb_name=HOSTILE, igdb_slug=HOSTILE, playtime_forever=90, igdb_genres=[genre]),
        app(2, name=HOSTILE, kind_reason=HOSTILE),
        app(3, match_status="IGNORED", match_reason="filtered", kind="demo", kind_reason=HOSTILE),
        app(4, name="{{ title }} {% raw %} $title"),
    )


def test_the_page_has_no_element_but_its_own_and_is_always_the_same() -> None:
    page = render_report(hostile(), HOSTILE)
    assert render_report(hostile(), HOSTILE) == page
    found = Elements(page).found
    assert {tag for tag, _ in found} <= OF_THE_PAGE
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]


def test_the_data_is_json_that_cannot_end_its_element() -> None:
    page = render_report(hostile(), "enriched.csv")
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in text
    assert json.loads(text)["rows"]["name"] == [HOSTILE, HOSTILE, "Name 3", "Name 5", "{{ title }} {% raw %} $title"]


def test_the_page_loads_nothing() -> None:
    page = render_report(
        library(matched(1, 10, igdb_cover_url="https://images.igdb.com/a.jpg"), app(2)), "imports/enriched.csv"
    )
    for tag, attributes in Elements(page).found:
        loads = {name: attributes[name] for name in ("src", "srcset", "href", "data", "action") if name in attributes}
        assert all(tag == "a" and str(url).startswith((*SITES, "#")) for url in loads.values()), (tag, loads)
    assert re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|images\.igdb", page) == []


def test_the_policy_allows_the_pages_own_script_alone() -> None:
    page = render_report(library(app(1)), "enriched.csv")
    (script,) = re.findall(r"(?s)<script>(.*?)</script>", page)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in page


def test_unmatched_games_are_listed_with_their_candidates_and_what_to_do_where_there_are_any() -> None:
    several = app(1, match_reason="ambiguous", igdb_candidates="[7,8]", playtime_forever=9)
    page = render_report(library(several, *map(app, range(2, UNMATCHED_SHOWN + 3))), "enriched.csv")
    for text in ("Several games on IGDB", ">7, 8</td>", "steam-import review export", "And 2 more"):
        assert text in page
    page = render_report(library(matched(1, 10, igdb_genres=[FIGHTING])), "enriched.csv")
    assert "none is left unmatched" in page
    assert 'id="unmatched"' not in page


def test_a_library_of_nothing_has_figures_and_no_table() -> None:
    page = render_report(empty_frame(EnrichedLibrary), "enriched.csv")
    assert "An empty Steam library" in page
    assert "<div hidden>" in page
