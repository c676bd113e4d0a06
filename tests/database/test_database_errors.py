"""What goes wrong between us and the database: who has to act, and what they may be told."""

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from traceback import format_exception

import pytest
from adbc_driver_postgresql import dbapi
from polars.exceptions import ComputeError
from sqlalchemy import Executable, select, text

from pipeline.database.connection import DatabaseUrl, Session, transaction
from pipeline.database.database import Database
from pipeline.errors import PipelineError, Refused, Retryable
from tests.support.databases import execute, fetch

PASSWORDS = ("hunter2", "hunter%32", "hun:ter2")
"""The second is the first, percent-encoded."""


def error_of(url: str) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        Database(url, attempts=1, connect_timeout_seconds=1).read_schema()
    return raised.value


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/savepoint",
        "postgresql+psycopg://user:hunter2@host/savepoint",
        "postgresql://user:hunter2/x@host/savepoint",
        "postgresql://user:hunter2@x@host/savepoint",
        "host=localhost password=hunter2",
        "postgresql://user:hunter2@[::1/savepoint",
        "postgresql://user:hunter2@localhost:port/savepoint",
        "postgresql://localhost:hunter2/savepoint",
        "postgresql://localhost:1,localhost:hunter2/savepoint",
        "",
    ],
)
def test_a_url_of_another_form_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(Refused, match="DATABASE_URL is not of the form") as raised:
        Database(url)

    assert raised.value.code == "configuration"
    assert "hunter2" not in "".join(format_exception(raised.value))


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "tail",
    [
        "localhost:1/savepoint",
        "/savepoint?host=/nowhere",
        "localhost:1/savepoint?schema=public",
        "/savepoint?host=/nowhere&password=hunter2",
        "/savepoint?host=/nowhere&application_name=%zz",
    ],
)
def test_a_password_is_in_no_error(password: str, tail: str) -> None:
    error = error_of(f"postgresql://user:{password}@{tail}")

    told = "".join(format_exception(error))
    assert "savepoint at" in error.message
    for secret in (*PASSWORDS, "ter2@"):
        assert secret not in told


def test_a_password_that_is_malformed_is_refused_and_not_quoted() -> None:
    error = error_of("postgresql://user:hun%zzter@localhost:1/savepoint")

    assert isinstance(error, Refused)
    assert "hun%zzter" not in "".join(format_exception(error))


def test_an_address_does_not_show_its_password() -> None:
    address = DatabaseUrl("postgresql://user:hunter2@db.example.com:6432/savepoint?sslmode=require")

    assert str(address) == "savepoint at db.example.com:6432"
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("url", "libpq_url"),
    [
        ("postgresql:///database", "postgresql:///database?connect_timeout=10"),
        ("postgresql:///database?a=b", "postgresql:///database?a=b&connect_timeout=10"),
        ("postgresql:///database?connect_timeout=3", "postgresql:///database?connect_timeout=3"),
    ],
)
def test_connecting_has_a_time_limit(url: str, libpq_url: str) -> None:
    assert DatabaseUrl(url).libpq_url == libpq_url


HERE = (
    "/savepoint",
    "localhost",
    "LOCALHOST:5432/savepoint",
    "127.0.0.1",
    "127.1.2.3:1",
    "[::1]:5432",
    "%2Fvar%2Frun/savepoint",
    "/savepoint?host=/tmp",
    "/savepoint?hostaddr=::1",
    "localhost,127.0.0.1:2",
)
ELSEWHERE = (
    "db.example",
    "10.0.0.1:5432",
    "[::2]",
    "0x7f.1",
    "localhost.example",
    "localhost,db.example",
    "127.0.0.1%2Cdb.example",
    "/savepoint?host=db.example",
    "/savepoint?host=/tmp,db.example",
    "localhost?hostaddr=10.0.0.1",
    "localhost?host=/tmp&host=db.example",
    "localhost?%68ost=db.example",
)


def modes(address: DatabaseUrl) -> list[str]:
    return re.findall(r"sslmode=([^&]*)", address.libpq_url)


def with_mode(tail: str, mode: str) -> str:
    return f"postgresql://user:hunter2@{tail}{'&' if '?' in tail else '?'}sslmode={mode}"


@pytest.mark.parametrize("tail", ELSEWHERE)
def test_to_another_machine_a_password_travels_encrypted_only(tail: str) -> None:
    assert modes(DatabaseUrl(f"postgresql://user:hunter2@{tail}")) == ["require"]
    for mode in ("require", "verify-ca", "verify-full"):
        assert modes(DatabaseUrl(with_mode(tail, mode)))[-1] == mode
    for mode in ("disable", "allow", "prefer", "", "require&sslmode=prefer", "require&%73slmode=disable"):
        with pytest.raises(Refused, match="sslmode") as refused:
            DatabaseUrl(with_mode(tail, mode))
        assert refused.value.code == "configuration"


@pytest.mark.parametrize("tail", HERE)
def test_on_this_machine_nobody_has_to_encrypt(tail: str) -> None:
    assert modes(DatabaseUrl(f"postgresql://user:hunter2@{tail}")) == []
    assert modes(DatabaseUrl(with_mode(tail, "disable"))) == ["disable"]


@pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR"])
def test_a_host_that_the_environment_names_counts_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "10.0.0.1")
    assert modes(DatabaseUrl("postgresql:///savepoint")) == ["require"]


def test_a_strict_mode_of_the_environment_is_not_weakened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert modes(DatabaseUrl("postgresql://db.example/savepoint")) == ["verify-full"]


def test_a_service_has_to_say_in_the_url_how_it_is_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="Add sslmode"):
        DatabaseUrl("postgresql://localhost?service=production")
    monkeypatch.setenv("PGSERVICE", "production")
    with pytest.raises(Refused, match="Add sslmode"):
        DatabaseUrl("postgresql:///savepoint")
    assert modes(DatabaseUrl("postgresql:///savepoint?sslmode=verify-full"))[-1] == "verify-full"
    with pytest.raises(Refused, match="sslmode"):
        DatabaseUrl("postgresql:///savepoint?sslmode=prefer")


@pytest.mark.parametrize("mode", [None, "disable", "prefer"])
def test_a_server_that_offers_no_encryption_is_told_no_password(
    monkeypatch: pytest.MonkeyPatch, mode: str | None
) -> None:
    """It stands on this machine, and the URL does not say so."""
    if mode:
        monkeypatch.setenv("PGSSLMODE", mode)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
        told = threads.submit(_told_without_encryption, server)
        port = server.getsockname()[1]
        error = error_of(f"postgresql://user:hunter2@db.example:{port}/savepoint?hostaddr=127.0.0.1")
        assert told.result(timeout=5) == b""
    assert isinstance(error, Refused)
    assert "does not support SSL" in error.message


def _told_without_encryption(server: socket.socket) -> bytes:
    """What a client says after it heard that there is none."""
    client, _ = server.accept()
    with client:
        client.recv(8)
        client.sendall(b"N")
        return client.recv(1_000)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:/hunter2@127.0.0.1",
        "postgresql://user:20/hunter2@db.example?sslmode=require",
        "postgresql://user/hunter2@db.example",
        "postgresql://localhost:1/savepoint?dbname=postgresql://user:hunter2@db.example",
        "postgresql://localhost:1/savepoint?host=user:hunter2@db.invalid",
        "postgresql:///?hostaddr=127.0.0.1&port=1&dbname=user:hunter2@db.example",
    ],
)
def test_what_may_be_a_password_is_not_shown_as_a_database_or_a_host(url: str) -> None:
    assert "hunter2" not in "".join(format_exception(error_of(url)))


@pytest.mark.parametrize("tail", ["localhost:1/savepoint", "/savepoint?host=/nowhere", "nowhere.invalid/savepoint"])
def test_a_server_that_cannot_be_reached_can_be_tried_again(tail: str) -> None:
    error = error_of(f"postgresql://user:hunter2@{tail}")

    assert isinstance(error, Retryable)
    assert error.code == "database_unavailable"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("/postgres?", "/nowhere?", 'database "nowhere" does not exist'),
        ("postgres:@", "nobody:hunter2@", 'role "nobody" does not exist'),
        ("?host", "?schema=public&host", 'invalid URI query parameter: "schema"'),
    ],
)
def test_what_the_settings_got_wrong_is_refused(postgres_server: str, old: str, new: str, reason: str) -> None:
    error = error_of(postgres_server.replace(old, new))

    assert isinstance(error, Refused)
    assert error.code == "configuration"
    assert reason in error.message
    assert "hunter2" not in "".join(format_exception(error))


def break_connections(url: str) -> None:
    """End every other session of the database, as a restart of the server does."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    execute(url, f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")  # noqa: S608


@pytest.mark.parametrize("use", [Session.execute, Session.fetch])
def test_a_connection_that_is_lost_in_a_transaction_can_be_tried_again(
    database_url: str, use: Callable[[Session, Executable], object]
) -> None:
    def lose_connection() -> None:
        with transaction(DatabaseUrl(database_url)) as session:
            break_connections(database_url)
            use(session, select(1))

    with pytest.raises(Retryable, match="at /tmp/pg-"):
        lose_connection()


def test_a_connection_that_is_lost_while_rows_arrive_can_be_tried_again(database_url: str) -> None:
    hang_up = text("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Retryable, match="terminating connection"), transaction(DatabaseUrl(database_url)) as session:
        session.fetch(hang_up)


def test_a_bug_flies_as_it_is(database_url: str) -> None:
    for use in (Session.execute, Session.fetch):
        with pytest.raises(dbapi.ProgrammingError, match="nowhere"), transaction(DatabaseUrl(database_url)) as session:
            use(session, text("SELECT 1 FROM nowhere"))
    with pytest.raises(ComputeError, match="division by zero"), transaction(DatabaseUrl(database_url)) as session:
        session.fetch(text("SELECT 1 / (random() * 0)::int"))


def test_a_block_that_raises_writes_nothing(database_url: str) -> None:
    def fail() -> None:
        with transaction(DatabaseUrl(database_url)) as session:
            session.execute(text("CREATE TABLE made ()"))
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert fetch(database_url, "SELECT to_regclass('made')::text").item() is None
