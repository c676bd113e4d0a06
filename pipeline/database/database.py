"""The database of the web application SavePoint: its schema and rights, and the one transaction of each load."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar, cast

import polars as pl
from pandera.typing.polars import DataFrame
from sqlalchemy import (
    ColumnElement,
    Delete,
    Executable,
    Insert,
    Select,
    Table,
    Update,
    exists,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline.database import staging_tables as tables
from pipeline.database.connection import (
    NO_TIMEOUTS,
    DatabaseUrl,
    Session,
    Timeouts,
    log_ignored_parameters,
    transaction,
)
from pipeline.database.dry_run import changes_query, count_by_table, games_before_statement, libraries_before_statement
from pipeline.database.grants import read_grant_statements, read_missing_rights
from pipeline.database.item_statuses import ItemStatuses, choose_item_statuses
from pipeline.database.live_schema import STEAM_ID, LiveColumns, LiveSchema, read_live_schema
from pipeline.database.merge_games import (
    MOST_STEAM_APP_LOCKS,
    dropped_rows_query,
    existing_row_statements,
    found_game_statement,
    game_statements,
    genre_and_platform_statements,
    link_statements,
    noted_games_statement,
    pending_changes_lock_query,
    pending_changes_query,
    unwritten_rows_query,
)
from pipeline.database.merge_libraries import (
    imported_game_statements,
    item_move_statements,
    items_to_review_query,
    new_item_statement,
    previous_import_statements,
    previous_imports_comparison_query,
    user_lock_query,
)
from pipeline.database.staging_tables import ID_PREFIX, LOCKED, NOT_COUNTED, NOW, CountedStatement, new_id_prefix
from pipeline.errors import Failed, Refused, Retryable, count_of
from schemas.frames import conform, dtypes
from schemas.savepoint import GAME_GENRE, GAME_PLATFORM, IMPORTED_GAME, LIBRARY_ITEM
from schemas.staging import DEFAULT_OPTIONS, Changes, LoadOptions, StagedRows, SteamUsers, WrittenTables

T = TypeVar("T")

USERS_PER_PAGE = 50_000
"""The number of users that are read from the database at a time: 50,000 take a tenth of a second and few megabytes."""


@dataclass(frozen=True)
class LoadResult:
    """The report of one load: the numbers of rows that it wrote, or would write in a dry run, and each changed value.

    `counts` maps names such as `games_created` to rows, and `tables` has a row per table. `changes` is empty unless
    details were asked for. `statements` is the number of SQL statements, which does not depend on the number of rows.
    """

    counts: dict[str, int]
    statements: int
    tables: DataFrame[WrittenTables]
    changes: DataFrame[Changes]


class Database:
    """The PostgreSQL database of SavePoint, or the embedded one, at a URL.

    Each method is one transaction on a connection of its own.
    A transaction is retried as a whole after a deadlock, or when the connection was lost or refused, but not after a
    person cancelled it. All methods raise `configuration` where the URL or the role's rights are wrong, and
    `database_unavailable` after the last attempt.
    """

    def __init__(
        self,
        url: str,
        *,
        attempts: int = 5,
        retry_base_seconds: float = 1,
        connect_timeout_seconds: int = 10,
        timeouts: Timeouts = NO_TIMEOUTS,
    ) -> None:
        self._url = DatabaseUrl(url, connect_timeout_seconds)
        log_ignored_parameters(tuple(self._url.ignored))
        self._timeouts = timeouts
        self._retry = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Retryable) and not error.is_cancelled),
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=retry_base_seconds, max=30),
            reraise=True,
        )

    def __str__(self) -> str:
        """Return `database at host` as text, without user and password."""
        return str(self._url)

    def read_schema(self) -> LiveSchema:
        """Return the LiveSchema of the database: its columns, enum values and unique keys of SavePoint's tables."""
        return self._in_transaction(read_live_schema)

    def grant_statements(self, role: str) -> list[str]:
        """Return the GRANT statements, as text, that allow a role to run loads; the database's owner has to run them.

        Raises:
            Failed: `schema_mismatch`.
        """
        return self._in_transaction(
            lambda session: read_grant_statements(session, read_live_schema(session).require_complete(), role)
        )

    def server_version(self) -> str:
        """Return the version of the PostgreSQL server as text, such as `16.4`."""
        query = select(func.current_setting("server_version"))
        version: str = self._in_transaction(lambda session: session.fetch(query)).item()
        return version

    def require_ready(self, user_ids: Collection[str], options: LoadOptions = DEFAULT_OPTIONS) -> None:
        """Check, without writing, all that a load of these users needs: tables, rights, statuses, and the users' rows.

        Raises:
            Failed: `schema_mismatch`, `user_not_found`.
            Refused: `configuration`, naming the rights that the role lacks, or the status that the enum lacks.
            Retryable: `database_unavailable`, where the database is read-only, as a standby is.
        """

        def check(session: Session) -> None:
            live = read_live_schema(session)
            users = live.require_complete()
            choose_item_statuses(live, options)
            if live.is_read_only:
                raise Retryable(
                    "database_unavailable",
                    f"{self}: The session cannot write, as in a standby or where default_transaction_read_only is on. "
                    "Name the primary server in DATABASE_URL, or try again later.",
                )
            if missing := read_missing_rights(session, users):
                raise Refused(
                    "configuration",
                    f"{self}: The role of DATABASE_URL lacks {', '.join(missing)}. Have the database's owner run the "
                    "statements that `steam-import db grants ROLE` prints.",
                )
            session.ingest(tables.STAGED_USERS, _user_rows(user_ids))
            _require_users(session, users)

        self._in_transaction(check)

    def create_tables(self, statements: Iterable[str]) -> bool:
        """Run the statements that create SavePoint's tables if there are none; return True if they were run.

        Only for databases of our own. A schema that the URL names is created too, as Prisma does.
        """

        def create(session: Session) -> bool:
            session.fetch(select(func.pg_advisory_xact_lock(literal(_SETUP_LOCK, literal_execute=True))))
            live = read_live_schema(session)
            if live.columns:
                return False
            live.require_encoding()
            for statement in statements:
                session.execute(text(statement.replace(":", r"\:")))
            return True

        return self._in_transaction(create, create_schema=True)

    def load(self, staged: StagedRows, users: Iterable[str], options: LoadOptions = DEFAULT_OPTIONS) -> LoadResult:
        """Write all staged rows, or none, into SavePoint's tables in one transaction, and return the load's report.

        `users` are the ids of the only users whose rows may be written. A dry run is the same
        transaction, rolled back; only LibraryItem's sequence keeps the numbers that it gave.

        Raises:
            Failed: `schema_mismatch`, naming what the database lacks; `user_not_found`, naming the users that it lacks;
                `location_refused` for a row of any other user.
            Refused: `configuration`, where a status of the options is not one of the enum's values.
        """
        user_rows = _user_rows(users)
        _require_rows_of_users(staged, user_rows)
        counts, statements, changes = self._in_transaction(
            lambda session: _load(session, staged, user_rows, options), commit=not options.dry_run
        )
        return LoadResult(counts, statements, count_by_table(staged, counts), conform(changes, Changes))

    def find_missing_users(self, user_ids: Collection[str]) -> list[str]:
        """Return the ids, out of `user_ids`, for which the database's table of users has no row.

        Raises:
            Failed: `schema_mismatch`.
        """

        def find(session: Session) -> list[str]:
            users = read_live_schema(session).require_complete()
            session.ingest(tables.STAGED_USERS, _user_rows(user_ids))
            return session.fetch(_select_missing_users(users))["id"].to_list()

        return self._in_transaction(find)

    def read_steam_ids(self, after: str | None = None, rows: int = USERS_PER_PAGE) -> DataFrame[SteamUsers]:
        """Return one page of the users who have a `steamId64`, in the order of their ids, from the id after `after`.

        Raises:
            Failed: `schema_mismatch`, where the table of users has no such column.
            Refused: `configuration`, where the role may not read it.
        """

        def read(session: Session) -> DataFrame[SteamUsers]:
            query = _select_steam_users(read_live_schema(session)).limit(rows)
            users = query.selected_columns.user_id
            query = query.order_by(users) if after is None else query.where(users > after).order_by(users)
            return conform(session.fetch(query), SteamUsers)

        return self._in_transaction(read)

    def find_steam_id(self, user_id: str) -> str | None:
        """Return the `steamId64` of a user as it stands in the table of users; None if the user has none.

        Raises:
            Failed: `user_not_found`; otherwise as `read_steam_ids`.
        """

        def find(session: Session) -> str | None:
            live = read_live_schema(session)
            session.ingest(tables.STAGED_USERS, _user_rows([user_id]))
            _require_users(session, live.require_complete())
            query = _select_steam_users(live)
            found = session.fetch(query.where(query.selected_columns.user_id == user_id))
            return found["steam_id64"].item() if found.height else None

        return self._in_transaction(find)

    def find_owners(self, steam_id64: str) -> list[str]:
        """Return the ids of the users whose `steamId64` an account is, or of the user whose id it is, in their order.

        Raises as `read_steam_ids`.
        """

        def find(session: Session) -> list[str]:
            live = read_live_schema(session)
            users = live.require_complete()
            owners = select(users.c.id.label("user_id"))
            by_id = session.fetch(owners.where(users.c.id == steam_id64))["user_id"].to_list()
            if by_id:
                return by_id
            query = _select_steam_users(live)
            found = query.where(query.selected_columns.steam_id64 == steam_id64)
            return session.fetch(found.order_by(query.selected_columns.user_id))["user_id"].to_list()

        return self._in_transaction(find)

    def ensure_users(self, user_ids: Collection[str]) -> None:
        """Insert a row into the table of users for each id that has none; only for databases of our own.

        The embedded database is such a one: in SavePoint's, users are SavePoint's to create.

        Raises:
            Failed: `schema_mismatch`.
        """

        def ensure(session: Session) -> None:
            users = read_live_schema(session).require_complete()
            session.ingest(tables.STAGED_USERS, _user_rows(user_ids))
            columns = {"id": tables.STAGED_USERS.c.id, "createdAt": NOW, "updatedAt": NOW}
            rows = insert(users).from_select(list(columns), select(*columns.values()))
            session.execute(rows.on_conflict_do_nothing())

        self._in_transaction(ensure)

    def _in_transaction(self, work: Callable[[Session], T], *, commit: bool = True, create_schema: bool = False) -> T:
        def attempt() -> T:
            with transaction(self._url, self._timeouts, commit=commit, create_schema=create_schema) as session:
                return work(session)

        return self._retry(attempt)


_SETUP_LOCK = 20260600
"""The number of PostgreSQL's advisory lock for making SavePoint's tables."""


def _user_rows(user_ids: Iterable[str]) -> pl.DataFrame:
    return pl.DataFrame({"id": sorted(set(user_ids))}, schema={"id": pl.String})


def _require_rows_of_users(staged: StagedRows, users: pl.DataFrame) -> None:
    others = staged.imported_games.join(users, left_on="userId", right_on="id", how="anti")
    if others.height:
        raise Failed(
            "location_refused",
            f"{count_of(others.height, 'row is of a user', 'rows are of users')} that this load may not touch "
            f"({others['userId'][0]}); nothing was written. Load the file of the right user, or name all of its users.",
        )


@cache
def _select_missing_users(users: Table) -> Select[str]:
    # Not `SELECT *`, which needs more rights than to read the id.
    is_there = exists(users.c.id).where(users.c.id == tables.STAGED_USERS.c.id)
    return select(tables.STAGED_USERS.c.id).where(~is_there)


def _select_steam_users(live: LiveSchema) -> Select[str, str]:
    users = live.require_complete()
    steam_id = users.c.get(STEAM_ID)
    if steam_id is None:
        raise Failed(
            "schema_mismatch",
            f'The table "{users.name}" has no column "{STEAM_ID}" to take Steam ids from. Give them: a Steam id with '
            "--user, or a list of users.",
        )
    return select(users.c.id.label("user_id"), steam_id.label("steam_id64")).where(steam_id.is_not(None))


def _load(
    session: Session, staged: StagedRows, user_rows: pl.DataFrame, options: LoadOptions
) -> tuple[dict[str, int], int, pl.DataFrame]:
    """Write the rows, and return the counts, the number of statements, and the changes if the options ask for them.

    The report is made of them after the commit, as the transaction's locks keep other loads waiting.
    """
    live = read_live_schema(session)
    users = live.require_complete()
    statuses = choose_item_statuses(live, options)
    _ingest(session, staged, user_rows)
    _require_users(session, users)
    session.execute(user_lock_query())
    counts = _merge(session, live, staged, statuses, options)
    changes = pl.DataFrame(schema=dtypes(Changes))
    if options.details:
        changes = session.fetch(changes_query(live.known_columns))
    return counts, session.statements, changes


def _ingest(session: Session, staged: StagedRows, user_rows: pl.DataFrame) -> None:
    ingested = {
        tables.STAGED_USERS: user_rows,
        tables.STAGED_GENRES: staged.genres,
        tables.STAGED_PLATFORMS: staged.platforms,
        tables.STAGED_GAMES: staged.games,
        tables.STAGED_GAME_GENRES: staged.game_genres,
        tables.STAGED_GAME_PLATFORMS: staged.game_platforms,
        tables.STAGED_IMPORTED_GAMES: staged.imported_games,
    }
    for table, rows in ingested.items():
        session.ingest(table, rows)
    for table in (tables.NOTED_GAMES, tables.PREVIOUS_IMPORTS, tables.MOVED_APPS, tables.MOVED_ITEMS):
        session.create(table)
    # Without it PostgreSQL plans for a small table, whatever was ingested.
    session.execute(_analyze_statement(tuple(table.name for table in ingested)))


@cache
def _analyze_statement(tables: tuple[str, ...]) -> Executable:
    return text(f"ANALYZE {', '.join(tables)}")


def _require_users(session: Session, users: Table) -> None:
    missing = session.fetch(_select_missing_users(users))
    if missing.height:
        raise Failed(
            "user_not_found",
            f'The table "{users.name}" has no row with the id {", ".join(missing["id"])}; nothing was written. Create '
            "the user in SavePoint first, or name the right one with --user.",
        )


def _merge(
    session: Session, live: LiveSchema, staged: StagedRows, statuses: ItemStatuses, options: LoadOptions
) -> dict[str, int]:
    """Run the statements that write, and return the numbers of rows that they wrote.

    What users own is written before the games where it can be: the lock on the games keeps other loads waiting.
    """
    counts, columns = Counter(staged.counts), live.known_columns
    session.parameters[ID_PREFIX.key] = new_id_prefix()
    run = partial(_run_counted, session, live, counts)
    has_overrides = bool(staged.imported_games["isMatchOverride"].any())
    if options.details:
        session.create(tables.ROWS_BEFORE)
        session.execute(libraries_before_statement(columns))
    run(previous_import_statements(columns))
    compared = session.fetch(previous_imports_comparison_query()).row(0, named=True)
    run(imported_game_statements(columns), are_needed=compared["has_changes"])
    _merge_games(session, run, columns, has_overrides=has_overrides, has_details=options.details)
    run(item_move_statements(columns, statuses), are_needed=has_overrides)
    run([new_item_statement(columns, statuses)], are_needed=compared["has_changes"])
    _require_written(session, live)
    counts["no_longer_owned"] = compared["no_longer_owned"]
    counts["library_items_to_review"] = session.fetch(items_to_review_query()).item() if has_overrides else 0
    del counts[NOT_COUNTED], counts[LOCKED]
    return dict(counts)


def _run_counted(
    session: Session,
    live: LiveSchema,
    counts: Counter[str],
    statements: Iterable[CountedStatement],
    *,
    are_needed: bool = True,
) -> None:
    """Run statements in order, and add the rows that they write to the counts.

    A statement that needs locked rows runs only if the lock before it found some; without `are_needed` none runs.
    """
    locked = 0
    for name, statement, needs_locked, is_needed in statements:
        is_run = are_needed and is_needed and (locked > 0 or not needs_locked)
        if is_run and name == LOCKED:
            locked = session.fetch(statement).item()
        else:
            counts[name] += _execute_whole(session, live, statement) if is_run else 0


def _merge_games(
    session: Session, run: Callable[..., None], columns: LiveColumns, *, has_overrides: bool, has_details: bool
) -> None:
    """Write genres, platforms, games and links, after taking the locks that the pending changes need."""
    run(existing_row_statements())
    pending = session.fetch(pending_changes_query()).row(0, named=True)
    runs_alone = (
        has_overrides
        or pending["has_entries"]
        or pending["has_changed_games"]
        or pending["new_games"] > MOST_STEAM_APP_LOCKS
    )
    needs_lock = runs_alone or pending["new_games"] > 0
    noted = 0
    if needs_lock:
        session.fetch(pending_changes_lock_query(runs_alone=runs_alone))
        run([found_game_statement()])
        noted = session.execute(noted_games_statement())
    if has_details:
        session.execute(games_before_statement(columns))
    run(genre_and_platform_statements(), are_needed=pending["has_entries"])
    run(game_statements(has_noted=noted > 0, has_overrides=has_overrides), are_needed=needs_lock)
    run(link_statements(), are_needed=needs_lock)


def _require_written(session: Session, live: LiveSchema) -> None:
    """Raise an error if a staged genre, platform, game or link was not written."""
    has_unwritten = bool(session.fetch(unwritten_rows_query()).item())
    if has_unwritten or live.row_rules.keys() & {GAME_GENRE.name, GAME_PLATFORM.name}:
        for name in session.fetch(dropped_rows_query())["table_name"]:
            raise _dropped(live, name)
    if has_unwritten:
        raise Retryable(
            "database_unavailable",
            "Another load has just changed a game of this one, or taken a slug or a name that it needs; nothing was "
            "written. Try again.",
        )


def _execute_whole(session: Session, live: LiveSchema, statement: Executable) -> int:
    """Run a statement, and return the number of rows that it wrote: no fewer than it names, or an error is raised.

    Rows that an insert leaves out because of a conflict are looked for after the merge.
    """
    if not isinstance(statement, Insert | Update | Delete) or statement.table.description not in live.row_rules:
        return session.execute(statement)
    if isinstance(statement, Insert) and statement.table not in (IMPORTED_GAME, LIBRARY_ITEM):
        return session.execute(statement)
    named = session.fetch(_count_named_rows(statement)).item()
    written = session.execute(statement)
    if written < named:
        raise _dropped(live, statement.table.description)
    return written


def _count_named_rows(statement: Insert | Update | Delete) -> Select[int]:
    if isinstance(statement, Insert):
        return select(func.count()).select_from(cast("Select[Any]", statement.select).subquery())
    key = statement.table.c.get("id")
    rows = func.count() if key is None else func.count(key.distinct())
    return select(rows).select_from(statement.table).where(cast("ColumnElement[bool]", statement.whereclause))


def _dropped(live: LiveSchema, name: str) -> Failed:
    rules = ", ".join(live.row_rules.get(name, ())) or "something that the database does not show"
    return Failed(
        "schema_mismatch",
        f'The table "{name}" drops rows that a load writes ({rules}); nothing was written. Have it let the importer\'s '
        "rows pass.",
        is_about_rows=True,
    )
