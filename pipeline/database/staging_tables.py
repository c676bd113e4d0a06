"""The temporary tables of one load, and the parts of SQL that its statements share.

PostgreSQL drops the tables when the load's transaction ends.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandera.polars as pa
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    CompoundSelect,
    Delete,
    FromClause,
    Insert,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    Update,
    any_,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from schemas.frames import dtypes
from schemas.savepoint import GAME, SQL_TYPES
from schemas.staging import StagedGames, StagedGenres, StagedImportedGames, StagedLinks, StagedPlatforms


def _temporary(name: str, *columns: Column[object]) -> Table:
    return Table(name, MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")


def _columns(model: type[pa.DataFrameModel]) -> list[Column[object]]:
    return [Column(name, SQL_TYPES[dtype]) for name, dtype in dtypes(model).items()]


def _found_id() -> Column[object]:
    """Return the column for the id of the row that SavePoint's database already has; null for a new row."""
    return Column("foundId", Text)


STAGED_USERS = _temporary("staged_users", Column("id", Text))
STAGED_GENRES = _temporary("staged_genres", *_columns(StagedGenres), _found_id())
STAGED_PLATFORMS = _temporary("staged_platforms", *_columns(StagedPlatforms), _found_id())
STAGED_GAMES = _temporary("staged_games", *_columns(StagedGames), _found_id())
STAGED_GAME_GENRES = _temporary("staged_game_genres", *_columns(StagedLinks))
STAGED_GAME_PLATFORMS = _temporary("staged_game_platforms", *_columns(StagedLinks))
STAGED_IMPORTED_GAMES = _temporary("staged_imported_games", *_columns(StagedImportedGames))

PREVIOUS_IMPORTS = _temporary(
    "previous_imports",
    Column("id", Text),
    Column("userId", Text),
    Column("storefrontGameId", Text),
    Column("playtime", Integer),
    Column("igdbMatchStatus", Text),
    Column("isRemoved", Boolean),
    Column("isDecided", Boolean),
    Column("number", Integer),
    Column("isChanged", Boolean),
)
"""The temporary table with one row per user and Steam app: the app's row of ImportedGame before the load.

Of several rows of an app it is the oldest that the user did not remove. `isRemoved`: the user removed all rows of the
app. `isDecided`: any row of the app was MATCHED, IGNORED or removed. `number`: number of the app's row in
STAGED_IMPORTED_GAMES, null where the app is not staged. `isChanged`: the staged row changes the row.
"""

NOTED_GAMES = _temporary(
    "noted_games",
    Column("id", Text),
    Column("igdbId", Integer),
    Column("steamAppId", Integer),
    Column("slug", Text),
    Column("title", Text),
)
"""The temporary table with one row per Game that has an appid which the load may give to another game.

SavePoint has no index on `steamAppId`, so that this takes a scan of all games: it is made once in a load, and only in
loads that change games.
"""

MOVED_APPS = _temporary(
    "moved_apps", Column("storefrontGameId", Text), Column("igdbId", Integer), Column("gameId", Text)
)
"""The temporary table with one row per Steam app that an override moves, and Game that holds the app's id so far.

`gameId` is that Game's id, and `igdbId` is IGDB's id of the game to which the override moves the app.
"""

MOVED_ITEMS = _temporary("moved_items", Column("itemId", Integer), Column("gameId", Text), Column("isMovable", Boolean))
"""The temporary table with one row per library item of a game that loses an app by an override.

`gameId` is the id of the Game to which the override moves the app, `isMovable` whether the item may move there too.
"""

ROWS_BEFORE = _temporary(
    "rows_before", Column("table", Text), Column("id", Text), Column("key", Text), Column("row", JSONB)
)
"""The temporary table with one row per row that the load may change, as JSON of its values before; for `Changes`."""

NOW = func.timezone("UTC", func.now())
"""The SQL expression for the start of the transaction, in UTC and without a zone as SavePoint's times are.

UTC is named because `now()` alone would become local time in a session with another time zone.
"""

NOT_COUNTED = ""
"""The `counted_as` of a statement whose rows no report counts, such as one that locks rows."""

Values = Mapping[str, ColumnElement[Any]]
"""The new values of a row, as SQL expressions by the names of its columns."""

LOCKED = "locked"
"""The `counted_as` of a query that locks the rows which the statements after it change, and returns their number."""


class CountedStatement(NamedTuple):
    """An SQL statement of a load, and the name in the load's counts to which its number of written rows is added.

    With `needs_locked`, it does nothing unless the LOCKED query before it found rows; unless `is_needed`, it does
    nothing at all. Then it need not be run, and counts as 0 rows.
    """

    counted_as: str
    statement: Insert | Update | Delete | Select[Any]
    needs_locked: bool = False
    is_needed: bool = True


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_id_prefix() -> str:
    """Return the first 19 characters of the ids of all rows that one load inserts, different for each load.

    The prefix is `c`, the milliseconds since 1970 in eight digits of base 36, and ten random digits; so ids sort by the
    time of their load, as SavePoint's own cuids do.
    """
    now = time.time_ns() // 1_000_000
    digits = [_DIGITS[now // 36**place % 36] for place in reversed(range(8))]
    return "".join(["c", *digits, *(secrets.choice(_DIGITS) for _ in range(10))])


ID_PREFIX = bindparam("id_prefix", None, type_=Text)
"""The parameter that statements which insert rows leave open; `Session.parameters` has its value in a load."""


def new_id(staged: Table) -> ColumnElement[str]:
    """Return the SQL expression for a new row's id: ID_PREFIX, and the staged row's number in six hex digits."""
    width = literal(6, literal_execute=True)
    return ID_PREFIX + func.lpad(func.to_hex(staged.c.number), width, "0")


def as_enum(value: str | ColumnElement[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the SQL expression that casts a text to the enum of a column, as PostgreSQL has no implicit cast."""
    return cast(value, column.type)


def is_enum(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Return the SQL condition that an enum column holds this value, which is compared as one of the column's enum."""
    return column == as_enum(value, column)


def differs(target: FromClause, values: Values) -> ColumnElement[bool]:
    """Return the SQL condition that a row of `target` differs from the new values in a column; null equals null."""
    return or_(*(target.c[name].is_distinct_from(value) for name, value in values.items()))


def is_any_of(column: ColumnElement[Any], rows: Select[Any] | CompoundSelect[Any]) -> ColumnElement[bool]:
    """Return the SQL condition that a column has one of a query's values, which PostgreSQL then looks up by an index.

    For `IN` it may read the whole table instead, with the rows of all other users.
    """
    [value] = rows.subquery("wanted").c
    return column == any_(func.array(select(value).scalar_subquery()))


def one_by_one(rows: Select[Any]) -> FromClause:
    """Return a query that names columns of another table as a LATERAL subquery, for PostgreSQL to run row by row.

    So it takes an index for each row. It may read a whole table instead to join it, with the rows of all other users.
    """
    # PostgreSQL makes no join of a subquery with an OFFSET.
    return rows.offset(literal(0, literal_execute=True)).lateral()


def row_of_staged_game(*columns: ColumnElement[Any]) -> FromClause:
    """Return the id and these columns of the Game that a row of STAGED_GAMES is, as a LATERAL subquery."""
    return one_by_one(select(GAME.c.id, *columns).where(GAME.c.igdbId == STAGED_GAMES.c.igdbId))
