"""SavePoint's database: what it has, and the one transaction in which a load writes all seven tables.

Ids for new rows, which sort by time as cuids do.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

import polars as pl
from sqlalchemy import Select, Table, exists, func, select, text
from sqlalchemy.dialects.postgresql import insert
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline.database import staging_tables as staging
from pipeline.database.connection import NO_TIMEOUTS, DatabaseUrl, Session, Timeouts, transaction
from pipeline.database.dry_run import changed_columns, remember_rows, written_tables
from pipeline.database.grants import grants, lacking_rights, read_places
from pipeline.database.live_schema import LiveSchema, read_live_schema
from pipeline.database.merge_games import (
    NOT_COUNTED,
    NOW,
    count_unwritten,
    find_all,
    has_pending_changes,
    lock_pending_changes,
    merge_entries,
    merge_games,
    merge_links,
)
from pipeline.database.merge_libraries import (
    Statuses,
    compare_imports,
    count_to_review,
    lock_users,
    merge_imports,
    move_items,
    remember_imports,
)
from pipeline.errors import Failed, Retryable
from schemas.staging import DEFAULT_OPTIONS, Changes, LoadOptions, StagedRows

T = TypeVar("T")

ANALYZE = text(
    "ANALYZE staged_users, staged_genres, staged_platforms, staged_games, staged_game_genres, staged_game_platforms, "
    "staged_imported_games"
)
"""Without it PostgreSQL takes every temporary table for a small one."""

NO_CHANGES = pl.DataFrame(schema=dict.fromkeys(Changes.to_schema().columns, pl.String))


@dataclass(frozen=True)
class LoadResult:
    """What a load wrote, or would write: WrittenTables, Changes where asked for, and everything counted by name.

    `statements` is the number of SQL statements, which no number of rows changes.
    """

    counts: dict[str, int]
    statements: int
    tables: pl.DataFrame
    changes: pl.DataFrame


class Database:
    """One of SavePoint's databases, by its URL; every method is one transaction on one connection of its own.

    A transaction is tried again as a whole when it met a deadlock, when the connection was lost or refused; not when a
    person cancelled it. All methods raise `configuration` where the URL or the role's rights are wrong, and
    `database_unavailable` after the last try.
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
        self._address = DatabaseUrl(url, connect_timeout_seconds)
        self._limits = timeouts
        self._attempts = Retrying(
            retry=retry_if_exception(_may_go_through),
            stop=stop_after_attempt(attempts),
            wait=wait_random_exponential(multiplier=retry_base_seconds, max=30),
            reraise=True,
        )

    def __str__(self) -> str:
        """Which database it is; neither user nor password."""
        return str(self._address)

    def read_schema(self) -> LiveSchema:
        """What the database has, what a load would miss, and what it would leave out."""
        return self._transact(read_live_schema)

    def grant_statements(self, role: str) -> list[str]:
        """The statements that give a role the rights a load needs, for its owner to run; raises `schema_mismatch`."""

        def read(session: Session) -> list[str]:
            users = read_live_schema(session).require_users()
            return grants(read_places(session), users, role)

        return self._transact(read)

    def missing_rights(self) -> list[str]:
        """The rights a load needs and our role lacks; raises `schema_mismatch`."""
        return self._transact(lambda session: lacking_rights(session, read_live_schema(session).require_users()))

    def server_version(self) -> str:
        """The server's version."""
        version: str = self._transact(
            lambda session: session.fetch(select(func.current_setting("server_version")))
        ).item()
        return version

    def load(
        self,
        staged: StagedRows,
        users: Iterable[str],
        options: LoadOptions = DEFAULT_OPTIONS,
    ) -> LoadResult:
        """Write what was staged for these users, and for nobody else: all of it or nothing.

        A dry run is the same transaction, rolled back; only LibraryItem's sequence keeps the numbers it gave. `details`
        asks for the changes, column by column.

        Raises:
            Failed: `schema_mismatch`, naming what the database lacks; `user_not_found`, naming who; `location_refused`
                for a row of any other user.
            Refused: `configuration`, where a status is none of the enum's values.
        """
        touched = _users(users)
        _require_own(staged, touched)

        def load(session: Session) -> LoadResult:
            live = read_live_schema(session)
            known_users = live.require_users()
            statuses = Statuses(
                live.status_unplayed(options.status_unplayed), live.status_played(options.status_played)
            )
            _stage(session, staged, touched)
            _require_rows(session, known_users)
            session.run(lock_users())
            if options.details:
                session.create(staging.ROWS_BEFORE)
                session.run(remember_rows(live))
            counts = _merge(session, live, statuses, Counter(staged.counts))
            changes = session.fetch(changed_columns(live)) if options.details else NO_CHANGES
            return LoadResult(counts, session.statements, written_tables(staged, counts), changes)

        return self._transact(load, keeps=not options.dry_run)

    def find_missing_users(self, user_ids: Collection[str]) -> list[str]:
        """Those of the users that have no row; raises `schema_mismatch`."""

        def find(session: Session) -> list[str]:
            users = read_live_schema(session).require_users()
            session.stage(staging.STAGED_USERS, _users(user_ids))
            return session.fetch(_absent(users))["id"].to_list()

        return self._transact(find)

    def ensure_users(self, user_ids: Collection[str]) -> None:
        """Make the users' rows that are not there; only for a database that is nobody else's.

        Raises:
            Failed: `schema_mismatch`.
        """

        def ensure(session: Session) -> None:
            users = read_live_schema(session).require_users()
            session.stage(staging.STAGED_USERS, _users(user_ids))
            columns = {"id": staging.STAGED_USERS.c.id, "createdAt": NOW, "updatedAt": NOW}
            rows = insert(users).from_select(list(columns), select(*columns.values()))
            session.run(rows.on_conflict_do_nothing())

        self._transact(ensure)

    def _transact(self, work: Callable[[Session], T], *, keeps: bool = True) -> T:
        done: T = self._attempts(self._attempt, work, keeps=keeps)
        return done

    def _attempt(self, work: Callable[[Session], T], *, keeps: bool) -> T:
        with transaction(self._address, self._limits, keeps=keeps) as session:
            return work(session)


def _users(user_ids: Iterable[str]) -> pl.DataFrame:
    return pl.DataFrame({"id": sorted(set(user_ids))}, schema={"id": pl.String})


def _absent(users: Table) -> Select[str]:
    # Not `SELECT *`, which takes more rights than to read the id.
    is_there = exists(users.c.id).where(users.c.id == staging.STAGED_USERS.c.id)
    return select(staging.STAGED_USERS.c.id).where(~is_there)


def _may_go_through(error: BaseException) -> bool:
    return isinstance(error, Retryable) and not error.is_cancelled


def _require_own(staged: StagedRows, users: pl.DataFrame) -> None:
    strangers = staged.imported_games.join(users, left_on="userId", right_on="id", how="anti")
    if strangers.height:
        raise Failed(
            "location_refused",
            f"{strangers.height} rows are of users that this load may not touch ({strangers['userId'][0]}); nothing "
            "was written. Load the file of the right user, or name all of its users.",
        )


def _stage(session: Session, staged: StagedRows, users: pl.DataFrame) -> None:
    session.stage(staging.STAGED_USERS, users)
    session.stage(staging.STAGED_GENRES, staged.genres)
    session.stage(staging.STAGED_PLATFORMS, staged.platforms)
    session.stage(staging.STAGED_GAMES, staged.games)
    session.stage(staging.STAGED_GAME_GENRES, staged.game_genres)
    session.stage(staging.STAGED_GAME_PLATFORMS, staged.game_platforms)
    session.stage(staging.STAGED_IMPORTED_GAMES, staged.imported_games)
    for table in (staging.PREVIOUS_IMPORTS, staging.MOVED_APPS, staging.MOVED_ITEMS):
        session.create(table)
    session.run(ANALYZE)


def _require_rows(session: Session, users: Table) -> None:
    unknown = session.fetch(_absent(users))
    if unknown.height:
        raise Failed(
            "user_not_found",
            f'The table "{users.name}" has no row with the id {", ".join(unknown["id"])}; nothing was written. Create '
            "the user in SavePoint first, or import for another one.",
        )


def _merge(session: Session, live: LiveSchema, statuses: Statuses, counts: Counter[str]) -> dict[str, int]:
    prefix = id_prefix()
    for step in find_all():
        session.run(step.statement)
    is_news = bool(session.fetch(has_pending_changes()).item())
    if is_news:
        session.fetch(lock_pending_changes())
    for step in (*merge_entries(prefix), *merge_games(prefix), *merge_links()):
        counts[step.counted_as] += session.run(step.statement) if is_news else 0
    for step in (*remember_imports(live), *move_items(live, statuses)):
        counts[step.counted_as] += session.run(step.statement)
    compared = session.fetch(compare_imports()).row(0, named=True)
    for step in merge_imports(live, statuses, prefix):
        counts[step.counted_as] += session.run(step.statement) if compared["has_news"] else 0
    if session.fetch(count_unwritten()).item():
        raise Retryable(
            "database_unavailable",
            "Another load has just taken a slug or a name that this one needs; nothing was written. Try again.",
        )
    counts["no_longer_owned"] = compared["no_longer_owned"]
    counts["library_items_to_review"] = session.fetch(count_to_review()).item()
    del counts[NOT_COUNTED]
    return dict(counts)


DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def id_prefix() -> str:
    """As cuids begin: `c` and the time in eight digits of base 36; then ten random digits, this load's own."""
    now = time.time_ns() // 1_000_000
    digits = [DIGITS[now // 36**place % 36] for place in reversed(range(8))]
    return "".join(["c", *digits, *(secrets.choice(DIGITS) for _ in range(10))])
