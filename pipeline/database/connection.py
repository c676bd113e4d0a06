"""Connections to PostgreSQL: the URL, one transaction on one connection, and the conversion of the driver's errors.

SQLAlchemy Core composes the statements; ADBC runs them, and takes and returns rows as Polars frames.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import polars as pl
from adbc_driver_postgresql import dbapi
from sqlalchemy import Executable, Table, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable, ExecutableDDLElement

from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.settings import is_this_machine

ENCRYPTED_MODES = ("require", "verify-ca", "verify-full")
"""The values of `sslmode` with which libpq, PostgreSQL's client library, sends nothing unencrypted."""

# A port has to be a number and a database may hold no @: what stands there otherwise may be a part of the password,
# and host and database are shown in messages.
_HOST = r"(?:\[[^\]@/?]*\]|[^@/?:,\[\]]*)(?::\d*)?"
_URL = re.compile(
    r"postgres(?:ql)?://(?:[^:@/]*(?::(?P<password>[^@/]*))?@)?"
    rf"(?P<host>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?@]*))?(?:\?(?P<query>.*))?"
)
_BEFORE_AT = re.compile(r"\S+@")


@dataclass(frozen=True)
class DatabaseUrl:
    """The checked URL of a PostgreSQL database; `str()` gives `database at host`, without user and password.

    Raises:
        Refused: `configuration`, for a URL that libpq might read otherwise than this class does, or that would let a
            password travel unencrypted to another machine.
    """

    url: str = field(repr=False)
    connect_timeout_seconds: int = 10

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise Refused(
                "configuration",
                "DATABASE_URL is not of the form postgresql://user:password@host:port/database; in its parts write @ "
                "as %40, and in user and password / as %2F.",
            )
        if self._names_service() and not self._option("sslmode"):
            raise Refused(
                "configuration",
                "DATABASE_URL names a service, whose file may turn encryption off. Add sslmode to the URL, one of "
                f"{', '.join(ENCRYPTED_MODES)}.",
            )
        if self._is_remote() and self._option("sslmode", "require") not in ENCRYPTED_MODES:
            raise Refused(
                "configuration",
                "DATABASE_URL has an sslmode with which the password could travel unencrypted to another machine. "
                f"Remove it, or choose one of {', '.join(ENCRYPTED_MODES)}.",
            )

    def __str__(self) -> str:
        host = self._part("host") or self._option("host") or "localhost"
        database = self._part("database") or self._option("dbname") or "the default database"
        return _BEFORE_AT.sub("***@", f"{database} at {host}")

    @property
    def libpq_url(self) -> str:
        """The URL to connect with: a connect timeout is added, and for another machine an `sslmode` that encrypts.

        Of several sslmodes in a URL libpq takes the last, which also wins over PGSSLMODE: so that variable's value is
        repeated here where it is strict.
        """
        added = [] if self._option("connect_timeout") else [f"connect_timeout={self.connect_timeout_seconds}"]
        if self._is_remote():
            environment = os.environ.get("PGSSLMODE", "")
            default = environment if environment in ENCRYPTED_MODES else "require"
            added.append(f"sslmode={self._option('sslmode', default)}")
        separator = "?" if self._part("query") is None else "&"
        return f"{self.url}{separator}{'&'.join(added)}" if added else self.url

    def redact(self, text: str) -> str:
        """Return a text with `***` for the URL's password, also percent-decoded, and for anything else before an @."""
        passwords = {self._part("password"), *re.findall(r"password=([^&]*)", self._part("query") or "")} - {None, ""}
        for secret in passwords | {unquote(secret) for secret in passwords}:
            text = text.replace(secret, "***")
        return _BEFORE_AT.sub("***@", text)

    def _is_remote(self) -> bool:
        """Return whether any of the hosts is another machine; libpq takes hosts from its environment, too."""
        if self._names_service():
            return True
        named = [re.sub(r":\d*$", "", host).strip("[]") for host in unquote(self._part("host") or "").split(",")]
        named += [os.environ.get("PGHOST", "")] if not any(named) and not self._option("host") else []
        named += [self._option("host") or "", self._option("hostaddr") or os.environ.get("PGHOSTADDR", "")]
        return not all(_is_local(host) for hosts in named for host in hosts.split(","))

    def _names_service(self) -> bool:
        return bool(self._option("service") or "PGSERVICE" in os.environ)

    def _part(self, name: str) -> str | None:
        found = _URL.fullmatch(self.url)
        return found and found[name]

    def _option(self, name: str, default: str | None = None) -> str | None:
        return parse_qs(self._part("query") or "", keep_blank_values=True).get(name, [default])[-1]


def _is_local(host: str) -> bool:
    # No host at all, and one that begins with / or @, is a Unix socket.
    return not host or host.startswith(("/", "@")) or is_this_machine(host)


@dataclass(frozen=True)
class Timeouts:
    """The time limits, in seconds, of one SQL statement and of one wait for a lock; None keeps the database's limit."""

    statement_seconds: float | None = None
    lock_seconds: float | None = None


NO_TIMEOUTS = Timeouts()

DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Session:
    """One open database transaction, which runs SQLAlchemy statements; `statements` is the number it has run."""

    def __init__(self, cursor: dbapi.Cursor) -> None:
        self._cursor = cursor
        self.statements = 0

    def execute(self, statement: Executable) -> int:
        """Run an SQL statement, and return the number of rows that it inserted, updated or deleted."""
        self.statements += 1
        # Not execute(): with parameters it does not know the number of rows.
        self._cursor.executemany(*_compile(statement))
        written: int = self._cursor.rowcount
        return written

    def fetch(self, statement: Executable) -> pl.DataFrame:
        """Run a SQLAlchemy query, and return its rows as a Polars frame."""
        self.statements += 1
        rows: pl.DataFrame = self._cursor.execute(*_compile(statement)).fetch_polars()
        return rows

    def create(self, table: Table) -> None:
        """Create a temporary table."""
        self.execute(CreateTable(table))

    def ingest(self, table: Table, rows: pl.DataFrame) -> None:
        """Create a temporary table, and COPY a frame's rows into it; table columns that the frame lacks are null."""
        self.create(table)
        self.statements += 1
        self._cursor.adbc_ingest(table.name, rows, mode="append", temporary=True)


def _compile(statement: Executable) -> tuple[str, pl.DataFrame | None]:
    if isinstance(statement, ExecutableDDLElement):
        return str(statement.compile(dialect=DIALECT)), None
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    values = {name: [_as_plain_text(compiled.params[name])] for name in compiled.positiontup or ()}
    return str(compiled), pl.DataFrame(values) if values else None


def _as_plain_text(value: object) -> object:
    # Polars does not take SQLAlchemy's subclass of str for quoted names as text.
    return str(value) if isinstance(value, str) else value


@contextmanager
def transaction(url: DatabaseUrl, timeouts: Timeouts = NO_TIMEOUTS, *, commit: bool = True) -> Iterator[Session]:
    """Open a connection and yield its one transaction as a Session; commit it when the block ends.

    It is rolled back if the block raises, or if `commit` is false.

    Raises:
        Refused: `configuration`, where the database refuses the connection, or the role lacks a right.
        Retryable: `database_unavailable`, where the same transaction may succeed later.
    """
    with _connection(url) as connection, _converted_errors(url):
        with connection.cursor() as cursor:
            session = Session(cursor)
            _set_timeouts(session, timeouts)
            yield session
        if not commit:
            connection.rollback()
        # Commits like commit(), but begins no other transaction, in which a pool would then find the connection.
        connection.adbc_connection.set_autocommit(True)


@contextmanager
def _connection(url: DatabaseUrl) -> Iterator[dbapi.Connection]:
    try:
        connection = dbapi.connect(url.libpq_url)
    except dbapi.OperationalError as error:
        # Not chained: libpq may quote the URL.
        raise _connection_error(url, str(error)) from None
    with connection:
        yield connection


def _set_timeouts(session: Session, timeouts: Timeouts) -> None:
    # For the transaction only: behind a pool the next transaction on this connection is somebody else's.
    for name, seconds in (("statement_timeout", timeouts.statement_seconds), ("lock_timeout", timeouts.lock_seconds)):
        if seconds is not None:
            is_local = literal(value=True, literal_execute=True)
            session.fetch(select(func.set_config(name, f"{round(seconds * 1000)}ms", is_local)))


# libpq reports a failed connection as text only, without an SQLSTATE.
_WRONG_SETTINGS = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|does not exist|permission denied|"
    r"not permitted|does not support SSL|"
    r"invalid URI|IPv6 host address|invalid percent|invalid connection option|invalid \S+ value"
)

# SQLSTATEs after which the same transaction may succeed: lost connection (08), deadlock and serialization (40), out of
# resources (53), lock timeout (55P03), cancelled or shut down (57). A unique or foreign key violation (23505, 23503) is
# another writer that has just inserted or deleted a row: the next attempt sees what it did.
_TRANSIENT = re.compile(r"08|40|53|55P03|57|2350[35]")
_INSUFFICIENT_PRIVILEGE = "42501"

# The driver says so of Ctrl-C while a statement runs, and of pg_cancel_backend(); a timeout has another message.
_CANCELLED = "canceling statement due to user request"
_CONNECTION_LOST = re.compile(r"FATAL: |server closed the connection|no connection to the server")


def _connection_error(url: DatabaseUrl, text: str) -> PipelineError:
    reason = url.redact(" ".join(text.removeprefix("IO: [libpq] Failed to connect: ").split()))
    if _WRONG_SETTINGS.search(text):
        return Refused("configuration", f"{url} refuses the connection: {reason}. Check DATABASE_URL.")
    return Retryable("database_unavailable", f"{url} cannot be reached: {reason}. Try again later.")


@contextmanager
def _converted_errors(url: DatabaseUrl) -> Iterator[None]:
    """Convert errors that a later attempt or other settings can fix; every other one is a bug and propagates."""
    try:
        yield
    except dbapi.Error as error:
        if error.sqlstate == _INSUFFICIENT_PRIVILEGE:
            raise Refused("configuration", f"{url}: {_server_message(error)}. Grant it to this role.") from error
        if _is_transient(error):
            raise Retryable(
                "database_unavailable",
                f"{url}: {_server_message(error)}. Try again.",
                is_cancelled=_CANCELLED in str(error),
            ) from error
        raise
    except pl.exceptions.ComputeError as error:
        # A connection that breaks while rows arrive is reported through Polars, without an SQLSTATE.
        if not _CONNECTION_LOST.search(str(error)):
            raise
        raise Retryable("database_unavailable", f"{url}: {_server_message(error)}. Try again.") from error


def _is_transient(error: dbapi.Error) -> bool:
    if error.sqlstate:
        return bool(_TRANSIENT.match(error.sqlstate))
    return isinstance(error, dbapi.OperationalError)


def _server_message(error: Exception) -> str:
    """Return the server's own sentence out of the driver's text, which also quotes the statement."""
    text = str(error)
    found = re.search(r"(?:ERROR|FATAL|PANIC): +(.*)", text)
    return found[1] if found else text.splitlines()[0]
