"""The command that writes a page about an enriched CSV."""

import json
from pathlib import Path

import click

from pipeline import clients
from pipeline.api import read_any_csv
from pipeline.cli.local import absolute_location
from pipeline.cli.options import STORE, json_option, trust_option, with_settings
from pipeline.cli.terminal import Command
from pipeline.errors import Failed, PipelineError
from pipeline.report.page import render_report
from pipeline.settings import Settings, absolute_path
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import DirectoryStore
from schemas.library import EnrichedLibrary

STDOUT = Path("-")


@click.command(cls=Command, epilog="steam-import report data/imports/me/20261123T031749Z-enriched.csv -o me.html")
@click.argument("enriched_csv")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write; - for stdout.",
)
@trust_option
@json_option
@with_settings(*STORE)
def report(settings: Settings, enriched_csv: str, output: Path, *, trust: bool, as_json: bool) -> None:
    """Write a page about the enriched CSV at ENRICHED_CSV.

    ENRICHED_CSV is a location in the store, or any copy on disk. The page is one HTML file that needs no network:
    figures, charts, the games that were not matched, and a table to search and sort. Prints where the page is.
    """
    if output != STDOUT:
        page = str(write_report(settings, enriched_csv, output, trust=trust))
        click.echo(json.dumps({"report": page}) if as_json else page)
    elif as_json:
        raise click.UsageError("--json needs a file to write, for the page would go to stdout too.")
    else:
        click.echo(_render(settings, enriched_csv, trust=trust).encode(), nl=False)


def write_report(settings: Settings, enriched_csv: str, output: Path, *, trust: bool = False) -> Path:
    """Write the HTML report of an enriched CSV into a file, and return the file's absolute path.

    Raises:
        Failed: `checkpoint_invalid`, if the file is no enriched CSV.
        click.FileError: The page cannot be written.
    """
    path = absolute_path(output).resolve()
    if path == absolute_path(enriched_csv).resolve():
        raise click.UsageError(f"{output} is the CSV itself. Name another file with -o.")
    page = _render(settings, enriched_csv, trust=trust)
    try:
        DirectoryStore(path.parent).write(path.name, page.encode())
    except PipelineError as error:
        raise click.FileError(str(output), f"{error.__cause__}. Name another file with -o.") from error
    return path


def _render(settings: Settings, enriched_csv: str, *, trust: bool) -> str:
    """Return the HTML report of a CSV; it names the CSV's key or file name, but no folder of this machine."""
    store = clients.open_store(settings)
    try:
        source = parse_checkpoint_key(store.key_of(absolute_location(enriched_csv)), "enriched")
    except Failed:
        if "://" in enriched_csv:
            raise
        copy = absolute_path(enriched_csv)
        return render_report(read_any_csv(settings, str(copy), EnrichedLibrary, trust=trust), copy.name)
    return render_report(read_checkpoint(store, source, EnrichedLibrary, trust=trust).rows, source.key)
