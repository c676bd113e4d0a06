"""The command line as a process of its own: streams, exit statuses, a terminal, an interruption."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi

from pipeline.cli.imports import interruptible
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.wire import Service
from tests.support.databases import NewDatabase, fetch, rows_of
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import PROGRAM, environment


@pytest.mark.slow
def test_a_terminal_has_bars_while_a_command_works_and_obeys_no_color_and_quiet(
    sandbox: Sandbox, new_database: NewDatabase, tmp_path: Path
) -> None:
    sandbox.latency_seconds = 0.3
    settings = environment(sandbox, DATABASE_URL=new_database(2026))
    status, shown = on_terminal(tmp_path, settings, "run", ACCOUNT, "--user", USER)
    assert status == 0, shown
    assert re.search(r"Apps looked up on IGDB .*[━╸╺].*\d/\d", shown)
    assert "Games read from IGDB" in shown
    assert "\x1b[" in shown
    # The log would run through the bars, so a terminal gets its warnings only.
    assert "[info" not in shown
    # What stays to be read comes last, without a bar in it.
    result = shown[shown.index(f"Steam library of {ACCOUNT}") :]
    assert "4 ImportedGame" in result
    assert "━" not in result

    status, shown = on_terminal(tmp_path, settings | {"NO_COLOR": "1"}, "run", ACCOUNT, "--user", USER)
    assert status == 0, shown
    assert not re.search(r"\x1b\[(\d+;)*(3|4|9|10)\d[;m]", shown)
    status, shown = on_terminal(tmp_path, settings, "run", ACCOUNT, "--user", "user-1", "--quiet")
    assert (status, Path(shown.strip()).is_file()) == (0, True)


def on_terminal(folder: Path, settings: dict[str, str], *arguments: str) -> tuple[int, str]:
    """The exit status of the program, and all that it showed on a terminal."""
    shown = b""
    terminal, own_end = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, *arguments], cwd=folder, env=settings, stdin=own_end, stdout=own_end, stderr=own_end
    ) as process:
        os.close(own_end)
        with suppress(OSError):  # Linux says EIO when the other end is closed
            while part := os.read(terminal, 65536):
                shown += part
        os.close(terminal)
    return process.returncode, shown.decode()


def interrupted(folder: Path, settings: dict[str, str], is_time: Callable[[], bool], *arguments: str) -> str:
    """What the program says on stderr when Ctrl-C comes at that time."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, *arguments, "--log-level", "ERROR"],
        cwd=folder,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while not is_time() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), err
    assert len(err.strip().splitlines()) == 1
    assert err.strip().startswith("Interrupted. Every file that was written is complete. ")
    return err


@contextmanager
def locked(url: str) -> Iterator[Callable[[], bool]]:
    """A table that a load comes to late is a neighbour's; whether somebody waits for it."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with dbapi.connect(url) as neighbour, neighbour.cursor() as cursor:
        cursor.execute('LOCK TABLE "LibraryItem"')
        yield lambda: fetch(url, waiting).height > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "words"),
    [
        pytest.param("steam", "To continue, run the same command again.", id="before a CSV"),
        pytest.param("igdb", "To continue, with the same settings: steam-import enrich {raw}", id="after the fetch"),
    ],
)
def test_an_interruption_is_one_sentence_that_says_how_to_continue(
    sandbox: Sandbox, tmp_path: Path, service: Service, words: str
) -> None:
    sandbox.faults.add(Fault(service=service, kind="stall", seconds=30))
    settings = environment(sandbox, HTTP_TIMEOUT_SECONDS="30", DATABASE_URL="")
    err = interrupted(tmp_path, settings, lambda: bool(sandbox.asked(service)), "run", ACCOUNT, "--user", USER)
    raw = next((tmp_path / "data" / "imports" / USER).glob("*-raw.csv"), None)
    assert err.strip().endswith(words.format(raw=raw))


def test_an_interrupted_load_is_rolled_back_and_says_how_to_load_again(
    sandbox: Sandbox, new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database(2026)
    settings = environment(sandbox, DATABASE_URL=url)
    with locked(url) as is_waited_for:
        err = interrupted(tmp_path, settings, is_waited_for, "run", ACCOUNT, "--user", USER, "--dry-run")
    (enriched,) = (tmp_path / "data" / "imports" / USER).glob("*-enriched.csv")
    assert err.strip().endswith(f": steam-import load {enriched} --dry-run")
    assert rows_of(url, "Game") == rows_of(url, "ImportedGame") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "made"),
    [("steam", set()), ("igdb", {"raw"}), (None, {"raw", "enriched"})],
    ids=["fetch", "look-up", "load"],
)
def test_an_interrupted_backfill_begins_nothing_else_and_says_how_to_go_on(
    sandbox: Sandbox, new_database: NewDatabase, tmp_path: Path, service: Service | None, made: set[str]
) -> None:
    (tmp_path / "users.csv").write_text(f"user_id,steam_id64\n{USER},{ACCOUNT}\nnobody,{ACCOUNT}\n", encoding="utf-8")
    url = new_database(2026)
    settings = environment(sandbox, DATABASE_URL=url, HTTP_TIMEOUT_SECONDS="30")
    command = ("backfill", "users.csv", "--shard-size", "1", "--quiet")
    if service:
        sandbox.faults.add(Fault(service=service, kind="stall", seconds=30))
        err = interrupted(tmp_path, settings, lambda: bool(sandbox.asked(service)), *command)
    else:
        with locked(url) as is_waited_for:
            err = interrupted(tmp_path, settings, is_waited_for, *command)
    (folder,) = (tmp_path / "data" / "backfills").iterdir()
    assert err.strip().endswith(f"To continue: steam-import backfill --resume {folder.name}")
    assert {path.stem.split("-")[1] for path in folder.glob("shards/*.json")} - {"failed"} == made
    assert not (folder / "report.json").exists()
    assert rows_of(url, "Game") == rows_of(url, "ImportedGame") == []


def test_ctrl_c_interrupts_what_never_waits_for_an_event_loop() -> None:
    async def compute() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("Ctrl-C was put off")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        asyncio.run(compute())
    assert signal.getsignal(signal.SIGINT) == before
