"""`db check`, `db create` and `db grants`."""

import json
from collections.abc import Iterator

import pytest

from tests.support.databases import execute, url_of
from tests.support.programs import SteamImport


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    execute(postgres_server, "CREATE DATABASE emptied")
    yield url_of(postgres_server, "emptied")
    execute(postgres_server, "DROP DATABASE emptied WITH (FORCE)")


@pytest.mark.parametrize("generation", ["2025", "2026"])
def test_tables_are_created_once_and_are_complete(
    steam_import: SteamImport, empty_database: str, generation: str
) -> None:
    lacking = steam_import("db", "check", "--database-url", empty_database)
    assert lacking.status == 1
    assert "Missing:" in lacking.out
    assert "ImportedGame" in lacking.out
    made = steam_import("db", "create", "--generation", generation, "--database-url", empty_database)
    assert (made.status, made.out) == (0, f"Made SavePoint's tables of {generation}.\n")
    complete = steam_import("db", "check", "--database-url", empty_database)
    assert (complete.status, "ImportedGame" in complete.out) == (0, True)
    again = steam_import("db", "create", "--database-url", empty_database)
    assert (again.status, again.out) == (0, "There are tables already; nothing was made.\n")


def test_a_database_without_the_match_status_names_the_migration(steam_import: SteamImport, database: str) -> None:
    execute(database, """ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus" """)
    ended = steam_import("db", "check")
    assert ended.status == 1
    assert "infra/prisma/migration.sql" in ended.err


@pytest.mark.usefixtures("database")
def test_the_grants_are_statements_for_that_role(steam_import: SteamImport) -> None:
    ended = steam_import("db", "grants", 'im"porter')
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("GRANT ") and line.endswith(' TO "im""porter";') for line in lines)


@pytest.mark.usefixtures("database")
def test_the_results_can_be_printed_as_json(steam_import: SteamImport) -> None:
    found = json.loads(steam_import("db", "check", "--json").out)
    assert (found["missing"], "ImportedGame" in found["tables"]) == ([], True)
    assert json.loads(steam_import("db", "create", "--json").out) == {"made": False}
    assert len(json.loads(steam_import("db", "grants", "importer", "--json").out)) == 5


@pytest.mark.parametrize("url", ["postgresql://u:CANARY@[::1/x", "postgresql://u:CANARY%zz@127.0.0.1:1/y", "nonsense"])
def test_no_tables_are_made_where_the_url_is_wrong_and_the_password_is_not_shown(
    steam_import: SteamImport, url: str
) -> None:
    ended = steam_import("db", "create", "--database-url", url)
    assert ended.status == 2
    assert "CANARY" not in ended.out + ended.err


DEFAULTS = {
    "2025": ("CURIOUS_ABOUT", "EXPERIENCED", "by its playtime", "the enum has EXPERIENCED"),
    "2026": ("SHELF", "SHELF", "PLAYING", "the enum has SHELF"),
}


@pytest.mark.parametrize("generation", DEFAULTS)
def test_the_statuses_that_a_load_gives_are_printed_with_the_reason(
    steam_import: SteamImport, empty_database: str, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    steam_import("db", "create", "--generation", generation)
    *statuses, why = DEFAULTS[generation]
    names = ("unplayed", "played", "recent")

    def printed() -> list[str]:
        return [line for line in steam_import("db", "check").out.splitlines() if line.startswith("Status")]

    lines = [f"Status, {name + ':':10}{status}, because {why}" for name, status in zip(names, statuses, strict=True)]
    assert printed() == lines
    monkeypatch.setenv("STATUS_PLAYED", "WISHLIST")
    assert printed() == [lines[0], "Status, played:   WISHLIST, because STATUS_PLAYED is set", lines[2]]
    found = json.loads(steam_import("db", "check", "--json").out)["statuses"]
    assert found["played"] == {"status": "WISHLIST", "why": "STATUS_PLAYED is set"}
    assert found["recent"] == {"status": None if generation == "2025" else "PLAYING", "why": why}


def test_a_status_that_the_enum_lacks_is_printed_and_refused(steam_import: SteamImport, database: str) -> None:
    ended = steam_import("db", "check", "--status-played", "FINISHED", "--database-url", database)
    assert ended.status == 2
    assert "Status, played:   FINISHED, because STATUS_PLAYED is set" in ended.out
    assert "set STATUS_PLAYED to one of " in ended.err
