"""One user's event cannot reach another user's objects or rows, nor anything outside the store."""

from pathlib import Path

import pytest

from tests.trespass import REFUSALS, refusal, trespassing


def check(folder: Path, every: int) -> None:
    with trespassing(folder) as (attempts, wire):
        assert len(attempts) >= 400
        before = contents(folder)
        codes = {attempt.name: refusal(attempt) for attempt in attempts[::every]}
        assert {name: code for name, code in codes.items() if code not in REFUSALS} == {}
        assert not wire.is_touched()
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_attempts_to_leave_ones_own_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    check(tmp_path, every=11)


@pytest.mark.slow
def test_every_attempt_to_leave_ones_own_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    check(tmp_path, every=1)
