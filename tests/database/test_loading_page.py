"""docs/loading.md names the tests that prove its rules."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "loading.md"
RULES = ("test_game_rules.py", "test_library_rules.py", "test_load_overrides.py", "test_other_writers.py")


def names_in(path: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, path.read_text(encoding="utf-8")))


def test_every_test_that_the_page_names_exists_and_every_test_of_a_rule_is_named() -> None:
    named = names_in(PAGE, r"`(test_\w+)`")
    paths = (*TESTS.glob("database/test_*.py"), TESTS / "frames" / "test_staging.py")
    tests = {path.name: names_in(path, r"(?m)^def (test_\w+)") for path in paths}

    assert named - set().union(*tests.values()) == set()
    assert {name for file in RULES for name in tests[file]} - named == set()


def test_every_part_of_the_page_names_a_test() -> None:
    parts = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))[1:]

    assert [part.splitlines()[0] for part in parts if "`test_" not in part] == []
