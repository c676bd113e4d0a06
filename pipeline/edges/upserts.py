"""The statements of a load that write what IGDB knows: genres, platforms, games and their links.

Their number does not depend on the number of rows, and none writes a row that would stay the same.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Delete,
    Insert,
    Select,
    Table,
    Text,
    Update,
    cast,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from pipeline.edges.staging_tables import (
    STAGED_GAME_GENRES,
    STAGED_GAME_PLATFORMS,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_PLATFORMS,
)
from schemas.tables import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, PLATFORM

NOW = func.timezone("UTC", func.now())
"""The transaction's start: SavePoint's times are UTC, whatever the session's time zone is."""

NOT_COUNTED = ""
"""The name under which a step is counted whose rows concern nobody."""

Values = Mapping[str, ColumnElement[Any]]


class Step(NamedTuple):
    """A statement, and the name under which the rows it writes are counted."""

    counted_as: str
    statement: Insert | Update | Delete


def merge_games(id_prefix: str) -> Iterator[Step]:
    """Everything about games, genres and platforms, in an order that their references allow."""
    yield from _merge(GENRE, STAGED_GENRES, "genres", id_prefix)
    yield from _merge(PLATFORM, STAGED_PLATFORMS, "platforms", id_prefix)
    yield Step(NOT_COUNTED, _find(GAME, STAGED_GAMES))
    yield Step("games_adopted", _adopt())
    yield Step("steam_app_id_conflicts", _leave_steam_app_ids())
    yield from _write(GAME, STAGED_GAMES, "games", id_prefix)
    yield from _link(GAME_GENRE, STAGED_GAME_GENRES, GENRE, "genreId", "game_genres")
    yield from _link(GAME_PLATFORM, STAGED_GAME_PLATFORMS, PLATFORM, "platformId", "game_platforms")


def count_unwritten() -> Select[Any]:
    """How many staged rows are in no table: another load committed one with the same slug or name since we looked."""
    pairs = ((GENRE, STAGED_GENRES), (PLATFORM, STAGED_PLATFORMS), (GAME, STAGED_GAMES))
    unwritten = union_all(
        *(
            select(staged.c.igdbId).where(~exists().where(target.c.igdbId == staged.c.igdbId))
            for target, staged in pairs
        )
    ).subquery()
    return select(func.count().label("rows")).select_from(unwritten)


def new_id(staged: Table, id_prefix: str) -> ColumnElement[str]:
    """The prefix, which sorts by time and is this load's own, and the row's number in six hexadecimal digits."""
    width = literal(6, literal_execute=True)
    return literal(id_prefix) + func.lpad(func.to_hex(staged.c.number), width, "0")


def differs(target: Table, values: Values) -> ColumnElement[bool]:
    """Whether writing the values would change the row at all."""
    return or_(*(target.c[name].is_distinct_from(value) for name, value in values.items()))


def _merge(target: Table, staged: Table, rows: str, id_prefix: str) -> Iterator[Step]:
    yield Step(NOT_COUNTED, _find(target, staged))
    yield from _write(target, staged, rows, id_prefix)


def _write(target: Table, staged: Table, rows: str, id_prefix: str) -> Iterator[Step]:
    """Update what was found, insert the rest, once the keys that must be unique in the table are."""
    for key in ("name", "slug"):
        if key in staged.c:
            yield Step(f"{rows}_with_taken_{key}", _yield_to_earlier(staged, key))
            yield Step(f"{rows}_with_taken_{key}", _yield_to_others(target, staged, key))
            yield Step(NOT_COUNTED, _park(target, staged, key))
    yield Step(f"{rows}_updated", _update(target, staged))
    yield Step(f"{rows}_created", _insert(target, staged, id_prefix))


def _find(target: Table, staged: Table) -> Update:
    return update(staged).values(foundId=target.c.id).where(target.c.igdbId == staged.c.igdbId)


def _adopt() -> Update:
    """A Game of another IGDB id is this game if it alone has the Steam app, and the slug or the title."""
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
        .where(new, alone.c.steamAppId == STAGED_GAMES.c.steamAppId, GAME.c.id == alone.c.id, is_same, ~is_other_staged)
    )


def _leave_steam_app_ids() -> Update:
    """An appid that another Game has stays there."""
    return (
        update(STAGED_GAMES)
        .values(steamAppId=null())
        .where(GAME.c.steamAppId == STAGED_GAMES.c.steamAppId, GAME.c.id.is_distinct_from(STAGED_GAMES.c.foundId))
    )


def _made_unique(staged: Table, key: str) -> ColumnElement[str]:
    """IGDB's slugs hold no `-igdb-`, its names end in no id: what this makes is nobody's."""
    igdb_id = cast(staged.c.igdbId, Text)
    return staged.c[key] + "-igdb-" + igdb_id if key == "slug" else staged.c[key] + " (IGDB " + igdb_id + ")"


def _yield_to_earlier(staged: Table, key: str) -> Update:
    """Of several staged rows with one key, the lowest IGDB id keeps it."""
    earlier = staged.alias("earlier")
    return (
        update(staged)
        .values({key: _made_unique(staged, key)})
        .where(earlier.c[key] == staged.c[key], earlier.c.igdbId < staged.c.igdbId)
    )


def _yield_to_others(target: Table, staged: Table, key: str) -> Update:
    """A key that is held by a row which this load does not rewrite stays there."""
    rewritten = staged.alias("rewritten")
    return (
        update(staged)
        .values({key: _made_unique(staged, key)})
        .where(
            target.c[key] == staged.c[key],
            target.c.id.is_distinct_from(staged.c.foundId),
            ~exists().where(rewritten.c.foundId == target.c.id),
        )
    )


def _park(target: Table, staged: Table, key: str) -> Update:
    """Free the keys that pass from one row of this load to another, so that two rows can swap theirs."""
    return (
        update(target)
        .values({key: literal("~") + target.c.id})
        .where(target.c[key] == staged.c[key], target.c.id.is_distinct_from(staged.c.foundId))
    )


def _shared(target: Table, staged: Table) -> list[str]:
    return [own.name for own in target.c if own.name in staged.c]


def _update(target: Table, staged: Table) -> Update:
    """IGDB's word, except that what it does not say erases nothing, and that a Game's appid is kept."""
    values: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(staged.c[name], target.c[name]) for name in _shared(target, staged)
    }
    if target is GAME:
        values["steamAppId"] = func.coalesce(GAME.c.steamAppId, staged.c.steamAppId)
    return (
        update(target)
        .values({**values, "updatedAt": NOW})
        .where(target.c.id == staged.c.foundId, differs(target, values))
    )


def _insert(target: Table, staged: Table, id_prefix: str) -> Insert:
    """In the order of IGDB's ids, so that loads which share games wait for each other instead of locking each other."""
    names = _shared(target, staged)
    rows = (
        select(new_id(staged, id_prefix), *(staged.c[name] for name in names), NOW, NOW)
        .where(staged.c.foundId.is_(None))
        .order_by(staged.c.number)
    )
    return insert(target).from_select(["id", *names, "createdAt", "updatedAt"], rows).on_conflict_do_nothing()


def _link(links: Table, staged: Table, other: Table, other_id: str, rows: str) -> Iterator[Step]:
    """The links of a game are IGDB's, where the file has any for it."""
    wanted = (
        select(GAME.c.id.label("gameId"), other.c.id.label(other_id))
        .join_from(staged, GAME, GAME.c.igdbId == staged.c.gameIgdbId)
        .join(other, other.c.igdbId == staged.c.igdbId)
    )
    listed = wanted.subquery()
    is_listed = exists().where(listed.c.gameId == links.c.gameId, listed.c[other_id] == links.c[other_id])
    is_ours = links.c.gameId.in_(select(wanted.subquery("linked").c.gameId))
    yield Step(f"{rows}_removed", delete(links).where(is_ours, ~is_listed))
    ordered = wanted.order_by(GAME.c.igdbId, other.c.igdbId)
    yield Step(f"{rows}_created", insert(links).from_select(["gameId", other_id], ordered).on_conflict_do_nothing())
