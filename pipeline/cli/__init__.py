"""The commands; the only place that turns our errors into exit statuses."""

import sys
from collections.abc import Sequence

import click
import polars as pl

from pipeline.cli.backfill import backfill, replay
from pipeline.cli.catalogue import catalogue
from pipeline.cli.db import db
from pipeline.cli.doctor import doctor
from pipeline.cli.imports import demo, enrich, fetch, load, run
from pipeline.cli.options import Group
from pipeline.cli.output import echo_always
from pipeline.cli.report import report_command
from pipeline.cli.review import review
from pipeline.cli.runs import runs
from pipeline.errors import PipelineError, Refused

EXIT_FAILED, EXIT_REFUSED, EXIT_RETRYABLE, EXIT_INTERRUPTED = 1, 2, 75, 130


def main() -> None:
    """The program; each of our errors ends as its sentence on stderr, where to read more, and its exit status."""
    # The default, the streaming engine, takes ten times as long to check a library's few rows.
    pl.Config.set_engine_affinity("in-memory")
    try:
        sys.exit(cli(standalone_mode=False))
    except PipelineError as error:
        lines = [f"{error.code}: {error.message}", *_notes(error), f"More: docs/errors.md#{error.code}"]
        echo_always("\n".join(lines), err=True)
        sys.exit(exit_status(error))
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_REFUSED)
    except (click.Abort, KeyboardInterrupt) as stopped:
        how = _notes(stopped.__cause__ or stopped) or ["To go on, run the same command again."]
        echo_always(" ".join(["Interrupted. All that was written is whole.", *how]), err=True)
        sys.exit(EXIT_INTERRUPTED)


def exit_status(error: PipelineError) -> int:
    """2 for what the user must mend, 75 (EX_TEMPFAIL) for what may go through later, 1 for what is final."""
    if error.retryable:
        return EXIT_RETRYABLE
    return EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED


def _notes(error: BaseException) -> Sequence[str]:
    """What a command added to an error on its way up: how to go on from there."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return notes


@click.group(
    cls=Group,
    epilog="steam-import run gabelogannewell",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="steam-library-import")
def cli() -> None:
    """A person's Steam library, matched to IGDB, as rows in SavePoint's PostgreSQL database."""


for command in (run, fetch, enrich, load, demo, backfill, replay, catalogue, db, doctor, report_command, review, runs):
    cli.add_command(command)
