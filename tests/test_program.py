"""The command line as a process of its own: streams, exit statuses, a terminal, an interruption."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.database_fixtures import NewDatabase
from tests.folders import open_folder
from tests.lambda_fixtures import ACCOUNT, NOWHERE, QUICK_SETTINGS, USER

PROGRAM = str(Path(sys.executable).with_name("steam-import"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


def environment(sandbox: Sandbox, **settings: str) -> dict[str, str]:
    """This process's environment with settings for the sandbox, and none of the machine's own."""
    own = {name.upper() for name in Settings.model_fields}
    others = {name: value for name, value in os.environ.items() if name not in own}
    return others | {"TERM": "xterm"} | sandbox.environment | QUICK_SETTINGS | settings


def steam_import(folder: Path, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(  # noqa: S603 - our own program
        [PROGRAM, *arguments], cwd=folder, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def test_run_without_a_database_makes_one_and_the_user_in_it(sandbox: Sandbox, folder: Path) -> None:
    ended = steam_import(folder, environment(sandbox), "run", "four-apps")
    assert ended.returncode == 0, ended.stderr
    assert "4 ImportedGame" in ended.stdout
    assert [line for line in ended.stderr.splitlines() if "info" not in line] == []
    assert str(folder / "data" / "imports" / ACCOUNT) in ended.stdout
    again = steam_import(folder, environment(sandbox), "run", ACCOUNT, "--log-level", "WARNING")
    assert ["Rows", "created", "0"] in [line.split() for line in again.stdout.splitlines()]
    assert again.stderr == ""
    checked = steam_import(folder, environment(sandbox), "db", "check")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("status", "changed", "arguments"),
    [
        pytest.param(1, {}, ("fetch", "nobody-has-this"), id="final"),
        pytest.param(2, {"STEAM_API_KEY": ""}, ("run", ACCOUNT), id="missing key"),
        pytest.param(2, {}, ("fetch",), id="usage"),
        pytest.param(75, {"STEAM_API_URL": NOWHERE}, ("fetch", ACCOUNT), id="later"),
    ],
)
def test_exit_statuses_tell_who_has_to_act(
    sandbox: Sandbox, tmp_path: Path, status: int, changed: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ended = steam_import(tmp_path, environment(sandbox, **changed), *arguments)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def test_progress_bars_appear_on_a_terminal_and_are_gone_at_the_end(
    sandbox: Sandbox, new_database: NewDatabase, tmp_path: Path
) -> None:
    sandbox.latency_seconds = 0.3
    settings = environment(sandbox, DATABASE_URL=new_database(2026))
    terminal, own_end = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - our own program
        [PROGRAM, "run", ACCOUNT, "--user", USER],
        cwd=tmp_path,
        env=settings,
        stdin=own_end,
        stdout=own_end,
        stderr=own_end,
    ) as process:
        os.close(own_end)
        shown = read_all(terminal)
    assert process.returncode == 0, shown
    assert re.search(r"Apps looked up on IGDB .*[━╸╺].*\d/\d", shown)
    assert "Games read from IGDB" in shown
    assert "\x1b[" in shown
    # The log would run through the bars, so a terminal gets its warnings only.
    assert "[info" not in shown
    # What stays to be read comes last, without a bar in it.
    result = shown[shown.index(f"Steam library of {ACCOUNT}") :]
    assert "4 ImportedGame" in result
    assert "━" not in result


def read_all(terminal: int) -> str:
    """What a process showed on the other end of a terminal; Linux says EIO when the other end is closed."""
    shown = b""
    with suppress(OSError), open(terminal, "rb", buffering=0) as screen:
        while part := screen.read(65536):
            shown += part
    return shown.decode()


def test_an_interruption_is_one_sentence_and_no_traceback(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.faults.add(Fault(service="steam", kind="stall", seconds=30))
    with subprocess.Popen(  # noqa: S603 - our own program
        [PROGRAM, "fetch", ACCOUNT],
        cwd=tmp_path,
        env=environment(sandbox, HTTP_TIMEOUT_SECONDS="30"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not sandbox.requests and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.strip().startswith("Interrupted.")
    assert len(err.strip().splitlines()) == 1
