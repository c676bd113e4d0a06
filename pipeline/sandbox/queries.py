"""How a query finds its rows in a world: which fields there are, which rows meet a condition, and in what order."""

import operator
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any

from pipeline.sandbox.apicalypse import Comparison, Path, Query
from pipeline.sandbox.wire import Row
from pipeline.sandbox.world import World

FIELDS = {
    "external_games": "id category countries created_at external_game_source game game_release_format media name "
    "platform uid updated_at url year checksum",
    "games": "id age_ratings alternative_names artworks bundles category collections cover created_at checksum dlcs "
    "expansions external_games first_release_date franchises game_engines game_modes game_status game_type genres "
    "involved_companies keywords name parent_game platforms player_perspectives ports rating release_dates remakes "
    "remasters screenshots similar_games slug standalone_expansions status storyline summary tags themes updated_at "
    "url version_parent version_title videos websites",
    "genres": "id created_at name slug updated_at url checksum",
    "platforms": "id abbreviation alternative_name category created_at generation name platform_logo platform_family "
    "platform_type slug summary updated_at url versions websites checksum",
    "covers": "id alpha_channel animated game height width image_id url checksum",
    "alternative_names": "id checksum comment game name",
}
"""The tables of IGDB that the sandbox has, and their fields (https://api-docs.igdb.com/#endpoints)."""

REFERENCES = {
    "external_games": {"game": "games", "platform": "platforms"},
    "games": {name: name for name in ("alternative_names", "genres", "platforms")}
    | {"cover": "covers", "parent_game": "games", "version_parent": "games"},
    "covers": {"game": "games"},
    "alternative_names": {"game": "games"},
}
"""The tables that fields refer to, as far as the sandbox has them."""

ORDERINGS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

STOP_WORDS = frozenset({"a", "an", "and", "at", "for", "in", "is", "it", "of", "on", "or", "the", "to", "with"})
"""Words that a search ignores: a title of nothing else never matches."""

Shape = dict[str, "Shape"]
"""The fields asked for, each with those of the row it refers to."""


def is_known(table: str, path: Path) -> bool:
    """Return whether the path names fields of IGDB; beyond the tables that the sandbox has, all fields are known."""
    further = REFERENCES.get(table, {}).get(path[0])
    is_field = path[0] in FIELDS[table].split()
    return is_field and (len(path) == 1 or further is None or is_known(further, path[1:]))


def page(world: World, table: str, query: Query) -> list[Row]:
    """Return the rows between `offset` and `limit`, each with its id and the fields asked for."""
    shape: Shape = {}
    for path in query.fields:
        branch = shape
        for name in path:
            branch = branch.setdefault(name, {})
    rows = islice(find_rows(world, table, query), query.offset, query.offset + query.limit)
    return [_selected(world, table, row, shape) for row in rows]


def find_rows(world: World, table: str, query: Query) -> Iterable[Row]:
    """Return the rows that meet the condition: ranked if searched for, else in the order asked for."""
    rows = _ranked(world, query.search) if query.search else _candidates(world, table, query)
    where = _merge_equalities(query.where)
    found = (row for row in rows if any(_meets(world, table, row, comparisons) for comparisons in where))
    if query.search or (query.sort == ("id",) and not query.is_descending):
        return found
    keyed = [(_values(world, table, row, query.sort), row) for row in found]
    with_value = sorted((pair for pair in keyed if pair[0]), key=lambda pair: pair[0], reverse=query.is_descending)
    return [row for _, row in with_value] + [row for key, row in keyed if not key]


def _candidates(world: World, table: str, query: Query) -> Iterator[Row]:
    """Yield the rows that can meet the condition, in the order of their ids: of the ids or uids it names, else all."""
    needed, rows = query.where[0] if len(query.where) == 1 else (), world.table(table)
    ids: Collection[int] = rows.keys()
    for comparison in needed:
        if comparison.operator == "=" and comparison.path == ("id",):
            ids = {number for number in comparison.values if isinstance(number, int)} & rows.keys()
        elif comparison.operator == "=" and comparison.path == ("uid",):
            ids = {row["id"] for value in comparison.values for row in world.rows_of_uid.get(str(value), ())}
    ordered = sorted(ids)
    first = max([bisect_left(ordered, limit) for limit in _limits(needed, {">", ">="})], default=0)
    end = min([bisect_right(ordered, limit) for limit in _limits(needed, {"<", "<="})], default=None)
    return (rows[number] for number in islice(ordered, first, end))


def _limits(comparisons: tuple[Comparison, ...], operators: set[str]) -> list[int]:
    """Return the numbers that a row's id is compared with by one of the operators, if each is compared with one."""
    found = [one.values for one in comparisons if one.path == ("id",) and one.operator in operators]
    return [value for values in found if len(values) == 1 for value in values if isinstance(value, int)]


def _merge_equalities(where: Iterable[tuple[Comparison, ...]]) -> list[tuple[Comparison, ...]]:
    """Return the alternatives with one for all values of a field: `name ~ "a" | name ~ "b"` is a list of names."""
    values: dict[tuple[Path, str], set[int | str]] = {}
    others = [alternative for alternative in where if len(alternative) != 1 or alternative[0].operator not in "=~"]
    for alternative in where:
        if alternative not in others:
            values.setdefault((alternative[0].path, alternative[0].operator), set()).update(alternative[0].values)
    return others + [(Comparison(path, sign, frozenset(equal)),) for (path, sign), equal in values.items()]


def _meets(world: World, table: str, row: Row, comparisons: tuple[Comparison, ...]) -> bool:
    return all(_holds(comparison, _values(world, table, row, comparison.path)) for comparison in comparisons)


def _holds(comparison: Comparison, found: list[Any]) -> bool:
    """Return whether a comparison holds of the values found: of any one of them, and an ordering of numbers only."""
    if comparison.operator == "~":
        return any(value.casefold() in comparison.values for value in found if isinstance(value, str))
    if comparison.operator not in ORDERINGS:
        return comparison.values.isdisjoint(found) is (comparison.operator == "!=")
    compare = ORDERINGS[comparison.operator]
    limits = [limit for limit in comparison.values if isinstance(limit, int)]
    return any(compare(value, limit) for value in found if isinstance(value, int) for limit in limits)


def _values(world: World, table: str, row: Row, path: Path) -> list[Any]:
    """Return the values at a path of a row, through references; none where a field is absent."""
    value = row.get(path[0])
    found = value if isinstance(value, list) else [] if value is None else [value]
    if len(path) == 1:
        return found
    referred = (_referred_row(world, table, path[0], one) for one in found)
    further = REFERENCES.get(table, {}).get(path[0], "")
    return [deep for one in referred if one for deep in _values(world, further, one, path[1:])]


def _referred_row(world: World, table: str, field: str, row_id: int) -> Row | None:
    """Return the row that a reference points to; None for one into a table or a row that is not here."""
    further = REFERENCES.get(table, {}).get(field)
    return world.table(further).get(row_id) if further else None


def _selected(world: World, table: str, row: Row, shape: Shape) -> Row:
    """Return a row with its id and the fields asked for; a field without a value is left out."""
    found = {"id": row["id"]}
    for name, further in shape.items():
        value = row.get(name)
        if value is not None and value != []:
            found[name] = _expanded(world, table, name, value, further) if further else value
    return found


def _expanded(world: World, table: str, field: str, value: Any, shape: Shape) -> Any:  # noqa: ANN401 - any JSON
    """Return the row that a reference points to, or each of a list; the bare id of one that is not here."""
    if isinstance(value, list):
        return [_expanded(world, table, field, one, shape) for one in value]
    row = _referred_row(world, table, field, value)
    return value if row is None else _selected(world, REFERENCES[table][field], row, shape)


def _ranked(world: World, text: str) -> list[Row]:
    """Return the games that have all words of the text in one of their names, the shortest names first.

    Stop words are ignored, so a text of nothing else finds nothing, and neither does one with a year in brackets.
    """
    wanted, sizes = _words(text), dict[int, int]()
    if not wanted or re.search(r"\(\d{4}\)\s*$", text):
        return []
    names = [(row["id"], row.get("name", "")) for row in world.games.values()]
    for game_id, name in names + [(row["game"], row["name"]) for row in world.alternative_names.values()]:
        words = _words(name)
        if wanted <= words:
            sizes[game_id] = min(len(words), sizes.get(game_id, len(words)))
    return [world.games[game_id] for game_id in sorted(sizes, key=lambda game_id: (sizes[game_id], game_id))]


@cache
def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", name.casefold())) - STOP_WORDS
