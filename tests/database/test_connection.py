"""The database's URL and its errors: who has to act, that no password is shown, and none travels unencrypted."""

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from traceback import format_exception

import pytest
from sqlalchemy import Executable, select, text

from pipeline.database.connection import ENCRYPTED_MODES, DatabaseUrl, Session, transaction
from pipeline.database.database import Database
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from tests.support.databases import execute


def error_of(url: str) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        Database(url, attempts=1, connect_timeout_seconds=1).read_schema()
    return raised.value


def text_of(error: BaseException) -> str:
    """Everything that a log would show of an error."""
    return "".join(format_exception(error))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/savepoint",
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
    assert "hunter2" not in text_of(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@localhost:1/savepoint",
        "postgresql://user:hunter%32@localhost:1/savepoint?schema=public",
        "postgresql://user:hun:ter2@/savepoint?host=/nowhere",
        "postgresql://user:hunter2@/savepoint?host=/nowhere&password=hunter2",
        "postgresql://user:hunter2@/savepoint?host=/nowhere&application_name=%zz",
        "postgresql://user:hun%zzter2@localhost:1/savepoint",
        "postgresql://user:/hunter2@127.0.0.1",
        "postgresql://user:20/hunter2@db.example?sslmode=require",
        "postgresql://user/hunter2@db.example",
        "postgresql://localhost:1/savepoint?dbname=postgresql://user:hunter2@db.example",
        "postgresql://localhost:1/savepoint?host=user:hunter2@db.invalid",
        "postgresql:///?hostaddr=127.0.0.1&port=1&dbname=user:hunter2@db.example",
    ],
)
def test_what_may_be_a_password_is_in_no_error(url: str) -> None:
    shown = text_of(error_of(url))

    assert not [secret for secret in ("hunter2", "hunter%32", "ter2@", "hun:ter2", "hun%zz") if secret in shown]


def test_a_url_as_text_is_the_database_and_the_host() -> None:
    url = DatabaseUrl("postgresql://user:hunter2@db.example.com:6432/savepoint?sslmode=require")

    assert str(url) == "savepoint at db.example.com:6432"
    assert "hunter2" not in repr(url)


def test_connecting_has_a_timeout_which_the_url_may_set() -> None:
    urls = ("postgresql:///database?a=b", "postgresql:///database?connect_timeout=3")

    assert [DatabaseUrl(url).libpq_url for url in urls] == [
        f"{urls[0]}&client_encoding=UTF8&connect_timeout=10",
        f"{urls[1]}&client_encoding=UTF8",
    ]


LOCAL = (
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
REMOTE = (
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
    "localhost?service=production",
)


def modes(url: str) -> list[str]:
    """The sslmodes that libpq reads; the last one wins."""
    return re.findall(r"sslmode=([^&]*)", DatabaseUrl(url).libpq_url)


def with_mode(tail: str, mode: str) -> str:
    return f"postgresql://user:hunter2@{tail}{'&' if '?' in tail else '?'}sslmode={mode}"


@pytest.mark.parametrize("tail", REMOTE)
def test_to_another_machine_a_password_travels_encrypted_only(tail: str) -> None:
    assert modes(f"postgresql://user:hunter2@{tail}") == ["require"]
    for mode in ENCRYPTED_MODES:
        assert modes(with_mode(tail, mode))[-1] == mode
    for mode in ("disable", "allow", "prefer", "", "require&sslmode=prefer", "require&%73slmode=disable"):
        with pytest.raises(Refused, match="sslmode") as refused:
            DatabaseUrl(with_mode(tail, mode))
        assert refused.value.code == "configuration"


@pytest.mark.parametrize("tail", LOCAL)
def test_on_this_machine_encryption_is_not_required(tail: str) -> None:
    assert modes(f"postgresql://user:hunter2@{tail}") == []
    assert modes(with_mode(tail, "disable")) == ["disable"]


@pytest.mark.parametrize(
    ("name", "value", "url", "mode"),
    [
        ("PGHOST", "10.0.0.1", "postgresql:///savepoint", "require"),
        ("PGHOSTADDR", "10.0.0.1", "postgresql:///savepoint", "require"),
        ("PGSERVICE", "production", "postgresql:///savepoint", "require"),
        ("PGSSLMODE", "verify-full", "postgresql://db.example/savepoint", "verify-full"),
    ],
)
def test_a_host_and_a_strict_mode_of_the_environment_count_too(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, url: str, mode: str
) -> None:
    monkeypatch.setenv(name, value)
    assert modes(url) == [mode]


@pytest.mark.parametrize("mode", [None, "disable", "prefer"])
def test_a_server_without_encryption_gets_no_password(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    """The server is on this machine, but the URL names another one."""
    if mode:
        monkeypatch.setenv("PGSSLMODE", mode)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
        sent = threads.submit(_sent_without_encryption, server)
        port = server.getsockname()[1]
        error = error_of(f"postgresql://user:hunter2@db.example:{port}/savepoint?hostaddr=127.0.0.1")
        assert sent.result(timeout=5) == b""
    assert isinstance(error, Refused)
    assert "does not support SSL" in error.message


def _sent_without_encryption(server: socket.socket) -> bytes:
    """Answer a client that there is no encryption, and return what it sends then."""
    client, _ = server.accept()
    with client:
        client.recv(8)
        client.sendall(b"N")
        return client.recv(1_000)


def end_other_sessions(url: str) -> None:
    """End every other session of the database, as a restart of the server does."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    execute(url, f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")  # noqa: S608


def test_a_connection_that_is_lost_in_a_transaction_can_be_tried_again(database_url: str) -> None:
    def use_a_lost_connection(use: Callable[[Session, Executable], object]) -> None:
        with transaction(DatabaseUrl(database_url)) as session:
            end_other_sessions(database_url)
            use(session, select(1))

    for use in (Session.execute, Session.fetch):
        with pytest.raises(Retryable, match="at /tmp/steam-import-"):
            use_a_lost_connection(use)
    with pytest.raises(Retryable, match="terminating connection"), transaction(DatabaseUrl(database_url)) as session:
        session.fetch(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_any_other_error_of_the_database_is_final(database_url: str) -> None:
    for use in (Session.execute, Session.fetch):
        with pytest.raises(Failed, match="nowhere"), transaction(DatabaseUrl(database_url)) as session:
            use(session, text("SELECT 1 FROM nowhere"))
    with pytest.raises(Failed, match="schema_mismatch"), transaction(DatabaseUrl(database_url)) as session:
        session.fetch(text("SELECT 1 / (random() * 0)::int"))


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("postgresql://u:S3cr-et@h/db?", "no S3cr-et, and u:S3cr-et@h", "no ***, and ***@h"),
        ("postgresql://u:S3cr%2Det@h/db?", "no S3cr-et, no S3cr%2Det", "no ***, no ***"),
        ("postgresql://u:a@h/db?", "a table that is not a=a", "a table that is not a=***"),
        ("postgresql://postgres:postgres@h/db?", "postgres at h: postgres:postgres@h", "postgres at h: ***@h"),
        ("postgresql://u@h/db?password=table&", "the table, password=table", "the table, password=***"),
    ],
)
def test_a_password_is_masked_and_no_other_text(url: str, said: str, shown: str) -> None:
    assert DatabaseUrl(f"{url}sslmode=require").redact(said) == shown
