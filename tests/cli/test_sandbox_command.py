"""`steam-import sandbox`, started as a process of its own: its settings are pasted into the environment of another."""

import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from dotenv import dotenv_values

from pipeline.cli.sandbox import quote_for_shell_and_env
from pipeline.sandbox.faults import Kind, parse_fault
from pipeline.sandbox.world import World
from tests.support.databases import rows_of
from tests.support.documents import ROOT
from tests.support.programs import (
    PROGRAM,
    QUICK_SETTINGS,
    Configure,
    SteamImport,
    environment,
    open_folder,
    run_program,
)

EXPORT = re.compile(r"export ([A-Z_0-9]+)=(.+)")


@contextmanager
def sandbox_of(folder: Path, *arguments: str, end: signal.Signals = signal.SIGINT) -> Iterator[dict[str, str]]:
    """The settings that `steam-import sandbox` prints, which runs meanwhile and has to end well at a signal."""
    words = [*PROGRAM, "sandbox", "--port", "0", *arguments]
    printed = folder / "settings.sh"
    with (
        printed.open("w") as out,
        subprocess.Popen(  # noqa: S603 - our own program
            words, cwd=folder, env=environment(), stdout=out, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr
        try:
            # It follows the last setting.
            assert process.stderr.readline().startswith("Serving until Ctrl-C")
            shown = subprocess.check_output(["/bin/sh", "-c", f". {printed}; env"], text=True)  # noqa: S603 - as pasted
            names = EXPORT.findall(printed.read_text())
            pasted = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
            yield {name: pasted[name] for name, _ in names}
        finally:
            process.send_signal(end)
            rest = process.stderr.read()
    assert (process.returncode, rest) == (0, "The sandbox has stopped.\n")


@pytest.mark.parametrize(
    "value",
    [
        "/data",
        "/a folder",
        "/a\\\\b",
        "/it's a folder",
        '/it\'s "a" \\ folder',
        "postgresql://u@h/d?a=1&b=2",
        '/a "$HOME" `id`',
    ],
)
def test_a_setting_is_printed_so_that_a_shell_and_a_file_env_read_the_same(value: str) -> None:
    line = f"export STORE_URL={quote_for_shell_and_env(value)}"
    shown = subprocess.check_output(["/bin/sh", "-c", f'{line}; printf %s "$STORE_URL"'], text=True)  # noqa: S603 - as pasted
    assert [shown, dotenv_values(stream=StringIO(line))["STORE_URL"]] == [value, value]


@pytest.mark.slow
def test_an_import_with_the_pasted_settings_loads_the_library_into_the_sandboxs_database() -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    _, *documented = shlex.split(re.findall(r"(?m)^steam-import (sandbox .*)$", page)[0])
    assert "--database" in documented
    with open_folder() as folder, sandbox_of(folder, *documented, end=signal.SIGTERM) as settings:
        ended = run_program(folder, environment() | settings, "run", "gabelogannewell")
        assert (ended.status, "129 ImportedGame" in ended.out) == (0, True)
        assert len(rows_of(settings["DATABASE_URL"], "ImportedGame")) == 129
        assert (folder / "data" / "sandbox" / "imports" / World.RECORDED_ACCOUNT).is_dir()


def test_a_fault_fails_the_requests_of_its_service_and_ctrl_c_ends_it_well(
    unconfigured_program: SteamImport, configured: Configure, tmp_path: Path
) -> None:
    with sandbox_of(tmp_path, "--fault", "igdb:503", "--fault", "store:503:0.5") as settings:
        configured(settings | QUICK_SETTINGS)
        assert "DATABASE_URL" not in settings
        raw = unconfigured_program("fetch", "gabelogannewell")
        assert raw.status == 0
        enriched = unconfigured_program("enrich", raw.out.strip())
        assert (enriched.status, "\nigdb_unavailable: " in enriched.err) == (75, True)


def test_a_port_in_use_and_a_fault_that_there_is_not_are_refused(unconfigured_program: SteamImport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = unconfigured_program("sandbox", "--port", str(port))
    assert (ended.status, ended.out) == (2, "")
    assert f"cannot listen on port {port} of this machine: Address already in use. Name another with" in ended.err
    for text in ("igdb", "games:500", "igdb:private", "igdb:status", "igdb:200", "igdb:500:2", "igdb:500:often"):
        ended = unconfigured_program("sandbox", "--fault", text)
        assert (ended.status, ended.out, f"--fault: {text}: " in ended.err) == (2, "", True)


def test_the_help_lists_every_kind_of_fault(unconfigured_program: SteamImport) -> None:
    shown = unconfigured_program("sandbox", "--help").out
    kinds = set(get_args(Kind)) - {"status"}
    assert [kind for kind in (*kinds, "private", "429") if not re.search(rf"\b{kind}\b", shown)] == []
    for kind in (*kinds, "private", "429", "503"):
        assert parse_fault(f"steam:{kind}").service == "steam"
    fault = parse_fault("igdb:429:0.2")
    assert (fault.status, fault.probability) == (429, 0.2)
