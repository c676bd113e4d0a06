"""The options that commands share; those that override a setting name it."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from pipeline.cli.echo import QUIET
from pipeline.cli.help import SettingOption
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from pipeline.steam_id import HINT

CommandFunction = Callable[..., None]
STORE = ("store_url",)
STEAM = ("steam_api_key", *STORE)
IGDB = ("igdb_client_id", "igdb_client_secret", *STORE)
DATABASE = ("database_url", "status_unplayed", "status_played", *STORE)
TIMEOUTS = ("statement_timeout_seconds", "lock_timeout_seconds")


class _SteamId(click.types.StringParamType):
    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's own
        return HINT


steam_id_argument = click.argument("steam_id", type=_SteamId())
user_option = click.option("--user", "user_id", help="Whose library it is in SavePoint; the SteamID64 unless given.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Roll the load back, and say what it would have done.")

details_option = click.option(
    "--details", is_flag=True, help="With --dry-run: list each row and column that would change."
)

trust_option = click.option("--trust", is_flag=True, help="Read an edited file, though its manifest disagrees.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Nothing but errors, and of results what a next command or a program takes."
)


def with_settings(*names: str) -> Callable[[CommandFunction], CommandFunction]:
    """Give a command options that override the settings of these names, and hand it the `settings`; and `--quiet`."""
    names = (*names, "log_level", "log_format")

    def decorate(command: CommandFunction) -> CommandFunction:
        @wraps(command)
        def with_options(*, quiet: bool, **arguments: Any) -> None:  # noqa: ANN401 - whatever the command takes
            overrides = {name: arguments.pop(name) for name in names}
            if quiet:
                click.get_current_context().meta[QUIET] = True
                overrides["log_level"] = overrides["log_level"] or "ERROR"
            command(settings=_settings(overrides), **arguments)

        for name in reversed(names):
            flag, instead = f"--{name.replace('_', '-')}", f"Instead of {name.upper()}."
            with_options = click.option(flag, name, help=instead, cls=SettingOption)(with_options)
        return quiet_option(with_options)

    return decorate


def _settings(overrides: dict[str, str | None]) -> Settings:
    """What was configured; on a terminal the bars speak, and the log only of what is wrong."""
    settings = Settings.read(**overrides).with_default_store()
    if sys.stderr.isatty() and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "WARNING"})
    configure_logging(settings, "console")
    return settings
