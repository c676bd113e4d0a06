"""What a load does, in detail: the rows that it may change, read before and after, and the columns that differ."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Insert,
    Select,
    Table,
    Text,
    and_,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
)

from pipeline.database.live_schema import LiveSchema
from pipeline.database.staging_tables import (
    ROWS_BEFORE,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_IMPORTED_GAMES,
    STAGED_PLATFORMS,
    STAGED_USERS,
)
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
"""The columns that say nothing of what changed."""

Row = Select[str, str, str, Any]


def written_tables(staged: StagedRows, counts: Mapping[str, int]) -> pl.DataFrame:
    """Per table, what the counts of a load say of its rows."""
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
    names = list(WrittenTables.to_schema().columns)
    return WrittenTables.validate(pl.DataFrame([_written(*row, counts) for row in rows], schema=names, orient="row"))


def _written(table: str, rows: str, in_file: int, counts: Mapping[str, int]) -> tuple[str, int, int, int, int]:
    created, updated = counts.get(f"{rows}_created", 0), counts.get(f"{rows}_updated", 0)
    updated += counts.get(f"{rows}_moved", 0)
    return table, created, updated, counts.get(f"{rows}_removed", 0), max(in_file - created - updated, 0)


def remember_rows(live: LiveSchema) -> Insert:
    """Note the rows that a load may change; to be run before it."""
    return insert(ROWS_BEFORE).from_select(list(ROWS_BEFORE.c.keys()), _rows(live))


def changed_columns(live: LiveSchema) -> Select[Any]:
    """Compare them with what they are now, as Changes."""
    before, after = ROWS_BEFORE, _rows(live).subquery("rows_after")
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


def _rows(live: LiveSchema) -> CompoundSelect[Any]:
    return union_all(*_shared_rows(live), *_link_rows(), _import_rows(live), _item_rows(live))


def _shared_rows(live: LiveSchema) -> Iterator[Row]:
    for target, staged in ((GENRE, STAGED_GENRES), (PLATFORM, STAGED_PLATFORMS), (GAME, STAGED_GAMES)):
        yield _row(target, cast(target.c.igdbId, Text), target, live).where(_may_change(target, staged))


def _may_change(target: Table, staged: Table) -> ColumnElement[bool]:
    """Whether the row is in the file, or holds what a row of the file needs, or did so before the load."""
    keys = [name for name in ("igdbId", "name", "slug") if name in target.c and name in staged.c]
    appids = select(STAGED_IMPORTED_GAMES.c.storefrontGameId)
    return or_(
        *(target.c[key].in_(select(staged.c[key])) for key in keys),
        *([cast(GAME.c.steamAppId, Text).in_(appids)] if target is GAME else []),
        target.c.id.in_(select(ROWS_BEFORE.c.id).where(ROWS_BEFORE.c.table == target.name)),
    )


def _link_rows() -> Iterator[Row]:
    for links, other in ((GAME_GENRE, GENRE), (GAME_PLATFORM, PLATFORM)):
        other_id = next(own for own in links.c if own.name != "gameId")
        key = cast(GAME.c.igdbId, Text) + "/" + cast(other.c.igdbId, Text)
        joined = links.join(GAME, GAME.c.id == links.c.gameId).join(other, other.c.id == other_id)
        rows = _said(links, links.c.gameId + "/" + other_id, key, dict(links.c))
        yield rows.select_from(joined).where(_may_change(GAME, STAGED_GAMES))


def _import_rows(live: LiveSchema) -> Row:
    key = IMPORTED_GAME.c.userId + "/" + IMPORTED_GAME.c.storefrontGameId
    is_read_only = IMPORTED_GAME.c.userId.in_(select(STAGED_USERS.c.id))
    is_steam = cast(IMPORTED_GAME.c.storefront, Text) == STORE
    return _row(IMPORTED_GAME, key, IMPORTED_GAME, live).where(is_read_only, is_steam)


def _item_rows(live: LiveSchema) -> Row:
    key = LIBRARY_ITEM.c.userId + "/" + cast(GAME.c.igdbId, Text) + "/" + cast(LIBRARY_ITEM.c.id, Text)
    joined = LIBRARY_ITEM.join(GAME, GAME.c.id == LIBRARY_ITEM.c.gameId)
    is_read_only = LIBRARY_ITEM.c.userId.in_(select(STAGED_USERS.c.id))
    return _row(LIBRARY_ITEM, key, joined, live).where(is_read_only)


def _row(target: Table, key: ColumnElement[str], source: FromClause, live: LiveSchema) -> Row:
    """Table, id, key and columns of the rows of one table."""
    known = [own for own in target.c if own.name not in EXCLUDED_COLUMNS and not is_read_only(own) and live.has(own)]
    columns = {own.name: own for own in known}
    return _said(target, cast(target.c.id, Text), func.coalesce(key, ""), columns).select_from(source)


def _said(table: Table, row_id: ColumnElement[str], key: ColumnElement[str], columns: Mapping[str, Any]) -> Row:
    parts = (_text(table.name), row_id, key, _object(columns))
    return select(*(part.label(own.name) for part, own in zip(parts, ROWS_BEFORE.c, strict=True)))


def _object(columns: Mapping[str, Any]) -> ColumnElement[Any]:
    return func.jsonb_build_object(*(part for name, value in columns.items() for part in (_text(name), value)))


def _text(name: str) -> ColumnElement[str]:
    return literal(str(name), Text(), literal_execute=True)
