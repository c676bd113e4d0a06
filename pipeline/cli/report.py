"""The command that writes a page about an enriched CSV."""

import json
from datetime import timedelta
from pathlib import Path

import click
import structlog
from pandera.typing.polars import DataFrame

from pipeline import clients
from pipeline.api import read_any_csv
from pipeline.cli.local import absolute_location
from pipeline.cli.options import STORE, json_option, trust_option, with_settings
from pipeline.cli.terminal import Command
from pipeline.errors import Failed, PipelineError
from pipeline.report.figures import link_candidates
from pipeline.report.page import Origin, render_report
from pipeline.review.look_up import NameFile
from pipeline.settings import Settings, absolute_path
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import DirectoryStore, Store
from schemas.catalogue import Catalogue, KnownNames
from schemas.frames import empty_frame
from schemas.library import EnrichedLibrary
from schemas.report import LinkedCandidates

STDOUT = Path("-")
log = structlog.get_logger()


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
@click.option("--covers", is_flag=True, help="Show covers: the page asks IGDB's image host for them when it is opened.")
@trust_option
@json_option
@with_settings(*STORE)
def report(settings: Settings, enriched_csv: str, output: Path, *, covers: bool, trust: bool, as_json: bool) -> None:
    """Write a page about the enriched CSV at ENRICHED_CSV.

    ENRICHED_CSV is a location in the store, or any copy on disk. The page is one HTML file that needs no network, but
    for the covers if you ask for them: hours, top games, charts, the games that were not matched, and a table to
    filter, sort and save. Prints where the page is.
    """
    if output != STDOUT:
        page = str(write_report(settings, enriched_csv, output, covers=covers, trust=trust))
        click.echo(json.dumps({"report": page}) if as_json else page)
    elif as_json:
        raise click.UsageError("--json needs a file to write, for the page would go to stdout too.")
    else:
        click.echo(_render(settings, enriched_csv, covers=covers, trust=trust).encode(), nl=False)


def write_report(
    settings: Settings, enriched_csv: str, output: Path, *, covers: bool = False, trust: bool = False
) -> Path:
    """Write the HTML report of an enriched CSV into a file, and return the file's absolute path.

    Raises:
        Failed: `checkpoint_invalid`, if the file is no enriched CSV.
        click.FileError: The page cannot be written.
    """
    path = absolute_path(output).resolve()
    if path == absolute_path(enriched_csv).resolve():
        raise click.UsageError(f"{output} is the CSV itself. Name another file with -o.")
    page = _render(settings, enriched_csv, covers=covers, trust=trust)
    try:
        DirectoryStore(path.parent).write(path.name, page.encode())
    except PipelineError as error:
        raise click.FileError(str(output), f"{error.__cause__}. Name another file with -o.") from error
    return path


def _render(settings: Settings, enriched_csv: str, *, covers: bool, trust: bool) -> str:
    """Return the HTML report of a CSV; it names the CSV's key or file name, but no folder of this machine."""
    store = clients.open_store(settings)
    try:
        source = parse_checkpoint_key(store.key_of(absolute_location(enriched_csv)), "enriched")
    except Failed:
        if "://" in enriched_csv:
            raise
        copy = absolute_path(enriched_csv)
        enriched, origin = read_any_csv(settings, str(copy), EnrichedLibrary, trust=trust), _origin_of_copy(copy.name)
    else:
        enriched = read_checkpoint(store, source, EnrichedLibrary, trust=trust).rows
        origin = Origin(source.key, source.fetched_at)
    return render_report(enriched, origin, _candidates(settings, store, enriched), covers=covers)


def _origin_of_copy(name: str) -> Origin:
    """Return the origin of a copy: when the library was fetched is known if the copy still has the name of the CSV."""
    try:
        return Origin(name, parse_checkpoint_key(f"imports/copy/{name}", "enriched").fetched_at)
    except Failed:
        return Origin(name)


def _candidates(settings: Settings, store: Store, enriched: DataFrame[EnrichedLibrary]) -> DataFrame[LinkedCandidates]:
    """Return the games that unmatched apps may be, with what the store knows of them; no API is asked.

    If the store cannot be read, as it may be for a copy on another machine, only the candidates in the CSV are known.
    """
    names, catalogue = empty_frame(KnownNames), empty_frame(Catalogue)
    if (enriched["match_status"] == "UNMATCHED").any():
        try:
            names = NameFile(store, timedelta(days=settings.catalogue_miss_ttl_days)).read()
            catalogue = clients.open_catalogue(settings, store).read()
        except PipelineError as error:
            log.warning("report lacks the names of candidates", error_code=error.code, error=error.message)
    return link_candidates(enriched, names, catalogue)
