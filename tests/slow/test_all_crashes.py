"""An import and a backfill of which every outside operation fails in turn, in every way."""

from pathlib import Path

import pytest

from tests.support.crashes import COMMANDS, KINDS, MODES, Kind, Mode, crashing
from tests.support.databases import NewDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_operation_fails_the_same_command_again_makes_it_good(
    command: str, kind: Kind, mode: Mode, new_database: NewDatabase, tmp_path: Path
) -> None:
    with crashing(COMMANDS[command], new_database(2026), tmp_path) as crashes:
        points = [point for point in crashes.points if (point.kind, point.mode) == (kind, mode)]
        assert {str(point): faults for point in points if (faults := crashes.faults(point))} == {}
