"""`steam-import demo` in an empty folder, with nothing configured."""

import json
import re
from pathlib import Path

import pytest

from tests.support.documents import README
from tests.support.programs import environment, run_program

UNLISTED = [
    "Dragon's Dogma 2 Character Creator & Storage",
    "The Pirate: Caribbean Hunt",
    "Skyrim Script Extender (SKSE)",
    "PlanetSide 2 - Test",
]
"""The only apps that the demo's IGDB does not list; the second is settled by a review."""


def demo(folder: Path, *arguments: str) -> str:
    ended = run_program(folder, environment(), "demo", *arguments)
    assert ended.status == 0, ended.err
    told = [line for line in ended.err.splitlines() if line and not line.startswith("Report, for a browser: ")]
    assert told == [], "off a terminal nothing below WARNING is logged"
    return ended.out


def words(shown: str) -> list[list[str]]:
    """The words of each line but that of the time which it took."""
    return [line.split() for line in shown.splitlines() if not line.startswith("Seconds")]


@pytest.mark.slow  # CI runs `make demo` beside `make test`
def test_the_demo_prints_what_the_readme_shows_and_changes_nothing_the_second_time(folder: Path) -> None:
    readme = README.read_text(encoding="utf-8")
    shown = demo(folder)
    said, _, page = shown.splitlines()[-1].partition(": ")
    assert said in readme
    assert Path(page).relative_to(folder) == Path("data/demo/report.html")
    assert "FINAL FANTASY XIV Online" in Path(page).read_text(encoding="utf-8")
    assert re.findall(r"^  (.*) \(\d+, not_found\)$", shown, re.MULTILINE) == UNLISTED
    first, _, again = shown.partition("The same library once more:")
    table = readme.split("Steam library of 76561197960287930:\n")[1].split("Not matched")[0]
    assert [line for line in words(first) if line in words(table)] == words(table)
    assert ["Games", "found", "129"] in words(first)
    assert words(again).count(["Rows", "created", "0"]) + words(again).count(["Rows", "updated", "0"]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["data"]

    reports = json.loads(demo(folder, "--json"))
    counts = [{name: count for name, count in report["load"]["stats"].items() if count} for report in reports]
    assert [name for stats in counts for name in stats if name.endswith(("_created", "_updated"))] == []
    assert [report["fetch"]["game_count"] for report in reports] == [129, 129]
