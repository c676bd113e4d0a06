"""A load that is interrupted at every message between it and the server, one after the other."""

from itertools import product

import pytest

from tests.support.databases import NewDatabase
from tests.support.interruptions import MOMENTS, Interruptions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_load_whose_backend_is_lost_at_any_message_writes_everything_in_the_end(new_database: NewDatabase) -> None:
    interruptions = Interruptions(new_database(2026))

    for message, moment in product(range(1, interruptions.messages + 1), MOMENTS):
        interruptions.lose_the_backend(message, moment)


def test_a_load_that_is_killed_at_any_message_is_completed_by_the_next(new_database: NewDatabase) -> None:
    interruptions = Interruptions(new_database(2025))

    for message, moment in product(range(1, interruptions.messages + 1), MOMENTS):
        interruptions.kill_the_load(message, moment)
