"""What all commands have in common: how their help is laid out.

The options of the commands: each names the setting that it overrides.
"""

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import click

from pipeline.cli.output import QUIET
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from pipeline.steam_id import HINT

OUTPUT = frozenset({"output", "as_json", "quiet", "log_level", "log_format"})


class SettingOption(click.Option):
    """An option that wins over a setting."""


class Command(click.Command):
    """A command whose help has the options under headings, and its epilog, a call of it, as an example."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading that has options."""
        for heading, options in _by_heading(self.get_params(ctx)).items():
            with formatter.section(heading):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        """Write the example."""
        _write_example(self, formatter)


class Group(click.Group):
    """A group of such commands, with an example too."""

    command_class = Command
    group_class = type

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own
        """Write the example."""
        _write_example(self, formatter)


def _write_example(command: click.Command, formatter: click.HelpFormatter) -> None:
    """As it is to be typed: unlike click, without folding it."""
    if command.epilog:
        with formatter.section("Example"):
            formatter.write(f"{'':{formatter.current_indent}}{command.epilog}\n")


def _by_heading(params: Iterable[click.Parameter]) -> dict[str, list[click.Parameter]]:
    headings: dict[str, list[click.Parameter]] = {"What": [], "Settings": [], "Output": []}
    for param in params:
        if isinstance(param, click.Option):
            headings[_heading(param)].append(param)
    return {heading: options for heading, options in headings.items() if options}


def _heading(option: click.Option) -> str:
    if option.name in OUTPUT or "--help" in option.opts:
        return "Output"
    return "Settings" if isinstance(option, SettingOption) else "What"


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
    """Give a command options that win over the settings of these names, and hand it the `settings`; and `--quiet`."""
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
