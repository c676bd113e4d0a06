"""The program `steam-import`: its commands, and the only place that turns our errors into exit statuses.

Whatever is imported here is imported for `--help` and `--version` too: click, and no library of data or networks.
"""

import atexit
import errno
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import NamedTuple

import click

from pipeline.cli.terminal import Group, echo_always
from pipeline.errors import PipelineError, Refused

_NOT_ON_WINDOWS = (
    "steam-import runs on Linux and macOS. On Windows install it in WSL, the Windows Subsystem for Linux: "
    "https://learn.microsoft.com/windows/wsl/install"
)

STDOUT, STDERR = 1, 2
OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
EXIT_FAILED, EXIT_REFUSED, EXIT_RETRYABLE, EXIT_INTERRUPTED = 1, 2, 75, 130


class ListedCommand(NamedTuple):
    """The name of the module that has a command, and the first sentence of the command's help."""

    module: str
    summary: str


COMMANDS = {
    "demo": ListedCommand("imports", "Import a recorded library twice, with nothing configured."),
    "doctor": ListedCommand("doctor", "Check what an import needs, and say what to fix."),
    "settings": ListedCommand("doctor", "Print all settings with their values, and where each value comes from."),
    "run": ListedCommand("imports", "Fetch, enrich and load a library."),
    "fetch": ListedCommand("imports", "Fetch the games and playtimes of an account from Steam into a raw CSV."),
    "enrich": ListedCommand("imports", "Match the raw CSV at LOCATION to IGDB."),
    "load": ListedCommand("imports", "Load the enriched CSV at LOCATION into the database."),
    "runs": ListedCommand("runs", "List the runs in the store, the newest first."),
    "diff": ListedCommand("runs", "Print what changed between two imports of a user."),
    "report": ListedCommand("report", "Write a page about the enriched CSV at ENRICHED_CSV."),
    "review": ListedCommand("review", "Match games by hand: export a sheet, fill it in, apply it."),
    "backfill": ListedCommand("backfill", "Import the libraries of all users in USERS_CSV, or in the database."),
    "replay": ListedCommand("backfill", "Load rejected and PENDING rows of a backfill again."),
    "catalogue": ListedCommand("catalogue", "Fill, compact or describe the catalogue of Steam apps."),
    "db": ListedCommand("db", "Check SavePoint's database, or make one to try things in."),
    "forget": ListedCommand("backfill", "Erase what the store holds of a user."),
    "sandbox": ListedCommand("sandbox", "Serve a local Steam, Twitch and IGDB, to develop and try things with."),
    "docs": ListedCommand("doctor", "Print a page of the documentation, or the names of all pages."),
}
"""All commands, in the order of work. Their summaries are repeated here so that the help imports no command."""


class _Program(Group):
    """The group of all commands, each of which is imported when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{COMMANDS[name].module}"), name)
        return command

    def summary(self, _ctx: click.Context, name: str) -> str:
        return COMMANDS[name].summary


@click.group(
    cls=_Program,
    epilog="steam-import run gabelogannewell",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(package_name="steam-library-import")
def cli() -> None:
    """Import Steam libraries, matched to IGDB, into SavePoint's PostgreSQL database."""


def main() -> None:
    """Run `steam-import` and exit; an error is printed as a sentence, with the page that says more about it."""
    if sys.platform == "win32":
        echo_always(f"configuration: {_NOT_ON_WINDOWS}", err=True)
        sys.exit(EXIT_REFUSED)
    for stream in (sys.stdout, sys.stderr):
        # What an encoding lacks, as Latin-1 most names of games, is escaped instead of ending the command.
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    # The libraries make half a million objects, none of which is garbage. To look for some while they are imported, and
    # again when Python ends, took a quarter of a short command's time.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    try:
        sys.exit(cli(prog_name="steam-import", standalone_mode=False))
    except PipelineError as error:
        lines = [
            f"{error.code}: {error.message}",
            *getattr(error, "__notes__", ()),  # how to continue, from the command
            f"More: steam-import docs errors {error.code} (docs/errors.md#{error.code})",
        ]
        with _exiting_with(exit_status(error)):
            echo_always("\n".join(lines), err=True)
    except click.ClickException as error:
        with _exiting_with(EXIT_REFUSED):
            error.show()
    except (click.Abort, KeyboardInterrupt) as stopped:
        how = getattr(stopped.__cause__ or stopped, "__notes__", ["To continue, run the same command again."])
        with _exiting_with(EXIT_INTERRUPTED):
            echo_always(" ".join(["Interrupted. Every file that was written is complete.", *how]), err=True)
    except OSError as error:
        # Of stdout or stderr, which alone have no name; every file is written by a store, which converts its errors.
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        says = f"The output cannot be written: {error.strerror}. Every file that was written is complete."
        with _exiting_with(EXIT_RETRYABLE):
            echo_always(f"{says} Make room for the output, and run the same command again.", err=True)
            raise


@contextmanager
def _exiting_with(status: int) -> Iterator[None]:
    """Exit with a status after the block, which prints the reason; where no output can be written, without it."""
    try:
        yield
    except OSError:
        # Python flushes both at its end, and would report that it cannot.
        for descriptor in (STDOUT, STDERR):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    sys.exit(status)


def exit_status(error: PipelineError) -> int:
    """Return the exit status for an error: 2 if the user has to fix it, 75 (EX_TEMPFAIL) if it may pass, else 1."""
    if error.retryable:
        return EXIT_RETRYABLE
    return EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED
