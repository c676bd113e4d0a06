"""The options of the commands: each names the setting that it overrides."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from pipeline import wiring
from pipeline.local import with_default_store
from pipeline.settings import Settings

Command = Callable[..., None]

STORE = ("store_url",)
STEAM = ("steam_api_key", *STORE)
IGDB = ("igdb_client_id", "igdb_client_secret", *STORE)
DATABASE = ("database_url", "status_unplayed", "status_played", *STORE)
TIMEOUTS = ("statement_timeout_seconds", "lock_timeout_seconds")

user_option = click.option("--user", "user_id", help="Whose library it is in SavePoint; the SteamID64 unless given.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Roll the load back, and say what it would have done.")
details_option = click.option(
    "--details", is_flag=True, help="With --dry-run: list each row and column that would change."
)
trust_option = click.option("--trust", is_flag=True, help="Read an edited file, though its manifest disagrees.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command options that win over the settings of these names, and hand it the `settings`."""
    names = (*names, "log_level", "log_format")

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_options(**arguments: Any) -> None:  # noqa: ANN401 - whatever the command takes
            overrides = {name: arguments.pop(name) for name in names}
            command(settings=_settings(overrides), **arguments)

        for name in reversed(names):
            option = click.option(f"--{name.replace('_', '-')}", name, help=f"Instead of {name.upper()}.")
            with_options = option(with_options)
        return with_options

    return decorate


def _settings(overrides: dict[str, str | None]) -> Settings:
    """What was configured; on a terminal the bars speak, and the log only of what is wrong."""
    settings = with_default_store(Settings.read(**overrides))
    if sys.stderr.isatty() and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    wiring.configure_logging(settings, "console")
    return settings
