"""One transaction on one ADBC connection: SQLAlchemy Core in, counts and Polars frames out, errors as ours."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from adbc_driver_postgresql import dbapi
from sqlalchemy import Executable, Table, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable, ExecutableDDLElement

from pipeline.edges.database_url import Address
from pipeline.errors import PipelineError, Refused, Retryable

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
class Limits:
    """How long one statement, and one wait for a lock, may take; None leaves it to the database."""

    statement_seconds: float | None = None
    lock_seconds: float | None = None

    def set(self, session: Session) -> None:
        """For the transaction only, so that behind a pool nobody else inherits them."""
        limits = {"statement_timeout": self.statement_seconds, "lock_timeout": self.lock_seconds}
        for name, seconds in limits.items():
            if seconds is not None:
                is_local = literal(value=True, literal_execute=True)
                session.fetch(select(func.set_config(name, f"{round(seconds * 1000)}ms", is_local)))


NO_LIMITS = Limits()


@contextmanager
def transaction(address: Address, limits: Limits = NO_LIMITS, *, keeps: bool = True) -> Iterator[Session]:
    """A transaction that commits at the end of the block if it `keeps` what it did, and never if the block raises.

    Raises:
        Refused: `configuration`, where the database does not let us in, or not do what a load does.
        Retryable: `database_unavailable`, where the same transaction may go through later.
    """
    with _connection(address) as connection, _translated(address):
        with connection.cursor() as cursor:
            session = Session(cursor)
            limits.set(session)
            yield session
        if not keeps:
            connection.rollback()
        # Commits like commit(), but begins no other transaction, in which a pool would then find the connection.
        connection.adbc_connection.set_autocommit(True)


@contextmanager
def _connection(address: Address) -> Iterator[dbapi.Connection]:
    try:
        connection = dbapi.connect(address.libpq_url)
    except dbapi.OperationalError as error:
        # Not chained: libpq may quote the URL.
        raise _refusal(address, str(error)) from None
    with connection:
        yield connection


def _refusal(address: Address, text: str) -> PipelineError:
    reason = address.redact(" ".join(text.removeprefix("IO: [libpq] Failed to connect: ").split()))
    if MENDED_BY_SETTINGS.search(text):
        return Refused("configuration", f"{address} does not let us in: {reason}. Look at DATABASE_URL.")
    return Retryable("database_unavailable", f"{address} cannot be reached: {reason}. Try again later.")


@contextmanager
def _translated(address: Address) -> Iterator[None]:
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
