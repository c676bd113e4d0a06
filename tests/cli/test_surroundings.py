"""How the command line ends on machines that are not as it needs them; docs/surroundings.md lists it."""

import io
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.backfill.list import parse_list
from pipeline.cli import main
from pipeline.errors import PipelineError
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.support.lambda_functions import ACCOUNT
from tests.support.programs import PROGRAM, Ended, SteamImport, checked, environment, run_program
from tests.support.surroundings import ends_as

ROOT = Path(__file__).parents[2]
NAMES = {
    "folder with a space": "my projects",
    "folder with quotes and $": "it's $HOME",
    "folder with = and %": "a=b%c",
    "folder of 200 characters": "long" * 45,
}


@pytest.mark.slow
@pytest.mark.parametrize("case", NAMES)
def test_the_demo_succeeds_in_any_folder(case: str, folder: Path) -> None:
    (folder / NAMES[case]).mkdir()
    ended = run_program(folder / NAMES[case], environment(), "demo")
    assert "129" in ended.out, ended.err
    ends_as(case, ended)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo_succeeds_in_a_clone_in_any_folder(folder: Path) -> None:
    clone = folder / """it's "my" $HOME, 100% a=b"""
    ignored = shutil.ignore_patterns(".venv", ".git", "data", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, clone, ignore=ignored)
    # uv is not asked of the network, and takes the libraries from the cache that `make setup` filled.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone / ".venv"], check=True)  # noqa: S603
    shutil.copy(Path(sys.executable).with_name("uv"), clone / ".venv" / "bin" / "uv")
    make = subprocess.run(
        ["make", "demo"],  # noqa: S607 - the one that developers have
        cwd=clone,
        env=environment(UV_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    if "network was disabled" in make.stderr:
        pytest.skip("the cache of uv lacks libraries")
    assert make.returncode == 0, make.stderr
    assert "129" in make.stdout, make.stderr


@pytest.mark.slow
def test_the_demo_succeeds_with_a_locale_that_is_not_installed(folder: Path) -> None:
    locale = dict.fromkeys(("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"), "xx_YY.UTF-8")
    ends_as("unknown locale", run_program(folder, environment() | locale, "demo"))


@pytest.mark.slow
def test_the_demo_reaches_nobody_where_the_variables_of_libpq_lead_elsewhere(folder: Path) -> None:
    (folder / "services").write_text("[other]\nhost=127.0.0.1\n")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        variables = {
            "PGHOST": "127.0.0.1",
            "PGHOSTADDR": "127.0.0.1",
            "PGPORT": str(elsewhere.getsockname()[1]),
            "PGSERVICE": "other",
            "PGSERVICEFILE": str(folder / "services"),
            "PGSSLMODE": "verify-full",
            "PGOPTIONS": "-c search_path=other",
        }
        ends_as("PG variables", run_program(folder, environment() | variables, "demo"))
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes other users")
def test_the_demo_succeeds_as_two_users_of_the_machine_at_once(folder: Path) -> None:
    started = []
    for name in ("daemon", "bin"):
        user, home = pwd.getpwnam(name), folder / name
        home.mkdir()
        os.chown(home, user.pw_uid, user.pw_gid)
        # The interpreter may be installed where only root may read.
        become = ["setpriv", f"--reuid={name}", "--clear-groups", f"--regid={user.pw_gid}"]
        reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        started.append(
            subprocess.Popen(  # noqa: S603 - our own program
                [*become, *reading, *PROGRAM, "demo"],
                cwd=home,
                env=environment(HOME="/nonexistent", PYTHONDONTWRITEBYTECODE="1"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in started:
        out, err = process.communicate(timeout=90)
        ends_as("two users of a machine", checked(Ended(process.returncode, out, err)))


def test_run_looks_at_the_embedded_database_s_folder_before_steam_is_asked(
    steam_import: SteamImport, sandbox: Sandbox, folder: Path
) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "letter").touch()
    before = len(sandbox.requests)
    ends_as("run, embedded folder of others", steam_import("run", ACCOUNT, "--store-url", str(folder)))
    assert len(sandbox.requests) == before


@pytest.mark.usefixtures("steam_import")
def test_a_letter_that_the_output_lacks_is_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.argv", ["steam-import", "fetch", ACCOUNT, "--store-url", "Pokémon ♥"])
    with pytest.raises(SystemExit) as ended:
        main()
    out.seek(0)
    assert "Pokémon \\u2665" in out.read()
    ends_as("output lacks a letter", Ended(int(ended.value.code or 0), "", capsys.readouterr().err))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who may not read everything, as root may."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(before)


def test_settings_that_may_not_be_read_are_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    Path(".env").touch(mode=0o000)
    with as_nobody(), pytest.raises(PipelineError) as refused:
        Settings.read()
    ends_as("unreadable .env", refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "--store-url", "~nosuchuser/data"),
        ("report", "~nosuchuser/enriched.csv"),
        ("backfill", "~nosuchuser/users.csv", "--database-url", "postgresql://127.0.0.1:1/x"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_home_that_is_not_there_is_named(steam_import: SteamImport, arguments: tuple[str, ...]) -> None:
    ends_as("unknown home", steam_import(*arguments))


@pytest.mark.parametrize("arguments", [("runs",), ("demo",)], ids=lambda arguments: arguments[0])
def test_a_current_folder_that_is_gone_is_told(
    unconfigured_program: SteamImport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ends_as("folder is gone", unconfigured_program(*arguments))


@pytest.mark.parametrize("library", ["click", "polars"])
def test_ctrl_c_while_the_program_is_imported_is_a_sentence(library: str, tmp_path: Path) -> None:
    importing = environment(PYTHONPROFILEIMPORTTIME="1")
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen([*PROGRAM, "runs"], cwd=tmp_path, env=importing, stderr=subprocess.PIPE, text=True)  # noqa: S603
        )
        assert process.stderr
        while not re.search(rf"\| +{library}\.", process.stderr.readline()):
            assert process.poll() is None
        process.send_signal(2)
        err = process.stderr.read()
    ends_as("early Ctrl-C", checked(Ended(process.returncode, "", err)))


def run_on_full_disk(folder: Path, *arguments: str, stderr: int = subprocess.PIPE) -> Ended:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(  # noqa: S603 - our own program
            [*PROGRAM, *arguments], cwd=folder, env=environment(), stdout=full, stderr=stderr, text=True, check=False
        )
    return checked(Ended(ended.returncode, "", ended.stderr or ""))


def test_a_full_disk_behind_the_output_is_told_and_passes(tmp_path: Path) -> None:
    ends_as("output disk full", run_on_full_disk(tmp_path, "--help"))


@pytest.mark.parametrize(
    ("status", "arguments"), [(75, ("--help",)), (2, ("runs", "--store-url", "s3:/typo"))], ids=["output", "error"]
)
def test_a_full_disk_behind_the_message_too_leaves_its_status(
    tmp_path: Path, status: int, arguments: tuple[str, ...]
) -> None:
    assert run_on_full_disk(tmp_path, *arguments, stderr=subprocess.STDOUT).status == status


def test_on_windows_it_says_where_it_runs(unconfigured_program: SteamImport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    ends_as("Windows", unconfigured_program("runs"))


def list_of(*ids: str) -> bytes:
    lines = [f"user-{number},{steam_id}" for number, steam_id in enumerate(ids)]
    return "\n".join(["user_id,steam_id64", *lines]).encode()


ROUNDED = ("76561197960287900", "76561198000000500", "76561198012345600", "76561198043210700")


def test_a_list_that_a_spreadsheet_has_rounded_is_refused(steam_import: SteamImport) -> None:
    Path("users.csv").write_bytes(list_of(*ROUNDED))
    ended = steam_import("backfill", "users.csv", "--database-url", "postgresql://127.0.0.1:1/x")
    assert "as text" in ended.err
    ends_as("rounded ids", ended)


@pytest.mark.parametrize(
    "ids",
    [
        (*ROUNDED[:3], "gabelogannewell", "not an id"),
        ("7.65612E+16",) * 3,
        [f"https://steamcommunity.com/profiles/{rounded}/" for rounded in ROUNDED],
    ],
    ids=["among others", "powers of ten", "in links"],
)
def test_rounded_ids_are_refused_however_they_are_written(ids: Sequence[str]) -> None:
    with pytest.raises(PipelineError) as refused:
        parse_list(list_of(*ids))
    ends_as("rounded ids", refused.value)


@pytest.mark.parametrize(
    "ids",
    [(*ROUNDED[:2],), (*ROUNDED, ACCOUNT), (ROUNDED[0],) * 5, ("gabelogannewell", "STEAM_0:0:11101", "name00")],
    ids=["two", "one is whole", "one account", "no numbers"],
)
def test_a_list_with_a_few_ids_that_end_in_00_is_none(ids: tuple[str, ...]) -> None:
    users, _ = parse_list(list_of(*ids))
    assert users.height
