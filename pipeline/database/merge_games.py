"""The statements of a load that write what IGDB knows: genres, platforms, games and their links.

Their number does not depend on the number of rows, and none writes a row that would stay the same. A slug or name is
IGDB's: a row outside the file that still holds it is out of date and gives way, until a load brings its own.

The statements of a load that write games: which row is which game, and which one has a Steam app's id.

Whether a load has anything to say about genres, platforms and games; if so, no other one that has says it now.

Loads that write the same games at once meet in every order: the rows that give a slug up are not known before others
have committed theirs. So whoever has news takes one lock, until the commit, and looks again. Most loads have none, as
the first of them brought what IGDB knows, and run side by side.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Delete,
    FromClause,
    Insert,
    Integer,
    Select,
    Table,
    Text,
    Update,
    case,
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

from pipeline.database.staging_tables import (
    MOVED_APPS,
    STAGED_GAME_GENRES,
    STAGED_GAME_PLATFORMS,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_IMPORTED_GAMES,
    STAGED_PLATFORMS,
)
from schemas.savepoint import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, PLATFORM
from schemas.staging import FALLBACKS

NOW = func.timezone("UTC", func.now())
"""The transaction's start: SavePoint's times are UTC, whatever the session's time zone is."""

NOT_COUNTED = ""
"""The name under which a step is counted whose rows concern nobody."""

Values = Mapping[str, ColumnElement[Any]]


class Step(NamedTuple):
    """A statement, and the name under which the rows it writes are counted."""

    counted_as: str
    statement: Insert | Update | Delete | Select[Any]


def merge_entries(id_prefix: str) -> Iterator[Step]:
    """Genres and platforms."""
    for target, staged, rows in ((GENRE, STAGED_GENRES, "genres"), (PLATFORM, STAGED_PLATFORMS, "platforms")):
        yield find(target, staged)
        yield lock(target, to_be_written(target, staged))
        yield from write(target, staged, rows, id_prefix)


def merge_links() -> Iterator[Step]:
    """The links of a game are IGDB's, where the file has any for it."""
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


def as_enum(value: str | ColumnElement[Any], column: ColumnElement[Any]) -> ColumnElement[Any]:
    """PostgreSQL compares and writes its enums only with a cast."""
    return cast(value, column.type)


def is_enum(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Whether the column holds that value of its enum."""
    return column == as_enum(value, column)


def differs(target: FromClause, values: Values) -> ColumnElement[bool]:
    """Whether writing the values would change the row at all."""
    return or_(*(target.c[name].is_distinct_from(value) for name, value in values.items()))


def find(target: Table, staged: Table) -> Step:
    """Note which rows are there."""
    return Step(NOT_COUNTED, update(staged).values(foundId=target.c.id).where(target.c.igdbId == staged.c.igdbId))


def to_be_written(target: Table, staged: Table) -> list[Select[Any]]:
    """The ids of the rows that are there and that `write` changes."""
    found = target.c.id == staged.c.foundId
    changed = select(target.c.id).join_from(target, staged, found).where(differs(target, _values(target, staged)))
    yielding = (
        select(target.c.id).join_from(target, staged, _holds_anothers(target, staged, key)) for key in _keys(staged)
    )
    return [changed, *yielding]


def lock(target: Table, ids: list[Select[Any]]) -> Step:
    """Lock rows in the order of their ids, so that loads which share some wait for each other and never in a circle."""
    locked = (
        select(target.c.id)
        .where(target.c.id.in_(union_all(*ids)))
        .order_by(target.c.id)
        .with_for_update(key_share=True)
        .subquery()
    )
    return Step(NOT_COUNTED, select(func.count()).select_from(locked))


def write(target: Table, staged: Table, rows: str, id_prefix: str) -> Iterator[Step]:
    """Update what was found, insert the rest, once the slugs and names are free that pass from row to row."""
    for key in _keys(staged):
        yield Step(f"{rows}_with_taken_{key}", _resolve_key_conflict(target, staged, key))
        yield Step(NOT_COUNTED, _free_key(target, staged, key))
    yield Step(f"{rows}_updated", _update(target, staged))
    yield Step(f"{rows}_created", _insert(target, staged, id_prefix))


def _keys(staged: Table) -> list[str]:
    return [key for key in FALLBACKS if key in staged.c]


def _holds_anothers(target: Table, staged: Table, key: str) -> ColumnElement[bool]:
    return (target.c[key] == staged.c[key]) & target.c.id.is_distinct_from(staged.c.foundId)


def _resolve_key_conflict(target: Table, staged: Table, key: str) -> Update:
    """A row that this load does not rewrite takes its fallback; if even that is another's, with its own id behind."""
    rewritten, wanted, other = staged.alias("rewritten"), staged.alias("wanted"), target.alias("other")
    before, after = FALLBACKS[key]
    fallback = target.c[key] + before + cast(target.c.igdbId, Text) + after
    is_taken = or_(exists().where(other.c[key] == fallback), exists().where(wanted.c[key] == fallback))
    return (
        update(target)
        .values({key: case((is_taken, fallback + "-" + target.c.id), else_=fallback), "updatedAt": NOW})
        .where(_holds_anothers(target, staged, key), ~exists().where(rewritten.c.foundId == target.c.id))
    )


def _free_key(target: Table, staged: Table, key: str) -> Update:
    """Free the keys that pass from one row of this load to another, so that two rows can swap theirs."""
    return update(target).values({key: literal("~") + target.c.id}).where(_holds_anothers(target, staged, key))


def _shared(target: Table, staged: Table) -> list[str]:
    return [own.name for own in target.c if own.name in staged.c]


def _values(target: Table, staged: Table) -> Values:
    """IGDB's word, but what it does not say erases nothing, and a Game keeps its appid unless one moves to it."""
    values: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(staged.c[name], target.c[name]) for name in _shared(target, staged)
    }
    if target is GAME:
        is_moved = staged.c.igdbId.in_(select(MOVED_APPS.c.igdbId))
        kept = func.coalesce(GAME.c.steamAppId, staged.c.steamAppId)
        values["steamAppId"] = case((is_moved, staged.c.steamAppId), else_=kept)
    return values


def _update(target: Table, staged: Table) -> Update:
    values = _values(target, staged)
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


def wanted_links(staged: Table, other: Table, other_id: str) -> Select[Any]:
    """The links that IGDB lists, by the ids of the rows that are there."""
    return (
        select(GAME.c.id.label("gameId"), other.c.id.label(other_id))
        .join_from(staged, GAME, GAME.c.igdbId == staged.c.gameIgdbId)
        .join(other, other.c.igdbId == staged.c.igdbId)
    )


def is_listed(links: Table, staged: Table, other: Table, other_id: str) -> ColumnElement[bool]:
    """Whether IGDB lists a link."""
    listed = wanted_links(staged, other, other_id).subquery()
    return exists().where(listed.c.gameId == links.c.gameId, listed.c[other_id] == links.c[other_id])


def _link(links: Table, staged: Table, other: Table, other_id: str, rows: str) -> Iterator[Step]:
    wanted = wanted_links(staged, other, other_id)
    is_ours = links.c.gameId.in_(select(wanted.subquery("linked").c.gameId))
    removed = delete(links).where(is_ours, ~is_listed(links, staged, other, other_id))
    yield Step(f"{rows}_removed", removed)
    ordered = wanted.order_by(GAME.c.igdbId, other.c.igdbId)
    yield Step(f"{rows}_created", insert(links).from_select(["gameId", other_id], ordered).on_conflict_do_nothing())


APPID = cast(STAGED_IMPORTED_GAMES.c.storefrontGameId, Integer)


def merge_games(id_prefix: str) -> Iterator[Step]:
    """Find, adopt, update and insert games."""
    yield find(GAME, STAGED_GAMES)
    yield Step("games_adopted", _relink_by_steam_id())
    yield Step(NOT_COUNTED, _note_moved_apps())
    yield lock(GAME, [*to_be_written(GAME, STAGED_GAMES), *_games_of_moved_apps()])
    yield Step("steam_app_ids_moved", _take_off())
    yield Step(NOT_COUNTED, _give())
    yield Step("steam_app_id_conflicts", _leave())
    yield from write(GAME, STAGED_GAMES, "games", id_prefix)


def _overridden() -> Select[int]:
    is_moved = STAGED_IMPORTED_GAMES.c.isMatchOverride & STAGED_IMPORTED_GAMES.c.igdbId.is_not(None)
    return select(STAGED_IMPORTED_GAMES.c.igdbId).where(is_moved)


def _relink_by_steam_id() -> Update:
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


LOCK = (2, 0)
"""The lock of whoever has news; lock_users takes those of class 1."""

ENTRIES = ((GENRE, STAGED_GENRES), (PLATFORM, STAGED_PLATFORMS), (GAME, STAGED_GAMES))

LINKS = (
    (GAME_GENRE, STAGED_GAME_GENRES, GENRE, "genreId"),
    (GAME_PLATFORM, STAGED_GAME_PLATFORMS, PLATFORM, "platformId"),
)


def find_all() -> list[Step]:
    """Note which genres, platforms and games are there."""
    return [find(target, staged) for target, staged in ENTRIES]


def has_pending_changes() -> Select[tuple[bool]]:
    """Whether there is a row to make, to change or to link, or an override, which may take an appid off a game."""
    overrides = exists(STAGED_IMPORTED_GAMES.c.number).where(STAGED_IMPORTED_GAMES.c.isMatchOverride)
    entries = [_entry_news(target, staged) for target, staged in ENTRIES]
    links = [_link_news(*link) for link in LINKS]
    return select(or_(overrides, *entries, *links).label("has_news"))


def lock_pending_changes() -> Select[tuple[None]]:
    """Wait for the others that have news, until the transaction ends."""
    return select(func.pg_advisory_xact_lock(*(literal(number, literal_execute=True) for number in LOCK)))


def _entry_news(target: Table, staged: Table) -> ColumnElement[bool]:
    is_new = exists(staged.c.igdbId).where(staged.c.foundId.is_(None))
    return or_(is_new, *map(_any, to_be_written(target, staged)))


def _link_news(links: Table, staged: Table, other: Table, other_id: str) -> ColumnElement[bool]:
    wanted = wanted_links(staged, other, other_id).subquery()
    is_there = exists().where(links.c.gameId == wanted.c.gameId, links.c[other_id] == wanted.c[other_id])
    is_ours = links.c.gameId.in_(select(wanted_links(staged, other, other_id).subquery("linked").c.gameId))
    left = select(links.c.gameId).where(is_ours, ~is_listed(links, staged, other, other_id))
    return or_(_any(select(wanted.c.gameId).where(~is_there)), _any(left))


def _any(rows: Select[str]) -> ColumnElement[bool]:
    """Counted to the end: an EXISTS is planned for its first row, and mostly there is none."""
    return select(func.count()).select_from(rows.subquery()).scalar_subquery() > 0
