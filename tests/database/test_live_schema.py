"""A load reads what the database has before it writes anything."""

from pathlib import Path

import pytest

from pipeline.database.database import Database
from pipeline.errors import Failed
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import Generation
from tests.support.databases import NewDatabase, execute, rows_of, url_of
from tests.support.libraries import FIGHTING, library, matched

ROWS = library(matched(10, 100, igdb_genres=[FIGHTING]))


def refusal(url: str) -> str:
    """The message with which a load refuses the database."""
    with pytest.raises(Failed) as raised:
        Database(url).load(stage_library(ROWS), ["user-1"])
    assert raised.value.code == "schema_mismatch"
    return raised.value.message


def test_the_optional_columns_that_the_older_tables_lack_are_left_out(
    postgres_server: str, templates: dict[Generation, str]
) -> None:
    older, newer = (Database(url_of(postgres_server, name)).read_schema() for name in templates.values())

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


def test_the_migration_that_is_named_adds_the_match_status(own_database_url: str) -> None:
    execute(own_database_url, 'ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"')
    execute(own_database_url, 'DROP TYPE "IgdbMatchStatus"')
    assert "infra/prisma/migration.sql" in refusal(own_database_url)

    for statement in (Path(__file__).parents[2] / "infra/prisma/migration.sql").read_text().rstrip(";\n").split(";\n"):
        execute(own_database_url, statement)

    assert Database(own_database_url).read_schema().missing == []


CHANGES = {
    'DROP TABLE "GamePlatform"': 'table "GamePlatform"',
    'ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"': 'column "ImportedGame"."igdbMatchStatus"',
    'DROP TYPE "IgdbMatchStatus"': 'enum "IgdbMatchStatus"',
    """ALTER TYPE "Storefront" RENAME VALUE 'STEAM' TO 'STEAM_STORE'""": 'value STEAM of enum "Storefront"',
    'DROP INDEX "Game_igdbId_key"': 'a unique key of "Game" (igdbId)',
    'ALTER TABLE "GameGenre" DROP CONSTRAINT "GameGenre_pkey"': 'a unique key of "GameGenre" (gameId, genreId)',
    'ALTER TABLE "ImportedGame" DROP CONSTRAINT "ImportedGame_userId_fkey"': (
        'a foreign key of "ImportedGame"."userId" (it names the table of users)'
    ),
    'ALTER TABLE "Game" ADD "edition" text NOT NULL': 'a default of column "Game"."edition" (no load fills it)',
}
"""Changes of the tables, and what the database lacks after each."""


def test_what_a_load_needs_and_the_database_lacks_is_named_and_nothing_is_written(own_database_url: str) -> None:
    for change in CHANGES:
        execute(own_database_url, change)

    message = refusal(own_database_url)

    assert [missing for missing in CHANGES.values() if missing not in message] == []
    assert rows_of(own_database_url, "Genre") == []


def test_a_missing_optional_column_is_left_out_and_a_new_one_has_its_default(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'ALTER TABLE "ImportedGame" DROP COLUMN "playtimeMac"')
    execute(url, """ALTER TABLE "Game" ADD "edition" text NOT NULL DEFAULT 'first'""")

    assert Database(url).load(stage_library(ROWS), ["user-1"]).counts["imported_games_created"] == 1
