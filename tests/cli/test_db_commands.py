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


DEFAULTS = {
    "2025": ("CURIOUS_ABOUT", "EXPERIENCED", "by its playtime", "the enum has EXPERIENCED"),
    "2026": ("SHELF", "SHELF", "PLAYING", "the enum has SHELF"),
}


@pytest.mark.parametrize("generation", DEFAULTS)
def test_tables_are_created_once_and_then_complete_and_the_statuses_of_a_load_have_a_reason(
    steam_import: SteamImport, empty_database: str, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    lacking = steam_import("db", "check")
    assert lacking.status == 1
    assert "Missing:" in lacking.out
    assert "ImportedGame" in lacking.out
    made = steam_import("db", "create", "--generation", generation)
    assert (made.status, made.out) == (0, f"Made SavePoint's tables of {generation}.\n")
    again = steam_import("db", "create")
    assert (again.status, again.out) == (0, "There are tables already; nothing was made.\n")
    assert json.loads(steam_import("db", "create", "--json").out) == {"made": False}

    *statuses, why = DEFAULTS[generation]
    names = ("unplayed", "played", "recent")
    lines = [f"Status, {name + ':':10}{status}, because {why}" for name, status in zip(names, statuses, strict=True)]
    complete = steam_import("db", "check")
    assert (complete.status, complete.out.splitlines()[-3:]) == (0, lines)
    monkeypatch.setenv("STATUS_PLAYED", "WISHLIST")
    assert "Status, played:   WISHLIST, because STATUS_PLAYED is set" in steam_import("db", "check").out
    found = json.loads(steam_import("db", "check", "--json").out)
    assert (found["missing"], "ImportedGame" in found["tables"]) == ([], True)
    assert found["statuses"]["played"] == {"status": "WISHLIST", "why": "STATUS_PLAYED is set"}
    assert found["statuses"]["recent"] == {"status": None if generation == "2025" else "PLAYING", "why": why}


def test_a_status_that_the_enum_lacks_is_printed_and_refused(steam_import: SteamImport, database: str) -> None:
    ended = steam_import("db", "check", "--status-played", "FINISHED", "--database-url", database)
    assert ended.status == 2
    assert "Status, played:   FINISHED, because STATUS_PLAYED is set" in ended.out
    assert "set STATUS_PLAYED to one of " in ended.err


@pytest.mark.usefixtures("database")
def test_the_grants_are_statements_for_that_role(steam_import: SteamImport) -> None:
    lines = steam_import("db", "grants", 'im"porter').out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("GRANT ") and line.endswith(' TO "im""porter";') for line in lines)
    assert json.loads(steam_import("db", "grants", 'im"porter', "--json").out) == lines


@pytest.mark.parametrize("url", ["postgresql://u:CANARY@[::1/x", "postgresql://u:CANARY%zz@127.0.0.1:1/y", "nonsense"])
def test_no_tables_are_made_where_the_url_is_wrong_and_the_password_is_not_shown(
    steam_import: SteamImport, url: str
) -> None:
    ended = steam_import("db", "create", "--database-url", url)
    assert ended.status == 2
    assert "CANARY" not in ended.out + ended.err
