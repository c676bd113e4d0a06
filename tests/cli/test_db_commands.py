"""`load` and the commands around it: dry runs, details, grants, and files that were edited."""

import json
from pathlib import Path

import pytest

from tests.support.databases import execute, rows_of
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import SteamImport


def test_a_dry_run_prints_what_it_would_write_and_writes_nothing(steam_import: SteamImport, database: str) -> None:
    ended = steam_import("run", ACCOUNT, "--user", USER, "--dry-run")
    assert ended.status == 0
    assert "Nothing was written" in ended.out
    assert ["ImportedGame", "4", "0", "0", "0"] in [line.split() for line in ended.out.splitlines()]
    assert rows_of(database, "ImportedGame") == []


def test_the_details_of_a_dry_run_name_each_row_and_column(steam_import: SteamImport, database: str) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    enriched = steam_import("enrich", raw).out.strip()
    assert steam_import("load", enriched).status == 0
    execute(database, """UPDATE "ImportedGame" SET name = 'Another name' WHERE "storefrontGameId" = '999010'""")
    ended = steam_import("load", enriched, "--dry-run", "--details", "--json")
    changes = json.loads(ended.out)["dry_run"]["changes"]
    assert {(c["table"], c["column"], c["old"], c["new"]) for c in changes if c["column"] == "name"} == {
        ("ImportedGame", "name", "Another name", "Nobody Knows Me")
    }


def test_the_details_hold_names_as_they_are(steam_import: SteamImport, database: str) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    enriched = steam_import("enrich", raw).out.strip()
    assert steam_import("load", enriched).status == 0
    execute(database, """UPDATE "ImportedGame" SET name = '[red]x[/]' WHERE "storefrontGameId" = '999010'""")
    assert "[red]x[/]" in steam_import("load", enriched, "--dry-run", "--details").out


def test_the_grants_are_statements_for_that_role(steam_import: SteamImport, database: str) -> None:
    assert database
    ended = steam_import("db", "grants", 'im"porter')
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("GRANT ") and line.endswith(' TO "im""porter";') for line in lines)


def test_db_commands_print_json(steam_import: SteamImport, database: str) -> None:
    assert database
    found = json.loads(steam_import("db", "check", "--json").out)
    assert (found["missing"], "ImportedGame" in found["tables"]) == ([], True)
    assert json.loads(steam_import("db", "create", "--json").out) == {"made": False}
    assert len(json.loads(steam_import("db", "grants", "importer", "--json").out)) == 5


def test_a_quiet_run_prints_what_the_next_command_takes(steam_import: SteamImport, database: str) -> None:
    assert database
    enriched = steam_import("run", ACCOUNT, "--user", USER, "--quiet")
    assert enriched.err == ""
    loaded = steam_import("load", enriched.out.strip(), "-q")
    assert loaded == (0, "", "")


def test_a_run_that_fails_names_the_command_that_continues_it(steam_import: SteamImport, database: str) -> None:
    assert database
    ended = steam_import("run", ACCOUNT, "--user", "stranger")
    (enriched,) = Path("data/imports/stranger").absolute().glob("*-enriched.csv")
    assert f"To continue, with the same settings: steam-import load {enriched}\n" in ended.err


def test_a_database_without_the_match_status_names_the_migration(steam_import: SteamImport, database: str) -> None:
    execute(database, """ALTER TABLE "ImportedGame" DROP COLUMN "igdbMatchStatus" """)
    ended = steam_import("db", "check")
    assert ended.status == 1
    assert "infra/prisma/migration.sql" in ended.err


def test_no_tables_are_made_where_the_url_is_wrong_and_the_password_is_not_shown(
    steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("postgresql://u:CANARY@[::1/x", "postgresql://u:CANARY%zz@127.0.0.1:1/y", "nonsense"):
        monkeypatch.setenv("DATABASE_URL", url)
        ended = steam_import("db", "create")
        assert ended.status == 2
        assert "CANARY" not in ended.out + ended.err


def test_a_relative_location_may_lead_up_and_down_again(steam_import: SteamImport) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    relative = raw.replace(raw[: raw.index("/data/")], "./data/..")
    assert steam_import("enrich", relative).status == 0


@pytest.mark.parametrize("url", ["gs://bucket", "https://x", "S3://b", "s3://", "file:///tmp/x"])
def test_a_store_of_another_kind_is_refused(steam_import: SteamImport, url: str) -> None:
    ended = steam_import("fetch", ACCOUNT, "--store-url", url)
    assert ended.status == 2
    assert ended.err.startswith("configuration: ")


def test_a_bad_user_is_refused_before_steam_is_asked(steam_import: SteamImport) -> None:
    ended = steam_import("fetch", "a-vanity-name", "--user", "a b", "--steam-api-key", "wrong")
    assert ended.status == 2
    assert ended.err.startswith("bad_event: ")


def test_run_as_json_reports_missing_settings_too(steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEAM_API_KEY")
    ended = steam_import("run", ACCOUNT, "--json")
    assert ended.status == 2
    assert json.loads(ended.out)["fetch"]["error_code"] == "configuration"


def edit(location: str) -> None:
    """Change a name in a CSV, as an analyst may do."""
    path = Path(location)
    path.write_text(path.read_text(encoding="utf-8").replace("Nobody Knows Me", "Somebody Does"), encoding="utf-8")


def test_an_edited_file_is_read_only_with_trust(steam_import: SteamImport, database: str) -> None:
    raw = steam_import("fetch", ACCOUNT, "--user", USER).out.strip()
    edit(raw)
    refused = steam_import("enrich", raw)
    assert refused.status == 1
    assert (
        "If it was edited on purpose, give --trust (in Python trust=True). "
        f"Make it again: steam-import fetch STEAM_ID --user {USER}\n"
    ) in refused.err
    trusted = steam_import("enrich", raw, "--trust")
    assert trusted.status == 0
    assert "trusted a file that its manifest does not prove" in trusted.err
    enriched = trusted.out.strip()
    edit(raw)
    assert steam_import("load", enriched).status == 0
    path = Path(enriched)
    path.write_text(path.read_text(encoding="utf-8").replace("Somebody Does", "Nobody Does"), encoding="utf-8")
    refused = steam_import("load", enriched)
    assert refused.status == 1
    assert f"Make it again: steam-import enrich {raw}" in refused.err
    assert steam_import("review", "export", enriched).status == 1
    assert b"Nobody Does" in steam_import("review", "export", enriched, "--trust").out.encode()
    assert steam_import("load", enriched, "--trust").status == 0
    Path("sheet.csv").write_text(f"appid,action,igdb_id,note,checkpoint\n440,ignore,,,{Path(raw).name}\n")
    assert "give --trust" in steam_import("review", "apply", "sheet.csv", raw).err
    assert steam_import("review", "apply", "sheet.csv", raw, "--trust").status == 0
    assert ("Nobody Does",) in rows_of(database, "ImportedGame", "name")
