"""Processes load overlapping libraries, and SavePoint's web application writes meanwhile."""

import pytest

from pipeline.sandbox.embedded import Generation
from tests.support.concurrent_loads import (
    Population,
    WebApplication,
    assert_games_are_right,
    assert_imports_are_right,
    assert_items_are_right,
    load_beside,
)
from tests.support.databases import NewDatabase, add_user, as_role

FEW, MANY = Population(users=8, apps=60, games=120), Population(users=100, apps=500, games=1500)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("generation", "processes", "population"), [(2025, 3, FEW), (2026, 8, MANY)])
def test_loads_and_the_web_application_do_not_undo_each_others_work(
    new_database: NewDatabase, generation: Generation, processes: int, population: Population
) -> None:
    url = new_database(generation)
    web_application = WebApplication(url)
    for user in population.user_ids:
        add_user(url, user)

    failed = load_beside(web_application, as_role(url), population, processes)

    assert failed == []
    assert web_application.lost_edits() == []
    assert_imports_are_right(url, population, web_application)
    assert_items_are_right(url, population, web_application)
    assert_games_are_right(url, population)
