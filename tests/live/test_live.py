"""The three stages against the real Steam, IGDB, S3 and PostgreSQL that `.env.integration` names."""

from pathlib import Path

import click
import pytest
import structlog
from dotenv import dotenv_values

from pipeline import clients
from pipeline.apis.retry import RetryPolicy
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from tests.live.check import check
from tests.support.programs import set_only

FILE = Path(__file__).parents[2] / ".env.integration"


NEEDED = (
    "TEST_USER_ID",
    "STEAM_API_KEY",
    "STEAM_ID64",
    "IGDB_CLIENT_ID",
    "IGDB_CLIENT_SECRET",
    "DATABASE_URL",
    "S3_BUCKET",
)


@pytest.mark.live
@pytest.mark.timeout(1800)
def test_a_library_is_imported_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_live_check(FILE, monkeypatch, tmp_path)


def run_live_check(file: Path, monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    """Check, print and insist; without the file, say so."""
    if not file.exists():
        click.echo(f"\nThere is no {file.name}: nothing was checked. {file.name}.example says what goes into it.")
        return
    # The file alone: nothing that this shell happens to have set may lead the check to another database.
    named = {name.upper(): value for name, value in dotenv_values(file).items() if value}
    missing = [name for name in NEEDED if name not in named]
    assert not missing, f"{file.name} lacks {', '.join(missing)}"
    set_only(monkeypatch, named)
    monkeypatch.chdir(empty_folder)
    settings = Settings.read()
    configure_logging(settings)
    policy = RetryPolicy(
        settings.retry_attempts,
        clients.STEAM_RETRY_SECONDS if settings.retry_base_seconds is None else settings.retry_base_seconds,
    )
    click.echo()
    checked = check(settings, named["TEST_USER_ID"], named["STEAM_ID64"], policy)
    structlog.reset_defaults()
    assert checked.error is None, checked.error
    assert checked.written_again == {}
