"""What a dry run reports: the rows that a load would write, by table and column by column."""

import polars as pl

from pipeline.database.database import Database, LoadResult
from pipeline.frames.staging import stage_library
from schemas.staging import LoadOptions
from tests.support.databases import TABLES, as_role, contents, insert_game, load, rows_of
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

FIRST = (
    app(2),
    matched(10, 100, igdb_genres=[FIGHTING, SHOOTER], igdb_platforms=[WINDOWS], playtime_forever=7),
    matched(20, 200, igdb_genres=[SHOOTER]),
)


def load_with(options: LoadOptions, url: str, *rows: dict[str, object]) -> LoadResult:
    return Database(as_role(url), attempts=1).load(stage_library(library(*rows)), ["user-1"], options)


def dry_run(url: str, *rows: dict[str, object]) -> LoadResult:
    return load_with(LoadOptions(dry_run=True, details=True), url, *rows)


def test_a_dry_run_writes_nothing_and_counts_by_table_what_a_load_does(database_url: str) -> None:
    rehearsed = load_with(LoadOptions(dry_run=True), database_url, *FIRST)
    assert all(not rows_of(database_url, name) for name in TABLES)

    loaded = load(database_url, *FIRST)

    assert (rehearsed.counts, rehearsed.statements) == (loaded.counts, loaded.statements)
    assert rehearsed.tables.rows() == loaded.tables.rows()
    assert loaded.tables.rows() == [
        ("Genre", 2, 0, 0, 0),
        ("Platform", 1, 0, 0, 0),
        ("Game", 2, 0, 0, 0),
        ("GameGenre", 3, 0, 0, 0),
        ("GamePlatform", 1, 0, 0, 0),
        ("ImportedGame", 3, 0, 0, 0),
        ("LibraryItem", 2, 0, 0, 0),
    ]
    before = contents(database_url)

    again = dry_run(database_url, app(2, playtime_forever=9), matched(10, 100, igdb_genres=[SHOOTER]))

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
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING]), matched(11, 101, igdb_slug="b"), app(12))

    changes = dry_run(
        database_url,
        matched(10, 200, match_reason="override", igdb_genres=[SHOOTER]),
        matched(11, 101, igdb_slug="new", igdb_genres=[{**FIGHTING, "name": "Fight"}]),
        app(12, name="New name", playtime_forever=9),
    ).changes

    item, game = rows_of(database_url, "LibraryItem", 'id, "gameId"')[0]
    references = pl.col("table").is_in(["GameGenre", "LibraryItem"])
    assert changes.filter(~references).rows() == [
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


def test_details_list_removed_links_and_adopted_games(database_url: str) -> None:
    load(database_url, matched(10, 100, igdb_genres=[FIGHTING, SHOOTER], igdb_platforms=[WINDOWS]))

    adopted = matched(10, 200, igdb_slug="game-100", igdb_genres=[SHOOTER], igdb_platforms=[WINDOWS])
    changes = dry_run(database_url, adopted).changes

    assert changes.filter(pl.col("table") == "Game").rows() == [
        ("Game", "200", "igdbId", "100", "200"),
        ("Game", "200", "title", "Game 100", "Game 200"),
    ]
    assert changes.filter(pl.col("table") != "Game").select("table", "key", "column", "new").rows() == [
        ("GameGenre", "100/4", "gameId", None),
        ("GameGenre", "100/4", "genreId", None),
    ]


def test_a_load_lists_its_changes_too_if_it_is_asked_to_in_a_number_of_statements_that_does_not_grow(
    database_url: str,
) -> None:
    details = LoadOptions(details=True)

    detailed = load_with(details, database_url, *FIRST)

    assert set(detailed.changes["table"]) == set(TABLES)
    assert load_with(details, database_url, *FIRST).changes.is_empty()
    few, many = ([matched(n, n) for n in range(300, last)] for last in (302, 340))
    statements = {dry_run(database_url, *games).statements for games in (few, many)}
    assert statements == {load(database_url, *few).statements + 4}
