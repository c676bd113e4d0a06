"""The statements of a load that write what the user owns: imported games and library items.

What belongs to the user is left alone: removed rows, statuses set by hand, items that are there.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    ColumnElement,
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
from pipeline.edges.moved_items import IS_SAME_APP, STAGED, Statuses, move_items
from pipeline.edges.staging_tables import PREVIOUS_IMPORTS, STAGED_USERS
from pipeline.edges.upserts import NOT_COUNTED, NOW, Step, Values, as_enum, differs, is_enum, new_id
from schemas.tables import ACQUISITION, GAME, IMPORTED_GAME, LIBRARY_ITEM, LIBRARY_PLATFORM, STORE

STATUS = IMPORTED_GAME.c.igdbMatchStatus
OPEN = ("PENDING", "UNMATCHED")
DECIDED = ("MATCHED", "IGNORED")
IS_STEAM = is_enum(IMPORTED_GAME.c.storefront, STORE)


def merge_library(live: LiveSchema, statuses: Statuses, id_prefix: str) -> Iterator[Step]:
    """Imported games and library items of the staged users; the games are written already."""
    yield Step(NOT_COUNTED, _lock_open())
    yield Step(NOT_COUNTED, _remember())
    yield from move_items(live, statuses)
    yield Step("imported_games_updated", _update_imports(live))
    yield Step("imported_games_created", _insert_imports(live, id_prefix))
    yield Step("library_items_created", _insert_items(live, statuses))


def count_no_longer_owned() -> Select[Any]:
    """How many apps the users' rows have and Steam no longer names; they are left as they are."""
    gone = ~PREVIOUS_IMPORTS.c.isRemoved & ~exists().where(IS_SAME_APP)
    return select(func.count().label("rows")).select_from(PREVIOUS_IMPORTS).where(gone)


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
        .join_from(
            IMPORTED_GAME,
            STAGED,
            and_(
                STAGED.c.userId == IMPORTED_GAME.c.userId, STAGED.c.storefrontGameId == IMPORTED_GAME.c.storefrontGameId
            ),
        )
        .where(IS_STEAM, is_open, STAGED.c.igdbMatchStatus.in_(DECIDED))
        .order_by(IMPORTED_GAME.c.id)
        .with_for_update(of=IMPORTED_GAME, key_share=True)
        .subquery()
    )
    return select(func.count()).select_from(locked)


def _remember() -> Insert:
    is_removed = IMPORTED_GAME.c.deletedAt.is_not(None)
    app = (IMPORTED_GAME.c.userId, IMPORTED_GAME.c.storefrontGameId)
    order = (is_removed, IMPORTED_GAME.c.createdAt, IMPORTED_GAME.c.id)
    is_decided = func.bool_or(is_removed | cast(STATUS, Text).in_(DECIDED))
    rows = (
        select(
            IMPORTED_GAME.c.id,
            *app,
            IMPORTED_GAME.c.playtime,
            cast(STATUS, Text),
            is_removed,
            # In the order of the rows, so that one sort serves both.
            is_decided.over(partition_by=app, order_by=order, rows=(None, None)),
        )
        .join_from(IMPORTED_GAME, STAGED_USERS, STAGED_USERS.c.id == IMPORTED_GAME.c.userId)
        .where(IS_STEAM, IMPORTED_GAME.c.storefrontGameId.is_not(None))
        .ext(distinct_on(*app))
        .order_by(*app, *order)
    )
    return insert(PREVIOUS_IMPORTS).from_select(list(PREVIOUS_IMPORTS.c.keys()), rows)


def _update_imports(live: LiveSchema) -> Update:
    """Playtimes and the last play only grow: Steam says 0 when the owner hides them."""
    growing = ("playtime", "playtimeWindows", "playtimeMac", "playtimeLinux", "lastPlayedAt")
    grown: Values = {name: func.greatest(IMPORTED_GAME.c[name], STAGED.c[name]) for name in growing}
    values = _present(
        IMPORTED_GAME,
        live,
        {
            **grown,
            "name": case((STAGED.c.isNameless, IMPORTED_GAME.c.name), else_=STAGED.c.name),
            "img_icon_url": func.coalesce(STAGED.c.img_icon_url, IMPORTED_GAME.c.img_icon_url),
            "igdbMatchStatus": _next_status(),
        },
    )
    return (
        update(IMPORTED_GAME)
        .values({**values, "updatedAt": NOW})
        .where(
            IMPORTED_GAME.c.id == PREVIOUS_IMPORTS.c.id,
            IMPORTED_GAME.c.deletedAt.is_(None),
            IS_SAME_APP,
            differs(IMPORTED_GAME, values),
        )
    )


def _next_status() -> ColumnElement[Any]:
    """What was matched or ignored stays so, and nothing becomes pending again, unless an override says it.

    An override of what the app is says nothing of its match: one that a user made stays.
    """
    is_news = or_(
        STAGED.c.isMatchOverride,
        STAGED.c.isKindOverride & ~is_enum(STATUS, "MATCHED"),
        is_enum(STATUS, "PENDING"),
        is_enum(STATUS, "UNMATCHED") & STAGED.c.igdbMatchStatus.in_(DECIDED),
    )
    return case((is_news, as_enum(STAGED.c.igdbMatchStatus, STATUS)), else_=STATUS)


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
