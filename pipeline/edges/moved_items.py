"""The one exception to leaving library items alone: an override that moves an app from one game to another.

The database does not say which game an app was matched to. It is the Game that has the appid, when this load takes it
off. A load that comes later, for other users, finds no such Game; then it is a Game without an appid that none of the
user's apps is, whose item was created at the very moment at which the app's row was created or last written, that is
by the load that matched it. Where two items or two apps fit, none is moved.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Insert, Select, Update, and_, distinct, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from pipeline.edges.live_schema import LiveSchema
from pipeline.edges.staging_tables import MOVED_APPS, MOVED_ITEMS, PREVIOUS_IMPORTS, STAGED_IMPORTED_GAMES
from pipeline.edges.upserts import NOT_COUNTED, NOW, Step, is_enum
from schemas.tables import ACQUISITION, GAME, IMPORTED_GAME, LIBRARY_ITEM, LIBRARY_PLATFORM

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
