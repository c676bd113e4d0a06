"""Libraries that overlap, the processes that load them, and SavePoint's web application, which writes meanwhile."""

import multiprocessing
import random
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import polars as pl
import psycopg
from pandera.typing.polars import DataFrame
from psycopg.rows import DictRow, dict_row

from pipeline.database.database import Database
from pipeline.errors import PipelineError
from pipeline.frames.staging import stage_library
from schemas.library import EnrichedLibrary
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])

Connection = psycopg.Connection[DictRow]

OWN_APPS = 1_000_000
"""Where the apps begin that only the web application knows."""
HAND_MADE = "By hand"
"""The platform of the items that the web application adds."""
OPEN = ("PENDING", "UNMATCHED")


@dataclass(frozen=True)
class Crowd:
    """Users, each with `libraries` libraries of `apps` apps out of so many `games`; the same seed, the same crowd."""

    users: int
    apps: int
    games: int
    libraries: int = 2

    @property
    def user_ids(self) -> list[str]:
        return [f"user-{number}" for number in range(1, self.users + 1)]

    @property
    def orders(self) -> list[tuple[str, int]]:
        """Every user as often as there are libraries, in no order."""
        orders = [(user, number) for user in self.user_ids for number in range(self.libraries)]
        random.Random(1).shuffle(orders)
        return orders

    def library(self, user: str, number: int) -> DataFrame[EnrichedLibrary]:
        """Each time the user owns other apps, more of them are matched, and IGDB says something else of some games."""
        owned = random.Random(f"{user} {number}").sample(range(1, self.games + 1), self.apps)
        return library(*(_app(user, number, appid) for appid in owned))

    def rows(self) -> pl.DataFrame:
        return pl.concat([self.library(*order) for order in self.orders])


def _app(user: str, number: int, appid: int) -> dict[str, Any]:
    own = random.Random(f"{user} {number} {appid}")
    columns = {"user_id": user, "playtime_forever": own.choice((0, own.randrange(1, 9999)))}
    if appid % 10 == 0:
        return app(appid, **columns, match_status="IGNORED", match_reason="filtered", kind="demo")
    if own.random() < 0.3:
        is_pending = own.random() < 0.5
        reasons = {"match_status": "PENDING", "match_reason": "igdb_unavailable"} if is_pending else {}
        return app(appid, **columns, **reasons)
    return matched(appid, igdb_id_of(appid), **columns, **_igdb_says(igdb_id_of(appid), own.randrange(3)))


def igdb_id_of(appid: int) -> int:
    """Every twentieth app is the game of the app before it."""
    return appid - 1 if appid % 20 == 2 else appid


def _igdb_says(igdb_id: int, edition: int) -> dict[str, Any]:
    """Of every fifth game something else in each edition; two neighbours of every fifty swap their slugs."""
    genres = [{"id": 10 + n, "name": f"Genre {n}", "slug": f"genre-{n}", "checksum": "g"} for n in range(4)]
    said: dict[str, Any] = {"igdb_genres": [FIGHTING, SHOOTER], "igdb_platforms": [WINDOWS]}
    if igdb_id % 5 == 0:
        said |= {"igdb_name": f"Game {igdb_id}, edition {edition}", "igdb_genres": [genres[edition], genres[3]]}
    if igdb_id % 50 in {3, 4} and edition:
        said["igdb_slug"] = f"game-{igdb_id // 50 * 50 + 7 - igdb_id % 50}"
    return said


def load(url: str, crowd: Crowd, user: str, number: int) -> str:
    """One library, as a process of its own loads it; why it failed, if it did."""
    try:
        Database(url).load(stage_library(crowd.library(user, number)), [user])
    except PipelineError as error:
        return f"{user}, library {number}: {error}"
    return ""


def load_beside(web_application: "WebApplication", url: str, crowd: Crowd, processes: int) -> list[str]:
    """Load all libraries, in so many processes, while the web application plays; why which failed."""
    play = web_application.play()
    with ProcessPoolExecutor(processes, FORKS) as pool:
        loads = [pool.submit(load, url, crowd, *order) for order in crowd.orders]
        while not all(load.done() for load in loads):
            next(play)
    play.close()
    return [error for load in loads if (error := load.result())]


@dataclass
class WebApplication:
    """Edits rows at random and remembers what it wrote: per table and id, the columns that have to stand."""

    url: str
    edits: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(9))

    def play(self) -> Generator[str, None, None]:
        """One edit after the other, for as long as anyone asks for the next."""
        plays = (
            self.remove_an_import,
            self.edit_an_item,
            self.add_an_item,
            self.match_by_hand,
            self.dismiss,
            self.time_a_game,
            self.add_an_import,
        )
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            for number, play in enumerate(cycle(plays)):
                if play(connection, number):
                    self.counts[play.__name__] = self.counts.get(play.__name__, 0) + 1
                yield play.__name__

    def unmet(self) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        """The edits that do not stand: table, id, what was written and what is there."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            there = {
                (table, row["id"]): row["own"]
                for table in ("ImportedGame", "LibraryItem", "Game")
                for row in connection.execute(
                    f'SELECT id::text, to_jsonb(t) AS own FROM "{table}" t'  # noqa: S608 - our own names
                )
            }
        found = {key: there.get(key, {}) for key in self.edits}
        return [
            (*key, wrote, found[key])
            for key, wrote in self.edits.items()
            if any(found[key].get(name, "gone") != value for name, value in wrote.items())
        ]

    def remove_an_import(self, connection: Connection, _: int) -> bool:
        """A removed row stays as it is, to the last column."""
        return self._edit(connection, "ImportedGame", '"deletedAt" = now()', '"deletedAt" IS NULL', keeps_all=True)

    def dismiss(self, connection: Connection, _: int) -> bool:
        change = """"igdbMatchStatus" = 'IGNORED'"""
        return self._edit(connection, "ImportedGame", change, '"deletedAt" IS NULL', "igdbMatchStatus")

    def edit_an_item(self, connection: Connection, _: int) -> bool:
        return self._edit(connection, "LibraryItem", "status = 'WISHLIST'", "true", keeps_all=True)

    def time_a_game(self, connection: Connection, number: int) -> bool:
        change = f"""completionist = {number}, "hltbId" = 'hltb-{number}'"""
        return self._edit(connection, "Game", change, "true", "completionist", "hltbId")

    def add_an_item(self, connection: Connection, _: int) -> bool:
        game = self._any(connection, "Game", "true")
        return bool(game) and self._add_item(connection, self._user(connection), str(game))

    def add_an_import(self, connection: Connection, number: int) -> bool:
        """An app that Steam does not name, so that no load has to do with it."""
        row = connection.execute(
            """INSERT INTO "ImportedGame" AS t (id, name, storefront, "storefrontGameId", "userId", "updatedAt")
            VALUES (%s, 'Mine', 'STEAM', %s, %s, now()) RETURNING id::text, to_jsonb(t) AS own""",
            (f"mine-{number}", str(OWN_APPS + number), self._user(connection)),
        ).fetchone()
        return self._remember("ImportedGame", row)

    def match_by_hand(self, connection: Connection, _: int) -> bool:
        """In one transaction: the app is the game of that id, and the user gets an item of it."""
        with connection.transaction():
            one = self._any(connection, "ImportedGame", f""""deletedAt" IS NULL AND "igdbMatchStatus" IN {OPEN}""")
            game = self._any(connection, "Game", "true")
            if not one or not game:
                return False
            row = connection.execute(
                """UPDATE "ImportedGame" t SET "igdbMatchStatus" = 'MATCHED', "updatedAt" = now()
                WHERE id = %s RETURNING id::text, "userId", to_jsonb(t) AS own""",
                (one,),
            ).fetchone()
            self._remember("ImportedGame", row, "igdbMatchStatus")
            return bool(row) and self._add_item(connection, row["userId"] if row else "", game)

    def _add_item(self, connection: Connection, user: str, game: str) -> bool:
        row = connection.execute(
            """INSERT INTO "LibraryItem" AS t ("userId", "gameId", platform, "updatedAt")
            VALUES (%s, %s, %s, now()) RETURNING id::text, to_jsonb(t) AS own""",
            (user, game, HAND_MADE),
        ).fetchone()
        return self._remember("LibraryItem", row)

    def _edit(
        self, connection: Connection, table: str, change: str, condition: str, *columns: str, keeps_all: bool = False
    ) -> bool:
        one = self._any(connection, table, condition)
        row = connection.execute(
            f"""UPDATE "{table}" t SET {change}, "updatedAt" = now()
            WHERE id::text = %s AND {condition} RETURNING id::text, to_jsonb(t) AS own""",  # noqa: S608 - our own words
            (one,),
        ).fetchone()
        return self._remember(table, row, *(() if keeps_all else columns))

    def _remember(self, table: str, row: DictRow | None, *columns: str) -> bool:
        """All columns where none is named, but of a row that it wrote before the time anew."""
        if row:
            edit, own = self.edits.setdefault((table, row["id"]), {}), row["own"]
            names = {*(columns or own), *({"updatedAt"} & edit.keys())}
            edit |= {name: own[name] for name in names}
        return row is not None

    def _any(self, connection: Connection, table: str, condition: str) -> str | None:
        query = f'SELECT id::text FROM "{table}" WHERE {condition} OFFSET %s LIMIT 1'  # noqa: S608 - our own words
        for rows in (20_000, 2_000, 200, 1):
            row = connection.execute(query, (self._random.randrange(rows),)).fetchone()
            if row:
                return str(row["id"])
        return None

    def _user(self, connection: Connection) -> str:
        query = """SELECT "userId" AS id FROM "ImportedGame" OFFSET %s LIMIT 1"""
        row = connection.execute(query, (self._random.randrange(20_000),)).fetchone()
        return row["id"] if row else "user-1"
