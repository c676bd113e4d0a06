"""`steam-import demo` in an empty folder, with nothing configured."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import README
from tests.support.programs import environment, open_folder, run_program

UNLISTED = [
    "Dragon's Dogma 2 Character Creator & Storage",
    "The Pirate: Caribbean Hunt",
    "Skyrim Script Extender (SKSE)",
    "PlanetSide 2 - Test",
]
"""The only apps that the demo's IGDB does not list; the second is settled by a review."""

TABLES = ("imported_games", "games", "genres", "platforms", "game_genres", "game_platforms", "library_items")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def demo(folder: Path, *arguments: str) -> str:
    ended = run_program(folder, environment(), "demo", *arguments)
    assert ended.status == 0, ended.err
    told = [line for line in ended.err.splitlines() if line and not line.startswith("Report, for a browser: ")]
    assert told == [], "off a terminal nothing below WARNING is logged"
    return ended.out


def tables(shown: str) -> tuple[list[list[str]], list[list[str]]]:
    """The words of the lines of the first import's table, and of the second's."""
    first, again = shown.split("The same library once more:")
    return [line.split() for line in first.splitlines()], [line.split() for line in again.splitlines()]


def readme_table() -> list[list[str]]:
    """The words of the lines that the README shows of it, down to the requests."""
    shown = README.read_text(encoding="utf-8").split("Steam library of 76561197960287930:\n")[1]
    lines = shown.split("Not matched")[0].splitlines()
    return [line.split() for line in lines if not line.startswith("Seconds")]


def said_report(shown: str) -> Path:
    """Where the report is, as the last line says."""
    said, _, where = shown.splitlines()[-1].partition(": ")
    assert said in README.read_text(encoding="utf-8")
    return Path(where)


def written(imported: dict[str, Any]) -> int:
    """Rows that an import created or updated."""
    counts = imported["load"]["stats"]
    return sum(counts.get(f"{table}_{what}", 0) for table in TABLES for what in ("created", "updated"))


@pytest.mark.slow  # CI runs `make demo` beside `make test`
def test_the_demo_imports_129_games_and_changes_nothing_again_and_again(folder: Path) -> None:
    shown = demo(folder)
    page = said_report(shown)
    assert page.relative_to(folder) == Path("data/demo/report.html")
    assert "FINAL FANTASY XIV Online" in page.read_text(encoding="utf-8")
    assert re.findall(r"^  (.*) \(\d+, not_found\)$", shown, re.MULTILINE) == UNLISTED
    first, again = tables(shown)
    assert ["Games", "found", "129"] in first
    assert [words for words in first if words[:2] == ["Rows", "created"] and words[2] != "0"]
    assert [words for words in first if words in readme_table()] == readme_table()
    assert ["Games", "found", "129"] in again
    assert ["Rows", "created", "0"] in again
    assert ["Rows", "updated", "0"] in again
    assert sorted(path.name for path in folder.iterdir()) == ["data"]

    reports = json.loads(demo(folder, "--json"))
    assert [report["fetch"]["game_count"] for report in reports] == [129, 129]
    assert [written(report) for report in reports] == [0, 0]
    for table in tables(demo(folder)):
        assert ["Rows", "created", "0"] in table
        assert ["Rows", "updated", "0"] in table
