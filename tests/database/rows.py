"""Rows that SavePoint wrote, and loads of a few apps on top of them."""

from typing import Any

import polars as pl

from pipeline.database.database import Database, LoadResult
from pipeline.frames.staging import stage_library
from schemas.frames import conform
from schemas.library import EnrichedLibrary
from tests.support.databases import as_role, execute
from tests.support.libraries import library


def load_library(url: str, rows: pl.DataFrame, users: tuple[str, ...] = ("user-1",)) -> LoadResult:
    return Database(as_role(url), attempts=1).load(stage_library(conform(rows, EnrichedLibrary)), users)


def written(loaded: LoadResult) -> dict[str, int]:
    return {name: rows for name, rows in loaded.counts.items() if rows}


def load(url: str, *rows: dict[str, Any]) -> LoadResult:
    return load_library(url, library(*rows))


def insert_import(url: str, appid: int, **columns: str) -> None:
    row = {
        "id": f"import-{appid}",
        "name": f"Name {appid}",
        "storefront": "STEAM",
        "storefrontGameId": str(appid),
        "createdAt": "2020-01-01",
        "updatedAt": "2020-01-01",
        "userId": "user-1",
        **columns,
    }
    insert(url, "ImportedGame", row)


def insert_game(url: str, igdb_id: int, **columns: str) -> None:
    row = {
        "id": f"game-row-{igdb_id}",
        "igdbId": str(igdb_id),
        "title": f"Game {igdb_id}",
        "slug": f"game-{igdb_id}",
        "createdAt": "2020-01-01",
        "updatedAt": "2020-01-01",
        **columns,
    }
    insert(url, "Game", row)


def insert_item(url: str, igdb_id: int, **columns: str) -> None:
    row = {"userId": "user-1", "gameId": f"game-row-{igdb_id}", "status": "WISHLIST", "updatedAt": "2020-01-01"}
    insert(url, "LibraryItem", row | columns)


def insert(url: str, table: str, row: dict[str, str]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(f"'{value}'" for value in row.values())
    execute(url, f'INSERT INTO "{table}" ({names}) VALUES ({values})')  # noqa: S608 - the tests' own words
