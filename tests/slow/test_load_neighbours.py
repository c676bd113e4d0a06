"""Processes load overlapping libraries, and SavePoint's web application writes meanwhile."""

import pytest

from pipeline.sandbox.embedded import Generation
from tests.database.crowd import Crowd, WebApplication, load_beside
from tests.database.end_state import (
    assert_games_are_right,
    assert_ids_are_new_and_sort_by_time,
    assert_imports_are_right,
    assert_items_are_right,
)
from tests.support.databases import NewDatabase, add_user, as_role

FEW, MANY = Crowd(users=8, apps=60, games=120), Crowd(users=100, apps=500, games=1500)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("generation", "processes", "crowd"), [(2025, 3, FEW), (2026, 3, FEW), (2026, 8, MANY)])
def test_processes_and_the_web_application_stay_out_of_each_others_way(
    new_database: NewDatabase, generation: Generation, processes: int, crowd: Crowd
) -> None:
    url = new_database(generation)
    web_application = WebApplication(url)
    for user in crowd.user_ids:
        add_user(url, user)

    failed = load_beside(web_application, as_role(url), crowd, processes)

    assert failed == []
    assert web_application.unmet() == []
    assert_imports_are_right(url, crowd, web_application)
    assert_items_are_right(url, crowd, web_application)
    assert_games_are_right(url, crowd)
    assert_ids_are_new_and_sort_by_time(url, len(crowd.orders))
