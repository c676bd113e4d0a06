"""The SQL statements that write what users own into SavePoint's tables: imported games and library items.

What the user decided stays: removed rows, statuses set by hand, items that are there. docs/loading.md has the rules.

An override that moves an app to another game may also move the user's item. The database does not say which game an app
was matched to: it is the Game that holds the appid when this load takes it away. Where no Game does, because an earlier
load has moved it, the item is counted for review.
"""

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Insert,
    Select,
    Table,
    Text,
    Update,
    and_,
    case,
    cast,
    distinct,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert

from pipeline.database.item_statuses import ItemStatuses
from pipeline.database.live_schema import LiveColumns
from pipeline.database.staging_tables import (
    MOVED_APPS,
    MOVED_ITEMS,
    NOT_COUNTED,
    NOW,
    PREVIOUS_IMPORTS,
    STAGED_GAMES,
    STAGED_IMPORTED_GAMES,
    STAGED_USERS,
    CountedStatement,
    Values,
    as_enum,
    differs,
    is_any_of,
    is_enum,
    new_id,
    one_by_one,
    row_of_staged_game,
)
from schemas.savepoint import ACQUISITION, GAME, IMPORTED_GAME, LIBRARY_ITEM, LIBRARY_PLATFORM, STORE
from schemas.staging import MAPPED_COLUMNS

STAGED = STAGED_IMPORTED_GAMES
STATUS = IMPORTED_GAME.c.igdbMatchStatus

OPEN_STATUSES = ("PENDING", "UNMATCHED")
"""The match statuses that each load may change."""

DECIDED_STATUSES = ("MATCHED", "IGNORED")
"""The match statuses that are a decision, of the user or an earlier load, which only an override changes."""

IS_SAME_APP = PREVIOUS_IMPORTS.c.number == STAGED.c.number
"""The SQL condition that a row of PREVIOUS_IMPORTS is the app of a staged row."""


@cache
def user_lock_query() -> Select[Any]:
    """Return the SQL query that locks each staged user, so that loads for one user run one after the other.

    A lock is an advisory one on a hash of the user's id; users who share a hash wait for each other too.

    PostgreSQL releases the advisory locks with the transaction. They are taken in ascending order, so that two loads
    with several users in common never wait for each other in a circle.
    """
    key = func.abs(func.hashtext(STAGED_USERS.c.id) % literal(1024, literal_execute=True)).label("key")
    keys = select(key).distinct().order_by(key).subquery()
    return select(func.pg_advisory_xact_lock(literal(1, literal_execute=True), keys.c.key))


@cache
def previous_import_statements(live_columns: LiveColumns) -> list[CountedStatement]:
    """Return the SQL statements that lock the open rows which the file decides about, and fill PREVIOUS_IMPORTS.

    A row is compared with the staged one there; `imported_game_statements` writes only rows that differ.
    """
    return [
        CountedStatement(NOT_COUNTED, _lock_open_rows()),
        CountedStatement(NOT_COUNTED, _insert_previous_imports(live_columns)),
    ]


@cache
def previous_imports_comparison_query() -> Select[int, bool]:
    """Return the SQL query for one row that compares the staged apps with those that the users had before.

    Its `no_longer_owned` is the number of apps in PREVIOUS_IMPORTS that are not staged, and `has_changes` is true if a
    staged row is new or differs.
    """
    found, in_file = func.count(PREVIOUS_IMPORTS.c.number), select(func.count()).select_from(STAGED).scalar_subquery()
    is_gone = ~PREVIOUS_IMPORTS.c.isRemoved & PREVIOUS_IMPORTS.c.number.is_(None)
    return select(
        func.count().filter(is_gone).label("no_longer_owned"),
        or_(found < in_file, func.count().filter(PREVIOUS_IMPORTS.c.isChanged) > 0).label("has_changes"),
    ).select_from(PREVIOUS_IMPORTS)


@cache
def imported_game_statements(live_columns: LiveColumns) -> list[CountedStatement]:
    """Return the SQL statements that update and insert imported games."""
    return [
        CountedStatement("imported_games_updated", _update_imports(live_columns)),
        CountedStatement("imported_games_created", _insert_imports(live_columns)),
    ]


@cache
def new_item_statement(live_columns: LiveColumns, statuses: ItemStatuses) -> CountedStatement:
    """Return the SQL statement that inserts an item for each game newly MATCHED; it runs after `game_statements`."""
    return CountedStatement("library_items_created", _insert_items(live_columns, statuses))


@cache
def item_move_statements(live_columns: LiveColumns, statuses: ItemStatuses) -> list[CountedStatement]:
    """Return the SQL statements that move library items to another game, where an override moved their app there.

    Items that a user edited stay. The statements run before `new_item_statement`.
    """
    return [
        CountedStatement(NOT_COUNTED, _note_items_to_move(live_columns, statuses)),
        CountedStatement("library_items_moved", _move_items(live_columns, statuses)),
    ]


@cache
def items_to_review_query() -> Select[Any]:
    """Return the SQL query for the number of items that stay with a game although an override moved their app away.

    It runs after `new_item_statement`.
    """
    left = (
        select(func.count(distinct(LIBRARY_ITEM.c.id)))
        .join_from(MOVED_ITEMS, LIBRARY_ITEM, LIBRARY_ITEM.c.id == MOVED_ITEMS.c.itemId)
        .where(
            is_any_of(LIBRARY_ITEM.c.id, select(MOVED_ITEMS.c.itemId)),
            LIBRARY_ITEM.c.gameId != MOVED_ITEMS.c.gameId,
        )
    )
    unknown = select(func.count(distinct(STAGED.c.number))).select_from(_overridden_apps()).where(_has_lost_item())
    return select((left.scalar_subquery() + unknown.scalar_subquery()).label("rows"))


# Imported games.


def _of_each_user(rows: Select[Any], table: Table) -> tuple[FromClause, FromClause]:
    """Return the staged users joined with a query's rows of each of them, and those rows themselves.

    They are read user by user, by the index on the user.
    """
    own = one_by_one(rows.where(table.c.userId == STAGED_USERS.c.id))
    return STAGED_USERS.join(own, true()), own


def _lock_open_rows() -> Select[Any]:
    """Lock the rows that the file decides about: what their users do now waits, and what they did before stays."""
    is_open = STATUS.in_([as_enum(status, STATUS) for status in OPEN_STATUSES])
    columns = (IMPORTED_GAME.c[name] for name in ("id", "userId", "storefrontGameId"))
    of_users, own = _of_each_user(select(*columns).where(_is_steam(), is_open), IMPORTED_GAME)
    decided = (
        select(own.c.id)
        .select_from(of_users.join(STAGED, _is_app_of(own)))
        .where(STAGED.c.igdbMatchStatus.in_(DECIDED_STATUSES))
    )
    locked = (
        select(IMPORTED_GAME.c.id)
        .where(is_any_of(IMPORTED_GAME.c.id, decided), is_open)
        .order_by(IMPORTED_GAME.c.id)
        .with_for_update(key_share=True)
        .subquery()
    )
    return select(func.count()).select_from(locked)


def _is_steam() -> ColumnElement[bool]:
    return is_enum(IMPORTED_GAME.c.storefront, STORE)


def _is_app_of(rows: FromClause) -> ColumnElement[bool]:
    return and_(STAGED.c.userId == rows.c.userId, STAGED.c.storefrontGameId == rows.c.storefrontGameId)


def _insert_previous_imports(live_columns: LiveColumns) -> Insert:
    is_removed = IMPORTED_GAME.c.deletedAt.is_not(None)
    app = (IMPORTED_GAME.c.userId, IMPORTED_GAME.c.storefrontGameId)
    order = (is_removed, IMPORTED_GAME.c.createdAt, IMPORTED_GAME.c.id)
    is_decided = func.bool_or(is_removed | cast(STATUS, Text).in_(DECIDED_STATUSES))
    of_users, previous = _of_each_user(
        select(
            *(own for own in IMPORTED_GAME.c if own in live_columns),
            is_removed.label("isRemoved"),
            # In the order of the rows, so that one sort serves both.
            is_decided.over(partition_by=app, order_by=order, rows=(None, None)).label("isDecided"),
        )
        .where(_is_steam(), IMPORTED_GAME.c.storefrontGameId.is_not(None))
        .ext(distinct_on(*app))
        .order_by(*app, *order),
        IMPORTED_GAME,
    )
    names = list(PREVIOUS_IMPORTS.c.keys())
    is_changed = and_(
        STAGED.c.number.is_not(None), ~previous.c.isRemoved, differs(previous, _values(previous, live_columns))
    )
    known = {**previous.c, "number": STAGED.c.number, "isChanged": is_changed}
    joined = of_users.outerjoin(STAGED, _is_app_of(previous))
    rows = select(*(known[name] for name in names)).select_from(joined)
    return insert(PREVIOUS_IMPORTS).from_select(names, rows)


def _values(rows: FromClause, live_columns: LiveColumns) -> Values:
    """Return the new values of a row that is there: null erases nothing, and some columns only grow."""
    mapped_values = {
        mapped.database: (func.greatest if mapped.only_grows else func.coalesce)(
            STAGED.c[mapped.database], rows.c[mapped.database]
        )
        for mapped in MAPPED_COLUMNS
        if IMPORTED_GAME.c[mapped.database] in live_columns
    }
    return {
        **mapped_values,
        "name": case((STAGED.c.isNameless, rows.c.name), else_=STAGED.c.name),
        "igdbMatchStatus": _next_status(rows.c.igdbMatchStatus),
    }


def _next_status(status: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the status of a row that is there: a decision stays, and nothing becomes PENDING again.

    An override of the match always decides. An override of the kind frees an app that was IGNORED, but not one that was
    MATCHED, as the user may have matched it.
    """
    takes_new_status = or_(
        STAGED.c.isMatchOverride,
        STAGED.c.isKindOverride & ~is_enum(status, "MATCHED"),
        is_enum(status, "PENDING"),
        is_enum(status, "UNMATCHED") & STAGED.c.igdbMatchStatus.in_(DECIDED_STATUSES),
    )
    return case((takes_new_status, as_enum(STAGED.c.igdbMatchStatus, status)), else_=status)


def _update_imports(live_columns: LiveColumns) -> Update:
    # Compared again: what another writer has changed since the rows were noted stands.
    values = _values(IMPORTED_GAME, live_columns)
    return (
        update(IMPORTED_GAME)
        .values({**values, "updatedAt": NOW})
        .where(
            is_any_of(IMPORTED_GAME.c.id, select(PREVIOUS_IMPORTS.c.id).where(PREVIOUS_IMPORTS.c.isChanged)),
            IMPORTED_GAME.c.id == PREVIOUS_IMPORTS.c.id,
            IMPORTED_GAME.c.deletedAt.is_(None),
            IS_SAME_APP,
            differs(IMPORTED_GAME, values),
        )
    )


def _insert_imports(live_columns: LiveColumns) -> Insert:
    staged = {own.name: as_enum(STAGED.c[own.name], own) for own in IMPORTED_GAME.c if own.name in STAGED.c}
    values = _of_live_columns(
        IMPORTED_GAME,
        live_columns,
        {
            "id": new_id(STAGED),
            **staged,
            "storefront": as_enum(STORE, IMPORTED_GAME.c.storefront),
            "createdAt": NOW,
            "updatedAt": NOW,
        },
    )
    rows = select(*values.values()).where(~exists().where(IS_SAME_APP)).order_by(STAGED.c.number)
    return insert(IMPORTED_GAME).from_select(list(values), rows)


def _of_live_columns(target: Table, live_columns: LiveColumns, values: Values) -> Values:
    return {name: value for name, value in values.items() if target.c[name] in live_columns}


# Library items.


def _insert_items(live_columns: LiveColumns, statuses: ItemStatuses) -> Insert:
    """Insert one item per game that this load makes MATCHED, unless the user decided about one of its apps before."""
    game = row_of_staged_game(GAME.c.igdbId, GAME.c.steamAppId)
    of_users, own = _of_each_user(select(LIBRARY_ITEM.c.userId, LIBRARY_ITEM.c.gameId), LIBRARY_ITEM)
    has_item = exists().select_from(of_users).where(own.c.userId == STAGED.c.userId, own.c.gameId == game.c.id)
    playtime = func.sum(func.greatest(STAGED.c.playtime, PREVIOUS_IMPORTS.c.playtime))
    recent = [(func.bool_or(STAGED.c.isRecent), statuses.recent)] if statuses.recent else []
    status = case(*recent, (playtime > 0, statuses.played), else_=statuses.unplayed)
    values = _of_live_columns(
        LIBRARY_ITEM,
        live_columns,
        {
            "userId": STAGED.c.userId,
            "gameId": game.c.id,
            "status": as_enum(status, LIBRARY_ITEM.c.status),
            "platform": literal(LIBRARY_PLATFORM),
            "acquisitionType": as_enum(ACQUISITION, LIBRARY_ITEM.c.acquisitionType),
            "hasBeenPlayed": playtime > 0,
            "statusChangedAt": NOW,
            "createdAt": NOW,
            "updatedAt": NOW,
        },
    )
    rows = (
        select(*values.values())
        .select_from(
            STAGED_GAMES.join(game, true())
            .join(STAGED, STAGED.c.igdbId == game.c.igdbId)
            .outerjoin(PREVIOUS_IMPORTS, IS_SAME_APP)
        )
        .where(~has_item, ~_has_decided_about(game))
        .group_by(STAGED.c.userId, game.c.id)
        .having(func.bool_and(PREVIOUS_IMPORTS.c.isDecided.is_not(True)))
        .order_by(func.min(STAGED.c.number))
    )
    return insert(LIBRARY_ITEM).from_select(list(values), rows)


def _has_decided_about(game: FromClause) -> ColumnElement[bool]:
    """Return the condition that the user decided about the app whose id the game has, in the file or not."""
    known = PREVIOUS_IMPORTS.alias("known")
    return exists().where(
        known.c.isDecided,
        known.c.userId == STAGED.c.userId,
        known.c.storefrontGameId == cast(game.c.steamAppId, Text),
    )


# Items of games that lose an app by an override.

NEW_GAME = GAME.alias("new_game")
"""The games to which the overrides of a file move apps."""


def _overridden_apps() -> FromClause:
    """Join the staged apps with the games of their matches and the users' previous rows."""
    return STAGED.join(NEW_GAME, NEW_GAME.c.igdbId == STAGED.c.igdbId).join(PREVIOUS_IMPORTS, IS_SAME_APP)


def _items_of_user(*columns: ColumnElement[Any]) -> FromClause:
    """Return the items of the user of a staged row, read by the index on the user."""
    return one_by_one(select(*columns).where(LIBRARY_ITEM.c.userId == STAGED.c.userId).correlate(STAGED))


def _has_item_of_new_game() -> ColumnElement[bool]:
    item = _items_of_user(LIBRARY_ITEM.c.gameId)
    return exists().select_from(item).where(item.c.gameId == NEW_GAME.c.id)


def _was_matched_before_override() -> ColumnElement[bool]:
    return and_(
        STAGED.c.isMatchOverride, ~PREVIOUS_IMPORTS.c.isRemoved, PREVIOUS_IMPORTS.c.igdbMatchStatus == "MATCHED"
    )


def _note_items_to_move(live_columns: LiveColumns, statuses: ItemStatuses) -> Insert:
    """Note the items of the games that lose an app, and whether each can be moved; if it is ambiguous, none can."""
    item = _items_of_user(*(own for own in LIBRARY_ITEM.c if own in live_columns))
    is_alone = (func.count().over(partition_by=own) == 1 for own in ((item.c.id,), (STAGED.c.userId, NEW_GAME.c.id)))
    is_movable = and_(
        _is_untouched(item, live_columns, statuses), ~_has_item_of_new_game(), ~_is_still_owned(), *is_alone
    )
    rows = (
        select(item.c.id, NEW_GAME.c.id, is_movable)
        .select_from(_overridden_apps())
        .join(MOVED_APPS, MOVED_APPS.c.storefrontGameId == STAGED.c.storefrontGameId)
        .join(GAME, GAME.c.id == MOVED_APPS.c.gameId)
        .join(item, item.c.gameId == GAME.c.id)
        .where(_was_matched_before_override(), GAME.c.id != NEW_GAME.c.id)
    )
    return insert(MOVED_ITEMS).from_select(list(MOVED_ITEMS.c.keys()), rows)


def _is_still_owned() -> ColumnElement[bool]:
    """Return the condition that another of the user's apps is the game."""
    other = STAGED.alias("other")
    is_same = (other.c.userId == STAGED.c.userId) & (other.c.igdbId == GAME.c.igdbId)
    return select(other.c.number).where(is_same).correlate(STAGED, GAME).exists()


def _has_lost_item() -> ColumnElement[bool]:
    """Return the condition that an app was moved by an earlier load, and its item may still be with the old game.

    No Game holds the appid now, the user has no item of the new game, but has one of a game without an appid that none
    of their apps is.
    """
    item = _items_of_user(LIBRARY_ITEM.c.gameId)
    item_of_old_game = (
        select(item.c.gameId)
        .join_from(item, GAME, GAME.c.id == item.c.gameId)
        .where(GAME.c.steamAppId.is_(None), ~_is_still_owned())
    )
    return and_(
        _was_matched_before_override(),
        STAGED.c.storefrontGameId.not_in(select(MOVED_APPS.c.storefrontGameId)),
        ~_has_item_of_new_game(),
        item_of_old_game.exists(),
    )


def _is_untouched(items: FromClause, live_columns: LiveColumns, statuses: ItemStatuses) -> ColumnElement[bool]:
    """Return the condition that an item is as a load made it."""
    known, item = LIBRARY_ITEM.c, items.c
    is_empty = [item[name].is_(None) for name in ("startedAt", "completedAt", "rating") if known[name] in live_columns]
    is_automatic = [item.statusIsManual.is_(False)] if known.statusIsManual in live_columns else []
    return and_(
        or_(*(is_enum(item.status, status) for status in statuses if status)),
        is_enum(item.acquisitionType, ACQUISITION),
        item.platform.is_not_distinct_from(LIBRARY_PLATFORM),
        item.updatedAt == item.createdAt,
        *is_empty,
        *is_automatic,
    )


def _move_items(live_columns: LiveColumns, statuses: ItemStatuses) -> Update:
    return (
        update(LIBRARY_ITEM)
        .values(gameId=MOVED_ITEMS.c.gameId, updatedAt=NOW)
        .where(
            is_any_of(LIBRARY_ITEM.c.id, select(MOVED_ITEMS.c.itemId)),
            LIBRARY_ITEM.c.id == MOVED_ITEMS.c.itemId,
            MOVED_ITEMS.c.isMovable,
            _is_untouched(LIBRARY_ITEM, live_columns, statuses),
        )
    )
