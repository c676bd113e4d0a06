import pytest
from hypothesis import settings

from tests.seed import SEED

settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")

pytest_plugins = ["tests.database_fixtures", "tests.lambda_fixtures"]

ONE_GENERATION = {
    "test_dry_run.py",
    "test_game_rules.py",
    "test_library_rules.py",
    "test_journey.py",
    "test_load.py",
    "test_load_overrides.py",
    "test_load_users.py",
    "test_neighbours.py",
    "test_pgbouncer.py",
}
"""What these test hardly depends on the generation of the tables: the older one is for `make test-slow`."""


def pytest_report_header() -> str:
    return f"crash points: one in five, drawn by the seed {SEED} (CRASH_SEED)"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if item.path.name in ONE_GENERATION and params.get("generation") == 2025:
            item.add_marker(pytest.mark.slow)
    _spread([item for item in items if item.path.name == "test_crashes.py"], items)


def _spread(longest: list[pytest.Item], items: list[pytest.Item]) -> None:
    """Each worker gets a stretch of the tests: none shall have all of the longest in its own."""
    others = [item for item in items if item not in longest]
    for number, item in enumerate(longest):
        others.insert(number * len(items) // len(longest), item)
    items[:] = others
