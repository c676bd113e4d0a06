"""Connections to PostgreSQL: the URL, one transaction on one connection, and the conversion of the driver's errors.

SQLAlchemy Core composes the statements; ADBC runs them, and takes and returns rows as Polars frames.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import parse_qs, unquote
from weakref import WeakKeyDictionary

import adbc_driver_postgresql
import polars as pl
import structlog
from adbc_driver_manager import AdbcConnection, AdbcDatabase
from adbc_driver_manager.dbapi import _SharedDatabase
from adbc_driver_postgresql import dbapi
from sqlalchemy import ColumnElement, Delete, Executable, Insert, Table, Update, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.schema import CreateSchema, CreateTable, ExecutableDDLElement

from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.settings import is_this_machine

log = structlog.get_logger()

ENCRYPTED_MODES = ("require", "verify-ca", "verify-full")
"""The values of `sslmode` with which libpq, PostgreSQL's client library, sends nothing unencrypted."""

IGNORED_PARAMETERS = {
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "socket_timeout",
    "statement_cache_size",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "single_use_connections",
    "sslidentity",
    "sslaccept",
}
"""Parameters of Prisma's URLs that a load does without: its pool, its prepared statements, a PKCS 12 file.

https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments; `schema`, and `sslaccept=strict`, are honoured.
"""

_NOT_LIBPQS = IGNORED_PARAMETERS | {"schema", "client_encoding"}

# A port has to be a number and a database may hold no @: what stands there otherwise may be a part of the password,
# and host and database are shown in messages.
_HOST = r"(?:\[[^\]@/?]*\]|[^@/?:,\[\]]*)(?::\d*)?"
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    rf"(?P<host>{_HOST}(?:,{_HOST})*)(?:/(?P<database>[^/?@]*))?(?:\?(?P<query>.*))?"
)
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+(?=://)")
_BEFORE_AT = re.compile(r"\S+@")
_EVERYDAY = re.compile(r".{1,5}|[a-z]{1,9}|[A-Z]{1,9}", re.DOTALL)
"""Matches passwords that are short or plain words, and so may stand in a message with another meaning."""


@dataclass(frozen=True)
class DatabaseUrl:
    """The checked URL of a PostgreSQL database; `str()` gives `database at host`, without user and password.

    It is taken as people have it: in quotes, with the name of SQLAlchemy's driver (`postgresql+psycopg2://`), or with
    the parameters of Prisma, of which `schema` names the schema of all tables.

    Raises:
        Refused: `configuration`, for a URL that libpq might read otherwise than this class does, or that would let a
            password travel unencrypted to another machine.
    """

    url: str = field(repr=False)
    connect_timeout_seconds: int = 10

    def __post_init__(self) -> None:
        bare = self.url.strip()
        for quote in ("'", '"'):
            bare = bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == quote else bare
        object.__setattr__(self, "url", _DRIVER.sub(r"\1", bare))
        if not _URL.fullmatch(self.url):
            raise Refused(
                "configuration",
                "DATABASE_URL is not of the form postgresql://user:password@host:port/database; in its parts write @ "
                "as %40, and in user and password / as %2F.",
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
        schema = f", schema {self.schema}" if self.schema not in (None, "public") else ""
        return _BEFORE_AT.sub("***@", f"{database} at {host}{schema}")

    @property
    def schema(self) -> str | None:
        """The PostgreSQL schema of all tables and enums, by the URL's parameter `schema`; None for the search path."""
        return self._option("schema") or None

    @property
    def ignored(self) -> list[str]:
        """The names of the URL's parameters that are Prisma's alone and have no effect here."""
        given = IGNORED_PARAMETERS & self._options().keys()
        return sorted(given - {"sslaccept"} if self._verifies() else given)

    @property
    def libpq_url(self) -> str:
        """The URL to connect with: in UTF-8, with a connect timeout, and to another machine encrypted.

        Of several sslmodes in a URL libpq takes the last, which also wins over PGSSLMODE: so that variable's value is
        repeated here where it is strict.
        """
        dropped = _NOT_LIBPQS | ({"sslcert"} if self._is_root_certificate() else set())
        pairs = [pair for pair in (self._part("query") or "").split("&") if pair]
        kept = [pair for pair in pairs if unquote(pair.partition("=")[0]) not in dropped]
        # In the startup packet it wins over PGCLIENTENCODING, and over the role's and the database's own setting.
        kept.append("client_encoding=UTF8")
        if not self._option("connect_timeout"):
            kept.append(f"connect_timeout={self.connect_timeout_seconds}")
        if self._verifies():
            kept.append("sslmode=verify-full")
        elif self._is_remote():
            environment = os.environ.get("PGSSLMODE", "")
            default = environment if environment in ENCRYPTED_MODES else "require"
            kept.append(f"sslmode={self._option('sslmode', default)}")
        if self._is_root_certificate():
            kept.append(f"sslrootcert={self._option('sslcert')}")
        elif self._verifies() and not (self._option("sslrootcert") or "PGSSLROOTCERT" in os.environ):
            kept.append("sslrootcert=system")
        return f"{self.url.partition('?')[0]}?{'&'.join(kept)}"

    def redact(self, text: str) -> str:
        """Return a text with `***` in the place of the URL's password, and of all that stands before an @ in a word.

        A password that is an everyday word, or another part of the URL as well, is replaced only where it stands as in
        a URL, after a colon or an equals sign: else it would be replaced in sentences and names, too.
        """
        text = _BEFORE_AT.sub("***@", text)
        others = {self._part("user"), self._part("host"), self._part("database"), self._option("dbname"), self.schema}
        written = (self._part("password"), *re.findall(r"password=([^&]*)", self._part("query") or ""))
        passwords = {secret for secret in written if secret}
        for secret in sorted(passwords | {unquote(secret) for secret in passwords}, key=len, reverse=True):
            is_everyday = secret in others or _EVERYDAY.fullmatch(secret)
            text = re.sub(rf"{'(?<=[:=])' if is_everyday else ''}(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return text

    def _verifies(self) -> bool:
        """Return whether `sslaccept=strict` asks for a certificate of a known authority, with the host's name."""
        is_encrypted = self._is_remote() or self._option("sslmode") in ENCRYPTED_MODES
        return self._option("sslaccept") == "strict" and is_encrypted

    def _is_root_certificate(self) -> bool:
        """Return whether `sslcert` is Prisma's, the authority's certificate; libpq's is the client's, with a key."""
        return bool(self._option("sslcert")) and not self._option("sslkey")

    def _is_remote(self) -> bool:
        """Return whether any of the hosts may be another machine; libpq takes hosts from its environment, too."""
        if self._option("service") or "PGSERVICE" in os.environ:
            return True  # the service's file names the host
        named = [re.sub(r":\d*$", "", host).strip("[]") for host in unquote(self._part("host") or "").split(",")]
        named += [os.environ.get("PGHOST", "")] if not any(named) and not self._option("host") else []
        named += [self._option("host") or "", self._option("hostaddr") or os.environ.get("PGHOSTADDR", "")]
        return not all(_is_local(host) for hosts in named for host in hosts.split(","))

    def _part(self, name: str) -> str | None:
        found = _URL.fullmatch(self.url)
        return found and found[name]

    def _options(self) -> dict[str, list[str]]:
        return parse_qs(self._part("query") or "", keep_blank_values=True)

    def _option(self, name: str, default: str | None = None) -> str | None:
        return self._options().get(name, [default])[-1]


@cache
def log_ignored_parameters(names: tuple[str, ...]) -> None:
    """Log, once per process, the parameters of DATABASE_URL that have no effect here."""
    if names:
        log.info("parameters of DATABASE_URL ignored", parameters=", ".join(names))


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
quote_identifier = PGIdentifierPreparer(DIALECT).quote


class Session:
    """One open database transaction, which runs SQLAlchemy statements; `statements` is the number it has run.

    `written` is the name of the table that the last of them wrote to, for the message of an error. `parameters` are the
    values that statements leave open, by the names of their `bindparam`s, as a cached statement holds no load's values.
    """

    def __init__(self, cursor: dbapi.Cursor) -> None:
        self._cursor = cursor
        self.statements = 0
        self.written: str | None = None
        self.parameters: dict[str, str] = {}

    def execute(self, statement: Executable) -> int:
        """Run an SQL statement, and return the number of rows that it inserted, updated or deleted."""
        self.statements += 1
        self.written = statement.table.description if isinstance(statement, Insert | Update | Delete) else None
        # Not execute(): with parameters it does not know the number of rows.
        self._cursor.executemany(*self._compiled(statement))
        written: int = self._cursor.rowcount
        return written

    def fetch(self, statement: Executable) -> pl.DataFrame:
        """Run a SQLAlchemy query, and return its rows as a Polars frame."""
        self.statements += 1
        rows: pl.DataFrame = self._cursor.execute(*self._compiled(statement)).fetch_polars()
        return rows

    def create(self, table: Table) -> None:
        """Create a temporary table."""
        self.execute(_create_table_statement(table))

    def ingest(self, table: Table, rows: pl.DataFrame) -> None:
        """Create a temporary table, and COPY a frame's rows into it; table columns that the frame lacks are null."""
        self.create(table)
        self.statements += 1
        self._cursor.adbc_ingest(table.name, rows, mode="append", temporary=True)

    def _compiled(self, statement: Executable) -> tuple[str, pl.DataFrame | None]:
        """Return the SQL text of a statement and a frame of one row with its parameters, or None where it has none."""
        if statement not in _COMPILED:
            _COMPILED[statement] = _compile(statement)
        sql, values = _COMPILED[statement]
        if values is None:
            return sql, None
        left_open = [name for name, dtype in values.schema.items() if dtype == pl.Null]
        return sql, values.with_columns(pl.lit(self.parameters[name]).alias(name) for name in left_open)


@cache
def _create_table_statement(table: Table) -> CreateTable:
    return CreateTable(table)


_COMPILED: WeakKeyDictionary[Executable, tuple[str, pl.DataFrame | None]] = WeakKeyDictionary()
"""SQL text and parameters by statement. To compile most statements takes longer than to run them, and those that do not
depend on a load's arguments are the same objects in every load.
"""


def _compile(statement: Executable) -> tuple[str, pl.DataFrame | None]:
    if isinstance(statement, ExecutableDDLElement):
        return str(statement.compile(dialect=DIALECT)), None
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    values = ((name, compiled.params[name]) for name in compiled.positiontup or ())
    # Polars does not take SQLAlchemy's subclass of str for quoted names as text.
    row = {name: [str(value) if isinstance(value, str) else value] for name, value in values}
    return str(compiled), pl.DataFrame(row) if row else None


@contextmanager
def transaction(
    url: DatabaseUrl, timeouts: Timeouts = NO_TIMEOUTS, *, commit: bool = True, create_schema: bool = False
) -> Iterator[Session]:
    """Open a connection and yield its one transaction as a Session; commit it when the block ends.

    It is rolled back if the block raises, or if `commit` is false. With `create_schema`, the URL's schema is created if
    it is missing.

    Raises:
        Refused: `configuration`, where the database refuses the connection, or the role lacks a right.
        Failed: `schema_mismatch`, where a rule of the database, or its schema, refuses a statement.
        Retryable: `database_unavailable`, where the same transaction may succeed later.
    """
    with _connect(url) as connection, connection.cursor() as cursor:
        session = Session(cursor)
        with _converted_errors(url, session):
            cursor.executemany("BEGIN", None)
            _set_timeouts(session, timeouts)
            _set_schema(session, url, create=create_schema)
            yield session
            session.written = None  # from here on, rules that wait for the commit refuse
            cursor.executemany("COMMIT" if commit else "ROLLBACK", None)


@cache
def _open_driver(libpq_url: str) -> tuple[AdbcDatabase, _SharedDatabase]:
    """Return the driver's object that opens connections, once for each URL, in the two forms that the driver takes.

    To make it, the driver reads all types of the database over a connection of its own, which takes 40 ms.
    """
    driver = adbc_driver_postgresql.connect(libpq_url)
    return driver, _SharedDatabase(driver)


def _connect(url: DatabaseUrl) -> dbapi.Connection:
    try:
        # BEGIN and COMMIT are ours: the driver's own transactions begin another one at each ingest, with a warning, and
        # one after the last, in which a pool would find the connection.
        driver, shared = _open_driver(url.libpq_url)
        return dbapi.Connection(shared, AdbcConnection(driver), autocommit=True)
    except dbapi.Error as error:
        # Not chained: libpq may quote the URL.
        raise _connection_error(url, str(error)) from None


def _set_timeouts(session: Session, timeouts: Timeouts) -> None:
    for name, seconds in (("statement_timeout", timeouts.statement_seconds), ("lock_timeout", timeouts.lock_seconds)):
        if seconds is not None:
            session.fetch(select(_set_locally(name, f"{round(seconds * 1000)}ms")))


def _set_schema(session: Session, url: DatabaseUrl, *, create: bool) -> None:
    """Search for tables and enums in the URL's schema alone, as Prisma does."""
    if url.schema is None:
        return
    quoted = quote_identifier(url.schema)
    is_there = session.fetch(select(_set_locally("search_path", quoted), func.current_schema())).row(0)[1] is not None
    if not is_there and create:
        session.execute(CreateSchema(url.schema))
    elif not is_there:
        raise Refused(
            "configuration",
            f"{url}: there is no such schema, or this role may not use it. Correct schema= in DATABASE_URL, or have "
            f"the owner GRANT USAGE ON SCHEMA {quoted}.",
        )


def _set_locally(name: str, value: str) -> ColumnElement[str]:
    # For the transaction only: behind a pool the next transaction on this connection is somebody else's, and a pool
    # may refuse the same in the startup packet (`options`).
    return func.set_config(name, value, literal(value=True, literal_execute=True))


# libpq reports a failed connection as text only, without an SQLSTATE: these are the failures that pass by themselves.
_PASSING = re.compile(
    # libpq and the network
    r"Connection refused|timeout expired|timed[- ]out|Network is down|could not translate host name|"
    r"server closed the connection|Connection reset|SSL SYSCALL error|Broken pipe|unreachable|No route to host|"
    r"Cannot assign requested address|"
    r"unexpected eof|socket .* failed: No such file or directory|"
    # PostgreSQL
    r"starting up|shutting down|in recovery|not (?:yet )?accepting connections|too many (?:clients|connections)|"
    r"connection slots|session is read-only|hot standby mode|No space left|out of memory|could not fork|"
    r"terminating connection|"
    # pools
    r"no more connections allowed|query_wait_timeout|client_login_timeout|cannot connect to server|server conn crashed|"
    r"server_login_retry|max clients reached|max client connections|"
    # the driver, whose connection is closed before it said anything
    r"no connection to the server",
    re.IGNORECASE,
)

_PASSING_STATEMENT = re.compile(
    r"timeout|deadlock|could not serialize|user request|duplicate key|foreign key constraint"
)

_REMEDIES = (
    (
        r"valid client certificate|certificate required|certificate authentication|unknown ca",
        "Set sslcert and sslkey in DATABASE_URL to a certificate that the server knows",
    ),
    (r"private key|key file|(?<!root )certificate file|sslkey|sslcert", "Correct sslcert and sslkey in DATABASE_URL"),
    (r"pg_hba", "Have the server's pg_hba.conf allow this role and machine, or correct DATABASE_URL"),
    (r"permission denied for database", "Have the database's owner GRANT CONNECT to the role of DATABASE_URL"),
    (r"certificate|root\.crt", "Set sslrootcert in DATABASE_URL to the file of the authority, or correct the host"),
    (r"SSL|TLS", "Check sslmode, host and port of DATABASE_URL"),
    (r"statement pooling", "Set pool_mode = transaction or session for the pool that DATABASE_URL leads to"),
    (r'database "|no such database', "Correct the name of the database in DATABASE_URL"),
    (r"authentication|password|role \"|no such user", "Correct user and password in DATABASE_URL"),
    (r"parameter|option|invalid \S+ value", "Correct or remove that parameter of DATABASE_URL"),
    (r"invalid port|value .* for .*\bport\b|first received character", "Correct the port in DATABASE_URL"),
)
"""Pairs of a pattern of libpq's message and the advice for the user; the first pattern that matches counts."""

# SQLSTATEs after which the same transaction may succeed: lost connection (08), deadlock and serialization (40), out of
# resources (53), lock timeout (55P03), cancelled or shut down (57), a database that is read-only, as one in recovery
# (25006), and transactions that took too long (25P03, 25P04).
_TRANSIENT = re.compile(r"08|40|53|55P03|57|25006|25P0[34]")
_INSUFFICIENT_PRIVILEGE = "42501"

# A violation (23505, 23503) of one of SavePoint's own keys, by the names that Prisma gives them, is another writer that
# has just inserted or deleted a row: the next attempt sees what it did. A key that the owner has added is a rule.
_KEY_VIOLATION = re.compile(r"2350[35]")
_OWN_KEY = re.compile(
    r"\w+_pkey|(Game|Genre|Platform)_(igdbId|slug|name|steamAppId)_key|"
    r"(ImportedGame|LibraryItem|GameGenre|GamePlatform)_(userId|gameId|genreId|platformId)_fkey"
)

# SQLSTATEs whose message names table and rule, and quotes nothing of a row, unless a function is at work: what that
# says, and with which SQLSTATE, is for its author to choose.
_QUOTABLE = re.compile(r"23514|2350[235]|23P01|22001|42|428C9|44|55000|0A")
_OWN_CONTEXT = re.compile(r'(?:(?:while|COPY|SQL statement "SELECT 1 FROM ONLY) .*\n?)*')
"""Matches the context of an error that concerns no function but the database's own, such as those of foreign keys."""

_FUNCTION = re.compile(r"^((?:PL/\w+|SQL) function \S+(?: line \d+)?)(.*)", re.MULTILINE)
_LANGUAGES_WITH_RAISE = ("PL/pgSQL", "SQL")
"""The languages whose error context shows RAISE; in a function of another one, any error counts as raised."""

# The driver says so of Ctrl-C while a statement runs, and of pg_cancel_backend(); a timeout has another message.
_CANCELLED = "canceling statement due to user request"


def _connection_error(url: DatabaseUrl, text: str) -> PipelineError:
    said = re.sub(r"^IO: (?:\[libpq\] )?(?:Failed to connect: )?", "", text)
    reason = url.redact(" ".join(said.split()))
    # One attempt for each address of each host: what is wrong with one of them does not pass.
    attempts = re.split(r"(?=connection to server (?:at|on))", said)
    if "statement pooling" not in said and all(_PASSING.search(attempt) for attempt in attempts if attempt.strip()):
        return Retryable("database_unavailable", f"{url} cannot be reached: {reason}. Try again later.")
    remedy = next((words for pattern, words in _REMEDIES if re.search(pattern, said)), "Check DATABASE_URL")
    return Refused("configuration", f"{url} refuses the connection: {reason.rstrip('.')}. {remedy}.")


@contextmanager
def _converted_errors(url: DatabaseUrl, session: Session) -> Iterator[None]:
    """Convert the driver's errors. They are not chained, as they quote the statement and the row."""
    try:
        yield
    except dbapi.Error as error:
        raise _statement_error(url, session, error) from None
    except pl.exceptions.ComputeError as error:
        # What goes wrong while rows arrive is reported through Polars, without an SQLSTATE.
        if not _passes(error):
            raise Failed("schema_mismatch", _not_loaded(url, session, "a query failed")) from None
        raise Retryable("database_unavailable", f"{url}: {_server_message(error)}. Try again.") from None


def _statement_error(url: DatabaseUrl, session: Session, error: dbapi.Error) -> PipelineError:
    state, says = error.sqlstate or "", _server_message(error)
    fields = {name.decode(): value.decode(errors="replace") for name, value in error.details or ()}
    context = fields.get("PG_DIAG_CONTEXT", "")
    is_of_statement = bool(_OWN_CONTEXT.fullmatch(context))
    if is_of_statement and ("statement pooling" in says or (not state and "Failed to connect" in str(error))):
        return _connection_error(url, str(error))
    function, at = found.groups() if (found := _FUNCTION.search(context)) else ("", "")
    is_raised = not is_of_statement and (" at RAISE" in at or not function.startswith(_LANGUAGES_WITH_RAISE))
    # Any other message may quote the row.
    unquoted = (f"SQLSTATE {state}" if state else "it raises an error") + (f" in {function}" if function else "")
    shown = says if is_of_statement else unquoted
    if state == _INSUFFICIENT_PRIVILEGE and not is_raised:
        is_hidden = "row-level security" in shown
        remedy = ROW_SECURITY_REMEDY if is_hidden else "Grant it to this role."
        return Refused("configuration", f"{url}: {shown}. {remedy}")
    is_race = _KEY_VIOLATION.match(state) and _OWN_KEY.fullmatch(fields.get("PG_DIAG_CONSTRAINT_NAME", ""))
    may_pass = is_race or _TRANSIENT.match(state) or (not state and _passes(error))
    if is_raised:
        may_pass = state.startswith("40")
    if may_pass:
        is_cancelled = not is_raised and _CANCELLED in str(error)
        return Retryable("database_unavailable", f"{url}: {shown}. Try again.", is_cancelled=is_cancelled)
    rule = shown if _QUOTABLE.match(state) else unquoted
    is_about_rows = not (is_of_statement and state.startswith("42"))
    return Failed("schema_mismatch", _not_loaded(url, session, rule), is_about_rows=is_about_rows)


def _passes(error: Exception) -> bool:
    """Return whether an error without an SQLSTATE, as while rows arrive or at the commit, passes by itself."""
    return bool(_PASSING.search(str(error)) or _PASSING_STATEMENT.search(_server_message(error)))


ROW_SECURITY_REMEDY = (
    "Have the database's owner ALTER ROLE … BYPASSRLS, or turn row-level security off for the importer's role."
)


def _not_loaded(url: DatabaseUrl, session: Session, rule: str) -> str:
    where = f'table "{session.written}"' if session.written else "database"
    return (
        f"{url}: a rule of the {where} refuses what a load writes, and nothing was written: {rule}. Change that "
        "rule, or the row of the enriched CSV that breaks it."
    )


def _server_message(error: Exception) -> str:
    """Return the server's own sentence out of the driver's text, which also quotes the statement."""
    text = str(error)
    found = re.search(r"(?:ERROR|FATAL|PANIC): +(.*)", text)
    return found[1] if found else text.splitlines()[0]
