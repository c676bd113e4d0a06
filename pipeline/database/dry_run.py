"""The report of what a load writes: rows counted by table, and the values of each changed column before and after."""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame
from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Table,
    Text,
    and_,
    cast,
    func,
    insert,
    literal,
    select,
    union_all,
)

from pipeline.database.live_schema import LiveColumns
from pipeline.database.staging_tables import (
    NOTED_GAMES,
    ROWS_BEFORE,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_PLATFORMS,
    STAGED_USERS,
    is_any_of,
)
from schemas.frames import conform, dtypes
from schemas.savepoint import (
    GAME,
    GAME_GENRE,
    GAME_PLATFORM,
    GENRE,
    IMPORTED_GAME,
    LIBRARY_ITEM,
    PLATFORM,
    STORE,
    is_read_only,
)
from schemas.staging import StagedRows, WrittenTables

EXCLUDED_COLUMNS = ("id", "createdAt", "updatedAt")
"""Columns that a report in detail leaves out, because they change with every row that is written."""

Row = Select[str, str, str, Any]
"""The SQL query for rows of ROWS_BEFORE: table, id, key, and the row's values as JSON."""


def count_by_table(staged: StagedRows, counts: Mapping[str, int]) -> DataFrame[WrittenTables]:
    """Return one row per table of SavePoint's: how many rows a load created, updated, removed and left alone there.

    `counts` are the written rows by the `counted_as` of their statements, as `LoadResult.counts` has them.
    """
    items = staged.imported_games.filter(pl.col("igdbId").is_not_null()).select("userId", "igdbId").n_unique()
    rows = (
        ("Genre", "genres", staged.genres.height),
        ("Platform", "platforms", staged.platforms.height),
        ("Game", "games", staged.games.height),
        ("GameGenre", "game_genres", staged.game_genres.height),
        ("GamePlatform", "game_platforms", staged.game_platforms.height),
        ("ImportedGame", "imported_games", staged.imported_games.height),
        ("LibraryItem", "library_items", items),
    )
    written, counted = Counter(counts), []
    for table, counted_as, in_file in rows:
        created, removed = written[f"{counted_as}_created"], written[f"{counted_as}_removed"]
        updated = written[f"{counted_as}_updated"] + written[f"{counted_as}_moved"]
        counted.append((table, created, updated, removed, max(in_file - created - updated, 0)))
    return conform(pl.DataFrame(counted, schema=dtypes(WrittenTables), orient="row"), WrittenTables)


@cache
def games_before_statement(live_columns: LiveColumns) -> Insert:
    """Return the SQL INSERT that copies all genres, platforms, games and links that a load may change to ROWS_BEFORE.

    It runs before these are merged, and after NOTED_GAMES was filled.
    """
    return insert(ROWS_BEFORE).from_select(list(ROWS_BEFORE.c.keys()), union_all(*_select_games(live_columns)))


@cache
def libraries_before_statement(live_columns: LiveColumns) -> Insert:
    """Return the SQL INSERT that copies the imported games and library items of a load's users to ROWS_BEFORE.

    It runs before the staged rows are merged into these tables.
    """
    return insert(ROWS_BEFORE).from_select(list(ROWS_BEFORE.c.keys()), union_all(*_select_libraries(live_columns)))


@cache
def changes_query(live_columns: LiveColumns) -> Select[Any]:
    """Return the SQL query whose rows are the changed values, as in `Changes`: one row per table, key and column.

    It compares ROWS_BEFORE with the live rows, and runs after the staged rows were merged.
    """
    before = ROWS_BEFORE
    after = union_all(*_select_games(live_columns), *_select_libraries(live_columns)).subquery("rows_after")
    is_same_row = and_(before.c.table == after.c.table, before.c.id == after.c.id)
    both = before.join(after, is_same_row, full=True)
    keys = func.jsonb_object_keys(func.coalesce(after.c.row, before.c.row))
    names = keys.table_valued("column").render_derived().lateral()
    table, key = (func.coalesce(after.c[name], before.c[name]) for name in ("table", "key"))
    old, new = (side.c.row.op("->>", return_type=Text())(names.c.column) for side in (before, after))
    return (
        select(table.label("table"), key.label("key"), names.c.column, old.label("old"), new.label("new"))
        .select_from(both.join(names, literal(value=True, literal_execute=True)))
        .where(before.c.row.is_distinct_from(after.c.row), old.is_distinct_from(new))
        .order_by(table, key, names.c.column)
    )


def _select_games(live_columns: LiveColumns) -> Iterator[Row]:
    for target, staged in ((GENRE, STAGED_GENRES), (PLATFORM, STAGED_PLATFORMS), (GAME, STAGED_GAMES)):
        yield _select_row(target, cast(target.c.igdbId, Text), live_columns).where(_may_change(target, staged))
    for links, other in ((GAME_GENRE, GENRE), (GAME_PLATFORM, PLATFORM)):
        other_id = next(own for own in links.c if own.name != "gameId")
        key = cast(GAME.c.igdbId, Text) + "/" + cast(other.c.igdbId, Text)
        joined = links.join(GAME, GAME.c.id == links.c.gameId).join(other, other.c.id == other_id)
        rows = _select_parts(links, links.c.gameId + "/" + other_id, key, dict(links.c))
        yield rows.select_from(joined).where(_may_change(GAME, STAGED_GAMES))


def _may_change(target: Table, staged: Table) -> ColumnElement[bool]:
    """Return the SQL condition that a row of `target` is staged, or holds a staged row's slug, name or appid.

    A row that did so before the load counts too.
    """
    keys = [name for name in ("igdbId", "name", "slug") if name in target.c and name in staged.c]
    ids = (
        *(select(target.c.id).where(is_any_of(target.c[key], select(staged.c[key]))) for key in keys),
        *([select(NOTED_GAMES.c.id)] if target is GAME else []),
        select(ROWS_BEFORE.c.id).where(ROWS_BEFORE.c.table == target.name),
    )
    return is_any_of(target.c.id, union_all(*ids))


def _select_libraries(live_columns: LiveColumns) -> Iterator[Row]:
    users = select(STAGED_USERS.c.id)
    app = IMPORTED_GAME.c.userId + "/" + IMPORTED_GAME.c.storefrontGameId
    is_steam = cast(IMPORTED_GAME.c.storefront, Text) == STORE
    yield _select_row(IMPORTED_GAME, app, live_columns).where(is_any_of(IMPORTED_GAME.c.userId, users), is_steam)
    igdb_id = select(GAME.c.igdbId).where(GAME.c.id == LIBRARY_ITEM.c.gameId).scalar_subquery()
    item = LIBRARY_ITEM.c.userId + "/" + cast(igdb_id, Text) + "/" + cast(LIBRARY_ITEM.c.id, Text)
    yield _select_row(LIBRARY_ITEM, item, live_columns).where(is_any_of(LIBRARY_ITEM.c.userId, users))


def _select_row(target: Table, key: ColumnElement[str], live_columns: LiveColumns) -> Row:
    known = [
        own for own in target.c if own.name not in EXCLUDED_COLUMNS and not is_read_only(own) and own in live_columns
    ]
    columns = {own.name: own for own in known}
    return _select_parts(target, cast(target.c.id, Text), func.coalesce(key, ""), columns)


def _select_parts(table: Table, row_id: ColumnElement[str], key: ColumnElement[str], columns: Mapping[str, Any]) -> Row:
    row = func.jsonb_build_object(*(part for name, value in columns.items() for part in (_text(name), value)))
    parts = (_text(table.name), row_id, key, row)
    return select(*(part.label(own.name) for part, own in zip(parts, ROWS_BEFORE.c, strict=True)))


def _text(name: str) -> ColumnElement[str]:
    return literal(str(name), Text(), literal_execute=True)
