"""What the rules say of the rows after a crowd's libraries were loaded in any order, whoever wrote meanwhile."""

import polars as pl

from tests.database.crowd import HAND_MADE, Crowd, WebApplication
from tests.support.databases import fetch

RANKS = ["PENDING", "UNMATCHED", "MATCHED", "IGNORED"]
"""No app of a crowd is MATCHED in one library and IGNORED in another."""

IMPORTS = """
SELECT id, "userId" AS user_id, "storefrontGameId"::bigint AS appid, playtime::bigint,
    "igdbMatchStatus"::text AS match_status, "createdAt" AS created_at
FROM "ImportedGame" WHERE name <> 'Mine'
"""
ITEMS = """
SELECT i.id::text, i."userId" AS user_id, g."igdbId"::bigint AS igdb_id, i.platform
FROM "LibraryItem" i JOIN "Game" g ON g.id = i."gameId"
"""
GAMES = """
SELECT g.id, g."igdbId"::bigint AS igdb_id, g.title, g.slug, g."createdAt" AS created_at, (
    SELECT string_agg(o."igdbId"::text, ' ' ORDER BY o."igdbId")
    FROM "GameGenre" l JOIN "Genre" o ON o.id = l."genreId" WHERE l."gameId" = g.id
) AS genres
FROM "Game" g
"""


def assert_imports_are_right(url: str, crowd: Crowd, web_application: WebApplication) -> None:
    """One row per user and app, and what the web application left alone says what the libraries say."""
    status = pl.col("match_status").cast(pl.Enum(RANKS))
    said = crowd.rows().group_by("user_id", "appid").agg(pl.col("playtime_forever").max(), status.max())
    there = fetch(url, IMPORTS)
    pairs = there.select("user_id", "appid").sort("user_id", "appid")
    assert pairs.rows() == said.select("user_id", "appid").sort("user_id", "appid").rows()

    joined = there.join(said, on=["user_id", "appid"], suffix="_said").filter(~_edited(web_application, "ImportedGame"))
    is_right = (pl.col("playtime") == pl.col("playtime_forever")) & (
        pl.col("match_status") == pl.col("match_status_said").cast(pl.String)
    )
    assert joined.filter(~is_right).rows() == []


def assert_items_are_right(url: str, crowd: Crowd, web_application: WebApplication) -> None:
    """One of ours per user and game that is matched in any library, less where the web application had a say."""
    matched = crowd.rows().filter(pl.col("match_status").cast(pl.String) == "MATCHED").select("user_id", "igdb_id")
    items, edited = fetch(url, ITEMS), fetch(url, IMPORTS).filter(_edited(web_application, "ImportedGame"))
    # An app is the game of its own number, or of the one before.
    decided = pl.concat(
        [
            items.filter(pl.col("platform") == HAND_MADE).select("user_id", "igdb_id"),
            *(edited.select("user_id", igdb_id=pl.col("appid") - before) for before in (0, 1)),
        ]
    )
    ours = items.filter(pl.col("platform") != HAND_MADE).select("user_id", "igdb_id")
    said = matched.unique().with_columns(pl.col("igdb_id").cast(pl.Int64))
    assert ours.filter(ours.is_duplicated()).rows() == []
    assert ours.join(said, on=["user_id", "igdb_id"], how="anti").rows() == []
    missing = said.join(ours, on=["user_id", "igdb_id"], how="anti")
    assert missing.join(decided, on=["user_id", "igdb_id"], how="anti").rows() == []


def assert_games_are_right(url: str, crowd: Crowd) -> None:
    """Each game once, as one of the libraries has it: title, and the list of genres whole."""
    genres = pl.col("igdb_genres").str.extract_all(r'"id": \d+').list.eval(pl.element().str.slice(6)).list.join(" ")
    matched = crowd.rows().filter(pl.col("match_status").cast(pl.String) == "MATCHED")
    said = matched.select(pl.col("igdb_id").cast(pl.Int64), title="igdb_name", genres=genres).unique()
    slugs = matched.select(pl.col("igdb_id").cast(pl.Int64), slug="igdb_slug").unique()
    there = fetch(url, GAMES)
    assert sorted(there["igdb_id"]) == sorted(said["igdb_id"].unique())
    assert there.join(said, on=["igdb_id", "title", "genres"], how="anti").rows() == []
    plain = there.with_columns(pl.col("slug").str.replace(r"-igdb-.*", ""))
    assert plain.join(slugs, on=["igdb_id", "slug"], how="anti").rows() == []


def assert_ids_are_new_and_sort_by_time(url: str, loads: int) -> None:
    """Each load has a prefix of its own, which begins with the millisecond in base 36, and the rows follow it."""
    for query in (IMPORTS, GAMES):
        rows = fetch(url, query).with_columns(
            at=pl.col("id").str.slice(1, 8).str.to_integer(base=36), prefix=pl.col("id").str.head(19)
        )
        assert rows["id"].is_unique().all()
        assert rows["prefix"].n_unique() <= loads
        assert rows.group_by("prefix").agg(pl.col("created_at").n_unique())["created_at"].max() == 1
        waited = rows["at"] - rows["created_at"].dt.epoch("ms")
        # A transaction's time is its start, rounded; the id's is when it had all locks.
        assert waited.min() >= -1  # type: ignore[operator]


def _edited(web_application: WebApplication, table: str) -> pl.Expr:
    return pl.col("id").is_in([key for of, key in web_application.edits if of == table])
