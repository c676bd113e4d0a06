"""A fifth of the crash points, others every day; `make test-slow` visits all."""

from pathlib import Path

import pytest

from tests.support.crashes import COMMANDS, KINDS, UP_TO_SQL, Kind, crashing, drawn
from tests.support.databases import NewDatabase

SHARE = 0.2

PARTS = {("backfill", "store"): 2, ("backfill", "sql"): 4}
"""So that no test takes many times as long as another."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("command", "kind", "part"),
    [(command, kind, part) for command in COMMANDS for kind in KINDS for part in range(PARTS.get((command, kind), 1))],
)
def test_a_command_whose_operation_failed_is_made_good_by_the_same_again(
    command: str, kind: Kind, part: int, crash_seed: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    with crashing(COMMANDS[command], new_database(2026), tmp_path, UP_TO_SQL.get(command)) as crashes:
        points = [point for point in drawn(crashes, crash_seed, SHARE) if point.kind == kind]
        points = points[part :: PARTS.get((command, kind), 1)]
        assert {str(point): faults for point in points if (faults := crashes.faults(point))} == {}
