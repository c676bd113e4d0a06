"""Processes load overlapping libraries while the web application writes; tests/slow does it with two hundred."""

import pytest

from tests.database.crowd import Crowd, WebApplication, load_beside
from tests.database.end_state import (
    assert_games_are_right,
    assert_ids_are_new_and_sort_by_time,
    assert_imports_are_right,
    assert_items_are_right,
)
from tests.database_fixtures import add_user, as_role

pytestmark = pytest.mark.slow


def test_loads_in_three_processes_and_the_web_application_stay_out_of_each_others_way(database_url: str) -> None:
    crowd = Crowd(users=8, apps=60, games=120)
    web_application = WebApplication(database_url)
    for user in crowd.user_ids:
        add_user(database_url, user)

    failed = load_beside(web_application, as_role(database_url), crowd, processes=3)

    assert failed == []
    assert web_application.unmet() == []
    assert_imports_are_right(database_url, crowd, web_application)
    assert_items_are_right(database_url, crowd, web_application)
    assert_games_are_right(database_url, crowd)
    assert_ids_are_new_and_sort_by_time(database_url, len(crowd.orders))
