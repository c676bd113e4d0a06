"""DATABASE_URL as libpq reads it: what of it may be shown, and that no password travels in the clear.

One transaction on one ADBC connection: SQLAlchemy Core in, counts and Polars frames out, errors as ours.
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

_HOST = r"(?:\[[^\]@/?]*\]|[^@/?:,\[\]]*)(?::\d*)?"
"""With a port that is one: a host is shown, and what stands there may be a password."""

FORM = re.compile(
    r"postgres(?:ql)?://(?:[^:@/]*(?::(?P<password>[^@/]*))?@)?"
    rf"(?P<host>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?@]*))?(?:\?(?P<query>.*))?"
)
"""A database with an @ is none: what stands before it is a password with a slash in it."""

_BEFORE_AT = re.compile(r"\S+@")
ENCRYPTED = ("require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class DatabaseUrl:
    """A database's URL, and what of it may be shown."""

    url: str = field(repr=False)
    connect_timeout_seconds: int = 10

    def __post_init__(self) -> None:
        """Raises `configuration` for a URL that libpq might read otherwise than we do, or that wants no encryption."""
        if not FORM.fullmatch(self.url):
            raise Refused(
                "configuration",
                "DATABASE_URL is not of the form postgresql://user:password@host:port/database; in its parts write @ "
                "as %40, and in user and password / as %2F.",
            )
        if self._is_of_service() and not self._option("sslmode"):
            raise Refused(
                "configuration",
                "DATABASE_URL leaves it to a service's file how it is encrypted. Add sslmode to it, one of "
                f"{', '.join(ENCRYPTED)}.",
            )
        if self._is_elsewhere() and self._option("sslmode", "require") not in ENCRYPTED:
            raise Refused(
                "configuration",
                "DATABASE_URL has an sslmode by which the password could travel in the clear to another machine. Leave "
                f"it out, or choose one of {', '.join(ENCRYPTED)}.",
            )

    def __str__(self) -> str:
        """Database and host, never user nor password."""
        host = self._part("host") or self._option("host") or "localhost"
        database = self._part("database") or self._option("dbname") or "the default database"
        return _BEFORE_AT.sub("***@", f"{database} at {host}")

    @property
    def libpq_url(self) -> str:
        """The URL with a limit on connecting, which libpq has not, and with encryption to others, which it only tries.

        The last sslmode wins, over PGSSLMODE too, whose word counts only where it is strict.
        """
        added = [] if self._option("connect_timeout") else [f"connect_timeout={self.connect_timeout_seconds}"]
        if self._is_elsewhere():
            said = os.environ.get("PGSSLMODE", "")
            added.append(f"sslmode={self._option('sslmode', said if said in ENCRYPTED else 'require')}")
        joint = "?" if self._part("query") is None else "&"
        return f"{self.url}{joint}{'&'.join(added)}" if added else self.url

    def redact(self, text: str) -> str:
        """The text without the URL's password, as written there and decoded, and without what looks like one."""
        written = {self._part("password"), *re.findall(r"password=([^&]*)", self._part("query") or "")} - {None, ""}
        for secret in written | {unquote(secret) for secret in written}:
            text = text.replace(secret, "***")
        return _BEFORE_AT.sub("***@", text)

    def _is_elsewhere(self) -> bool:
        """Whether any of the hosts is another machine; libpq finds them in the environment, or a file, too."""
        if self._is_of_service():
            return True
        named = [re.sub(r":\d*$", "", host).strip("[]") for host in unquote(self._part("host") or "").split(",")]
        named += [os.environ.get("PGHOST", "")] if not any(named) and not self._option("host") else []
        named += [self._option("host") or "", self._option("hostaddr") or os.environ.get("PGHOSTADDR", "")]
        return not all(_is_here(host) for names in named for host in names.split(","))

    def _is_of_service(self) -> bool:
        return bool(self._option("service") or "PGSERVICE" in os.environ)

    def _part(self, name: str) -> str | None:
        found = FORM.fullmatch(self.url)
        return found and found[name]

    def _option(self, name: str, unset: str | None = None) -> str | None:
        return parse_qs(self._part("query") or "", keep_blank_values=True).get(name, [unset])[-1]


def _is_here(host: str) -> bool:
    """Whether a host of libpq is this machine: one that begins so is a socket, as is none."""
    return not host or host.startswith(("/", "@")) or is_this_machine(host)


DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

# libpq reports a failed connection as text only, without an SQLSTATE.
MENDED_BY_SETTINGS = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|does not exist|permission denied|"
    r"not permitted|does not support SSL|"
    r"invalid URI|IPv6 host address|invalid percent|invalid connection option|invalid \S+ value"
)

MENDED_BY_TIME = re.compile(r"08|40|53|55P03|57|2350[35]")
"""SQLSTATEs: lost connection, deadlock and serialization, out of resources, lock timeout, cancelled or shut down.

Also a key that a neighbour has just taken, and a row referred to that one has just deleted: the next try sees it.
"""

LOST = re.compile(r"FATAL: |server closed the connection|no connection to the server")
NOT_ALLOWED = "42501"

CANCELLED = "canceling statement due to user request"
"""What the driver makes of Ctrl-C while a statement runs, and pg_cancel_backend() too; a timeout has other words."""


class Session:
    """Statements inside a transaction; counts them."""

    def __init__(self, cursor: dbapi.Cursor) -> None:
        self._cursor = cursor
        self.statements = 0

    def run(self, statement: Executable) -> int:
        """Run a statement to its end; the number of rows it wrote."""
        # Not execute(): with parameters it does not know the number of rows.
        self.statements += 1
        self._cursor.executemany(*_compiled(statement))
        written: int = self._cursor.rowcount
        return written

    def fetch(self, statement: Executable) -> pl.DataFrame:
        """The rows of a query."""
        self.statements += 1
        rows: pl.DataFrame = self._cursor.execute(*_compiled(statement)).fetch_polars()
        return rows

    def create(self, table: Table) -> None:
        """Make a temporary table."""
        self.run(CreateTable(table))

    def stage(self, table: Table, rows: pl.DataFrame) -> None:
        """Make a temporary table and fill it with rows, whose columns may be some of its own."""
        self.create(table)
        self.statements += 1
        self._cursor.adbc_ingest(table.name, rows, mode="append", temporary=True)


@dataclass(frozen=True)
class Timeouts:
    """How long one statement, and one wait for a lock, may take; None leaves it to the database."""

    statement_seconds: float | None = None
    lock_seconds: float | None = None

    def set(self, session: Session) -> None:
        """For the transaction only, so that behind a pool nobody else inherits them."""
        timeouts = {"statement_timeout": self.statement_seconds, "lock_timeout": self.lock_seconds}
        for name, seconds in timeouts.items():
            if seconds is not None:
                is_local = literal(value=True, literal_execute=True)
                session.fetch(select(func.set_config(name, f"{round(seconds * 1000)}ms", is_local)))


NO_TIMEOUTS = Timeouts()


@contextmanager
def transaction(address: DatabaseUrl, timeouts: Timeouts = NO_TIMEOUTS, *, keeps: bool = True) -> Iterator[Session]:
    """A transaction that commits at the end of the block if it `keeps` what it did, and never if the block raises.

    Raises:
        Refused: `configuration`, where the database does not let us in, or not do what a load does.
        Retryable: `database_unavailable`, where the same transaction may go through later.
    """
    with _connection(address) as connection, _translated(address):
        with connection.cursor() as cursor:
            session = Session(cursor)
            timeouts.set(session)
            yield session
        if not keeps:
            connection.rollback()
        # Commits like commit(), but begins no other transaction, in which a pool would then find the connection.
        connection.adbc_connection.set_autocommit(True)


@contextmanager
def _connection(address: DatabaseUrl) -> Iterator[dbapi.Connection]:
    try:
        connection = dbapi.connect(address.libpq_url)
    except dbapi.OperationalError as error:
        # Not chained: libpq may quote the URL.
        raise _refusal(address, str(error)) from None
    with connection:
        yield connection


def _refusal(address: DatabaseUrl, text: str) -> PipelineError:
    reason = address.redact(" ".join(text.removeprefix("IO: [libpq] Failed to connect: ").split()))
    if MENDED_BY_SETTINGS.search(text):
        return Refused("configuration", f"{address} does not let us in: {reason}. Look at DATABASE_URL.")
    return Retryable("database_unavailable", f"{address} cannot be reached: {reason}. Try again later.")


@contextmanager
def _translated(address: DatabaseUrl) -> Iterator[None]:
    """What time or settings can mend, as our errors; everything else is a bug and flies."""
    try:
        yield
    except dbapi.Error as error:
        if error.sqlstate == NOT_ALLOWED:
            raise Refused("configuration", f"{address}: {_sentence(error)}. Grant it to this role.") from error
        if _is_transient(error):
            raise Retryable(
                "database_unavailable",
                f"{address}: {_sentence(error)}. Try again.",
                is_cancelled=CANCELLED in str(error),
            ) from error
        raise
    except pl.exceptions.ComputeError as error:
        # A connection that breaks while rows arrive is reported through Polars, without an SQLSTATE.
        if not LOST.search(str(error)):
            raise
        raise Retryable("database_unavailable", f"{address}: {_sentence(error)}. Try again.") from error


def _is_transient(error: dbapi.Error) -> bool:
    if error.sqlstate:
        return bool(MENDED_BY_TIME.match(error.sqlstate))
    return isinstance(error, dbapi.OperationalError)


def _sentence(error: Exception) -> str:
    """The server's own sentence out of the driver's text, which quotes the statement."""
    text = str(error)
    found = re.search(r"(?:ERROR|FATAL|PANIC): +(.*)", text)
    return found[1] if found else text.splitlines()[0]


def _compiled(statement: Executable) -> tuple[str, pl.DataFrame | None]:
    if isinstance(statement, ExecutableDDLElement):
        return str(statement.compile(dialect=DIALECT)), None
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    values = {name: [_plain(compiled.params[name])] for name in compiled.positiontup or ()}
    return str(compiled), pl.DataFrame(values) if values else None


def _plain(value: object) -> object:
    """Polars takes SQLAlchemy's quoted names for no text."""
    return str(value) if isinstance(value, str) else value
