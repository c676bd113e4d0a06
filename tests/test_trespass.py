"""One user's event cannot reach another user's objects or rows, nor anything outside the store."""

from pathlib import Path

import pytest

from tests.trespass import REFUSALS, refusal, trespassing


def check(folder: Path, every: int) -> None:
    with trespassing(folder) as (attempts, wire):
        assert len(attempts) >= 250
        codes = {attempt.name: refusal(attempt) for attempt in attempts[::every]}
        assert {name: code for name, code in codes.items() if code not in REFUSALS} == {}
        assert not wire.is_touched()
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    imports = [f"store/imports{user}" for user in ("", "/user-1", "/user-2", "/user-3")]
    assert left == ["outside", "outside/outside", "store", "store/.locked.lock", *imports, "store/link"]
    assert (folder / "outside" / "outside").read_text(encoding="utf-8") == "another's"


def test_attempts_to_leave_ones_own_are_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    check(tmp_path, every=7)


@pytest.mark.slow
def test_every_attempt_to_leave_ones_own_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    check(tmp_path, every=1)
