"""What goes wrong between us and the database: who has to act, and what they may be told."""

from collections.abc import Callable
from traceback import format_exception

import pytest
from adbc_driver_postgresql import dbapi
from polars.exceptions import ComputeError
from sqlalchemy import Executable, select, text

from pipeline.edges.postgres import Database
from pipeline.edges.postgres_session import Address, Session, transaction
from pipeline.errors import PipelineError, Refused, Retryable
from tests.database_fixtures import execute, fetch

PASSWORDS = ("hunter2", "hunter%32", "hun:ter2")
"""The second is the first, percent-encoded."""


def error_of(url: str) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        Database(url, attempts=1, connect_timeout_seconds=1).check()
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
    address = Address("postgresql://user:hunter2@db.example.com:6432/savepoint?sslmode=require")

    assert str(address) == "savepoint at db.example.com:6432"
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("url", "libpq_url"),
    [
        ("postgresql://host/database", "postgresql://host/database?connect_timeout=10"),
        ("postgresql://host/database?a=b", "postgresql://host/database?a=b&connect_timeout=10"),
        ("postgresql://host/database?connect_timeout=3", "postgresql://host/database?connect_timeout=3"),
    ],
)
def test_connecting_has_a_time_limit(url: str, libpq_url: str) -> None:
    assert Address(url).libpq_url == libpq_url


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


@pytest.mark.parametrize("use", [Session.run, Session.fetch])
def test_a_connection_that_is_lost_in_a_transaction_can_be_tried_again(
    database_url: str, use: Callable[[Session, Executable], object]
) -> None:
    def lose_connection() -> None:
        with transaction(Address(database_url)) as session:
            break_connections(database_url)
            use(session, select(1))

    with pytest.raises(Retryable, match="at /tmp/pg-"):
        lose_connection()


def test_a_connection_that_is_lost_while_rows_arrive_can_be_tried_again(database_url: str) -> None:
    hang_up = text("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Retryable, match="terminating connection"), transaction(Address(database_url)) as session:
        session.fetch(hang_up)


def test_a_bug_flies_as_it_is(database_url: str) -> None:
    for use in (Session.run, Session.fetch):
        with pytest.raises(dbapi.ProgrammingError, match="nowhere"), transaction(Address(database_url)) as session:
            use(session, text("SELECT 1 FROM nowhere"))
    with pytest.raises(ComputeError, match="division by zero"), transaction(Address(database_url)) as session:
        session.fetch(text("SELECT 1 / (random() * 0)::int"))


def test_a_block_that_raises_writes_nothing(database_url: str) -> None:
    def fail() -> None:
        with transaction(Address(database_url)) as session:
            session.run(text("CREATE TABLE made ()"))
            raise LookupError

    with pytest.raises(LookupError):
        fail()

    assert fetch(database_url, "SELECT to_regclass('made')::text").item() is None
