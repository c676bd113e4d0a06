"""Some of the crash points, others every day; `make test-slow` visits all."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.crashes import COMMANDS, crashing, drawn
from tests.database_fixtures import NewDatabase

SEED = datetime.now(UTC).date().isoformat()
SHARE = 0.002
"""Of the points of each kind, and at least one: a visit takes half a second, and there are two thousand."""


@pytest.mark.parametrize("seed", [SEED])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_whose_operation_failed_is_made_good_by_the_same_again(
    command: str, seed: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    with crashing(COMMANDS[command], new_database(2026), tmp_path) as crashes:
        for point in drawn(crashes, seed, SHARE):
            print(f"{command}, seed {seed}: {point}")  # noqa: T201 - pytest shows it beside a failure
            assert crashes.faults(point) == [], (command, str(point))
