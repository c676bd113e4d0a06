"""The SQL statements that write IGDB's data into SavePoint's tables: genres, platforms, games, and their links.

The number of statements does not depend on the number of rows, and none writes a row that would stay the same.
docs/loading.md has the rules. A genre, platform or game is found by its IGDB id. All statements are the same in every
load, and cached, so that a process makes and compiles each once.

Loads that change the same games at once meet in every order, because the rows that lose a slug are not known before the
other load has committed. So a load that changes anything here takes a lock until its commit, and looks again. A load
that is to change rows which are there runs alone. One that only adds games, at most MOST_STEAM_APP_LOCKS of them, runs
beside others that only add games, unless they add games of the same Steam apps. Most loads change nothing here, as an
earlier one brought what IGDB knows, and take no lock.

Rows of games are found by scalar subqueries and arrays of ids, which PostgreSQL answers from an index for each staged
row; a join might read all games instead. Only `steamAppId` has no index: NOTED_GAMES holds what one scan found.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Delete,
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
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from pipeline.database.staging_tables import (
    LOCKED,
    MOVED_APPS,
    NOT_COUNTED,
    NOTED_GAMES,
    NOW,
    STAGED_GAME_GENRES,
    STAGED_GAME_PLATFORMS,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_IMPORTED_GAMES,
    STAGED_PLATFORMS,
    CountedStatement,
    Values,
    differs,
    is_any_of,
    new_id,
    one_by_one,
    row_of_staged_game,
)
from schemas.savepoint import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, PLATFORM
from schemas.staging import FALLBACKS


class Merge(NamedTuple):
    """A pair of tables: genres, platforms or games in SavePoint's database (`target`), and the staged rows to merge.

    `counted_as` begins the names under which the written rows are counted, such as `games` for `games_created`.
    """

    target: Table
    staged: Table
    counted_as: str


class Links(NamedTuple):
    """A pair of tables: SavePoint's links of games to genres or platforms (`links`), and the staged links to merge.

    `other` is the table of the genres or platforms, `other_id` the column of `links` that refers to it, and
    `counted_as` begins the names under which the written links are counted.
    """

    links: Table
    staged: Table
    other: Table
    other_id: str
    counted_as: str


GENRES = Merge(GENRE, STAGED_GENRES, "genres")
PLATFORMS = Merge(PLATFORM, STAGED_PLATFORMS, "platforms")
GAMES = Merge(GAME, STAGED_GAMES, "games")
MERGES = (GENRES, PLATFORMS, GAMES)
GENRE_LINKS = Links(GAME_GENRE, STAGED_GAME_GENRES, GENRE, "genreId", "game_genres")
PLATFORM_LINKS = Links(GAME_PLATFORM, STAGED_GAME_PLATFORMS, PLATFORM, "platformId", "game_platforms")

LOCK_KEY = (2, 0)
"""The class and number of PostgreSQL's advisory lock for loads that change games, genres or platforms.

A load that changes rows takes it exclusively, one that only adds games shares it. Class 1 is the users' locks, of
`user_lock_query`.
"""

STEAM_APP_LOCKS = 3
"""The class of the advisory locks for the Steam apps of new games; an appid is the number of its lock."""

MOST_STEAM_APP_LOCKS = 100
"""The number of new games above which a load runs alone.

A load takes a lock for each, and PostgreSQL has room for 6,400 locks of all sessions unless it is set up otherwise. So
the 20 loads that the template lets run at once leave two thirds of them to others.
"""


@cache
def existing_row_statements() -> list[CountedStatement]:
    """Return the SQL UPDATEs that set `foundId` of staged genres, platforms and games to the id of SavePoint's row."""
    return [_find(merge) for merge in MERGES]


@cache
def pending_changes_query() -> Select[bool, bool, int]:
    """Return the SQL query for one row about what the load would change.

    `has_entries` is true if it changes or adds a genre or platform, `has_changed_games` if it changes a game that is
    there, or its links; `new_games` is the number of games that it adds.
    """
    entries = [change for merge in (GENRES, PLATFORMS) for change in (_count_new(merge) > 0, _has_changed_rows(merge))]
    links = [_has_changed_links(links) for links in (GENRE_LINKS, PLATFORM_LINKS)]
    return select(
        or_(*entries).label("has_entries"),
        or_(_has_changed_rows(GAMES), *links).label("has_changed_games"),
        _count_new(GAMES).label("new_games"),
    )


@cache
def pending_changes_lock_query(*, runs_alone: bool) -> Select[Any] | CompoundSelect[Any]:
    """Return the SQL query that waits for, and takes, the locks of a load that has to change or add games.

    If it runs alone, that is LOCK_KEY, exclusively. Otherwise it shares LOCK_KEY, and takes the lock of the Steam app
    of each game that it did not find. It looks for the games again afterwards.
    """
    number = [literal(part, literal_execute=True) for part in LOCK_KEY]
    if runs_alone:
        return select(func.pg_advisory_xact_lock(*number))
    is_new = STAGED_GAMES.c.foundId.is_(None) & STAGED_GAMES.c.steamAppId.is_not(None)
    # In ascending order, so that two loads never wait for each other in a circle.
    apps = select(STAGED_GAMES.c.steamAppId).distinct().where(is_new).order_by(STAGED_GAMES.c.steamAppId).subquery()
    app_lock = func.pg_advisory_xact_lock(literal(STEAM_APP_LOCKS, literal_execute=True), apps.c.steamAppId)
    return union_all(select(func.pg_advisory_xact_lock_shared(*number)), select(app_lock))


@cache
def genre_and_platform_statements() -> list[CountedStatement]:
    """Return the SQL statements, in the order to run them, that update and insert genres and platforms."""
    return [
        statement
        for merge in (GENRES, PLATFORMS)
        for statement in (_find(merge), _lock(merge.target, _select_changed_ids(merge)), *_write(merge))
    ]


@cache
def found_game_statement() -> CountedStatement:
    """Return the SQL UPDATE that finds the staged games again; to be run under the lock."""
    return _find(GAMES)


@cache
def noted_games_statement() -> Insert:
    """Return the SQL INSERT that fills NOTED_GAMES; to be run under the lock, after the games were found again.

    It notes the games that have an appid which this load may give to a game: a new one, or one that has none. An
    override moves appids, and the game that loses one takes another of its own: then any staged appid may be given.
    """
    own = select(GAME.c.steamAppId).where(GAME.c.id == STAGED_GAMES.c.foundId).scalar_subquery()
    overridden = STAGED_IMPORTED_GAMES.c.isMatchOverride & STAGED_IMPORTED_GAMES.c.igdbId.is_not(None)
    has_overrides = exists().where(overridden)
    given = union_all(
        select(STAGED_GAMES.c.steamAppId).where(or_(own.is_(None), has_overrides)),
        select(cast(STAGED_IMPORTED_GAMES.c.storefrontGameId, Integer)).where(overridden),
    )
    names = list(NOTED_GAMES.c.keys())
    rows = select(*(GAME.c[name] for name in names)).where(GAME.c.steamAppId.in_(given))
    return insert(NOTED_GAMES).from_select(names, rows)


@cache
def game_statements(*, has_noted: bool, has_overrides: bool) -> list[CountedStatement]:
    """Return the SQL statements that update and insert games and set their `steamAppId`, in the order to run them.

    Without rows in NOTED_GAMES no game is adopted and no appid taken, and without overrides no appid moves.
    """
    moves = has_noted and has_overrides
    loses_appid = select(MOVED_APPS.c.gameId)
    gets_appid = select(GAME.c.id).where(is_any_of(GAME.c.igdbId, select(MOVED_APPS.c.igdbId)))
    return [
        CountedStatement("games_adopted", _relink_by_steam_id(), is_needed=has_noted),
        CountedStatement(NOT_COUNTED, _note_moved_apps(), is_needed=moves),
        _lock(GAME, [*_select_changed_ids(GAMES), loses_appid, gets_appid]),
        CountedStatement("steam_app_ids_moved", _clear_moved_steam_app_ids(), is_needed=moves),
        CountedStatement(NOT_COUNTED, _stage_moved_steam_app_ids(), is_needed=moves),
        CountedStatement("steam_app_id_conflicts", _drop_taken_steam_app_ids(), is_needed=has_noted),
        *_write(GAMES),
    ]


@cache
def link_statements() -> list[CountedStatement]:
    """Return the SQL statements that delete and insert the links of games to genres and platforms, as IGDB lists them.

    A game without any staged genre keeps its genres, and one without any staged platform its platforms.
    """
    return [
        statement
        for links in (GENRE_LINKS, PLATFORM_LINKS)
        for statement in (
            CountedStatement(f"{links.counted_as}_removed", _delete_unlisted_links(links)),
            CountedStatement(f"{links.counted_as}_created", _insert_links(links)),
        )
    ]


@cache
def unwritten_rows_query() -> Select[Any]:
    """Return the SQL query for the number of staged genres, platforms and games without a row after the merge.

    Above 0, another writer has just committed a row with the same slug or name, and the insert skipped the conflict.
    """
    unwritten = union_all(
        *(select(staged.c.igdbId).where(_found_id(target, staged).is_(None)) for target, staged, _ in MERGES)
    ).subquery()
    return select(func.count().label("rows")).select_from(unwritten)


@cache
def dropped_rows_query() -> Select[str]:
    """Return the SQL query for the names of tables that lack a staged row although no other row is in its way.

    A row that was there when the load looked for it does not count: another writer has changed or deleted it since.
    """
    merges = (
        select(literal(target.name).label("table_name"))
        .select_from(staged)
        .where(
            staged.c.foundId.is_(None),
            ~exists().where(target.c.igdbId == staged.c.igdbId),
            *(~exists().where(target.c[key] == staged.c[key]) for key in _unique_keys(staged)),
        )
        for target, staged, _ in MERGES
    )
    links = (
        select(literal(links.links.name).label("table_name")).where(_has_changed_links(links))
        for links in (GENRE_LINKS, PLATFORM_LINKS)
    )
    dropped = union_all(*merges, *links).subquery()
    return select(cast(dropped.c.table_name, Text).label("table_name")).distinct()


# Genres, platforms and games: find, lock, free the slugs and names that pass from row to row, update, insert.


def _find(merge: Merge) -> CountedStatement:
    target, staged, _ = merge
    return CountedStatement(NOT_COUNTED, update(staged).values(foundId=_found_id(target, staged)))


def _found_id(target: Table, staged: Table) -> ColumnElement[Any]:
    return select(target.c.id).where(target.c.igdbId == staged.c.igdbId).correlate(staged).scalar_subquery()


def _lock(target: Table, ids: list[Select[Any]]) -> CountedStatement:
    """Lock rows in the order of their ids, so that loads that share some wait for each other, never in a circle."""
    locked = (
        select(target.c.id)
        .where(is_any_of(target.c.id, union_all(*ids)))
        .order_by(target.c.id)
        .with_for_update(key_share=True)
        .subquery()
    )
    return CountedStatement(LOCKED, select(func.count()).select_from(locked))


def _select_changed_ids(merge: Merge) -> list[Select[Any]]:
    """Select the ids of the rows that the database has and `_write` changes."""
    target, staged, _ = merge
    is_changed = select(differs(target, _values(merge))).where(target.c.id == staged.c.foundId).scalar_subquery()
    changed = select(staged.c.foundId).where(is_changed)
    return [changed, *(_select_holders_of_key(merge, key) for key in _unique_keys(staged))]


def _write(merge: Merge) -> Iterator[CountedStatement]:
    for key in _unique_keys(merge.staged):
        taken = f"{merge.counted_as}_with_taken_{key}"
        yield CountedStatement(taken, _resolve_key_conflict(merge, key), needs_locked=True)
        yield CountedStatement(NOT_COUNTED, _free_key(merge, key), needs_locked=True)
    yield CountedStatement(f"{merge.counted_as}_updated", _update(merge), needs_locked=True)
    yield CountedStatement(f"{merge.counted_as}_created", _insert(merge))


def _unique_keys(staged: Table) -> list[str]:
    return [key for key in FALLBACKS if key in staged.c]


def _select_holders_of_key(merge: Merge, key: str) -> Select[Any]:
    """Select the ids of the rows that hold the slug or name that the file gives to another one."""
    target, staged, _ = merge
    is_held = (target.c[key] == staged.c[key]) & target.c.id.is_distinct_from(staged.c.foundId)
    holders = select(target.c.id).where(is_held).correlate(staged).scalar_subquery()
    return select(func.unnest(func.array(holders), type_=Text()).label("id")).select_from(staged)


def _resolve_key_conflict(merge: Merge, key: str) -> Update:
    """Give a row that is not in the file its fallback, or if that is taken too, the fallback with the row's id."""
    target, staged, _ = merge
    rewritten, wanted, other = staged.alias("rewritten"), staged.alias("wanted"), target.alias("other")
    before, after = FALLBACKS[key]
    fallback = target.c[key] + before + cast(target.c.igdbId, Text) + after
    is_taken = or_(exists().where(other.c[key] == fallback), exists().where(wanted.c[key] == fallback))
    return (
        update(target)
        .values({key: case((is_taken, fallback + "-" + target.c.id), else_=fallback), "updatedAt": NOW})
        .where(
            is_any_of(target.c.id, _select_holders_of_key(merge, key)),
            ~exists().where(rewritten.c.foundId == target.c.id),
        )
    )


def _free_key(merge: Merge, key: str) -> Update:
    """Put an interim value into rows of the file whose key passes to another one, so that two rows can swap theirs."""
    target = merge.target
    return (
        update(target)
        .values({key: literal("~") + target.c.id})
        .where(is_any_of(target.c.id, _select_holders_of_key(merge, key)))
    )


def _shared_columns(merge: Merge) -> list[str]:
    return [own.name for own in merge.target.c if own.name in merge.staged.c]


def _values(merge: Merge) -> Values:
    """Return the new values of a row: IGDB's, but null erases nothing, and a Game keeps its appid unless one moves."""
    target, staged, _ = merge
    values: dict[str, ColumnElement[Any]] = {
        name: func.coalesce(staged.c[name], target.c[name]) for name in _shared_columns(merge)
    }
    if target is GAME:
        is_moved = staged.c.igdbId.in_(select(MOVED_APPS.c.igdbId))
        kept = func.coalesce(GAME.c.steamAppId, staged.c.steamAppId)
        values["steamAppId"] = case((is_moved, staged.c.steamAppId), else_=kept)
    return values


def _update(merge: Merge) -> Update:
    target, staged, _ = merge
    values = _values(merge)
    return (
        update(target)
        .values({**values, "updatedAt": NOW})
        .where(
            is_any_of(target.c.id, select(staged.c.foundId)),
            target.c.id == staged.c.foundId,
            differs(target, values),
        )
    )


def _insert(merge: Merge) -> Insert:
    """Insert in the order of the IGDB ids, so that loads that share games wait for each other, never in a circle."""
    target, staged, _ = merge
    names = _shared_columns(merge)
    rows = (
        select(new_id(staged), *(staged.c[name] for name in names), NOW, NOW)
        .where(staged.c.foundId.is_(None))
        .order_by(staged.c.number)
    )
    return insert(target).from_select(["id", *names, "createdAt", "updatedAt"], rows).on_conflict_do_nothing()


# Which game has which Steam app's id.


def _relink_by_steam_id() -> Update:
    """Take a Game of another IGDB id for a new game, if it alone has the Steam app, and the same slug or title.

    IGDB has then made the entry again under another id. Not where an override gave the app to the new game: then the
    other one is another game, and its owners keep it.
    """
    noted = NOTED_GAMES.c
    alone = select(noted.steamAppId).group_by(noted.steamAppId).having(func.count() == 1)
    is_same = or_(noted.slug == STAGED_GAMES.c.slug, func.lower(noted.title) == func.lower(STAGED_GAMES.c.title))
    is_in_file = noted.igdbId.in_(select(STAGED_GAMES.alias().c.igdbId))
    overridden = select(STAGED_IMPORTED_GAMES.c.igdbId).where(
        STAGED_IMPORTED_GAMES.c.isMatchOverride, STAGED_IMPORTED_GAMES.c.igdbId.is_not(None)
    )
    return (
        update(STAGED_GAMES)
        .values(foundId=noted.id)
        .where(
            STAGED_GAMES.c.foundId.is_(None),
            noted.steamAppId == STAGED_GAMES.c.steamAppId,
            noted.steamAppId.in_(alone),
            is_same,
            ~is_in_file,
            STAGED_GAMES.c.igdbId.not_in(overridden),
        )
    )


def _note_moved_apps() -> Insert:
    """Note the apps that an override gives to one game while another Game has their id."""
    appid = cast(STAGED_IMPORTED_GAMES.c.storefrontGameId, Integer)
    rows = (
        select(STAGED_IMPORTED_GAMES.c.storefrontGameId, func.min(STAGED_IMPORTED_GAMES.c.igdbId), NOTED_GAMES.c.id)
        .join_from(STAGED_IMPORTED_GAMES, NOTED_GAMES, NOTED_GAMES.c.steamAppId == appid)
        .where(
            STAGED_IMPORTED_GAMES.c.isMatchOverride,
            STAGED_IMPORTED_GAMES.c.igdbId.is_not(None),
            STAGED_IMPORTED_GAMES.c.igdbId != NOTED_GAMES.c.igdbId,
        )
        .group_by(STAGED_IMPORTED_GAMES.c.storefrontGameId, NOTED_GAMES.c.id)
    )
    return insert(MOVED_APPS).from_select(list(MOVED_APPS.c.keys()), rows)


def _clear_moved_steam_app_ids() -> Update:
    is_moved = is_any_of(GAME.c.id, select(MOVED_APPS.c.gameId))
    return update(GAME).values(steamAppId=null(), updatedAt=NOW).where(is_moved)


def _stage_moved_steam_app_ids() -> Update:
    """Stage the lowest of the appids that move to a game, instead of any that it has."""
    lowest = (
        select(MOVED_APPS.c.igdbId, func.min(cast(MOVED_APPS.c.storefrontGameId, Integer)).label("appid"))
        .group_by(MOVED_APPS.c.igdbId)
        .subquery()
    )
    return update(STAGED_GAMES).values(steamAppId=lowest.c.appid).where(STAGED_GAMES.c.igdbId == lowest.c.igdbId)


def _drop_taken_steam_app_ids() -> Update:
    """Stage no appid that another Game has: it stays there."""
    noted = NOTED_GAMES.c
    return (
        update(STAGED_GAMES)
        .values(steamAppId=null())
        .where(
            noted.steamAppId == STAGED_GAMES.c.steamAppId,
            noted.id.is_distinct_from(STAGED_GAMES.c.foundId),
            noted.id.not_in(select(MOVED_APPS.c.gameId)),
        )
    )


# Links of games to genres and platforms.


def _select_listed_links(links: Links) -> Select[Any]:
    """Select the links that IGDB lists, by the ids of SavePoint's rows."""
    _, staged, other, other_id, _ = links
    game = row_of_staged_game()
    return select(game.c.id.label("gameId"), other.c.id.label(other_id)).select_from(
        STAGED_GAMES.join(game, true())
        .join(staged, staged.c.gameIgdbId == STAGED_GAMES.c.igdbId)
        .join(other, other.c.igdbId == staged.c.igdbId)
    )


def _select_unlisted_links(links: Links) -> Select[Any]:
    """Select the links that IGDB no longer lists, of games for which the file has any link."""
    own, staged, other, other_id, _ = links
    game = row_of_staged_game()
    link = one_by_one(select(own.c.gameId, own.c[other_id]).where(own.c.gameId == game.c.id))
    listed = staged.alias("listed")
    is_listed = exists().where(listed.c.gameIgdbId == STAGED_GAMES.c.igdbId, listed.c.igdbId == other.c.igdbId)
    return (
        select(link.c.gameId, link.c[other_id])
        .select_from(STAGED_GAMES.join(game, true()).join(link, true()).join(other, other.c.id == link.c[other_id]))
        .where(STAGED_GAMES.c.igdbId.in_(select(staged.c.gameIgdbId)), ~is_listed)
    )


def _delete_unlisted_links(links: Links) -> Delete:
    own, unlisted = links.links, _select_unlisted_links(links)
    return delete(own).where(
        is_any_of(own.c.gameId, select(unlisted.subquery().c.gameId)),
        tuple_(own.c.gameId, own.c[links.other_id]).in_(unlisted.correlate(None)),
    )


def _insert_links(links: Links) -> Insert:
    ordered = _select_listed_links(links).order_by(STAGED_GAMES.c.igdbId, links.other.c.igdbId)
    return insert(links.links).from_select(["gameId", links.other_id], ordered).on_conflict_do_nothing()


# Whether there are pending changes.


def _count_new(merge: Merge) -> ColumnElement[int]:
    return select(func.count()).select_from(merge.staged).where(merge.staged.c.foundId.is_(None)).scalar_subquery()


def _has_changed_rows(merge: Merge) -> ColumnElement[bool]:
    """Return the condition that a row which is there changes, or holds a slug or name of a new one."""
    return or_(*map(_has_any, _select_changed_ids(merge)))


def _has_changed_links(links: Links) -> ColumnElement[bool]:
    own, listed = links.links, _select_listed_links(links).subquery()
    is_there = (own.c.gameId == listed.c.gameId) & (own.c[links.other_id] == listed.c[links.other_id])
    new = select(listed.c.gameId).where(select(own.c.gameId).where(is_there).scalar_subquery().is_(None))
    return or_(_has_any(new), _has_any(_select_unlisted_links(links)))


def _has_any(rows: Select[str]) -> ColumnElement[bool]:
    # Counted to the end: an EXISTS is planned for its first row, and mostly there is none.
    return select(func.count()).select_from(rows.subquery()).scalar_subquery() > 0
