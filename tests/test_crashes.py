"""An import and a backfill in which one outside operation fails; the same command, run again, completes the work."""

from pathlib import Path

import pytest

from tests.support.crashes import COMMANDS, KINDS, MODES, UP_TO_SQL, Kind, Mode, draw, open_crashes
from tests.support.databases import NewDatabase


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_crashed_is_completed_by_the_same_command(
    command: str, crash_seed: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    """One crash point of each kind, another one every day; `make test-slow` visits all."""
    with open_crashes(COMMANDS[command], new_database(2026), tmp_path, UP_TO_SQL.get(command)) as crashes:
        points = draw(crashes.points, crash_seed)
        assert {str(point): found for point in points if (found := crashes.differences(point))} == {}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_wherever_a_command_crashed_it_is_completed_by_the_same_command(
    command: str, kind: Kind, mode: Mode, new_database: NewDatabase, tmp_path: Path
) -> None:
    with open_crashes(COMMANDS[command], new_database(2026), tmp_path) as crashes:
        points = [point for point in crashes.points if (point.kind, point.mode) == (kind, mode)]
        assert {str(point): found for point in points if (found := crashes.differences(point))} == {}
