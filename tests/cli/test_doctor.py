"""The commands about this installation: `doctor`, `settings` and `docs`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from tests.support.databases import NewDatabase, as_role, execute
from tests.support.documents import ROOT
from tests.support.lambda_functions import NOWHERE
from tests.support.programs import Ended, SteamImport

CHECKS = ["versions", "clock", "store", "steam key", "igdb keys", "database"]


def says(ended: Ended) -> dict[str, tuple[str, str]]:
    """The status and the sentence of each check."""
    lines = [(line[:8].strip(), line[9:19].strip(), line[20:]) for line in ended.out.splitlines()]
    return {check: (status, sentence) for status, check, sentence in lines}


def test_all_is_well_where_everything_is_there(steam_import: SteamImport, sandbox: Sandbox, database: str) -> None:
    assert database
    ended = steam_import("doctor")
    assert (ended.status, [status for status, _ in says(ended).values()]) == (0, ["ok"] * len(CHECKS))
    assert list(says(ended)) == CHECKS
    assert not [secret for secret in sandbox.environment.values() if secret in ended.out]
    assert list(Path("data").iterdir()) == []
    findings = json.loads(steam_import("doctor", "--json").out)
    assert [(finding["check"], finding["status"]) for finding in findings] == [(check, "ok") for check in CHECKS]
    assert steam_import("doctor", "--quiet").out == ""


def test_the_embedded_database_is_looked_at_but_neither_made_nor_started(steam_import: SteamImport) -> None:
    status, sentence = says(steam_import("doctor"))["database"]
    assert status == "ok"
    assert "made when a command needs it; embedded, as DATABASE_URL is not set." in sentence
    assert list(Path("data").iterdir()) == []


def test_settings_that_are_missing_are_named_and_are_no_failure(
    steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    assert database
    for name in ("STEAM_API_KEY", "IGDB_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    ended = steam_import("doctor", "--quiet")
    assert ended.status == 2
    assert {check: status for check, (status, _) in says(ended).items()} == dict.fromkeys(
        ("steam key", "igdb keys"), "skipped"
    )
    assert "https://steamcommunity.com/dev/apikey" in ended.out
    assert "IGDB_CLIENT_SECRET: " in ended.out
    assert "IGDB_CLIENT_ID: " not in ended.out


def test_everything_is_looked_at_though_all_of_it_fails(
    steam_import: SteamImport, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("data").write_text("a file where the store would be")
    for name in ("STEAM_API_KEY", "IGDB_CLIENT_SECRET"):
        monkeypatch.setenv(name, "CANARY")
    monkeypatch.setenv("STEAM_API_URL", NOWHERE)
    ended = steam_import("doctor", "--database-url", "postgresql://u:CANARY@127.0.0.1:1/x", "--log-level", "ERROR")
    assert ended.status == 1
    assert {check for check, (status, _) in says(ended).items() if status == "failed"} == set(CHECKS) - {"versions"}
    for word in ("Check the network", "STORE_URL", "https://dev.twitch.tv/console/apps", "database_unavailable"):
        assert word in ended.out
    assert "CANARY" not in ended.out + ended.err


def test_a_clock_that_is_off_and_a_key_that_is_refused_are_told(
    steam_import: SteamImport, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    assert database
    monkeypatch.setenv("STEAM_API_KEY", "wrong")
    when = {"Date": "Mon, 23 Nov 2020 03:17:49 GMT"}
    sandbox.faults.add(Fault(service="steam", path="", status=404, headers=when, times=1))
    ended = steam_import("doctor")
    assert ended.status == 1
    status, sentence = says(ended)["clock"]
    assert status == "failed"
    assert "ahead of Steam's" in sentence
    assert "timedatectl" in sentence
    assert says(ended)["steam key"][1].startswith("bad_steam_key: ")


def test_a_role_without_the_rights_is_told_which_it_lacks(steam_import: SteamImport, new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, 'REVOKE INSERT ON "Game" FROM loader')
    status, sentence = says(steam_import("doctor", "--database-url", as_role(url)))["database"]
    assert status == "failed"
    assert "INSERT on Game." in sentence
    assert "db grants" in sentence


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment)


def test_every_page_is_listed_and_printed_and_a_section_alone() -> None:
    section = call("docs", "errors", "private_library").output
    assert section.startswith("## private_library\n\nExit status 1.")
    assert "## account_not_found" not in section
    as_json = json.loads(call("docs", "errors", "private_library", "--json").output)
    assert as_json["text"].strip() == section.strip()
    assert call("docs").output.split() == sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
    assert call("docs", "errors").output.strip() == (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("arguments", [("docs", "nothing"), ("docs", "errors", "nothing")], ids=" ".join)
def test_a_page_or_heading_that_is_not_there_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    shown = call(*arguments)
    assert shown.exit_code == 2
    assert "'nothing'" in shown.output


def test_settings_are_printed_with_their_values_and_sources_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("STEAM_API_KEY=0123456789abcdef\nRETRY_ATTEMPTS=3\n", encoding="utf-8")
    shown = call("settings", "--json", "--log-format", "json", RETRY_ATTEMPTS="4", LOG_FORMAT="console")
    found = {row["name"]: (row["value"], row["source"]) for row in json.loads(shown.output)}
    assert list(found) == [name.upper() for name in Settings.model_fields]
    assert found["STEAM_API_KEY"] == ("***", ".env")
    assert found["RETRY_ATTEMPTS"] == ("4", "environment")
    assert found["STORE_URL"] == ("data", "default")
    assert found["LOG_FORMAT"] == ("json", "option")
    quiet = json.loads(call("settings", "--json", "--quiet", LOG_LEVEL="INFO").output)
    assert [row["source"] for row in quiet if row["name"] == "LOG_LEVEL"] == ["option"]
    table = call("settings").output
    assert "*** " in table
    assert "0123456789abcdef" not in table
