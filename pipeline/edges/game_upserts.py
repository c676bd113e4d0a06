"""The statements of a load that write games: which row is which game, and which one has a Steam app's id."""

from collections.abc import Iterator

from sqlalchemy import Insert, Integer, Select, Update, cast, func, insert, null, or_, select, update

from pipeline.edges.staging_tables import MOVED_APPS, STAGED_GAMES, STAGED_IMPORTED_GAMES
from pipeline.edges.upserts import NOT_COUNTED, NOW, Step, find, lock, to_be_written, write
from schemas.tables import GAME

APPID = cast(STAGED_IMPORTED_GAMES.c.storefrontGameId, Integer)


def merge_games(id_prefix: str) -> Iterator[Step]:
    """Find, adopt, update and insert games."""
    yield find(GAME, STAGED_GAMES)
    yield Step("games_adopted", _adopt())
    yield Step(NOT_COUNTED, _note_moved_apps())
    yield lock(GAME, [*to_be_written(GAME, STAGED_GAMES), *_games_of_moved_apps()])
    yield Step("steam_app_ids_moved", _take_off())
    yield Step(NOT_COUNTED, _give())
    yield Step("steam_app_id_conflicts", _leave())
    yield from write(GAME, STAGED_GAMES, "games", id_prefix)


def _overridden() -> Select[int]:
    is_moved = STAGED_IMPORTED_GAMES.c.isMatchOverride & STAGED_IMPORTED_GAMES.c.igdbId.is_not(None)
    return select(STAGED_IMPORTED_GAMES.c.igdbId).where(is_moved)


def _adopt() -> Update:
    """A Game of another IGDB id is this game if it alone has the Steam app, and the slug or the title.

    Not where a human gave the app to this game: then the other one is another game, and its owners keep it.
    """
    new = STAGED_GAMES.c.foundId.is_(None)
    alone = (
        select(GAME.c.steamAppId, func.min(GAME.c.id).label("id"))
        .where(GAME.c.steamAppId.in_(select(STAGED_GAMES.c.steamAppId).where(new)))
        .group_by(GAME.c.steamAppId)
        .having(func.count() == 1)
        .subquery()
    )
    is_same = or_(GAME.c.slug == STAGED_GAMES.c.slug, func.lower(GAME.c.title) == func.lower(STAGED_GAMES.c.title))
    is_other_staged = GAME.c.igdbId.in_(select(STAGED_GAMES.alias().c.igdbId))
    return (
        update(STAGED_GAMES)
        .values(foundId=GAME.c.id)
        .where(
            new,
            alone.c.steamAppId == STAGED_GAMES.c.steamAppId,
            GAME.c.id == alone.c.id,
            is_same,
            ~is_other_staged,
            STAGED_GAMES.c.igdbId.not_in(_overridden()),
        )
    )


def _note_moved_apps() -> Insert:
    """Where an override gives an app to one game, and another one has its id."""
    rows = (
        select(STAGED_IMPORTED_GAMES.c.storefrontGameId, func.min(STAGED_IMPORTED_GAMES.c.igdbId), GAME.c.id)
        .join_from(STAGED_IMPORTED_GAMES, GAME, GAME.c.steamAppId == APPID)
        .where(
            STAGED_IMPORTED_GAMES.c.isMatchOverride,
            STAGED_IMPORTED_GAMES.c.igdbId.is_not(None),
            STAGED_IMPORTED_GAMES.c.igdbId != GAME.c.igdbId,
        )
        .group_by(STAGED_IMPORTED_GAMES.c.storefrontGameId, GAME.c.id)
    )
    return insert(MOVED_APPS).from_select(list(MOVED_APPS.c.keys()), rows)


def _games_of_moved_apps() -> list[Select[str]]:
    taking = select(GAME.c.id).where(GAME.c.igdbId.in_(select(MOVED_APPS.c.igdbId)))
    return [select(MOVED_APPS.c.gameId), taking]


def _take_off() -> Update:
    return update(GAME).values(steamAppId=null(), updatedAt=NOW).where(GAME.c.id == MOVED_APPS.c.gameId)


def _give() -> Update:
    """The lowest of the appids that moved to a game becomes its own, whichever it had."""
    lowest = (
        select(MOVED_APPS.c.igdbId, func.min(cast(MOVED_APPS.c.storefrontGameId, Integer)).label("appid"))
        .group_by(MOVED_APPS.c.igdbId)
        .subquery()
    )
    return update(STAGED_GAMES).values(steamAppId=lowest.c.appid).where(STAGED_GAMES.c.igdbId == lowest.c.igdbId)


def _leave() -> Update:
    """An appid that another Game has stays there."""
    return (
        update(STAGED_GAMES)
        .values(steamAppId=null())
        .where(GAME.c.steamAppId == STAGED_GAMES.c.steamAppId, GAME.c.id.is_distinct_from(STAGED_GAMES.c.foundId))
    )
