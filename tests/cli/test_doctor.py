"""What `doctor` says of each thing, well and broken."""

import json
from pathlib import Path

import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.databases import NewDatabase, as_role, execute, fetch
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
    assert says(steam_import("doctor", "--database-url", as_role(url)))["database"][0] == "ok"
    execute(url, 'REVOKE INSERT ON "Game" FROM loader')
    ended = steam_import("doctor", "--database-url", as_role(url))
    status, sentence = says(ended)["database"]
    assert status == "failed"
    assert "INSERT on Game." in sentence
    assert "db grants" in sentence
    assert fetch(url, 'SELECT 1 FROM "Game"').height == 0
