"""How the program ends in surroundings that are not as it needs them: a table of cases, each with a real test.

Each test ends with `ends_as("the case's name", what it ended with)`, so that the table, which
`python -m tests.support.documents` writes into docs/surroundings.md, says what was seen. To add a case, add its line
here and its test, and write the page.
"""

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, NamedTuple

import pytest

from handlers.respond import respond
from pipeline.cli import exit_status
from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings
from schemas.events import LoadEvent, LoadResponse
from tests.support.programs import Ended

RETRYABLE = 75
REFUSES = "… refuses the connection: "
LACKS = "This database cannot take an import, nothing was written. It lacks "
REFUSED_BY = "refuses what a load writes, and nothing was written: "
Group = Literal["database", "network", "S3", "machine"]


class Case(NamedTuple):
    """One kind of surroundings, and how a command or a stage ends there."""

    group: Group
    what: str
    status: int
    code: str = ""
    """The error's code; empty where it succeeds, or ends by a sentence without a code."""
    words: str = ""
    """The first words of the message: `…` stands for what differs."""
    advice: str = ""
    """What the message says to do; each of `configuration` has some."""


# What messages say to do, where several say the same.
_CERTIFICATE = "Set sslrootcert in DATABASE_URL to the file of the authority, or correct the host."
_LOGIN = "Correct user and password in DATABASE_URL."
_DATABASE = "Correct the name of the database in DATABASE_URL."
_PARAMETER = "Correct or remove that parameter of DATABASE_URL."
_BYPASS = "Have the database's owner ALTER ROLE … BYPASSRLS, or turn row-level security off for the importer's role."
_CERT_FILE = (
    "Set SSL_CERT_FILE to a file with the certificate of the authority, as a company's proxy has its "
    "own, or correct HTTPS_PROXY."
)
_PROXY = "Correct HTTPS_PROXY: give http://user:password@host:port if it wants a password."
_AWS_KEYS = "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
_REGION = "Set AWS_REGION to the region of the bucket."
_BUCKET = (
    "Check S3_BUCKET or STORE_URL, and that the credentials allow s3:GetObject, PutObject, DeleteObject and ListBucket."
)
_CA_BUNDLE = "Set AWS_CA_BUNDLE to a file with the certificate of the authority, or correct AWS_ENDPOINT_URL_S3."
_CREDENTIALS = "Correct what AWS_PROFILE, AWS_CONFIG_FILE or AWS_WEB_IDENTITY_TOKEN_FILE say of credentials."
_AWS_CONFIG = "Correct AWS_PROFILE, AWS_REGION, the AWS_ENDPOINT_URL… settings, or the file of AWS_CONFIG_FILE."
_SET_KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
_CLOCK = "This machine's clock is off: synchronise it (timedatectl set-ntp true)."
_SIGN_IN = "Log in again (aws sso login), or renew AWS_SESSION_TOKEN."
_ELSEWHERE = "Set DATABASE_URL, or another STORE_URL."

CASES = {
    "folder with a space": Case("machine", "a folder called `my projects`", 0),
    "folder with quotes and $": Case("machine", "a folder called `it's $HOME`", 0),
    "folder with = and %": Case("machine", "a folder called `a=b%c`", 0),
    "folder of 200 characters": Case("machine", "a folder whose path has 200 characters", 0),
    "unknown locale": Case("machine", "`LANG` names a locale that is not installed", 0),
    "PG variables": Case(
        "database",
        "`PGHOSTADDR`, `PGPORT`, `PGSERVICE` … lead elsewhere; the embedded database is used, nothing arrives there",
        0,
    ),
    "two users of a machine": Case("machine", "two users of one machine run it at once", 0),
    "umask": Case("machine", "root's umask (077) keeps all others out of new folders", 0),
    "unknown user": Case(
        "machine",
        "a user whom the system does not know, as in a container, and no embedded database yet",
        2,
        "configuration",
        "This system has no user with the id …, and PostgreSQL makes no database for a user without a name.",
        "Run it as a user that the system knows, add this one to /etc/passwd, or set DATABASE_URL.",
    ),
    "stale pid": Case(
        "machine", "a `postmaster.pid` left by a crash has the pid of a live process, which is left alone", 0
    ),
    "stale pid of the wheel": Case("machine", "the list of pids that older versions kept names a live process", 0),
    "stale pid of a socket": Case("machine", "the lock of a socket left by a crash has the pid of a live process", 0),
    "pid file without a pid": Case("machine", "an empty `postmaster.pid`, as after a full disk", 0),
    "folder with a line break": Case(
        "machine",
        "a folder whose name has a line break",
        2,
        "configuration",
        "PostgreSQL cannot keep its files in '…', a path with a line break",
        "Set another STORE_URL.",
    ),
    "embedded elsewhere in use": Case(
        "machine",
        "the embedded database's folder is in use by another container",
        2,
        "configuration",
        "… is in use by a process of another container or machine",
        "Wait for its end, or set another STORE_URL or DATABASE_URL.",
    ),
    "embedded folder of others": Case(
        "machine",
        "files of others in the embedded database's folder",
        2,
        "configuration",
        "The embedded database cannot be started in …: [Errno 39] Directory not empty",
        _ELSEWHERE,
    ),
    "run, embedded folder of others": Case(
        "machine",
        "the same, as `run` looks for it; Steam and IGDB are not asked",
        2,
        "configuration",
        "… holds other files than PostgreSQL's.",
        "Choose another STORE_URL.",
    ),
    "embedded corrupt": Case(
        "machine",
        "files of the embedded database are missing",
        2,
        "configuration",
        "The embedded database cannot be started in …: PostgreSQL says: ",
        _ELSEWHERE,
    ),
    "embedded disk full": Case(
        "machine",
        "no space for the embedded database",
        75,
        "database_unavailable",
        "No space left on device for the embedded database in …",
    ),
    "output lacks a letter": Case("machine", "the terminal's encoding (Latin-1, cp1252) lacks a letter of a name", 0),
    "unreadable .env": Case(
        "machine",
        "a `.env` that may not be read",
        2,
        "configuration",
        "The file .env cannot be read: Permission denied.",
        "Make it readable, or move it away.",
    ),
    "unknown home": Case(
        "machine",
        "`~name` of a user who is not there, as `STORE_URL` or a file",
        2,
        "configuration",
        "~nosuchuser/…: this machine knows no such home.",
        "Write the whole path.",
    ),
    "folder is gone": Case(
        "machine",
        "the current folder was deleted",
        2,
        "configuration",
        "…: the current folder is gone.",
        "Change to one that is there.",
    ),
    "early Ctrl-C": Case("machine", "Ctrl-C in the first second", 130, words="Interrupted. "),
    "output disk full": Case(
        "machine",
        "no space for what `>` writes",
        75,
        words="The output cannot be written: No space left on device. Every file that was written is complete.",
    ),
    "Windows": Case(
        "machine",
        "Windows without WSL",
        2,
        "configuration",
        "steam-import runs on Linux and macOS.",
        "install it in WSL",
    ),
    "rounded ids": Case(
        "machine",
        "a list of users whose SteamID64s a spreadsheet has rounded",
        2,
        "bad_event",
        "All … SteamID64s of the list end in 00, or are written as powers of ten: a spreadsheet has rounded them",
    ),
    "unknown authority": Case(
        "database",
        "a certificate of an authority that nobody trusts",
        2,
        "configuration",
        f"{REFUSES}…certificate verify failed",
        _CERTIFICATE,
    ),
    "other host's certificate": Case(
        "database",
        "a certificate for another host",
        2,
        "configuration",
        f"{REFUSES}…does not match host name",
        _CERTIFICATE,
    ),
    "no root certificate": Case(
        "database",
        "`sslrootcert` names a file that is not there",
        2,
        "configuration",
        f"{REFUSES}…root certificate file …does not exist",
        _CERTIFICATE,
    ),
    "strict, unknown authority": Case(
        "database",
        "Prisma's `sslaccept=strict`, and an authority that nobody trusts",
        2,
        "configuration",
        f"{REFUSES}…certificate verify failed",
        _CERTIFICATE,
    ),
    "no client key": Case(
        "database",
        "`sslkey` names a file that is not there",
        2,
        "configuration",
        f"{REFUSES}…private key file",
        "Correct sslcert and sslkey in DATABASE_URL.",
    ),
    "wrong password": Case(
        "database", "a wrong password", 2, "configuration", f"{REFUSES}…password authentication failed", _LOGIN
    ),
    "no password": Case(
        "database", "no password where one is asked for", 2, "configuration", f"{REFUSES}…no password supplied", _LOGIN
    ),
    "unknown role": Case(
        "database", "a role that is not there", 2, "configuration", f"{REFUSES}…role … does not exist", _LOGIN
    ),
    "unknown database": Case(
        "database",
        "a database that is not there",
        2,
        "configuration",
        f"{REFUSES}…database … does not exist",
        _DATABASE,
    ),
    "address not allowed": Case(
        "database",
        "`pg_hba.conf` refuses role and address",
        2,
        "configuration",
        f"{REFUSES}…pg_hba.conf rejects",
        "Have the server's pg_hba.conf allow this role and machine, or correct DATABASE_URL.",
    ),
    "no such port": Case(
        "database",
        "a port above 65535",
        2,
        "configuration",
        f"{REFUSES}invalid port number",
        "Correct the port in DATABASE_URL.",
    ),
    "other program's port": Case(
        "database",
        "a port where another program answers",
        2,
        "configuration",
        f"{REFUSES}…received invalid response to SSL negotiation",
        "Check sslmode, host and port of DATABASE_URL.",
    ),
    "unknown parameter": Case(
        "database",
        "a parameter that neither libpq nor Prisma has",
        2,
        "configuration",
        f"{REFUSES}invalid URI query parameter",
        _PARAMETER,
    ),
    "invalid parameter": Case(
        "database",
        "a parameter with an invalid value",
        2,
        "configuration",
        f"{REFUSES}…invalid integer value",
        _PARAMETER,
    ),
    "statement pooling": Case(
        "database",
        "PgBouncer with `pool_mode = statement`",
        2,
        "configuration",
        f"{REFUSES}…statement pooling",
        "Set pool_mode = transaction or session for the pool that DATABASE_URL leads to.",
    ),
    "pool without database": Case(
        "database",
        "PgBouncer without that database",
        2,
        "configuration",
        f"{REFUSES}…database … does not exist",
        _DATABASE,
    ),
    "pool without server": Case(
        "database", "PgBouncer, and PostgreSQL behind it is down", 75, "database_unavailable", "… cannot be reached: "
    ),
    "pool is full": Case(
        "database",
        "PgBouncer has as many clients as it may",
        75,
        "database_unavailable",
        "… cannot be reached: …no more connections allowed",
    ),
    "Prisma through a pool": Case(
        "database", "Prisma's URL with a schema, through PgBouncer with `pool_mode = transaction`", 0
    ),
    "too many connections": Case(
        "database", "too many connections", 75, "database_unavailable", "… cannot be reached: …too many connections"
    ),
    "refused": Case(
        "database", "nothing listens there", 75, "database_unavailable", "… cannot be reached: …Connection refused"
    ),
    "not resolved": Case(
        "database",
        "a host name that is not resolved",
        75,
        "database_unavailable",
        "… cannot be reached: could not translate host name",
    ),
    "no socket": Case(
        "database",
        "no socket in the folder",
        75,
        "database_unavailable",
        "… cannot be reached: …No such file or directory",
    ),
    "no answer": Case(
        "database",
        "no answer within `connect_timeout`",
        75,
        "database_unavailable",
        "… cannot be reached: …timeout expired",
    ),
    "closed": Case(
        "database",
        "the connection is closed",
        75,
        "database_unavailable",
        "… cannot be reached: …server closed the connection",
    ),
    "shutting down": Case(
        "database",
        "PostgreSQL is shutting down",
        75,
        "database_unavailable",
        "… cannot be reached: …the database system is shutting down",
    ),
    "starting up": Case(
        "database",
        "PostgreSQL is starting up, or a standby that takes no sessions",
        75,
        "database_unavailable",
        "… cannot be reached: …the database system is ",
    ),
    "standby": Case(
        "database",
        "a standby, which is in recovery",
        75,
        "database_unavailable",
        "…: cannot execute … in a read-only transaction",
    ),
    "read-only session": Case(
        "database",
        "`default_transaction_read_only` is on",
        75,
        "database_unavailable",
        "…: cannot execute … in a read-only transaction",
    ),
    "read-only, checked first": Case(
        "database",
        "the same, as `run`, `db check` and `doctor` look for it",
        75,
        "database_unavailable",
        "…: The session cannot write",
    ),
    "lock timeout": Case(
        "database",
        "a lock that is not given within `LOCK_TIMEOUT_SECONDS`",
        75,
        "database_unavailable",
        "…: canceling statement due to lock timeout",
    ),
    "deadlock": Case("database", "a deadlock", 75, "database_unavailable", "…: deadlock detected. Try again."),
    "serialization": Case(
        "database",
        "a transaction that cannot be serialized",
        75,
        "database_unavailable",
        "…: could not serialize access due to concurrent update. Try again.",
    ),
    "disk full": Case(
        "database",
        "the database's disk is full",
        75,
        "database_unavailable",
        "…: could not extend file … No space left",
    ),
    "PGCLIENTENCODING": Case("database", "`PGCLIENTENCODING` is LATIN1", 0),
    "role's encoding": Case("database", "the role's `client_encoding` is LATIN1", 0),
    "database's encoding": Case("database", "the database's `client_encoding` is LATIN1", 0),
    "encoding LATIN1": Case(
        "database",
        "a database made with the encoding LATIN1",
        1,
        "schema_mismatch",
        f"{LACKS}the encoding UTF8 (it has LATIN1)",
    ),
    "encoding SQL_ASCII": Case(
        "database",
        "a database made with the encoding SQL_ASCII",
        1,
        "schema_mismatch",
        f"{LACKS}the encoding UTF8 (it has SQL_ASCII)",
    ),
    "quotes": Case("database", 'the URL in `"quotes"`', 0),
    "single quotes": Case("database", "the URL in `'quotes'`", 0),
    "postgres://": Case("database", "the URL begins with `postgres://`", 0),
    "SQLAlchemy's driver": Case("database", "the URL begins with `postgresql+psycopg2://`", 0),
    "Prisma's parameters": Case(
        "database", "`?schema=public&pgbouncer=true&connection_limit=5&pool_timeout=10&sslaccept=strict`", 0
    ),
    "schema": Case("database", "`?schema=` names another schema, for tables, enums and users", 0),
    "unknown schema": Case(
        "database",
        "`?schema=` names one that is not there",
        2,
        "configuration",
        "…: there is no such schema",
        "Correct schema= in DATABASE_URL, or have the owner GRANT USAGE ON SCHEMA …",
    ),
    "row-level security": Case(
        "database",
        "row-level security on `ImportedGame`",
        2,
        "configuration",
        "Row-level security hides rows of ImportedGame from this role",
        _BYPASS,
    ),
    "row-level security of users": Case(
        "database",
        "row-level security on the table of users",
        2,
        "configuration",
        "Row-level security hides rows of user from this role",
        _BYPASS,
    ),
    "CHECK": Case(
        "database",
        "a CHECK that a row breaks",
        1,
        "schema_mismatch",
        f'…: a rule of the table "Game" {REFUSED_BY}…violates check constraint "short"',
    ),
    "foreign key": Case(
        "database",
        "a foreign key that the database's owner has added, and a row breaks",
        1,
        "schema_mismatch",
        f'…: a rule of the table "Game" {REFUSED_BY}…violates foreign key constraint "own"',
    ),
    "length": Case(
        "database",
        "a name that is longer than its column",
        1,
        "schema_mismatch",
        f'…: a rule of the table "ImportedGame" {REFUSED_BY}value too long for type character varying(4)',
    ),
    "trigger raises": Case(
        "database",
        "a trigger that raises",
        1,
        "schema_mismatch",
        f'…: a rule of the table "ImportedGame" {REFUSED_BY}SQLSTATE P0001 in PL/pgSQL function refuse()',
    ),
    "trigger raises at the commit": Case(
        "database",
        "a deferred trigger that raises",
        1,
        "schema_mismatch",
        f"…: a rule of the database {REFUSED_BY}SQLSTATE P0001 in PL/pgSQL function refuse()",
    ),
    "trigger drops imports": Case(
        "database",
        "a trigger that drops rows of `ImportedGame`",
        1,
        "schema_mismatch",
        'The table "ImportedGame" drops rows that a load writes (trigger noticed)',
    ),
    "trigger drops items": Case(
        "database",
        "a trigger that drops rows of `LibraryItem`",
        1,
        "schema_mismatch",
        'The table "LibraryItem" drops rows that a load writes (trigger noticed)',
    ),
    "trigger drops games": Case(
        "database",
        "a trigger that drops rows of `Game`",
        1,
        "schema_mismatch",
        'The table "Game" drops rows that a load writes (trigger noticed)',
    ),
    "trigger drops links": Case(
        "database",
        "a trigger that drops rows of `GameGenre`",
        1,
        "schema_mismatch",
        'The table "GameGenre" drops rows that a load writes (trigger noticed)',
    ),
    "trigger drops updates": Case(
        "database",
        "a trigger that drops updates",
        1,
        "schema_mismatch",
        'The table "ImportedGame" drops rows that a load writes (trigger noticed)',
    ),
    "trigger lets pass": Case("database", "triggers that let rows pass", 0),
    "rule drops rows": Case(
        "database",
        "a rule `DO INSTEAD NOTHING`",
        1,
        "schema_mismatch",
        'The table "Platform" drops rows that a load writes (rule quiet)',
    ),
    "other type": Case(
        "database",
        "a column of another type",
        1,
        "schema_mismatch",
        f'{LACKS}the type text of column "LibraryItem"."platform" (it is bytea)',
    ),
    "refuses nulls": Case(
        "database",
        "a column that refuses nulls",
        1,
        "schema_mismatch",
        f'{LACKS}nulls in column "Game"."coverImage"',
    ),
    "no value of an enum": Case(
        "database",
        "an enum without one of its values",
        1,
        "schema_mismatch",
        f"{LACKS}value IGNORED",
    ),
    "no table": Case(
        "database",
        "a table is missing",
        1,
        "schema_mismatch",
        f'{LACKS}table "GameGenre"',
    ),
    "new column without default": Case(
        "database",
        "a new column without a default",
        1,
        "schema_mismatch",
        f'{LACKS}a default of column "Game"."publisher"',
    ),
    "right missing": Case(
        "database",
        "a right is missing",
        2,
        "configuration",
        "…: permission denied for table Game",
        "Grant it to this role.",
    ),
    "no user": Case(
        "database", "the user has no row", 1, "user_not_found", 'The table "user" has no row with the id user-1'
    ),
    "run, no user": Case(
        "database",
        "`run --user` of nobody; Steam and IGDB are not asked",
        1,
        "user_not_found",
        'The table "user" has no row with the id nobody; nothing was written. …--user.',
    ),
    "run, nobody's account": Case(
        "database",
        "`run` without `--user`, and nobody has that id; Steam and IGDB are not asked",
        1,
        "user_not_found",
        "No user has the steamId64",
    ),
    "run, no column": Case(
        "database",
        "`run` where a column is missing; Steam and IGDB are not asked",
        1,
        "schema_mismatch",
        f'{LACKS}column "Game"."slug"',
    ),
    "run, no server": Case(
        "database",
        "`run` where no database answers; Steam and IGDB are not asked",
        75,
        "database_unavailable",
        "… cannot be reached: ",
    ),
    "API, unknown authority": Case(
        "network",
        "a certificate of an authority that nobody trusts, as a company's proxy shows",
        2,
        "configuration",
        "127.0.0.1 has no certificate or encryption that this machine trusts: unable to get local issuer certificate",
        _CERT_FILE,
    ),
    "API, other host": Case(
        "network",
        "a certificate for another host",
        2,
        "configuration",
        "localhost has no certificate or encryption that this machine trusts: Hostname mismatch",
        _CERT_FILE,
    ),
    "API, expired": Case(
        "network",
        "a certificate that has expired",
        2,
        "configuration",
        "127.0.0.1 has no certificate or encryption that this machine trusts: certificate has expired",
        _CERT_FILE,
    ),
    "API, not TLS": Case(
        "network",
        "`https://` where plain HTTP is spoken",
        2,
        "configuration",
        "127.0.0.1 has no certificate or encryption that this machine trusts: wrong version number",
        _CERT_FILE,
    ),
    "no SSL_CERT_FILE": Case(
        "network",
        "`SSL_CERT_FILE` names a file that is not there",
        2,
        "configuration",
        "The certificate authorities that SSL_CERT_FILE names cannot be read",
        "Correct SSL_CERT_FILE, or unset it.",
    ),
    "proxy wants a password": Case(
        "network",
        "a proxy that wants a password (407)",
        2,
        "configuration",
        "The proxy for api.invalid answers 407",
        _PROXY,
    ),
    "proxy forbids": Case(
        "network",
        "a proxy that forbids the host (403)",
        2,
        "configuration",
        "The proxy for api.invalid answers 403",
        _PROXY,
    ),
    "proxy is busy": Case(
        "network", "a proxy that is busy (503)", 75, "steam_unavailable", "api.invalid did not answer"
    ),
    "proxy limits the rate": Case(
        "network", "a proxy that limits the rate (429)", 75, "steam_unavailable", "api.invalid did not answer"
    ),
    "proxy is down": Case("network", "a proxy that is down", 75, "steam_unavailable", "api.invalid did not answer"),
    "proxy is no URL": Case(
        "network",
        "`HTTPS_PROXY` is no URL of a proxy",
        2,
        "configuration",
        "HTTPS_PROXY or ALL_PROXY is not a usable proxy",
        "give http://host:port.",
    ),
    "API, 501": Case(
        "network",
        "an answer 501",
        2,
        "configuration",
        "127.0.0.1 answers 501",
        "Check the …_URL settings and HTTPS_PROXY.",
    ),
    "API, 503": Case("network", "an answer 503", 75, "steam_unavailable", "Steam answers 503"),
    "API, closed": Case("network", "the connection is closed", 75, "steam_unavailable", "127.0.0.1 did not answer"),
    "API, refused": Case("network", "nothing listens there", 75, "steam_unavailable", "127.0.0.1 did not answer"),
    "API, not resolved": Case(
        "network", "a host name that is not resolved", 75, "steam_unavailable", "api.invalid did not answer"
    ),
    "API, silent": Case("network", "no answer in time", 75, "steam_unavailable", "127.0.0.1 did not answer"),
    "S3, expired": Case(
        "S3", "credentials that have expired", 2, "configuration", "S3 answers ExpiredToken for …", _SIGN_IN
    ),
    "S3, clock": Case("S3", "a clock that is off", 2, "configuration", "S3 answers RequestTimeTooSkewed for …", _CLOCK),
    "S3, clock ahead": Case(
        "S3", "a clock that is ahead", 2, "configuration", "S3 answers RequestInTheFuture for …", _CLOCK
    ),
    "secret, clock": Case(
        "S3",
        "Secrets Manager, SSM or STS, and a clock that is off",
        2,
        "configuration",
        "AWS answers … for STEAM_API_KEY_SECRET_ARN",
        _CLOCK,
    ),
    "S3, wrong key": Case(
        "S3", "a key that AWS does not know", 2, "configuration", "S3 answers InvalidAccessKeyId for …", _AWS_KEYS
    ),
    "S3, wrong secret": Case(
        "S3", "a wrong secret key", 2, "configuration", "S3 answers SignatureDoesNotMatch for …", _AWS_KEYS
    ),
    "S3, region": Case(
        "S3", "a bucket in another region", 2, "configuration", "S3 answers AuthorizationHeaderMalformed for …", _REGION
    ),
    "S3, circle": Case(
        "S3", "a server that redirects in circles", 2, "configuration", "S3 redirects in circles for …", _REGION
    ),
    "S3, denied": Case("S3", "a right is missing", 2, "configuration", "S3 answers AccessDenied for …", _BUCKET),
    "S3, no bucket": Case(
        "S3", "a bucket that is not there", 2, "configuration", "S3 answers NoSuchBucket for …", _BUCKET
    ),
    "S3, 501": Case(
        "S3",
        "a server that lacks what a store needs (501)",
        2,
        "configuration",
        "S3 answers NotImplemented for …: …",
        "Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required, if it is S3's checksums that it does not know.",
    ),
    "S3, slow down": Case(
        "S3", "S3 asks to slow down", 75, "store_unavailable", "S3 answers SlowDown for …. Try again later."
    ),
    "S3, 500": Case(
        "S3", "an error of S3's own (500)", 75, "store_unavailable", "S3 answers InternalError for …. Try again later."
    ),
    "S3, refused": Case(
        "S3",
        "nothing listens at `AWS_ENDPOINT_URL_S3`",
        75,
        "store_unavailable",
        "S3 cannot be reached for …: Could not connect",
    ),
    "S3, closed": Case(
        "S3", "the connection is closed", 75, "store_unavailable", "S3 cannot be reached for …: Connection was closed"
    ),
    "S3, unknown authority": Case(
        "S3",
        "a certificate of an authority that nobody trusts",
        2,
        "configuration",
        "S3 cannot be asked for …: SSL validation failed",
        _CA_BUNDLE,
    ),
    "S3, not TLS": Case(
        "S3",
        "`https://` where plain HTTP is spoken",
        2,
        "configuration",
        "S3 cannot be asked for …: SSL validation failed",
        _CA_BUNDLE,
    ),
    "S3, no CA bundle": Case(
        "S3",
        "`AWS_CA_BUNDLE` names a file that is not there",
        2,
        "configuration",
        "S3 cannot be asked for …: ",
        _CA_BUNDLE,
    ),
    "S3, proxy": Case(
        "S3",
        "a proxy that wants a password (407)",
        2,
        "configuration",
        "S3 cannot be asked for …: Failed to connect to proxy URL…The proxy answers 407",
        "Correct HTTPS_PROXY: http://user:password@host:port.",
    ),
    "S3, proxy down": Case(
        "S3",
        "a proxy that is down",
        75,
        "store_unavailable",
        "S3 cannot be reached for …: Failed to connect to proxy URL",
    ),
    "S3, no credentials": Case(
        "S3", "no credentials", 2, "configuration", "There are no AWS credentials for …", _SET_KEYS
    ),
    "S3, half credentials": Case(
        "S3", "a key without its secret", 2, "configuration", "There are no AWS credentials for …", _SET_KEYS
    ),
    "S3, no program": Case(
        "S3",
        "`credential_process` names a program that is not there",
        2,
        "configuration",
        "AWS cannot be asked for …: [Errno 2] No such file or directory",
        _CREDENTIALS,
    ),
    "S3, program fails": Case(
        "S3",
        "`credential_process` fails",
        2,
        "configuration",
        "AWS cannot be asked for …: Error when retrieving credentials from custom-process",
        _CREDENTIALS,
    ),
    "S3, program prints text": Case(
        "S3",
        "`credential_process` prints no JSON",
        2,
        "configuration",
        "AWS cannot be asked for …: the program of credential_process prints no JSON",
        _CREDENTIALS,
    ),
    "S3, no token file": Case(
        "S3",
        "`AWS_WEB_IDENTITY_TOKEN_FILE` names a file that is not there",
        2,
        "configuration",
        "S3 cannot be asked for …: [Errno 2] No such file or directory",
        _CREDENTIALS,
    ),
    "S3, not logged in": Case(
        "S3",
        "not logged in (`aws sso login`)",
        2,
        "configuration",
        "S3 cannot be asked for …: Error loading SSO Token: …",
        _SIGN_IN,
    ),
    "S3, no profile": Case(
        "S3",
        "`AWS_PROFILE` names a profile that is not there",
        2,
        "configuration",
        "AWS cannot be asked for …: The config profile (nobody) could not be found",
        _AWS_CONFIG,
    ),
    "S3, broken config": Case(
        "S3",
        "a file of AWS's configuration that cannot be read",
        2,
        "configuration",
        "AWS cannot be asked for …: Unable to parse config file",
        _AWS_CONFIG,
    ),
    "S3, unencrypted": Case(
        "S3",
        "`AWS_ENDPOINT_URL_S3` with `http://` to another machine",
        2,
        "configuration",
        "AWS cannot be set up for …: in the AWS_ENDPOINT_URL… settings",
        "give an address that begins with https://",
    ),
    "S3, ARN": Case(
        "S3",
        "an ARN, as of an access point, as the bucket",
        2,
        "configuration",
        "…arn:… is an ARN: give s3://bucket/prefix.",
        "Of an access point use its alias in place of a bucket's name, as `aws s3control get-access-point` prints it",
    ),
    "S3, typo": Case(
        "S3",
        "`STORE_URL=s3:/typo`",
        2,
        "configuration",
        "STORE_URL is 's3:/typo'",
        "give a directory, or s3://bucket/prefix.",
    ),
    "S3, no conditions": Case(
        "S3",
        "`doctor` at a server that ignores conditional writes, which backfills need",
        1,
        "",
        "failed … ignores the conditions of a write",
    ),
}
"""All cases, by the name that their tests use."""


def ends_as(name: str, ended: Ended | PipelineError | None) -> None:
    """Check that a process, or an error of ours, ended as the case says; None is a call that ended well."""
    case = CASES[name]
    if ended is None:
        status, lines = 0, []
    elif isinstance(ended, PipelineError):
        status, lines = exit_status(ended), [f"{ended.code}: {ended.message}"]
    else:
        status, lines = ended.status, ended.err.splitlines()
    assert status == case.status, lines
    if case.words:
        first_words = _pattern(f"{case.code}: {case.words}" if case.code else case.words)
        assert [line for line in lines if first_words.match(line)], lines
    assert case.advice or case.code != "configuration", f"{name}: what is there to do?"
    assert _pattern(case.advice).search("\n".join(lines)), lines


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(re.escape(words).replace("…", ".*"))


def handled(name: str, call: Callable[[], object]) -> PipelineError | None:
    """Check that a call, made as the stage of a Lambda function, ends as the case says; return its error.

    Whatever leaves the handler is `Retryable`, the one class that the state machine's retries know, or nothing.
    """
    met: list[PipelineError] = []

    def stage(_settings: Settings, _event: LoadEvent) -> LoadResponse:
        try:
            call()
        except PipelineError as error:
            met.append(error)
            raise
        return LoadResponse(success=True, stats=dict.fromkeys(("imported_games_created", "imported_games_updated"), 0))

    event = {"user_id": "user-1", "s3_enriched_location": "s3://bucket/imports/user-1/x-enriched.csv"}
    with nullcontext() if CASES[name].status != RETRYABLE else pytest.raises(Retryable):
        response = respond(event, LoadEvent, LoadResponse, stage)
        assert response["success"] is (CASES[name].status == 0)
    ends_as(name, met[0] if met else None)
    return met[0] if met else None


def surroundings_table() -> str:
    """The cases of each group as a table, under a heading."""
    parts = []
    for group in ("database", "network", "S3", "machine"):
        rows = [
            f"| {case.what} | {f'`{case.code}`' if case.code else ''} | {case.status} | {case.words.strip()} | "
            f"{case.advice} |"
            for case in CASES.values()
            if case.group == group
        ]
        if rows:
            title = group if group == "S3" else group.capitalize()
            parts.append(
                "\n".join(
                    [
                        f"## {title}",
                        "",
                        "| what | code | exit status | first words | what to do |",
                        "|---|---|---|---|---|",
                        *rows,
                    ]
                )
            )
    return "\n\n".join(parts)
