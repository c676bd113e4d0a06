"""A load reads what the database has before it writes anything."""

from pathlib import Path

import pytest

from pipeline.database.database import Database
from pipeline.errors import Failed
from pipeline.frames.staging import stage_library
from tests.support.databases import NewDatabase, execute, rows_of
from tests.support.libraries import FIGHTING, library, matched

ROWS = library(matched(10, 100, igdb_genres=[FIGHTING]))


def refusal(url: str) -> str:
    """The message with which a load refuses the database."""
    with pytest.raises(Failed) as raised:
        Database(url).load(stage_library(ROWS), ["user-1"])
    assert raised.value.code == "schema_mismatch"
    return raised.value.message


def test_the_optional_columns_that_the_older_tables_lack_are_left_out(new_database: NewDatabase) -> None:
    older, newer = (Database(new_database(generation)).read_schema() for generation in (2025, 2026))

    assert older.missing == newer.missing == newer.left_out == []
    assert sorted(older.left_out) == [
        '"ImportedGame"."lastPlayedAt"',
        '"ImportedGame"."playtimeLinux"',
        '"ImportedGame"."playtimeMac"',
        '"ImportedGame"."playtimeWindows"',
        '"LibraryItem"."hasBeenPlayed"',
        '"LibraryItem"."statusChangedAt"',
    ]


def test_the_table_of_users_is_the_one_the_foreign_key_names(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'CREATE TABLE "User" (id text)')
    execute(url, 'ALTER TABLE "user" RENAME COLUMN id TO "userKey"')

    users = Database(url).read_schema().users

    assert users is not None
    assert (users.name, users.c.id.name) == ("user", "userKey")
    assert Database(url).load(stage_library(ROWS), ["user-1"]).counts["imported_games_created"] == 1


def test_each_missing_table_and_enum_of_an_empty_database_is_named(postgres_server: str) -> None:
    message = refusal(postgres_server)
    with pytest.raises(Failed, match="cannot take an import"):
        Database(postgres_server).grant_statements("loader")

    for name in ("Game", "GameGenre", "GamePlatform", "Genre", "ImportedGame", "LibraryItem", "Platform"):
        assert f'table "{name}"' in message
    assert 'enum "IgdbMatchStatus"' in message


def test_the_migration_that_is_named_adds_the_match_status(own_database_url: str) -> None:
    execute(own_database_url, 'ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"')
    execute(own_database_url, 'DROP TYPE "IgdbMatchStatus"')
    assert "infra/prisma/migration.sql" in refusal(own_database_url)

    for statement in (Path(__file__).parents[2] / "infra/prisma/migration.sql").read_text().rstrip(";\n").split(";\n"):
        execute(own_database_url, statement)

    assert Database(own_database_url).read_schema().missing == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ('DROP TABLE "GamePlatform"', 'table "GamePlatform".'),
        ('ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"', 'column "ImportedGame"."igdbMatchStatus".'),
        ('DROP INDEX "Game_igdbId_key"', 'a unique key of "Game" (igdbId).'),
        (
            'ALTER TABLE "GameGenre" DROP CONSTRAINT "GameGenre_pkey"',
            'a unique key of "GameGenre" (gameId, genreId).',
        ),
        (
            'ALTER TABLE "ImportedGame" DROP CONSTRAINT "ImportedGame_userId_fkey"',
            'a foreign key of "ImportedGame"."userId"',
        ),
        (
            """ALTER TYPE "Storefront" RENAME VALUE 'STEAM' TO 'STEAM_STORE'""",
            'value STEAM of enum "Storefront".',
        ),
    ],
)
def test_what_a_load_needs_and_the_database_lacks_is_named_and_nothing_is_written(
    own_database_url: str, change: str, missing: str
) -> None:
    execute(own_database_url, change)

    assert f"It lacks {missing}" in refusal(own_database_url)
    assert rows_of(own_database_url, "Genre") == []


def test_a_missing_optional_column_is_left_out(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'ALTER TABLE "ImportedGame" DROP COLUMN "playtimeMac"')

    assert Database(url).load(stage_library(ROWS), ["user-1"]).counts["imported_games_created"] == 1


def test_a_new_column_that_no_load_fills_is_named_unless_it_has_a_default(own_database_url: str) -> None:
    execute(own_database_url, """ALTER TABLE "Game" ADD "edition" text NOT NULL DEFAULT 'first'""")
    assert Database(own_database_url).read_schema().missing == []

    execute(own_database_url, 'ALTER TABLE "Game" ALTER "edition" DROP DEFAULT')
    assert 'a default of column "Game"."edition"' in refusal(own_database_url)
