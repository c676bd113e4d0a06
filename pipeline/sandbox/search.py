"""IGDB's `search`: games ranked by how much of a name they share. Its real ranking is poor, and so is this one."""

import re

from pipeline.sandbox.tables import Table
from pipeline.sandbox.wire import Row
from pipeline.sandbox.world import World

FEW = 2_000
"""So many names are looked at; a word that is in more of them does not find them alone, unless it is the rarest."""


def ranked(world: World, text: str) -> list[Row]:
    """Games that share a word with the text in their name or an alternative name, the most alike first."""
    wanted = words(text)
    likeness = _likeness(world.table("games"), "id", wanted)
    for game_id, alike in _likeness(world.table("alternative_names"), "game", wanted).items():
        likeness[game_id] = max(alike, likeness.get(game_id, 0.0))
    known = (game_id for game_id in likeness if game_id in world.games)
    return [world.games[game_id] for game_id in sorted(known, key=lambda game_id: (-likeness[game_id], game_id))]


def words(text: str) -> set[str]:
    """The words of a name, whatever their case."""
    return set(re.findall(r"\w+", text.casefold()))


def _likeness(table: Table, game: str, wanted: set[str]) -> dict[int, float]:
    """Of games by id, the share of words that a name and the wanted ones have in common, the best of their names."""
    places, listed, found = table.derived("words", lambda: _places(table)), table.listed(), dict[int, float]()
    for position in _promising([places[word] for word in wanted if word in places]):
        row = listed[position]
        named = words(row["name"])
        alike = len(named & wanted) / len(named | wanted)
        found[row[game]] = max(alike, found.get(row[game], 0.0))
    return found


def _promising(places: list[list[int]]) -> set[int]:
    """Positions of names with one of the words: of the rarest, and of others as long as they are not too many."""
    found = set[int]()
    for positions in sorted(places, key=len):
        if found and len(found) + len(positions) > FEW:
            break
        found.update(positions)
    return found


def _places(table: Table) -> dict[str, list[int]]:
    """Where each word occurs in the names of a table."""
    places: dict[str, list[int]] = {}
    for position, row in enumerate(table.listed()):
        for word in words(row.get("name") or ""):
            places.setdefault(word, []).append(position)
    return places
