"""Secrets appear nowhere, at no level of the log, whatever fails."""

from collections import Counter

import pytest

from tests.canaries import leaks
from tests.support.programs import open_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "ERROR"])
def test_no_canary_is_found_in_anything_that_is_said_or_written(level: str) -> None:
    with open_folder() as folder:
        found, run = leaks(folder, level)
    assert found == []
    assert len(run.ended) >= 200
    # Each kind of failure was met, or its silence would prove nothing.
    met = Counter(run.ended)
    assert met[0] >= 25
    raised = (
        "steam_unavailable",
        "steam_bad_answer",
        "steam_rate_limited",
        "igdb_unavailable",
        "database_unavailable",
        "store_unavailable",
    )
    assert [how for how in (2, 75, "answered", *raised) if not met[how]] == []
