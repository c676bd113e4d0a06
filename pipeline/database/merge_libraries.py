"""The one exception to leaving library items alone: an override that moves an app from one game to another.

The database does not say which game an app was matched to. It is the Game that has the appid, when this load takes it
off. A load that comes later, for other users, finds no such Game; then it is a Game without an appid that none of the
user's apps is, whose item was created at the very moment at which the app's row was created or last written, that is
by the load that matched it. Where two items or two apps fit, none is moved.

The statements of a load that write what the user owns: imported games and library items.

What belongs to the user is left alone: removed rows, statuses set by hand, items that are there.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

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
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert

from pipeline.database.live_schema import LiveSchema
from pipeline.database.merge_games import NOT_COUNTED, NOW, Step, Values, as_enum, differs, is_enum, new_id
from pipeline.database.staging_tables import (
    MOVED_APPS,
    MOVED_ITEMS,
    PREVIOUS_IMPORTS,
    STAGED_IMPORTED_GAMES,
    STAGED_USERS,
)
from schemas.savepoint import ACQUISITION, GAME, IMPORTED_GAME, LIBRARY_ITEM, LIBRARY_PLATFORM, STORE

STAGED = STAGED_IMPORTED_GAMES
IS_SAME_APP = PREVIOUS_IMPORTS.c.number == STAGED.c.number
ITEM = LIBRARY_ITEM
NEW_GAME = GAME.alias("new_game")


class Statuses(NamedTuple):
    """`LibraryItem.status` of a new item, for playtime 0 and above."""

    unplayed: str
    played: str


def move_items(live: LiveSchema, statuses: Statuses) -> Iterator[Step]:
    """Point the users' untouched items to where their apps were moved."""
    yield Step(NOT_COUNTED, _note_items(live, statuses))
    yield Step("library_items_moved", _move(live, statuses))


def count_to_review() -> Select[Any]:
    """How many items are left where an override moved their app away."""
    left = select(func.count(distinct(ITEM.c.id)).label("rows"))
    return left.join_from(MOVED_ITEMS, ITEM, ITEM.c.id == MOVED_ITEMS.c.itemId).where(
        ITEM.c.gameId != MOVED_ITEMS.c.gameId
    )


def _note_items(live: LiveSchema, statuses: Statuses) -> Insert:
    of_new_game = ITEM.alias("of_new_game")
    has_item = exists().where(of_new_game.c.userId == ITEM.c.userId, of_new_game.c.gameId == NEW_GAME.c.id)
    alone = (
        func.count().over(partition_by=own) == 1
        for own in ((ITEM.c.id,), (STAGED.c.userId, STAGED.c.storefrontGameId), (STAGED.c.userId, NEW_GAME.c.id))
    )
    is_movable = and_(_is_untouched(live, statuses), ~has_item, ~_is_still_owned(), *alone)
    rows = (
        select(ITEM.c.id, NEW_GAME.c.id, is_movable)
        .select_from(STAGED)
        .join(NEW_GAME, NEW_GAME.c.igdbId == STAGED.c.igdbId)
        .join(PREVIOUS_IMPORTS, IS_SAME_APP)
        .join(IMPORTED_GAME, IMPORTED_GAME.c.id == PREVIOUS_IMPORTS.c.id)
        .join(ITEM, ITEM.c.userId == STAGED.c.userId)
        .join(GAME, GAME.c.id == ITEM.c.gameId)
        .where(
            STAGED.c.isMatchOverride,
            ~PREVIOUS_IMPORTS.c.isRemoved,
            PREVIOUS_IMPORTS.c.igdbMatchStatus == "MATCHED",
            GAME.c.id != NEW_GAME.c.id,
            or_(_had_the_appid(), _was_matched_then()),
        )
    )
    return insert(MOVED_ITEMS).from_select(list(MOVED_ITEMS.c.keys()), rows)


def _had_the_appid() -> ColumnElement[bool]:
    return exists().where(MOVED_APPS.c.storefrontGameId == STAGED.c.storefrontGameId, MOVED_APPS.c.gameId == GAME.c.id)


def _was_matched_then() -> ColumnElement[bool]:
    is_moved_now = or_(
        STAGED.c.storefrontGameId.in_(select(MOVED_APPS.c.storefrontGameId)),
        GAME.c.id.in_(select(MOVED_APPS.c.gameId)),
    )
    then = ITEM.c.createdAt.in_((IMPORTED_GAME.c.createdAt, IMPORTED_GAME.c.updatedAt))
    return and_(GAME.c.steamAppId.is_(None), then, ~is_moved_now, ~_is_still_owned())


def _is_still_owned() -> ColumnElement[bool]:
    """Whether another of the user's apps is the game."""
    other = STAGED.alias("other")
    return exists().where(other.c.userId == ITEM.c.userId, other.c.igdbId == GAME.c.igdbId)


def _is_untouched(live: LiveSchema, statuses: Statuses) -> ColumnElement[bool]:
    """Whether the item is as a load made it."""
    undated = [ITEM.c[name].is_(None) for name in ("startedAt", "completedAt", "rating") if live.has(ITEM.c[name])]
    by_hand = [ITEM.c.statusIsManual.is_(False)] if live.has(ITEM.c.statusIsManual) else []
    return and_(
        or_(*(is_enum(ITEM.c.status, status) for status in statuses)),
        is_enum(ITEM.c.acquisitionType, ACQUISITION),
        ITEM.c.platform.is_not_distinct_from(LIBRARY_PLATFORM),
        ITEM.c.updatedAt == ITEM.c.createdAt,
        *undated,
        *by_hand,
    )


def _move(live: LiveSchema, statuses: Statuses) -> Update:
    return (
        update(ITEM)
        .values(gameId=MOVED_ITEMS.c.gameId, updatedAt=NOW)
        .where(ITEM.c.id == MOVED_ITEMS.c.itemId, MOVED_ITEMS.c.isMovable, _is_untouched(live, statuses))
    )


STATUS = IMPORTED_GAME.c.igdbMatchStatus
OPEN = ("PENDING", "UNMATCHED")
DECIDED = ("MATCHED", "IGNORED")
IS_STEAM = is_enum(IMPORTED_GAME.c.storefront, STORE)


def remember_imports(live: LiveSchema) -> Iterator[Step]:
    """Compare the file with the staged users' rows, once; what is written later is what differed."""
    yield Step(NOT_COUNTED, _lock_open())
    yield Step(NOT_COUNTED, _remember(live))


def compare_imports() -> Select[int, bool]:
    """`no_longer_owned` apps, which are left as they are; `has_news`: whether the file has a new or a changed row."""
    found, in_file = func.count(PREVIOUS_IMPORTS.c.number), select(func.count()).select_from(STAGED).scalar_subquery()
    gone = ~PREVIOUS_IMPORTS.c.isRemoved & PREVIOUS_IMPORTS.c.number.is_(None)
    return select(
        func.count().filter(gone).label("no_longer_owned"),
        or_(found < in_file, func.count().filter(PREVIOUS_IMPORTS.c.isChanged) > 0).label("has_news"),
    ).select_from(PREVIOUS_IMPORTS)


def merge_imports(live: LiveSchema, statuses: Statuses, id_prefix: str) -> Iterator[Step]:
    """Imported games, and library items of those that become MATCHED; the games are written already."""
    yield Step("imported_games_updated", _update_imports(live))
    yield Step("imported_games_created", _insert_imports(live, id_prefix))
    yield Step("library_items_created", _insert_items(live, statuses))


def lock_users() -> Select[Any]:
    """Loads of one user wait for each other; ascending, so that loads of many users cannot lock each other."""
    key = func.abs(func.hashtext(STAGED_USERS.c.id) % literal(1024, literal_execute=True)).label("key")
    keys = select(key).distinct().order_by(key).subquery()
    return select(func.pg_advisory_xact_lock(literal(1, literal_execute=True), keys.c.key))


def _lock_open() -> Select[Any]:
    """The rows that the file decides about: what their users do to them meanwhile waits, and what they did stands."""
    is_open = STATUS.in_([as_enum(status, STATUS) for status in OPEN])
    locked = (
        select(IMPORTED_GAME.c.id)
        .join_from(IMPORTED_GAME, STAGED, _is_app_of(IMPORTED_GAME))
        .where(IS_STEAM, is_open, STAGED.c.igdbMatchStatus.in_(DECIDED))
        .order_by(IMPORTED_GAME.c.id)
        .with_for_update(of=IMPORTED_GAME, key_share=True)
        .subquery()
    )
    return select(func.count()).select_from(locked)


def _is_app_of(rows: FromClause) -> ColumnElement[bool]:
    return and_(STAGED.c.userId == rows.c.userId, STAGED.c.storefrontGameId == rows.c.storefrontGameId)


def _remember(live: LiveSchema) -> Insert:
    is_removed = IMPORTED_GAME.c.deletedAt.is_not(None)
    app = (IMPORTED_GAME.c.userId, IMPORTED_GAME.c.storefrontGameId)
    order = (is_removed, IMPORTED_GAME.c.createdAt, IMPORTED_GAME.c.id)
    is_decided = func.bool_or(is_removed | cast(STATUS, Text).in_(DECIDED))
    # Compared behind the sort, which the index on the users then almost saves.
    previous = (
        select(
            *filter(live.has, IMPORTED_GAME.c),
            is_removed.label("isRemoved"),
            # In the order of the rows, so that one sort serves both.
            is_decided.over(partition_by=app, order_by=order, rows=(None, None)).label("isDecided"),
        )
        .join_from(IMPORTED_GAME, STAGED_USERS, STAGED_USERS.c.id == IMPORTED_GAME.c.userId)
        .where(IS_STEAM, IMPORTED_GAME.c.storefrontGameId.is_not(None))
        .ext(distinct_on(*app))
        .order_by(*app, *order)
        .subquery("previous")
    )
    names = list(PREVIOUS_IMPORTS.c.keys())
    is_changed = and_(STAGED.c.number.is_not(None), ~previous.c.isRemoved, differs(previous, _updated(previous, live)))
    known = {**previous.c, "number": STAGED.c.number, "isChanged": is_changed}
    rows = select(*(known[name] for name in names)).outerjoin_from(previous, STAGED, _is_app_of(previous))
    return insert(PREVIOUS_IMPORTS).from_select(names, rows)


def _updated(rows: FromClause, live: LiveSchema) -> Values:
    """Playtimes and the last play only grow: Steam says 0 when the owner hides them."""
    growing = ("playtime", "playtimeWindows", "playtimeMac", "playtimeLinux", "lastPlayedAt")
    grown: Values = {
        name: func.greatest(rows.c[name], STAGED.c[name]) for name in growing if live.has(IMPORTED_GAME.c[name])
    }
    return {
        **grown,
        "name": case((STAGED.c.isNameless, rows.c.name), else_=STAGED.c.name),
        "img_icon_url": func.coalesce(STAGED.c.img_icon_url, rows.c.img_icon_url),
        "igdbMatchStatus": _next_status(rows.c.igdbMatchStatus),
    }


def _update_imports(live: LiveSchema) -> Update:
    """What a neighbour has changed since is read again, and stands."""
    values = _updated(IMPORTED_GAME, live)
    return (
        update(IMPORTED_GAME)
        .values({**values, "updatedAt": NOW})
        .where(
            PREVIOUS_IMPORTS.c.isChanged,
            IMPORTED_GAME.c.id == PREVIOUS_IMPORTS.c.id,
            IMPORTED_GAME.c.deletedAt.is_(None),
            IS_SAME_APP,
            differs(IMPORTED_GAME, values),
        )
    )


def _next_status(status: ColumnElement[Any]) -> ColumnElement[Any]:
    """What was matched or ignored stays so, and nothing becomes pending again, unless an override says it.

    An override of what the app is frees what was ignored, but says nothing of its match: one that a user made stays.
    """
    is_news = or_(
        STAGED.c.isMatchOverride,
        STAGED.c.isKindOverride & ~is_enum(status, "MATCHED"),
        is_enum(status, "PENDING"),
        is_enum(status, "UNMATCHED") & STAGED.c.igdbMatchStatus.in_(DECIDED),
    )
    return case((is_news, as_enum(STAGED.c.igdbMatchStatus, status)), else_=status)


def _insert_imports(live: LiveSchema, id_prefix: str) -> Insert:
    staged = {own.name: as_enum(STAGED.c[own.name], own) for own in IMPORTED_GAME.c if own.name in STAGED.c}
    values = _present(
        IMPORTED_GAME,
        live,
        {
            "id": new_id(STAGED, id_prefix),
            **staged,
            "storefront": as_enum(STORE, IMPORTED_GAME.c.storefront),
            "createdAt": NOW,
            "updatedAt": NOW,
        },
    )
    rows = select(*values.values()).where(~exists().where(IS_SAME_APP)).order_by(STAGED.c.number)
    return insert(IMPORTED_GAME).from_select(list(values), rows)


def _insert_items(live: LiveSchema, statuses: Statuses) -> Insert:
    """One item per game that this load makes MATCHED, unless the user decided about one of its apps before."""
    playtime = func.sum(func.greatest(STAGED.c.playtime, PREVIOUS_IMPORTS.c.playtime))
    status = case((playtime > 0, statuses.played), else_=statuses.unplayed)
    values = _present(
        LIBRARY_ITEM,
        live,
        {
            "userId": STAGED.c.userId,
            "gameId": GAME.c.id,
            "status": as_enum(status, LIBRARY_ITEM.c.status),
            "platform": literal(LIBRARY_PLATFORM),
            "acquisitionType": as_enum(ACQUISITION, LIBRARY_ITEM.c.acquisitionType),
            "hasBeenPlayed": playtime > 0,
            "statusChangedAt": NOW,
            "createdAt": NOW,
            "updatedAt": NOW,
        },
    )
    no_longer_owned = PREVIOUS_IMPORTS.alias("no_longer_owned")
    is_decided = exists().where(
        no_longer_owned.c.isDecided,
        no_longer_owned.c.userId == STAGED.c.userId,
        no_longer_owned.c.storefrontGameId == cast(GAME.c.steamAppId, Text),
    )
    has_item = exists().where(LIBRARY_ITEM.c.userId == STAGED.c.userId, LIBRARY_ITEM.c.gameId == GAME.c.id)
    rows = (
        select(*values.values())
        .join_from(STAGED, GAME, GAME.c.igdbId == STAGED.c.igdbId)
        .outerjoin(PREVIOUS_IMPORTS, IS_SAME_APP)
        .where(~has_item, ~is_decided)
        .group_by(STAGED.c.userId, GAME.c.id)
        .having(func.bool_and(PREVIOUS_IMPORTS.c.isDecided.is_not(True)))
        .order_by(func.min(STAGED.c.number))
    )
    return insert(LIBRARY_ITEM).from_select(list(values), rows)


def _present(target: Table, live: LiveSchema, values: Values) -> Values:
    return {name: value for name, value in values.items() if live.has(target.c[name])}
