"""IGDB's query language, Apicalypse (https://api-docs.igdb.com/#apicalypse-1), as far as we ask."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

STEAM = 1
"""external_game_source of Steam. `category`, its forerunner, silently finds nothing."""

PAGE = 500
"""IGDB's highest `limit`."""

MAX_BYTES = 32_000
"""A larger request is refused with 413."""

GAME_FIELDS = (
    "id,name,slug,summary,first_release_date,cover.image_id,game_type,parent_game,version_parent,"
    "genres.name,genres.slug,genres.checksum,"
    "platforms.name,platforms.slug,platforms.abbreviation,platforms.alternative_name,platforms.generation,"
    "platforms.platform_family,platforms.platform_type,platforms.checksum"
)

SEARCH_FIELDS = "name,alternative_names.name,first_release_date,game_type,version_parent,platforms"

SEARCHED = 50
"""Games that a search asks for: IGDB's ranking is poor, so the right one may be far down."""

LONGEST_NAME = 200


class Query(NamedTuple):
    """A query that may have pages, or has one row for each id at most."""

    endpoint: str
    fields: str
    where: str
    has_pages: bool = False

    def text(self, page: int = 0) -> str:
        """The query of a page, in Apicalypse."""
        return f"fields {self.fields}; where {self.where}; sort id asc; limit {PAGE}; offset {page * PAGE};"


class Search(NamedTuple):
    """A search for games by name, which IGDB ranks: it can be neither sorted nor paged."""

    name: str
    endpoint: str = "games"

    def text(self) -> str:
        """The search, in Apicalypse."""
        return f"search {quoted(self.name)}; fields {SEARCH_FIELDS}; limit {SEARCHED};"


Asked = TypeVar("Asked", Query, Search)


def quoted(text: str) -> str:
    """A text as Apicalypse has it, cut to a name's length; a blank for each character that cannot be printed."""
    printed = "".join(character if character.isprintable() else " " for character in text[:LONGEST_NAME])
    escaped = printed.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def external_games_of(appids: Sequence[int]) -> Query:
    """What IGDB says of Steam apps; `uid` is text, so it is quoted."""
    uids = ",".join(f'"{appid}"' for appid in appids)
    return Query("external_games", "uid,game", f"external_game_source = {STEAM} & uid = ({uids})", has_pages=True)


def games_by_id(ids: Sequence[int]) -> Query:
    """Games with cover, genres and platforms expanded."""
    return Query("games", GAME_FIELDS, f"id = ({','.join(map(str, ids))})")


def all_external_games(since: int | None = None) -> Query:
    """What IGDB says of all Steam apps, or of those it changed since (Unix seconds)."""
    changed = "" if since is None else f" & updated_at > {since}"
    return Query("external_games", "uid,game", f"external_game_source = {STEAM}{changed}")


def changed_games(since: int) -> Query:
    """The ids of the games that IGDB changed since (Unix seconds)."""
    return Query("games", "id", f"updated_at > {since}")


def named(number: int, query: Query | Search) -> str:
    """A query as a part of a multiquery."""
    return f'query {query.endpoint} "{number}" {{ {query.text()} }};\n'


def grouped(queries: Sequence[Asked], most: int) -> list[list[Asked]]:
    """In their order, as many in a group as may be, within IGDB's size of a request."""
    groups: list[list[Asked]] = [[]]
    for query in queries:
        size = sum(len(named(0, each).encode()) for each in groups[-1]) + len(named(0, query).encode())
        if len(groups[-1]) == most or size > MAX_BYTES:
            groups.append([])
        groups[-1].append(query)
    return groups
