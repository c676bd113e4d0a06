"""A load broken off at some of the messages between it and the server; tests/slow breaks it off at every one."""

import pytest

from tests.database.interrupted import Interruptions
from tests.database.wire import MOMENTS, Moment

pytestmark = pytest.mark.slow


@pytest.fixture
def interruptions(database_url: str) -> Interruptions:
    return Interruptions(database_url)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_load_whose_backend_is_lost_is_whole_in_the_end(interruptions: Interruptions, moment: Moment) -> None:
    for message in range(interruptions.messages, 0, -60):
        interruptions.lose_the_backend(message, moment)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_load_that_is_killed_is_made_good_by_the_next(interruptions: Interruptions, moment: Moment) -> None:
    for message in range(interruptions.messages, 0, -60):
        interruptions.kill_the_load(message, moment)
