"""Made-up games for tests of size: any number of them, the same ones on every call."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.sandbox.wire import Row

if TYPE_CHECKING:
    from pipeline.sandbox.world import World

FIRSTS = ("Amber", "Boreal", "Cobalt", "Distant", "Ember", "Feral", "Gilded", "Hollow", "Iron", "Jade")
SECONDS = ("Harbor", "Orchard", "Lantern", "Citadel", "Voyage", "Garden", "Tempest", "Railway", "Meadow", "Comet")

FIRST_APPID, FIRST_IGDB_ID, FIRST_SECOND_IGDB_ID = 1_000_000, 500_000, 5_000_000


@dataclass(frozen=True)
class Oddities:
    """How often an app is something else than exactly one IGDB game: every n-th app, never if 0.

    Args:
        shared_every: every n-th app belongs to the same game as the app before it.
        ambiguous_every: every n-th app is listed for a second game as well.
        bare_every: every n-th app has a row of external_games without a game.
    """

    shared_every: int = 0
    ambiguous_every: int = 0
    bare_every: int = 0


def fill(world: "World", size: int, owned: int, oddities: Oddities) -> None:
    """Add `size` games to Steam's store and IGDB, and the first `owned` of them to the synthetic account's library."""
    chance = random.Random(size)
    game = FIRST_IGDB_ID
    for number in range(size):
        appid = FIRST_APPID + 10 * number
        name = f"{FIRSTS[number % 10]} {SECONDS[number // 10 % 10]} {number // 100 + 1}"
        world.add_store_item(appid, name)
        if number < owned:
            played = max(0, chance.randrange(-120_000, 60_000))
            world.add_owned(world.SYNTHETIC_ACCOUNT, appid, name, playtime_forever=played)
        if _is_nth(number, oddities.bare_every):
            world.add_external_game(str(appid), name=name)
        elif _is_nth(number, oddities.shared_every):
            world.add_external_game(str(appid), game=game, name=name)
        else:
            game = FIRST_IGDB_ID + number
            world.add_game(appid, game, name, **_facts(world, name, chance))
        if _is_nth(number, oddities.ambiguous_every):
            world.add_game(appid, FIRST_SECOND_IGDB_ID + number, f"{name} Again")


def _facts(world: "World", name: str, chance: random.Random) -> Row:
    """Return made-up fields of a games row for a name, with genres and platforms that are neighbours by id."""

    def below(limit: int) -> int:
        # randrange takes ten times as long, which tells in a world of 200,000 games.
        return int(chance.random() * limit)

    genres, platforms = list(world.genres), list(world.platforms)
    year, genre, platform = 1995 + below(30), below(len(genres)), below(len(platforms))
    return {
        "summary": f"{name} is a made-up game of {year}.",
        "first_release_date": 86_400 * (365 * (year - 1970) + below(365)),
        "genres": genres[genre : genre + 1 + below(3)],
        "platforms": sorted({6, *platforms[platform : platform + below(4)]}),
        "image_id": f"co{below(36**4):05x}",
    }


def _is_nth(number: int, every: int) -> bool:
    return every > 0 and number % every == every - 1
