"""The commands that print the documentation and the settings."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli import cli
from pipeline.settings import Settings
from tests.support.documents import ROOT


def call(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=environment)


def test_a_section_of_the_error_page_is_printed_alone() -> None:
    shown = call("docs", "errors", "private_library")
    assert shown.output.startswith("## private_library\n\nExit status 1.")
    assert "## account_not_found" not in shown.output


def test_every_page_is_listed_and_printed() -> None:
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


def test_details_without_a_dry_run_are_refused() -> None:
    shown = call("load", "x-enriched.csv", "--details")
    assert shown.exit_code == 2
    assert "give --dry-run with it" in shown.output
