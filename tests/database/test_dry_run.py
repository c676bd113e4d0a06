"""What a load would do, told without doing it."""

import polars as pl

from pipeline.database.database import Database, LoadResult
from pipeline.frames.staging import stage_library
from schemas.frames import conform
from schemas.library import EnrichedLibrary
from schemas.staging import Changes, LoadOptions
from tests.support.databases import as_role, insert_game, load_library, rows_of
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

TABLES = ("Genre", "Platform", "Game", "GameGenre", "GamePlatform", "ImportedGame", "LibraryItem")


def rehearse(url: str, rows: pl.DataFrame, *, details: bool = False) -> LoadResult:
    return Database(as_role(url), attempts=1).load(
        stage_library(conform(rows, EnrichedLibrary)), ["user-1"], LoadOptions(dry_run=True, details=details)
    )


def contents(url: str) -> dict[str, list[tuple[str, str]]]:
    return {name: rows_of(url, name, "xmin::text, t::text", "2") for name in TABLES}


def test_a_dry_run_writes_nothing_and_counts_what_a_load_does(database_url: str, rows: pl.DataFrame) -> None:
    rehearsed = rehearse(database_url, rows)
    assert all(not rows_of(database_url, name) for name in TABLES)

    loaded = load_library(database_url, rows)
    assert (rehearsed.counts, rehearsed.statements) == (loaded.counts, loaded.statements)
    assert rehearsed.tables.equals(loaded.tables)


def test_each_table_is_counted_by_what_becomes_of_its_rows(database_url: str, rows: pl.DataFrame) -> None:
    assert rehearse(database_url, rows).tables.rows() == [
        ("Genre", 2, 0, 0, 0),
        ("Platform", 1, 0, 0, 0),
        ("Game", 2, 0, 0, 0),
        ("GameGenre", 3, 0, 0, 0),
        ("GamePlatform", 1, 0, 0, 0),
        ("ImportedGame", 5, 0, 0, 0),
        ("LibraryItem", 2, 0, 0, 0),
    ]
    load_library(database_url, rows)
    before = contents(database_url)

    again = rehearse(database_url, library(app(2, playtime_forever=9), matched(10, 100, igdb_genres=[SHOOTER])))

    assert again.tables.rows() == [
        ("Genre", 0, 0, 0, 1),
        ("Platform", 0, 0, 0, 0),
        ("Game", 0, 0, 0, 1),
        ("GameGenre", 0, 0, 1, 1),
        ("GamePlatform", 0, 0, 0, 0),
        ("ImportedGame", 0, 1, 0, 1),
        ("LibraryItem", 0, 0, 0, 1),
    ]
    assert contents(database_url) == before


def test_details_list_each_column_that_changes(database_url: str) -> None:
    insert_game(database_url, 999, slug="new")
    first = matched(10, 100, igdb_genres=[FIGHTING]), matched(11, 101, igdb_slug="b"), app(12)
    load_library(database_url, library(*first))
    second = (
        matched(10, 200, match_reason="override", igdb_genres=[SHOOTER]),
        matched(11, 101, igdb_slug="new", igdb_genres=[{**FIGHTING, "name": "Fight"}]),
        app(12, name="New name", playtime_forever=9),
    )

    changes = rehearse(database_url, library(*second), details=True).changes

    item, game = rows_of(database_url, "LibraryItem", 'id, "gameId"')[0]
    references = pl.col("table").is_in(["GameGenre", "LibraryItem"])
    assert Changes.validate(changes).filter(~references).rows() == [
        ("Game", "100", "steamAppId", "10", None),
        ("Game", "101", "slug", "b", "new"),
        ("Game", "200", "igdbId", None, "200"),
        ("Game", "200", "slug", None, "game-200"),
        ("Game", "200", "steamAppId", None, "10"),
        ("Game", "200", "title", None, "Game 200"),
        ("Game", "999", "slug", "new", "new-igdb-999"),
        ("Genre", "4", "name", "Fighting", "Fight"),
        ("Genre", "5", "checksum", None, "s1"),
        ("Genre", "5", "igdbId", None, "5"),
        ("Genre", "5", "name", None, "Shooter"),
        ("Genre", "5", "slug", None, "shooter"),
        ("ImportedGame", "user-1/12", "name", "Name 12", "New name"),
        ("ImportedGame", "user-1/12", "playtime", "0", "9"),
    ]
    assert changes.filter(references).select("table", "key", "column", "old").rows() == [
        ("GameGenre", "101/4", "gameId", None),
        ("GameGenre", "101/4", "genreId", None),
        ("GameGenre", "200/5", "gameId", None),
        ("GameGenre", "200/5", "genreId", None),
        ("LibraryItem", f"user-1/200/{item}", "gameId", game),
    ]


def test_details_of_what_is_removed_and_adopted(database_url: str) -> None:
    load_library(database_url, library(matched(10, 100, igdb_genres=[FIGHTING, SHOOTER], igdb_platforms=[WINDOWS])))

    rows = library(matched(10, 200, igdb_slug="game-100", igdb_genres=[SHOOTER], igdb_platforms=[WINDOWS]))
    changes = rehearse(database_url, rows, details=True).changes

    assert changes.filter(pl.col("table") == "Game").rows() == [
        ("Game", "200", "igdbId", "100", "200"),
        ("Game", "200", "title", "Game 100", "Game 200"),
    ]
    assert changes.filter(pl.col("table") != "Game").select("table", "key", "column", "new").rows() == [
        ("GameGenre", "100/4", "gameId", None),
        ("GameGenre", "100/4", "genreId", None),
    ]


def test_details_are_there_of_a_real_load_and_empty_when_nothing_changes(database_url: str, rows: pl.DataFrame) -> None:
    database = Database(as_role(database_url))

    first = database.load(stage_library(conform(rows, EnrichedLibrary)), ["user-1"], LoadOptions(details=True))
    again = database.load(stage_library(conform(rows, EnrichedLibrary)), ["user-1"], LoadOptions(details=True))

    assert set(first.changes["table"]) == set(TABLES)
    assert again.changes.is_empty()
    assert load_library(database_url, rows).changes.equals(again.changes)


def test_the_number_of_statements_of_details_is_constant(database_url: str) -> None:
    few, many = (library(*(matched(n, n) for n in range(1, rows))) for rows in (3, 3_000))

    assert rehearse(database_url, few, details=True).statements == rehearse(database_url, many, details=True).statements
