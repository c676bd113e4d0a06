"""The command line for tests: called in this process, or started as a process of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from pipeline.cli import main
from pipeline.sandbox.embedded import Generation
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.support.databases import emptied_afterwards

PROGRAM = (sys.executable, "-m", "pipeline")
QUICK_SETTINGS = {
    "RETRY_ATTEMPTS": "2",
    "RETRY_BASE_SECONDS": "0.01",
    "HTTP_TIMEOUT_SECONDS": "5",
    "IGDB_REQUESTS_PER_SECOND": "1000",
    "STEAM_REQUESTS_PER_SECOND": "1000",
}


class Ended(NamedTuple):
    """How the program ended, and what it printed."""

    status: int
    out: str
    err: str


SteamImport = Callable[..., Ended]
Configure = Callable[[Mapping[str, str]], None]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Configure]:
    """Makes the given settings the only ones of this process, which works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    yield partial(set_only, monkeypatch)
    # The log goes to the standard error of this test, which is closed after it.
    structlog.reset_defaults()


@pytest.fixture
def unconfigured_program(
    configured: Configure,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> SteamImport:
    """Runs the command line in this process, in an empty folder, with nothing configured."""
    configured({})

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["steam-import", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return checked(Ended(int(ended.value.code or 0), *capsys.readouterr()))

    return run


@pytest.fixture
def steam_import(unconfigured_program: SteamImport, configured: Configure, sandbox: Sandbox) -> SteamImport:
    """Runs the command line in this process, in an empty folder, with keys for the sandbox and no database."""
    configured(sandbox.environment | QUICK_SETTINGS)
    return unconfigured_program


@pytest.fixture
def database(
    postgres_server: str,
    templates: dict[Generation, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The URL of a database of 2026 with the user `user-1`, which DATABASE_URL of the command line leads to.

    For tests that only write rows.
    """
    request.getfixturevalue("steam_import")  # first, for it unsets whatever is set
    with emptied_afterwards(postgres_server, templates, 2026) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield url


def set_only(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    """Leave these settings in the environment, and none of this machine's own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder with a short path that every user may enter, as the server's own user must when root starts it."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in which an embedded PostgreSQL can be started."""
    with open_folder() as made:
        yield made


def environment(sandbox: Sandbox | None = None, **settings: str) -> dict[str, str]:
    """This process's environment with settings for the sandbox, and none of this machine's own."""
    own = {name.upper() for name in Settings.model_fields}
    others = {name: value for name, value in os.environ.items() if name not in own}
    apis = sandbox.environment | QUICK_SETTINGS if sandbox else {}
    return others | {"TERM": "xterm"} | apis | settings


def run_program(folder: Path, settings: Mapping[str, str], *arguments: str) -> Ended:
    """Run the program as a process of its own."""
    ended = subprocess.run(  # noqa: S603 - our own program
        [*PROGRAM, *arguments], cwd=folder, env=settings, capture_output=True, text=True, timeout=90, check=False
    )
    return checked(Ended(ended.returncode, ended.stdout, ended.stderr))


def checked(ended: Ended) -> Ended:
    """The same, after a look whether it printed what it never should."""
    assert "\x1b" not in ended.out + ended.err
    assert "Traceback" not in ended.err
    return ended
