"""A load reads what the database has before it writes anything."""

from pathlib import Path

import pytest

from pipeline.database.database import Database
from pipeline.errors import Failed
from pipeline.frames.staging import stage_library
from tests.support.databases import NewDatabase, execute, rows_of
from tests.support.libraries import FIGHTING, library, matched

ROWS = library(matched(10, 100, igdb_genres=[FIGHTING]))


def lacks(url: str) -> str:
    """What a load says that the database lacks."""
    with pytest.raises(Failed) as raised:
        Database(url).load(stage_library(ROWS), ["user-1"])
    assert raised.value.code == "schema_mismatch"
    return raised.value.message


def test_a_database_of_either_generation_lacks_nothing(database_url: str) -> None:
    assert Database(database_url).read_schema().missing == []


def test_what_the_first_generation_lacks_is_left_out(new_database: NewDatabase) -> None:
    assert sorted(Database(new_database(2025)).read_schema().left_out) == [
        '"ImportedGame"."lastPlayedAt"',
        '"ImportedGame"."playtimeLinux"',
        '"ImportedGame"."playtimeMac"',
        '"ImportedGame"."playtimeWindows"',
        '"LibraryItem"."hasBeenPlayed"',
        '"LibraryItem"."statusChangedAt"',
    ]
    assert Database(new_database(2026)).read_schema().left_out == []


def test_the_table_of_users_is_the_one_the_foreign_key_names(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'CREATE TABLE "User" (id text)')
    execute(url, 'ALTER TABLE "user" RENAME COLUMN id TO "userKey"')

    users = Database(url).read_schema().users

    assert users is not None
    assert (users.name, users.c.id.name) == ("user", "userKey")
    assert Database(url).load(stage_library(ROWS), ["user-1"]).counts["imported_games_created"] == 1


def test_a_database_without_the_tables_is_told_each(postgres_server: str) -> None:
    told = lacks(postgres_server)

    for name in ("Game", "GameGenre", "GamePlatform", "Genre", "ImportedGame", "LibraryItem", "Platform"):
        assert f'table "{name}"' in told
    assert 'enum "IgdbMatchStatus"' in told


def test_a_missing_table_is_named_and_nothing_is_written(own_database_url: str) -> None:
    execute(own_database_url, 'DROP TABLE "GamePlatform"')

    assert 'It lacks table "GamePlatform".' in lacks(own_database_url)
    assert rows_of(own_database_url, "Genre") == []


def test_a_missing_column_is_named_and_nothing_is_written(own_database_url: str) -> None:
    execute(own_database_url, 'ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"')

    assert 'It lacks column "ImportedGame"."igdbMatchStatus".' in lacks(own_database_url)
    assert rows_of(own_database_url, "Genre") == []


def test_the_migration_that_is_named_adds_the_match_status(own_database_url: str) -> None:
    execute(own_database_url, 'ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus"')
    execute(own_database_url, 'DROP TYPE "IgdbMatchStatus"')
    assert "infra/prisma/migration.sql" in lacks(own_database_url)

    for statement in (Path(__file__).parents[2] / "infra/prisma/migration.sql").read_text().rstrip(";\n").split(";\n"):
        execute(own_database_url, statement)

    assert Database(own_database_url).read_schema().missing == []


@pytest.mark.parametrize(
    ("drop", "key"),
    [
        ('DROP INDEX "Game_igdbId_key"', '"Game" (igdbId)'),
        ('ALTER TABLE "GameGenre" DROP CONSTRAINT "GameGenre_pkey"', '"GameGenre" (gameId, genreId)'),
    ],
)
def test_a_missing_unique_key_is_named(own_database_url: str, drop: str, key: str) -> None:
    execute(own_database_url, drop)

    assert f"It lacks a unique key of {key}." in lacks(own_database_url)


def test_a_missing_optional_column_is_left_out(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'ALTER TABLE "ImportedGame" DROP COLUMN "playtimeMac"')

    assert Database(url).load(stage_library(ROWS), ["user-1"]).counts["imported_games_created"] == 1


def test_a_missing_enum_value_is_named_and_nothing_is_written(own_database_url: str) -> None:
    execute(own_database_url, """ALTER TYPE "Storefront" RENAME VALUE 'STEAM' TO 'STEAM_STORE'""")

    assert 'It lacks value STEAM of enum "Storefront".' in lacks(own_database_url)
    assert rows_of(own_database_url, "Genre") == []


def test_a_missing_foreign_key_is_named(own_database_url: str) -> None:
    execute(own_database_url, 'ALTER TABLE "ImportedGame" DROP CONSTRAINT "ImportedGame_userId_fkey"')

    assert 'a foreign key of "ImportedGame"."userId"' in lacks(own_database_url)


def test_a_new_column_that_no_load_fills_is_named_unless_it_has_a_default(own_database_url: str) -> None:
    execute(own_database_url, """ALTER TABLE "Game" ADD "edition" text NOT NULL DEFAULT 'first'""")
    assert Database(own_database_url).read_schema().missing == []

    execute(own_database_url, 'ALTER TABLE "Game" ALTER "edition" DROP DEFAULT')
    assert 'a default of column "Game"."edition"' in lacks(own_database_url)
