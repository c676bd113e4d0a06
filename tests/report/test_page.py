import json
import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from pandera.typing.polars import DataFrame

from pipeline.report.page import IMAGE_HOST, UNMATCHED_SHOWN, Origin, render_report
from schemas.frames import empty_frame
from schemas.library import EnrichedLibrary
from schemas.report import LinkedCandidates
from tests.support.libraries import FIGHTING, SHOOTER, app, frame, library, matched

HOSTILE = "</script><img src=x onerror=alert(1)>"
ORIGIN = Origin("enriched.csv", datetime(2026, 11, 3, tzinfo=UTC))
COVER = f"{IMAGE_HOST}/igdb/image/upload/t_cover_big/co1.jpg"
SITES = ("https://store.steampowered.com/app/", "https://www.igdb.com/games/", "https://www.igdb.com/search?q=")
OF_THE_PAGE = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "figure", "figcaption"),
    *("h1", "h2", "h3", "p", "a", "bdi", "b", "code", "span", "div", "dl", "dt", "dd", "ol", "ul", "li", "noscript"),
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
    page = render_report(hostile(), Origin(HOSTILE))
    assert render_report(hostile(), Origin(HOSTILE)) == page
    found = Elements(page).found
    assert {tag for tag, _ in found} <= OF_THE_PAGE
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]


def test_the_data_is_json_that_cannot_end_its_element() -> None:
    page = render_report(hostile(), ORIGIN)
    text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in text
    assert json.loads(text)["rows"]["name"] == [HOSTILE, HOSTILE, "Name 3", "Name 5", "{{ title }} {% raw %} $title"]


def test_the_page_loads_nothing() -> None:
    page = render_report(library(matched(1, 10, igdb_cover_url=COVER, playtime_forever=1), app(2)), ORIGIN)
    for tag, attributes in Elements(page).found:
        loads = {name: attributes[name] for name in ("src", "srcset", "href", "data", "action") if name in attributes}
        assert all(tag == "a" and str(url).startswith((*SITES, "#")) for url in loads.values()), (tag, loads)
    assert re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|images\.igdb", page) == []


def test_covers_are_loaded_lazily_from_igdbs_image_host_alone() -> None:
    other = "https://elsewhere.example/co1.jpg"
    games = library(
        matched(1, 10, igdb_cover_url=COVER, playtime_forever=3),
        matched(2, 11, playtime_forever=2),
        matched(3, 12, igdb_cover_url=other, playtime_forever=1),
    )
    page = render_report(games, ORIGIN, covers=True)
    (image,) = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    assert (image["src"], image["loading"], image["alt"]) == (COVER, "lazy", "")
    assert f"'; img-src {IMAGE_HOST}; base-uri" in page
    assert ">N2<" in page, "initials stand where there is no cover"


def test_the_page_is_titled_by_user_and_day() -> None:
    one, other = app(1), app(1, user_id="user-2")
    assert "<title>Steam library of user-1, 3 November 2026</title>" in render_report(library(one), ORIGIN)
    assert "<title>Steam library of user-1</title>" in render_report(library(one), Origin("copy.csv"))
    assert "<title>Steam libraries of 2 users, 3 November 2026</title>" in render_report(library(one, other), ORIGIN)


@pytest.mark.parametrize(
    ("played", "share"), [(0, "0%"), (1, "under 1%"), (120, "48%"), (249, "over 99%"), (250, "100%")]
)
def test_the_share_played_is_none_or_all_only_if_it_is(played: int, share: str) -> None:
    games = (app(number, playtime_forever=number <= played) for number in range(1, 251))
    assert f">{share}</dd>" in render_report(library(*games), ORIGIN)


def test_a_library_whose_playtimes_are_hidden_says_so_once() -> None:
    page = render_report(library(app(1), matched(2, 10, igdb_genres=[FIGHTING])), ORIGIN)
    assert page.count("No playtime is known: the owner hides it, or never played.") == 1
    assert "At a glance" not in page


def played() -> DataFrame[EnrichedLibrary]:
    on_windows, recent = {"playtime_windows_forever": 90}, {"playtime_2weeks": 60}
    return library(
        matched(1, 10, name="Zebra", playtime_forever=5400, igdb_first_release_date=datetime(2011, 4, 18, tzinfo=UTC))
        | {"rtime_last_played": datetime(2024, 5, 1, tzinfo=UTC), **on_windows, **recent},
        app(2, name="Arena", playtime_forever=150),
        matched(3, 11, igdb_genres=[FIGHTING]),
        app(4, name="Zebra Demo", playtime_forever=90, match_status="IGNORED", match_reason="filtered", kind="demo")
        | {**on_windows, **recent},
    )


def test_top_games_are_cards_with_their_hours_and_four_charts_follow() -> None:
    page = render_report(played(), ORIGIN)
    assert re.findall(r"</div><h3><bdi>(.*?)</bdi></h3><p>(.*?)</p></li>", page) == [
        ("Zebra", '90 h <span class="released">2011</span>'),
        ("Arena", "2.5 h"),
    ]
    units = ["Hours by year of last play", "Hours in the last two weeks", "Backlog by genre", "Hours by platform"]
    assert re.findall(r'<p class="unit">(.*?)</p>', page)[:4] == units
    first_screen = page.split("Not matched</h2>")[0]
    for bar in ('title="2024: 90 h"', "Zebra</bdi></a> <span", "Fighting</bdi></a> <span", "Windows</bdi></a> <span"):
        assert bar in first_screen


def test_a_bar_leads_to_games_alone_as_it_counts_no_filtered_app() -> None:
    links = [attributes["href"] for tag, attributes in Elements(render_report(played(), ORIGIN)).found if tag == "a"]
    assert [link for link in links if link and "=" in link and link.startswith("#")] == [
        "#status=recent&q=Zebra",
        "#status=unplayed&genre=Fighting",
        "#status=played&platform=Windows",
    ]


def test_matching_and_filters_come_last() -> None:
    page = render_report(library(app(1, playtime_forever=60), matched(2, 10), app(3)), ORIGIN)
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert headings == ["Most played", "At a glance", "Not matched", "All games and apps", "How this was made"]
    made = page.split("How this was made")[1]
    assert "1 of 3 games is matched to IGDB" in made
    assert "No app is filtered" in made
    assert "enriched.csv" in made


def test_the_policy_allows_the_pages_own_script_alone() -> None:
    page = render_report(library(app(1)), ORIGIN)
    (script,) = re.findall(r"(?s)<script>(.*?)</script>", page)
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in page


def test_unmatched_games_are_listed_with_links_to_their_candidates_or_to_a_search() -> None:
    several = app(1, name="One (1)", match_reason="ambiguous", igdb_candidates="[7,8,9]", playtime_forever=9)
    candidates = [(1, 7, "Seven (2019, main game)", "seven"), (1, 8, "Eight & more (2020)", None), (1, 9, None, None)]
    page = render_report(
        library(several, *map(app, range(2, UNMATCHED_SHOWN + 3))), ORIGIN, frame(LinkedCandidates, candidates)
    )
    for href, text in {
        "games/seven": "Seven (2019, main game)",
        "search?q=Eight%20%26%20more": "Eight &amp; more (2020)",
        "search?q=One%20%281%29": "IGDB&#39;s game 9",
        "search?q=Name%202": "Search IGDB",
    }.items():
        assert (
            f'<a href="https://www.igdb.com/{href}" rel="noopener noreferrer" target="_blank"><bdi>{text}</bdi></a>'
            in page
        )
    for text in (
        "Several games on IGDB",
        "steam-import review export ENRICHED_CSV -o games.html",
        '<a href="#status=unmatched">2 more</a>',
    ):
        assert text in page


def test_a_library_without_unmatched_games_has_no_list_of_them() -> None:
    page = render_report(library(matched(1, 10, igdb_genres=[FIGHTING])), ORIGIN)
    assert "none is left unmatched" in page
    assert 'id="unmatched"' not in page


@pytest.mark.parametrize(
    ("apps", "sentences"),
    [
        (
            [
                app(1, playtime_forever=60, playtime_2weeks=60),
                app(2, match_status="PENDING", match_reason="not_looked_up"),
            ],
            ["in 1 game", "1 of 2 games", "1 game is not matched to a game", "1 game. Enrich again, and it may match."],
        ),
        (
            [app(1), app(2), app(3, match_status="IGNORED", match_reason="filtered", kind="demo")],
            ["in 0 games", "0 of 2 games", "besides 1 filtered app<", "2 games are not matched to games"],
        ),
    ],
    ids=["one", "two"],
)
def test_sentences_are_right_in_the_singular(apps: list[dict[str, Any]], sentences: list[str]) -> None:
    page = render_report(library(*apps), ORIGIN)
    assert [sentence for sentence in sentences if sentence not in page] == []


def test_a_library_of_nothing_has_figures_and_no_table() -> None:
    page = render_report(empty_frame(EnrichedLibrary), ORIGIN)
    assert "An empty Steam library" in page
    assert "<div hidden>" in page
