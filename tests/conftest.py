import os
from datetime import UTC, datetime

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")

pytest.register_assert_rewrite("tests.support")
pytest_plugins = [
    f"tests.support.{name}" for name in ("chromium", "databases", "lambda_functions", "programs", "stores")
]

ONE_GENERATION = {
    "test_connection.py",
    "test_dry_run.py",
    "test_game_rules.py",
    "test_grants.py",
    "test_handlers.py",
    "test_library_rules.py",
    "test_live_schema.py",
    "test_whole_import.py",
    "test_load.py",
    "test_load_overrides.py",
    "test_other_writers.py",
    "test_pgbouncer.py",
    "test_users_of_database.py",
    "test_whose_library.py",
}
"""Whose tests hardly depend on the generation of the tables: `make test-slow` runs them on the older one."""

SEED = os.environ.get("CRASH_SEED") or datetime.now(UTC).date().isoformat()
"""The seed by which `make test` draws crash points: the day, or that of another day to repeat its run."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "crash_seed" in metafunc.fixturenames:
        metafunc.parametrize("crash_seed", [SEED])


def pytest_report_header() -> str:
    return f"crash points are drawn by the seed {SEED} (CRASH_SEED)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if item.path.name in ONE_GENERATION and params.get("generation") == 2025:
            item.add_marker(pytest.mark.slow)
