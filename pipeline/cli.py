"""The commands; the only place that turns our errors into exit statuses."""

import asyncio
import json
import sys
from collections.abc import Sequence

import click
import polars as pl

from pipeline import wiring
from pipeline.checkpoints import read_checkpoint
from pipeline.cli_backfill import backfill, replay
from pipeline.cli_catalogue import catalogue
from pipeline.cli_db import db
from pipeline.cli_doctor import doctor
from pipeline.cli_report import report_command, write_report
from pipeline.cli_review import review
from pipeline.cli_runs import runs
from pipeline.commands import Group
from pipeline.errors import PipelineError, Refused
from pipeline.importing import (
    LoadMode,
    enrich_csv,
    event_of,
    find_account,
    import_library,
    load_csv,
    noting_failure,
    owner_of,
)
from pipeline.layout import checkpoint
from pipeline.local import DATA, with_database, with_sandbox
from pipeline.options import (
    DATABASE,
    IGDB,
    STEAM,
    TIMEOUTS,
    details_option,
    dry_run_option,
    json_option,
    steam_id_argument,
    trust_option,
    user_option,
    with_settings,
)
from pipeline.settings import Settings
from pipeline.terminal import (
    Report,
    console,
    files,
    is_quiet,
    not_matched,
    response_json,
    say,
    summary,
    tell,
    would_write,
)
from schemas.events import (
    EnrichEvent,
    FetchEvent,
    FetchResponse,
    LoadEvent,
    LoadResponse,
    StageResponse,
)
from schemas.frames import EnrichedLibrary

DEMO_REPORT = DATA / "demo" / "report.html"

EXIT_FAILED, EXIT_REFUSED, EXIT_RETRYABLE, EXIT_INTERRUPTED = 1, 2, 75, 130


def main() -> None:
    """The program; each of our errors ends as its sentence on stderr, where to read more, and its exit status."""
    # The default, the streaming engine, takes ten times as long to check a library's few rows.
    pl.Config.set_engine_affinity("in-memory")
    try:
        sys.exit(cli(standalone_mode=False))
    except PipelineError as error:
        lines = [f"{error.code}: {error.message}", *_notes(error), f"More: docs/errors.md#{error.code}"]
        tell("\n".join(lines), err=True)
        sys.exit(exit_status(error))
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_REFUSED)
    except (click.Abort, KeyboardInterrupt) as stopped:
        how = _notes(stopped.__cause__ or stopped) or ["To go on, run the same command again."]
        tell(" ".join(["Interrupted. All that was written is whole.", *how]), err=True)
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


@cli.command(epilog="steam-import run gabelogannewell --dry-run")
@steam_id_argument
@user_option
@dry_run_option
@details_option
@json_option
@with_settings(*dict.fromkeys(STEAM + IGDB + DATABASE + TIMEOUTS))
def run(settings: Settings, steam_id: str, user_id: str | None, *, dry_run: bool, details: bool, as_json: bool) -> None:
    """Fetch, enrich and load a library.

    STEAM_ID is a SteamID64, any other form of Steam id, a profile link or the name in a custom profile URL.
    """
    report = Report(user_id)
    try:
        with noting_failure(report, "fetch", FetchResponse):
            settings.require(*wiring.NEEDED_BY_FETCH, *wiring.NEEDED_BY_ENRICH)
        import_library(settings, steam_id, report, LoadMode(dry_run, details))
    finally:
        if as_json:
            click.echo(json.dumps(report.as_json()))
    if not as_json:
        _tell(settings, report)


@cli.command(epilog="steam-import fetch https://steamcommunity.com/id/gabelogannewell --user user-1")
@steam_id_argument
@user_option
@json_option
@with_settings(*STEAM)
def fetch(settings: Settings, steam_id: str, user_id: str | None, *, as_json: bool) -> None:
    """Write the raw CSV of a library, and print where it is."""
    steam_id64 = find_account(settings, steam_id, user_id)
    whose = steam_id64 if user_id is None else user_id
    response = asyncio.run(wiring.fetch(settings, event_of(FetchEvent, user_id=whose, steam_id64=steam_id64)))
    click.echo(_json(response) if as_json else response.s3_location)


@cli.command(epilog="steam-import enrich s3://bucket/imports/user-1/20261123T031749Z-raw.csv")
@click.argument("location")
@trust_option
@json_option
@with_settings(*IGDB)
def enrich(settings: Settings, location: str, *, trust: bool, as_json: bool) -> None:
    """Match the raw CSV at LOCATION to IGDB, and print where the enriched CSV is."""
    location, user_id = owner_of(settings, location, "raw")
    response = enrich_csv(settings, EnrichEvent(user_id=user_id, s3_location=location), trust=trust)
    click.echo(_json(response) if as_json else response.s3_enriched_location)


@cli.command(epilog="steam-import load data/imports/user-1/20261123T031749Z-enriched.csv --dry-run --details")
@click.argument("location")
@dry_run_option
@details_option
@trust_option
@json_option
@with_settings(*DATABASE, *TIMEOUTS)
def load(settings: Settings, location: str, *, dry_run: bool, details: bool, trust: bool, as_json: bool) -> None:
    """Load the enriched CSV at LOCATION into the database."""
    location, user_id = owner_of(settings, location, "enriched")
    event = LoadEvent(user_id=user_id, s3_enriched_location=location)
    response = load_csv(settings, event, LoadMode(dry_run, details, trust))
    if as_json:
        click.echo(_json(response))
    else:
        console().print(summary(Report(user_id, load=response)))
        _tell_changes(response)


@cli.command(epilog="steam-import demo --json")
@json_option
@with_settings()
def demo(settings: Settings, *, as_json: bool) -> None:
    """Import a real library of 129 games, twice, with nothing configured: sandbox APIs, an embedded PostgreSQL."""
    first, again = Report(), Report()
    with with_sandbox(settings) as (apis, account), with_database(apis, account) as local:
        import_library(local, account, first)
        import_library(local, account, again)
        if as_json:
            click.echo(json.dumps([first.as_json(), again.as_json()]))
        else:
            _tell(local, first)
            say("\nThe same library once more:")
            console().print(summary(again))
        page = write_report(local, str(again.enrich and again.enrich.s3_enriched_location), DEMO_REPORT)
        click.echo(f"\nReport, for a browser: {page}", err=as_json)


cli.add_command(backfill)
cli.add_command(replay)
cli.add_command(catalogue)
cli.add_command(db)
cli.add_command(doctor)
cli.add_command(report_command)
cli.add_command(review)
cli.add_command(runs)


def _tell(settings: Settings, report: Report) -> None:
    where = str(report.enrich and report.enrich.s3_enriched_location)
    if is_quiet():
        click.echo(where)
        return
    out = console()
    tell(f"Steam library of {report.steam_id64}:")
    out.print(summary(report))
    if report.load:
        _tell_changes(report.load)
    store = wiring.store(settings)
    enriched = read_checkpoint(store, checkpoint(store.key_of(where), "enriched"), EnrichedLibrary).rows
    out.print(not_matched(enriched), markup=False, highlight=False)
    out.print(files(report), markup=False, highlight=False, soft_wrap=True)


def _tell_changes(load: LoadResponse) -> None:
    if load.dry_run:
        console().print(*would_write(load.dry_run))


def _json(response: StageResponse) -> str:
    return json.dumps(response_json(response))
