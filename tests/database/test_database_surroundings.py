"""How a load ends in databases that are not as it needs them; docs/surroundings.md lists it."""

import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from adbc_driver_postgresql import dbapi

from pipeline.database.connection import Timeouts, log_ignored_parameters
from pipeline.database.database import Database
from pipeline.errors import Failed, PipelineError, Refused
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import statements_of
from pipeline.sandbox.server import Sandbox
from schemas.savepoint import SAVEPOINT
from tests.support.databases import NewDatabase, as_role, execute, fetch, hang_up, rows_of, url_of
from tests.support.libraries import FIGHTING, WINDOWS, library, matched
from tests.support.programs import SteamImport
from tests.support.servers import TcpPostgres, answering, free_port, http_answer, tcp_postgres
from tests.support.surroundings import ends_as, handled

NAME = "Ōkami 絶景版 ™"
ROWS = library(matched(10, 100, name=NAME, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]))


def load(url: str, statement_seconds: float = 5) -> None:
    database = Database(url, attempts=1, connect_timeout_seconds=2, timeouts=Timeouts(statement_seconds, 0.2))
    database.load(stage_library(ROWS), ["user-1"])


def quick(cases: Iterable[str], *names: str) -> list[ParameterSet]:
    """Return the cases as parameters, of which only the named ones are in `make test`."""
    return [pytest.param(case, marks=() if case in names else pytest.mark.slow) for case in cases]


def stored_names(url: str) -> list[object]:
    return [name for (name,) in rows_of(url, "ImportedGame", "name")]


# PostgreSQL on TCP, with TLS.


@pytest.fixture(scope="module")
def server() -> Iterator[TcpPostgres]:
    with tcp_postgres() as started:
        for role in ("stranger", "secretive PASSWORD 'right'", "crowded CONNECTION LIMIT 0", "reader"):
            execute(started.url(), f"CREATE ROLE {role} LOGIN")
        Database(started.url()).create_tables(statements_of(2026))
        execute(started.url(), "ALTER ROLE reader SET default_transaction_read_only = on")
        yield started


REMOTE = "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert"
CONNECTIONS: dict[str, Callable[[TcpPostgres, Path], str]] = {
    "unknown authority": lambda server, _: server.url(
        host="db.example", query=f"{REMOTE}={server.authority.issue('other')[0]}"
    ),
    "other host's certificate": lambda server, _: server.url(
        host="db.elsewhere", query=f"{REMOTE}={server.authority.certificate}"
    ),
    "no root certificate": lambda server, _: server.url(host="db.example", query=f"{REMOTE}=/nowhere/root.pem"),
    "strict, unknown authority": lambda server, _: server.url(
        host="db.example", query="hostaddr=127.0.0.1&sslaccept=strict"
    ),
    "no client key": lambda server, _: server.url(
        query=f"sslmode=require&sslcert={server.authority.certificate}&sslkey=/nowhere/key.pem"
    ),
    "wrong password": lambda server, _: server.url("secretive:wrong"),
    "no password": lambda server, _: server.url("secretive"),
    "unknown role": lambda server, _: server.url("unknown"),
    "unknown database": lambda server, _: server.url(database="unknown"),
    "address not allowed": lambda server, _: server.url("stranger"),
    "no such port": lambda server, _: server.url().replace(str(server.port), "99999"),
    "unknown parameter": lambda server, _: server.url(query="colour=red"),
    "invalid parameter": lambda server, _: server.url(query="connect_timeout=soon"),
    "too many connections": lambda server, _: server.url("crowded"),
    "refused": lambda server, _: server.url().replace(str(server.port), str(free_port())),
    "not resolved": lambda server, _: server.url(host="db.invalid"),
    "no socket": lambda _, folder: f"postgresql://u@/savepoint?host={folder}",
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_a_connection_that_fails(case: str, server: TcpPostgres, tmp_path: Path) -> None:
    handled(case, lambda: load(CONNECTIONS[case](server, tmp_path)))


def test_a_known_authority_is_enough(server: TcpPostgres) -> None:
    for mode in ("sslmode=verify-full&sslrootcert", "sslaccept=strict&sslcert", "sslmode=require&sslcert"):
        query = f"hostaddr=127.0.0.1&{mode}={server.authority.certificate}"
        assert Database(server.url(host="db.example", query=query), attempts=1).server_version()


def test_a_port_of_another_program() -> None:
    with answering(http_answer("400 Bad Request")) as port:
        handled("other program's port", lambda: load(f"postgresql://u@127.0.0.1:{port}/savepoint?sslmode=require"))


ADVICE = {
    'no pg_hba.conf entry for host "10.0.0.1", user "u", database "savepoint", no encryption': "pg_hba.conf allow",
    'pg_hba.conf rejects connection for host "10.0.0.1", user "u", database "d", SSL encryption': "pg_hba.conf allow",
    "connection requires a valid client certificate": "Set sslcert and sslkey",
    'certificate authentication failed for user "u"': "Set sslcert and sslkey",
    'certificate present, but not private key file "/root/.postgresql/postgresql.key"': "Correct sslcert and sslkey",
    'could not read certificate file "/own.pem": No such file or directory': "Correct sslcert and sslkey",
    'could not read root certificate file "/root.pem": no certificate found': "Set sslrootcert",
    'permission denied for database "savepoint"': "GRANT CONNECT",
    'database "savepoint" does not exist': "the name of the database",
    'role "u" is not permitted to log in': "user and password",
    'password authentication failed for user "u"': "user and password",
    'unrecognized configuration parameter "colour"': "that parameter",
    "anything else": "Check DATABASE_URL.",
}


@pytest.mark.parametrize("said", ADVICE)
def test_a_refusal_names_the_setting_to_change(said: str) -> None:
    with answering(refusal(said)) as port, pytest.raises(PipelineError, match="refuses the connection") as refused:
        load(f"postgresql://u@127.0.0.1:{port}/savepoint?sslmode=disable")
    assert refused.value.code == "configuration"
    assert said in refused.value.message
    assert ADVICE[said] in refused.value.message


def refusal(said: str) -> bytes:
    """What PostgreSQL answers to a connection that it refuses: the message ErrorResponse of its protocol."""
    fields = f"SFATAL\0VFATAL\0C28000\0M{said}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.slow
def test_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/savepoint"
        handled("no answer", lambda: load(url))


def test_a_server_that_closes_the_connection() -> None:
    with answering(None) as port:
        handled("closed", lambda: load(f"postgresql://u@127.0.0.1:{port}/savepoint"))


def test_a_session_that_cannot_write(server: TcpPostgres) -> None:
    for table in ("Game", "LibraryItem", "ImportedGame", "Genre", "Platform", "GameGenre", "GamePlatform", "user"):
        execute(server.url(), f'GRANT ALL ON "{table}" TO reader')
    execute(server.url(), 'GRANT ALL ON SEQUENCE "LibraryItem_id_seq" TO reader')
    handled("read-only session", lambda: load(server.url("reader")))
    handled("read-only, checked first", lambda: Database(server.url("reader"), attempts=1).require_ready([]))


@pytest.mark.slow
def test_a_server_that_starts_or_stops_or_stands_by(server: TcpPostgres) -> None:
    hang_up(server.url())
    idle = dbapi.connect(server.url())
    assert server.process
    server.process.send_signal(15)  # a smart shutdown, which waits for the session
    handled("shutting down", lambda: load(server.url()))
    idle.close()
    server.process.wait()
    standby = server.folder / "data" / "standby.signal"
    shutil.copyfile("/dev/null", standby)
    if server.user:
        os.chown(standby, server.user["user"], server.user["group"])
    server.start("hot_standby=off", wait=False)
    while "refused" in str(_error_of(server.url())):
        pass
    handled("starting up", lambda: load(server.url()))
    server.stop()
    server.start("hot_standby=on")
    handled("standby", lambda: load(server.url()))
    server.stop()
    standby.unlink()
    server.start()


def _error_of(url: str) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        load(url)
    return raised.value


# Text stays text.


ENCODINGS = {
    "PGCLIENTENCODING": "",
    "role's encoding": "ALTER ROLE loader SET client_encoding = 'LATIN1'",
    "database's encoding": "ALTER DATABASE {name} SET client_encoding = 'LATIN1'",
}


@pytest.mark.parametrize("case", quick(ENCODINGS, "PGCLIENTENCODING"))
def test_names_stay_whole(case: str, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database(2026)
    if setting := ENCODINGS[case]:
        execute(url, setting.format(name=fetch(url, "SELECT current_database()").item()))
    else:
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    try:
        handled(case, lambda: load(as_role(url)))
    finally:
        execute(url, "ALTER ROLE loader RESET client_encoding")
    monkeypatch.delenv("PGCLIENTENCODING", raising=False)
    assert stored_names(url) == [NAME]


@pytest.mark.parametrize("case", quick(["encoding LATIN1", "encoding SQL_ASCII"], "encoding LATIN1"))
def test_a_database_in_another_encoding(postgres_server: str, case: str) -> None:
    encoding = case.removeprefix("encoding ")
    execute(
        postgres_server,
        f"CREATE DATABASE other ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C' LOCALE_PROVIDER libc",
    )
    url = url_of(postgres_server, "other")
    try:
        handled(case, lambda: load(url))
        with pytest.raises(Failed, match="UTF8"):
            Database(url).create_tables(statements_of(2026))
        assert Database(url).read_schema().columns == {}
    finally:
        execute(postgres_server, "DROP DATABASE other WITH (FORCE)")


# URLs as people have them.


URLS: dict[str, Callable[[str], str]] = {
    "quotes": lambda url: f'"{url}"',
    "single quotes": lambda url: f"'{url}'",
    "postgres://": lambda url: url.replace("postgresql://", "postgres://"),
    "SQLAlchemy's driver": lambda url: url.replace("postgresql://", "postgresql+psycopg2://"),
    "Prisma's parameters": lambda url: (
        f"{url}&schema=public&pgbouncer=true&connection_limit=5&pool_timeout=10&connect_timeout=10&sslaccept=strict"
    ),
}


@pytest.mark.parametrize("case", quick(URLS, "quotes", "Prisma's parameters"))
def test_a_url_as_people_have_it(case: str, new_database: NewDatabase) -> None:
    url = new_database(2026)
    handled(case, lambda: load(URLS[case](url)))
    assert stored_names(url) == [NAME]


def test_the_schema_of_a_url_is_that_of_all_tables_enums_and_users(postgres_server: str) -> None:
    execute(postgres_server, "CREATE DATABASE prisma")
    url = url_of(postgres_server, "prisma")
    own = f"{url}&schema=Save%20Point"
    try:
        handled("unknown schema", lambda: load(own))
        assert Database(own).create_tables(statements_of(2026))
        assert not Database(own).create_tables(statements_of(2026))
        assert Database(url).read_schema().columns == {}
        Database(own).ensure_users(["user-1"])
        for grant in Database(own).grant_statements("loader"):
            execute(url, grant)
        handled("schema", lambda: load(as_role(own)))
        assert fetch(url, 'SELECT name FROM "Save Point"."ImportedGame"').item() == NAME
    finally:
        execute(postgres_server, "DROP DATABASE prisma WITH (FORCE)")


# A database with rules of its own.


NO_ROWS = "CREATE FUNCTION no_rows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
RAISING = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'row %', NEW; END $$"
NOTICED = 'CREATE TRIGGER noticed {when} ON "{table}" FOR EACH ROW EXECUTE FUNCTION {function}()'


LATE = (
    'CREATE CONSTRAINT TRIGGER late AFTER INSERT ON "Game" DEFERRABLE INITIALLY DEFERRED '
    "FOR EACH ROW EXECUTE FUNCTION refuse()"
)


def dropping(table: str, when: str = "BEFORE INSERT") -> list[str]:
    return [NO_ROWS, NOTICED.format(when=when, table=table, function="no_rows")]


def raising(table: str) -> list[str]:
    return [RAISING, NOTICED.format(when="AFTER INSERT", table=table, function="refuse")]


RULES: dict[str, list[str]] = {
    "row-level security": [
        'ALTER TABLE "ImportedGame" ENABLE ROW LEVEL SECURITY',
        'CREATE POLICY own ON "ImportedGame" USING (false) WITH CHECK (true)',
    ],
    "row-level security of users": ['ALTER TABLE "user" ENABLE ROW LEVEL SECURITY'],
    "CHECK": ['ALTER TABLE "Game" ADD CONSTRAINT "short" CHECK (length(title) < 3)'],
    "foreign key": ['ALTER TABLE "Game" ADD CONSTRAINT "own" FOREIGN KEY (title) REFERENCES "Genre" (name)'],
    "length": ['ALTER TABLE "ImportedGame" ALTER COLUMN name TYPE varchar(4)'],
    "trigger raises": raising("ImportedGame"),
    "trigger raises at the commit": [RAISING, LATE],
    "trigger drops imports": dropping("ImportedGame"),
    "trigger drops items": dropping("LibraryItem"),
    "trigger drops games": dropping("Game"),
    "trigger drops links": dropping("GameGenre"),
    "rule drops rows": ['CREATE RULE quiet AS ON INSERT TO "Platform" DO INSTEAD NOTHING'],
    "other type": [
        'ALTER TABLE "LibraryItem" ALTER COLUMN platform TYPE bytea USING NULL',
    ],
    "refuses nulls": ['ALTER TABLE "Game" ALTER COLUMN "coverImage" SET NOT NULL'],
    "no value of an enum": ["""ALTER TYPE "IgdbMatchStatus" RENAME VALUE 'IGNORED' TO 'SKIPPED'"""],
    "no table": ['DROP TABLE "GameGenre"'],
    "new column without default": ['ALTER TABLE "Game" ADD COLUMN publisher text NOT NULL'],
    "right missing": ['REVOKE INSERT ON "Game" FROM loader'],
    "no user": ['DELETE FROM "user"'],
}


@pytest.mark.parametrize("case", quick(RULES, "CHECK", "trigger raises", "trigger drops imports"))
def test_a_database_with_rules_of_its_own(case: str, new_database: NewDatabase) -> None:
    url = new_database(2026)
    for statement in RULES[case]:
        execute(url, statement)
    error = handled(case, lambda: load(as_role(url)))
    assert error
    if not error.retryable:
        assert NAME not in error.message
        assert "Game 100" not in error.message
    assert stored_names(url) == []


def test_row_level_security_on_any_table_is_found_before_a_load_writes(new_database: NewDatabase) -> None:
    url = new_database(2026)
    for table in SAVEPOINT.tables:
        execute(url, f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
        with pytest.raises(Refused, match=f"hides rows of {table} from this role") as refused:
            load(as_role(url))
        assert refused.value.code == "configuration"
        execute(url, f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')


FUNCTION = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$"
RAISE = "RAISE 'bad name: %, as in statement pooling', NEW.name USING ERRCODE = '{state}', CONSTRAINT = 'Game_slug_key'"
BODIES = {
    **{RAISE.format(state=state): "database_unavailable" for state in ("40001", "40P01")},
    **{
        RAISE.format(state=state): "schema_mismatch"
        for state in ("P0001", "23514", "42P01", "42501", "23505", "08006", "57014", "53100", "25006")
    },
    "EXECUTE format('INSERT INTO %I VALUES (1)', NEW.name)": "schema_mismatch",
    "PERFORM NEW.name::integer": "schema_mismatch",
    "PERFORM pg_sleep(9)": "database_unavailable",
    "PERFORM pg_read_file(NEW.name)": "configuration",
}
"""What a trigger's function may do, and the code of the error with which a load ends then."""


def test_what_goes_wrong_in_a_trigger_is_never_quoted_and_what_it_raises_stops_no_backfill(
    new_database: NewDatabase,
) -> None:
    url = new_database(2026)
    execute(url, FUNCTION.format(body="RETURN NEW"))
    execute(url, NOTICED.format(when="BEFORE INSERT", table="ImportedGame", function="refuse"))
    for body, code in BODIES.items():
        execute(url, FUNCTION.format(body=body))
        with pytest.raises(PipelineError) as raised:
            load(as_role(url), statement_seconds=0.5 if "pg_sleep" in body else 5)
        error = raised.value
        assert (error.code, getattr(error, "is_about_rows", True)) == (code, True), body
        assert NAME not in str(error)
        assert "PL/pgSQL function refuse()" in str(error)
        assert code != "schema_mismatch" or 'table "ImportedGame"' in error.message


@pytest.mark.slow
def test_a_disk_that_is_full(new_database: NewDatabase) -> None:
    url = new_database(2026)
    query = """SELECT current_setting('data_directory') || '/' || pg_relation_filepath('"ImportedGame"')"""
    table = Path(fetch(url, query).item())
    table.unlink()
    table.symlink_to("/dev/full")
    handled("disk full", lambda: load(as_role(url)))


@pytest.mark.slow
def test_a_trigger_that_drops_updates(new_database: NewDatabase) -> None:
    url = new_database(2026)
    load(url)
    for statement in dropping("ImportedGame", "BEFORE UPDATE"):
        execute(url, statement)
    rows = stage_library(library(matched(10, 100, playtime_forever=9)))
    handled("trigger drops updates", lambda: Database(url, attempts=1).load(rows, ["user-1"]))


@pytest.mark.slow
def test_triggers_that_let_rows_pass_are_no_obstacle(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, NO_ROWS.replace("RETURN NULL", "RETURN NEW"))
    for table in ("ImportedGame", "LibraryItem", "Game", "GameGenre"):
        execute(url, NOTICED.format(when="BEFORE INSERT OR UPDATE", table=table, function="no_rows"))
    handled("trigger lets pass", lambda: load(url))
    load(url)
    assert stored_names(url) == [NAME]


def test_a_lock_that_is_not_given_in_time(new_database: NewDatabase) -> None:
    url = new_database(2026)
    with dbapi.connect(url) as other, other.cursor() as cursor:
        cursor.execute('LOCK TABLE "Game" IN ACCESS EXCLUSIVE MODE')
        handled("lock timeout", lambda: load(url))


def test_run_checks_the_database_before_steam_is_asked(
    steam_import: SteamImport, new_database: NewDatabase, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database(2026)
    monkeypatch.setenv("DATABASE_URL", url)
    before = len(sandbox.requests)
    account = "76561197960287930"
    ends_as("run, no user", steam_import("run", account, "--user", "nobody"))
    ends_as("run, nobody's account", steam_import("run", account))
    execute(url, 'ALTER TABLE "Game" DROP COLUMN slug')
    ends_as("run, no column", steam_import("run", "gabelogannewell"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@127.0.0.1:1/savepoint")
    ends_as("run, no server", steam_import("run", account, "--user", "user-1"))
    assert len(sandbox.requests) == before


def test_db_check_compares_types_nulls_and_rights(steam_import: SteamImport, new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'ALTER TABLE "Game" ALTER COLUMN "coverImage" SET NOT NULL')
    execute(url, 'ALTER TABLE "Genre" ALTER COLUMN "checksum" TYPE integer USING NULL')
    ended = steam_import("db", "check", "--database-url", url)
    assert ended.status == 1
    assert 'nulls in column "Game"."coverImage" (it is NOT NULL)' in ended.out
    assert 'the type text of column "Genre"."checksum" (it is int4)' in ended.out


def test_prisma_s_parameters_are_ignored_with_one_line(new_database: NewDatabase, steam_import: SteamImport) -> None:
    log_ignored_parameters.cache_clear()  # of tests before
    url = f"{new_database(2026)}&pgbouncer=true&connection_limit=5"
    ended = steam_import("db", "check", "--database-url", url)
    assert ended.status == 0
    assert ended.err.count("connection_limit, pgbouncer") == 1
