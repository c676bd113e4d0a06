"""Processes load overlapping libraries while SavePoint's web application writes, and the rows that are right then."""

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
from psycopg.rows import dict_row

from pipeline.database.database import Database
from pipeline.errors import PipelineError
from pipeline.frames.staging import stage_library
from schemas.library import EnrichedLibrary
from tests.support.databases import fetch
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])

RANKS = ["PENDING", "UNMATCHED", "MATCHED", "IGNORED"]
"""No app of a population is MATCHED in one library and IGNORED in another."""


@dataclass(frozen=True)
class Population:
    """Users, each with two libraries of `apps` apps out of so many `games`; always the same ones."""

    users: int
    apps: int
    games: int

    @property
    def user_ids(self) -> list[str]:
        return [f"user-{number}" for number in range(1, self.users + 1)]

    @property
    def orders(self) -> list[tuple[str, int]]:
        """Every user twice, with the number of the library, shuffled."""
        orders = [(user, number) for user in self.user_ids for number in range(2)]
        random.Random(1).shuffle(orders)
        return orders

    def library(self, user: str, number: int) -> DataFrame[EnrichedLibrary]:
        """Each time the user owns other apps, more of them are matched, and IGDB has changed some games."""
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
    # Every twentieth app is the game of the app before it.
    igdb_id = appid - 1 if appid % 20 == 2 else appid
    return matched(appid, igdb_id, **columns, **_game(igdb_id, own.randrange(3)))


def _game(igdb_id: int, edition: int) -> dict[str, Any]:
    """Every fifth game is another in each edition; two neighbours of every fifty swap their slugs."""
    genres = [{"id": 10 + n, "name": f"Genre {n}", "slug": f"genre-{n}", "checksum": "g"} for n in range(4)]
    game: dict[str, Any] = {"igdb_genres": [FIGHTING, SHOOTER], "igdb_platforms": [WINDOWS]}
    if igdb_id % 5 == 0:
        game |= {"igdb_name": f"Game {igdb_id}, edition {edition}", "igdb_genres": [genres[edition], genres[3]]}
    if igdb_id % 50 in {3, 4} and edition:
        game["igdb_slug"] = f"game-{igdb_id // 50 * 50 + 7 - igdb_id % 50}"
    return game


def _load(url: str, population: Population, user: str, number: int) -> str:
    """Load one library in a process of its own; return why that failed, or nothing."""
    try:
        Database(url).load(stage_library(population.library(user, number)), [user])
    except PipelineError as error:
        return f"{user}, library {number}: {error}"
    return ""


def load_beside(web_application: "WebApplication", url: str, population: Population, processes: int) -> list[str]:
    """Load all libraries in so many processes while the web application writes; return why which failed."""
    writes = web_application.write()
    with ProcessPoolExecutor(processes, FORKS) as pool:
        loads = [pool.submit(_load, url, population, *order) for order in population.orders]
        while not all(load.done() for load in loads):
            next(writes)
    writes.close()
    return [error for load in loads if (error := load.result())]


EDITS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("ImportedGame", '"deletedAt" = now()', '"deletedAt" IS NULL', ()),
    ("LibraryItem", "status = 'WISHLIST'", "true", ()),
    (
        "ImportedGame",
        """"igdbMatchStatus" = 'MATCHED'""",
        """"deletedAt" IS NULL AND "igdbMatchStatus" IN ('PENDING', 'UNMATCHED')""",
        ("igdbMatchStatus",),
    ),
    ("ImportedGame", """"igdbMatchStatus" = 'IGNORED'""", '"deletedAt" IS NULL', ("igdbMatchStatus",)),
)
"""What the web application does by turns: table, change, condition, and the columns that then stay; none means all."""


@dataclass
class WebApplication:
    """Edits random rows and remembers what it wrote: by table and id, the columns that have to stay."""

    url: str
    edits: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def write(self) -> Generator[None, None, None]:
        """Make one edit after the other, for as long as the next one is asked for."""
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as connection:
            for table, change, condition, columns in cycle(EDITS):
                row = connection.execute(
                    f"""UPDATE "{table}" t SET {change}, "updatedAt" = now() WHERE {condition} AND id = (
                        SELECT id FROM "{table}" WHERE {condition} ORDER BY random() LIMIT 1
                    ) RETURNING id::text, to_jsonb(t) AS own"""  # noqa: S608 - our own words
                ).fetchone()
                if row:
                    edit, own = self.edits.setdefault((table, row["id"]), {}), row["own"]
                    # Of a row that it wrote before, the time anew.
                    edit |= {name: own[name] for name in {*(columns or own), *({"updatedAt"} & edit.keys())}}
                yield

    def lost_edits(self) -> list[tuple[str, str, dict[str, Any], dict[str, Any]]]:
        """Return the edits that did not stay: table, id, what was written and what is there."""
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            there = {
                (table, row["id"]): row["own"]
                for table in ("ImportedGame", "LibraryItem")
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

    def has_edited_import(self) -> pl.Expr:
        """Return the condition that the web application has edited an imported game."""
        return pl.col("id").is_in([key for table, key in self.edits if table == "ImportedGame"])


IMPORTS = """
SELECT id, "userId" AS user_id, "storefrontGameId"::bigint AS appid, playtime::bigint,
    "igdbMatchStatus"::text AS match_status
FROM "ImportedGame"
"""
ITEMS = """
SELECT i."userId" AS user_id, g."igdbId"::bigint AS igdb_id
FROM "LibraryItem" i JOIN "Game" g ON g.id = i."gameId"
"""
GAMES = """
SELECT g.id, g."igdbId"::bigint AS igdb_id, g.title, g.slug, (
    SELECT string_agg(o."igdbId"::text, ' ' ORDER BY o."igdbId")
    FROM "GameGenre" l JOIN "Genre" o ON o.id = l."genreId" WHERE l."gameId" = g.id
) AS genres
FROM "Game" g
"""


def assert_imports_are_right(url: str, population: Population, web_application: WebApplication) -> None:
    """One row per user and app; what the web application did not edit has the highest playtime and status of all."""
    status = pl.col("match_status").cast(pl.Enum(RANKS))
    files = population.rows().group_by("user_id", "appid").agg(pl.col("playtime_forever").max(), status.max())
    there = fetch(url, IMPORTS)
    pairs = there.select("user_id", "appid").sort("user_id", "appid")
    assert pairs.rows() == files.select("user_id", "appid").sort("user_id", "appid").rows()

    joined = there.join(files, on=["user_id", "appid"], suffix="_in_files")
    is_right = (pl.col("playtime") == pl.col("playtime_forever")) & (
        pl.col("match_status") == pl.col("match_status_in_files").cast(pl.String)
    )
    assert joined.filter(~web_application.has_edited_import(), ~is_right).rows() == []


def assert_items_are_right(url: str, population: Population, web_application: WebApplication) -> None:
    """One item per user and game that is matched in any library, unless the web application wrote of its apps."""
    matched_rows = population.rows().filter(pl.col("match_status").cast(pl.String) == "MATCHED")
    expected = matched_rows.select("user_id", pl.col("igdb_id").cast(pl.Int64)).unique()
    items, edited = fetch(url, ITEMS), fetch(url, IMPORTS).filter(web_application.has_edited_import())
    # An app is the game of its own number, or of the one before.
    decided = pl.concat(edited.select("user_id", igdb_id=pl.col("appid") - before) for before in (0, 1))
    missing = expected.join(items, on=["user_id", "igdb_id"], how="anti")
    assert items.filter(items.is_duplicated()).rows() == []
    assert items.join(expected, on=["user_id", "igdb_id"], how="anti").rows() == []
    assert missing.join(decided, on=["user_id", "igdb_id"], how="anti").rows() == []


def assert_games_are_right(url: str, population: Population) -> None:
    """Each game once, as one of the libraries has it: title, and the list of genres as a whole."""
    genres = pl.col("igdb_genres").str.extract_all(r'"id": \d+').list.eval(pl.element().str.slice(6)).list.join(" ")
    games = population.rows().filter(pl.col("match_status").cast(pl.String) == "MATCHED")
    games = games.select(pl.col("igdb_id").cast(pl.Int64), "igdb_slug", title="igdb_name", genres=genres)
    there = fetch(url, GAMES)
    plain = there.with_columns(igdb_slug=pl.col("slug").str.replace(r"-igdb-.*", ""))
    assert sorted(there["igdb_id"]) == sorted(games["igdb_id"].unique())
    assert there.join(games, on=["igdb_id", "title", "genres"], how="anti").rows() == []
    assert plain.join(games, on=["igdb_id", "igdb_slug"], how="anti").rows() == []
