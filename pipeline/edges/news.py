"""Whether a load has anything to say about genres, platforms and games; if so, no other one that has says it now.

Loads that write the same games at once meet in every order: the rows that give a slug up are not known before others
have committed theirs. So whoever has news takes one lock, until the commit, and looks again. Most loads have none, as
the first of them brought what IGDB knows, and run side by side.
"""

from sqlalchemy import ColumnElement, Select, Table, exists, func, literal, or_, select

from pipeline.edges.staging_tables import (
    STAGED_GAME_GENRES,
    STAGED_GAME_PLATFORMS,
    STAGED_GAMES,
    STAGED_GENRES,
    STAGED_IMPORTED_GAMES,
    STAGED_PLATFORMS,
)
from pipeline.edges.upserts import Step, find, is_listed, to_be_written, wanted_links
from schemas.tables import GAME, GAME_GENRE, GAME_PLATFORM, GENRE, PLATFORM

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


def has_news() -> Select[tuple[bool]]:
    """Whether there is a row to make, to change or to link, or an override, which may take an appid off a game."""
    overrides = exists(STAGED_IMPORTED_GAMES.c.number).where(STAGED_IMPORTED_GAMES.c.isMatchOverride)
    entries = [_entry_news(target, staged) for target, staged in ENTRIES]
    links = [_link_news(*link) for link in LINKS]
    return select(or_(overrides, *entries, *links).label("has_news"))


def lock_news() -> Select[tuple[None]]:
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
