"""The statements of a load that write what the user owns: imported games and library items.

What belongs to the user is left alone: removed rows, statuses set by hand, items that are there.
"""

from collections.abc import Iterator
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
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import distinct_on, insert

from pipeline.edges.live_schema import LiveSchema
from pipeline.edges.moved_items import IS_SAME_APP, STAGED, Statuses
from pipeline.edges.staging_tables import PREVIOUS_IMPORTS, STAGED_USERS
from pipeline.edges.upserts import NOT_COUNTED, NOW, Step, Values, as_enum, differs, is_enum, new_id
from schemas.tables import ACQUISITION, GAME, IMPORTED_GAME, LIBRARY_ITEM, LIBRARY_PLATFORM, STORE

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
