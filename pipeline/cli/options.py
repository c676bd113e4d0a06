"""The arguments and options that commands share; an option that overrides a setting is named after it."""

import shlex
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
import polars as pl

from pipeline.cli.terminal import QUIET, SettingOption
from pipeline.logs import configure_logging
from pipeline.settings import Settings

CommandFunction = Callable[..., None]

STORE = ("store_url",)
STEAM = ("steam_api_key", *STORE)
IGDB = ("igdb_client_id", "igdb_client_secret", *STORE)
DATABASE = ("database_url", "status_unplayed", "status_played", "status_recent", *STORE)
TIMEOUTS = ("statement_timeout_seconds", "lock_timeout_seconds")


def _require_dry_run(context: click.Context, _option: click.Parameter, details: object) -> object:
    if details and not context.params["dry_run"]:
        raise click.UsageError("--details lists what a load would change: give --dry-run with it.", context)
    return details


steam_id_argument = click.argument("steam_id", required=False)
user_option = click.option(
    "--user",
    "user_id",
    help="Whose library it is in SavePoint; unless given, the user of DATABASE_URL whose steamId64 it is.",
)
dry_run_option = click.option(
    # Eager: it is parsed before --details, which looks at it.
    "--dry-run",
    is_flag=True,
    is_eager=True,
    help="Print what a load would write, and write nothing.",
)
details_option = click.option(
    "--details",
    is_flag=True,
    callback=_require_dry_run,
    help="With --dry-run: list each row and column that would change.",
)
trust_option = click.option("--trust", is_flag=True, help="Read a file that was edited after its manifest was written.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def with_settings(*names: str, log_level: str | None = None) -> Callable[[CommandFunction], CommandFunction]:
    """Return a decorator that adds options to a command that takes `settings`: one per setting named, and `--quiet`.

    `log_level` is the least severe level that the command logs if no setting says another.
    """
    names = (*names, "log_level", "log_format")

    def decorate(command: CommandFunction) -> CommandFunction:
        @wraps(command)
        def with_options(*, quiet: bool, **arguments: Any) -> None:
            overrides = {name: arguments.pop(name) for name in names}
            if quiet:
                click.get_current_context().meta[QUIET] = True
                overrides["log_level"] = overrides["log_level"] or "ERROR"
            command(settings=_prepare(overrides, log_level), **arguments)

        for name in reversed(names):
            flag = f"--{name.replace('_', '-')}"
            with_options = click.option(flag, name, help=_setting_help(name), cls=SettingOption)(with_options)
        says = "Print only errors, and results that a next command or a program takes."
        return click.option("-q", "--quiet", is_flag=True, help=says)(with_options)

    return decorate


def next_command(*words: str) -> str:
    """Return the text of a command to run after this one, with the option --store-url if this one was given it."""
    context = click.get_current_context(silent=True)
    store = context and context.params.get("store_url")
    return shlex.join(["steam-import", *words, *(("--store-url", store) if store else ())])


def _setting_help(name: str) -> str:
    """Return the meaning of a setting and its default, as the help of the option that overrides it."""
    setting = Settings.model_fields[name]
    default = "" if setting.default is None else f" [default: {setting.default}]"
    return f"{setting.description}.{default}"


def _prepare(overrides: dict[str, str | None], log_level: str | None) -> Settings:
    """Return the settings with overrides from a command's options, and set up Polars and the log for the command.

    From here on Ctrl-C interrupts the command, which says how to continue.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = Settings.read(**overrides).with_default_store()
    # On a terminal, log lines would run through the progress bars.
    log_level = "WARNING" if sys.stderr.isatty() else log_level
    if log_level and "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": log_level})
    configure_logging(settings, "console")
    # The default, the streaming engine, takes ten times as long to check a library's few rows.
    pl.Config.set_engine_affinity("in-memory")
    return settings
