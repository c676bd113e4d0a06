"""The queries that IGDB is asked, in its language Apicalypse (https://api-docs.igdb.com/#apicalypse-1)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.apis import Genre, Platform

STEAM_SOURCE = 1
"""Steam's `external_game_source`. `category`, its forerunner, silently finds nothing."""

PAGE_SIZE = 500
"""The number of rows in a full page: IGDB's highest `limit`."""

APPS_PER_REQUEST = 400
"""The number of Steam appids in a query: below a page, as an appid may have several rows.

A full page would cost one request more.
"""

MAX_REQUEST_BYTES = 32_000
"""The largest request in bytes: IGDB refuses a larger one with 413."""

GAME_FIELDS = ",".join(
    (
        "id,name,slug,summary,first_release_date,cover.image_id,game_type,parent_game,version_parent",
        *(f"genres.{name}" for name in Genre.model_fields if name != "id"),
        *(f"platforms.{name}" for name in Platform.model_fields if name != "id"),
    )
)
"""The fields of a query for games; of genres and platforms, all that schemas/apis.py declares (ids come unasked)."""

SEARCH_FIELDS = "name,alternative_names.name,first_release_date,game_type,version_parent,platforms.abbreviation"
"""The fields of a query or a search for games by name."""

SEARCH_LIMIT = PAGE_SIZE
"""The number of games that a search returns: IGDB's ranking is poor, so the right one may be far down."""

MAX_NAME_LENGTH = 200
"""The number of a name's characters that a search uses."""


class Query(NamedTuple):
    """An IGDB query: the endpoint, its fields and a condition; `has_pages` if the rows may fill several pages."""

    endpoint: str
    fields: str
    where: str
    has_pages: bool = False

    def text(self, page: int = 0) -> str:
        """Return the text of the query for one page, counted from 0, in IGDB's language Apicalypse."""
        return f"fields {self.fields}; where {self.where}; sort id asc; limit {PAGE_SIZE}; offset {page * PAGE_SIZE};"

    def within(self, after: int, last: int | None) -> "Query":
        """Return this query for the rows with ids above `after`, up to `last` unless that is None."""
        up_to = "" if last is None else f" & id <= {last}"
        return self._replace(where=f"{self.where} & id > {after}{up_to}")


def external_games_query(appids: Sequence[int]) -> Query:
    """Return the Query for the `external_games` rows of some Steam apps, whose appid IGDB holds as text in `uid`."""
    uids = ",".join(f'"{appid}"' for appid in appids)
    where = f"external_game_source = {STEAM_SOURCE} & uid = ({uids})"
    return Query("external_games", "uid,game", where, has_pages=True)


def games_query(ids: Sequence[int]) -> Query:
    """Return the Query for the `games` rows of some IGDB ids, with cover, genres and platforms expanded."""
    return Query("games", GAME_FIELDS, f"id = ({','.join(map(str, ids))})")


def named_games_query(names: Sequence[str], *, by_other_names: bool = True) -> Query:
    """Return the Query for the `games` rows that have one of the names, but for case, also as an alternative name."""
    paths = ("name", "alternative_names.name") if by_other_names else ("name",)
    conditions = " | ".join(f"{path} ~ {quote(name)}" for name in names for path in paths)
    return Query("games", SEARCH_FIELDS, conditions, has_pages=True)


def search_text(name: str) -> str:
    """Return the text of a search for games by name, in IGDB's language Apicalypse.

    IGDB ranks what it finds, which can be neither sorted nor paged. In a multiquery a search finds nothing.
    """
    return f"search {quote(name)}; fields {SEARCH_FIELDS}; limit {SEARCH_LIMIT};"


def group_names(names: Iterable[str]) -> list[list[str]]:
    """Return the names in groups, in order, of which each makes a `named_games_query` of at most 32,000 bytes."""
    empty = len(named_games_query([]).text(page=99).encode())
    groups: list[list[str]] = []
    size = MAX_REQUEST_BYTES
    for name in names:
        own = len(named_games_query([name]).where.encode()) + len(" | ")
        if size + own > MAX_REQUEST_BYTES:
            groups.append([])
            size = empty
        groups[-1].append(name)
        size += own
    return groups


def all_external_games_query(since: int | None = None) -> Query:
    """Return the Query for the `external_games` rows of all Steam apps, or of those changed since a Unix time."""
    changed = "" if since is None else f" & updated_at > {since}"
    return Query("external_games", "uid,game", f"external_game_source = {STEAM_SOURCE}{changed}")


def changed_games_query(since: int) -> Query:
    """Return the Query for the ids of the games that IGDB changed since a Unix time."""
    return Query("games", "id", f"updated_at > {since}")


def quote(text: str) -> str:
    """Return a text as a quoted string of Apicalypse, cut to 200 characters, with blanks for unprintable ones."""
    printable = "".join(character if character.isprintable() else " " for character in text[:MAX_NAME_LENGTH])
    escaped = printable.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def multiquery_part(number: int, query: Query) -> str:
    """Return the text of a query as one part of an IGDB multiquery, named by its number."""
    return f'query {query.endpoint} "{number}" {{ {query.text()} }};\n'


def group_for_multiquery(queries: Sequence[Query], max_queries: int) -> list[list[Query]]:
    """Return the queries in groups, in order: at most `max_queries` and 32,000 bytes each, to fit one multiquery."""
    groups: list[list[Query]] = [[]]
    for query in queries:
        size = sum(len(multiquery_part(0, each).encode()) for each in groups[-1])
        size += len(multiquery_part(0, query).encode())
        if len(groups[-1]) == max_queries or size > MAX_REQUEST_BYTES:
            groups.append([])
        groups[-1].append(query)
    return groups
