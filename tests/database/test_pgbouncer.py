"""A load behind PgBouncer in transaction mode, where the next transaction may have another connection."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from urllib.parse import unquote

import pytest
from adbc_driver_postgresql import dbapi

from pipeline.database.connection import Timeouts
from pipeline.database.database import Database
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import Generation, statements_of
from schemas.staging import LoadOptions
from tests.support.databases import LOADER, add_user, execute, hang_up, rows_of, url_of
from tests.support.libraries import FIGHTING, WINDOWS, library, matched
from tests.support.servers import free_port
from tests.support.surroundings import handled

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed: apt-get install pgbouncer")

CONFIGURATION = """
[databases]
* = host={sockets} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = {mode}
{more}
default_pool_size = 1
logfile = {folder}/pgbouncer.log
"""


@pytest.fixture
def pooled(postgres_server: str, folder: Path, generation: Generation) -> Iterator[str]:
    """The test's database behind PgBouncer, which has one connection to it."""
    with pool(postgres_server, folder) as url:
        yield f"{url}/savepoint_{generation}"


@contextmanager
def pool(
    server: str, folder: Path, mode: str = "transaction", more: str = "", server_port: int = 5432
) -> Iterator[str]:
    """Run PgBouncer before the server; the URL lacks the name of a database."""
    port = free_port()
    sockets = unquote(server.rsplit("host=", maxsplit=1)[-1])
    settings = CONFIGURATION.format(
        sockets=sockets, port=port, folder=folder, mode=mode, more=more, server_port=server_port
    )
    (folder / "pgbouncer.ini").write_text(settings)
    (folder / "users.txt").write_text(f'"{LOADER}" ""\n')
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)
    # PgBouncer refuses to be root, as PostgreSQL does.
    user = ["-u", Path(sockets).owner()] if os.geteuid() == 0 else []
    with subprocess.Popen([str(PGBOUNCER), "-q", *user, str(folder / "pgbouncer.ini")], cwd=folder) as process:  # noqa: S603
        try:
            wait_until_open(port)
            yield f"postgresql://{LOADER}@127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_until_open(port: int) -> None:
    while True:  # until the test's own timeout
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        sleep(0.05)


def backend(url: str) -> tuple[object, ...]:
    """The server process behind a pooled connection, and what an earlier transaction could have left there."""
    left = (
        "pg_backend_pid() AS process, "
        "current_setting('statement_timeout') AS statement_timeout, current_setting('lock_timeout') AS lock_timeout, "
        "(SELECT count(*) FROM pg_prepared_statements) AS prepared, "
        "(SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r') AS tables, "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks"
    )
    # Not `fetch`: a client that leaves in a transaction takes the connection along.
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        found: tuple[object, ...] = cursor.execute(f"SELECT {left}").fetch_polars().row(0)
        return found


def test_loads_share_connections_and_leave_nothing_on_them(database_url: str, pooled: str) -> None:
    before = backend(pooled)
    database = Database(pooled, attempts=1, timeouts=Timeouts(statement_seconds=60, lock_seconds=30))
    rows = stage_library(library(matched(10, 100, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS])))

    database.load(rows, ["user-1"], LoadOptions(dry_run=True))
    database.load(rows, ["user-1"], LoadOptions(details=True))
    again = database.load(rows, ["user-1"])

    assert again.tables["created"].sum() == again.tables["updated"].sum() == 0
    assert len(rows_of(database_url, "LibraryItem")) == 1
    assert backend(pooled) == before
    assert before[1:] == ("0", "0", 0, 0, 0)


def test_more_loads_than_connections_run_side_by_side(database_url: str, pooled: str) -> None:
    users = [f"user-{number}" for number in range(1, 5)]
    for user in users:
        add_user(database_url, user)

    def load(user: str) -> None:
        rows = library(*(matched(n, n, user_id=user, igdb_genres=[FIGHTING]) for n in range(1, 10)))
        Database(pooled, retry_base_seconds=0).load(stage_library(rows), [user])

    with ThreadPoolExecutor(len(users)) as threads:
        list(threads.map(load, users))

    assert len(rows_of(database_url, "LibraryItem")) == 9 * len(users)


@pytest.mark.usefixtures("templates")
def test_statement_pooling_is_refused(postgres_server: str, folder: Path) -> None:
    with pool(postgres_server, folder, mode="statement") as url:
        handled("statement pooling", Database(f"{url}/savepoint_2026", attempts=1).read_schema)


@pytest.mark.usefixtures("templates")
def test_a_pool_that_lacks_the_database_or_a_place(postgres_server: str, folder: Path) -> None:
    with pool(postgres_server, folder, more="max_client_conn = 1\nquery_wait_timeout = 1") as url:
        handled("pool without database", Database(f"{url}/unknown", attempts=1).read_schema)
        with dbapi.connect(f"{url}/savepoint_2026"):
            handled("pool is full", Database(f"{url}/savepoint_2026", attempts=1).read_schema)


@pytest.mark.slow
def test_a_pool_whose_server_is_down(postgres_server: str, folder: Path) -> None:
    with pool(postgres_server, folder, server_port=1, more="query_wait_timeout = 1") as url:
        down = Database(f"{url}/savepoint", attempts=1, connect_timeout_seconds=3)
        handled("pool without server", down.read_schema)


@pytest.mark.slow
def test_prisma_s_schema_is_that_of_each_transaction(postgres_server: str, folder: Path) -> None:
    execute(postgres_server, "CREATE DATABASE pooled")
    own = f"{url_of(postgres_server, 'pooled')}&schema=own"
    try:
        Database(own).create_tables(statements_of(2026))
        Database(own).ensure_users(["user-1"])
        for grant in Database(own).grant_statements(LOADER):
            execute(own.replace("&schema=own", ""), grant)
        with pool(postgres_server, folder) as url:
            prisma = f"{url}/pooled?schema=own&pgbouncer=true&connection_limit=1"
            rows = stage_library(library(matched(10, 100)))
            handled("Prisma through a pool", lambda: Database(prisma, attempts=1).load(rows, ["user-1"]))
            with dbapi.connect(f"{url}/pooled", autocommit=True) as next_one, next_one.cursor() as cursor:
                path = cursor.execute("SELECT current_setting('search_path') AS path").fetch_polars().item()
                assert "own" not in path
    finally:
        hang_up(url_of(postgres_server, "pooled"))
        execute(postgres_server, "DROP DATABASE pooled WITH (FORCE)")
