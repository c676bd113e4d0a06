"""The commands; the only place that turns our errors into exit statuses."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import click
from rich.console import Console

from pipeline import wiring
from pipeline.checkpoints import read_checkpoint
from pipeline.cli_catalogue import catalogue
from pipeline.cli_db import db
from pipeline.cli_review import review
from pipeline.errors import PipelineError, Refused
from pipeline.layout import CsvStage, checkpoint
from pipeline.local import with_database, with_sandbox
from pipeline.options import DATABASE, IGDB, STEAM, json_option, user_option, with_settings
from pipeline.settings import Settings
from pipeline.terminal import Report, files, not_matched, progress_bars, summary
from schemas.events import (
    KEY_TIME,
    EnrichEvent,
    EnrichResponse,
    FetchEvent,
    FetchResponse,
    LoadEvent,
    LoadResponse,
    StageEvent,
    StageResponse,
)
from schemas.frames import EnrichedLibrary

EXIT_FAILED, EXIT_REFUSED, EXIT_RETRYABLE, EXIT_INTERRUPTED = 1, 2, 75, 130

Event = TypeVar("Event", bound=StageEvent)


def main() -> None:
    """The program; each of our errors ends as its sentence on stderr and its exit status."""
    try:
        sys.exit(cli(standalone_mode=False))
    except PipelineError as error:
        click.echo(f"{error.code}: {error.message}", err=True)
        sys.exit(exit_status(error))
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_REFUSED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. All that was written is whole; the same command does it anew.", err=True)
        sys.exit(EXIT_INTERRUPTED)


def exit_status(error: PipelineError) -> int:
    """2 for what the user must mend, 75 (EX_TEMPFAIL) for what may go through later, 1 for what is final."""
    if error.retryable:
        return EXIT_RETRYABLE
    return EXIT_REFUSED if isinstance(error, Refused) else EXIT_FAILED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="steam-library-import")
def cli() -> None:
    """A person's Steam library, matched to IGDB, as rows in SavePoint's PostgreSQL database."""


@cli.command()
@click.argument("steam_id")
@user_option
@json_option
@with_settings(*dict.fromkeys(STEAM + IGDB + DATABASE))
def run(settings: Settings, steam_id: str, user_id: str | None, *, as_json: bool) -> None:
    """Fetch, enrich and load a library.

    STEAM_ID is a SteamID64, any other form of Steam id, a profile link or the name in a custom profile URL.
    """
    settings.require(*wiring.NEEDED_BY_FETCH, *wiring.NEEDED_BY_ENRICH)
    report = Report(user_id)
    try:
        _import(settings, steam_id, report)
    finally:
        if as_json:
            click.echo(json.dumps(report.as_json()))
    if not as_json:
        _tell(settings, report)


@cli.command()
@click.argument("steam_id")
@user_option
@json_option
@with_settings(*STEAM)
def fetch(settings: Settings, steam_id: str, user_id: str | None, *, as_json: bool) -> None:
    """Write the raw CSV of a library, and print where it is."""
    steam_id64 = _account(settings, steam_id, user_id)
    whose = steam_id64 if user_id is None else user_id
    response = asyncio.run(wiring.fetch(settings, _event(FetchEvent, user_id=whose, steam_id64=steam_id64)))
    click.echo(_json(response) if as_json else response.s3_location)


@cli.command()
@click.argument("location")
@json_option
@with_settings(*IGDB)
def enrich(settings: Settings, location: str, *, as_json: bool) -> None:
    """Match the raw CSV at LOCATION to IGDB, and print where the enriched CSV is."""
    location, user_id = _owner(settings, location, "raw")
    response = _enrich(settings, EnrichEvent(user_id=user_id, s3_location=location))
    click.echo(_json(response) if as_json else response.s3_enriched_location)


@cli.command()
@click.argument("location")
@json_option
@with_settings(*DATABASE)
def load(settings: Settings, location: str, *, as_json: bool) -> None:
    """Load the enriched CSV at LOCATION into the database."""
    location, user_id = _owner(settings, location, "enriched")
    response = _load(settings, LoadEvent(user_id=user_id, s3_enriched_location=location))
    if as_json:
        click.echo(_json(response))
    else:
        Console().print(summary(Report(user_id, load=response)))


@cli.command()
@json_option
@with_settings()
def demo(settings: Settings, *, as_json: bool) -> None:
    """Import a real library of 129 games, twice, with nothing configured: sandbox APIs, an embedded PostgreSQL."""
    first, again = Report(), Report()
    with with_sandbox(settings) as (apis, account), with_database(apis, account) as local:
        _import(local, account, first)
        _import(local, account, again)
        if as_json:
            click.echo(json.dumps([first.as_json(), again.as_json()]))
        else:
            _tell(local, first)
            click.echo("\nThe same library once more:")
            Console().print(summary(again))


cli.add_command(catalogue)
cli.add_command(db)
cli.add_command(review)


def _import(settings: Settings, steam_id: str, report: Report) -> None:
    """All three stages under one time and one run id; `report` holds what was done, also when one fails."""
    timestamp, run_id = datetime.now(UTC).strftime(KEY_TIME), uuid4().hex
    with _noting_failure(report, "fetch", FetchResponse):
        report.steam_id64 = _account(settings, steam_id, report.user_id)
        report.user_id = report.steam_id64 if report.user_id is None else report.user_id
        whose = {"user_id": report.user_id, "timestamp": timestamp, "run_id": run_id}
        fetched = _event(FetchEvent, **whose, steam_id64=report.steam_id64)
        report.fetch = asyncio.run(wiring.fetch(settings, fetched))
    with _noting_failure(report, "enrich", EnrichResponse):
        report.enrich = _enrich(settings, _event(EnrichEvent, **whose, s3_location=report.fetch.s3_location))
    with _noting_failure(report, "load", LoadResponse):
        event = _event(LoadEvent, **whose, s3_enriched_location=report.enrich.s3_enriched_location)
        report.load = _load(settings, event)


@contextmanager
def _noting_failure(report: Report, stage: str, response: type[StageResponse]) -> Iterator[None]:
    try:
        yield
    except PipelineError as error:
        setattr(report, stage, response.failed(error.code, error.message))
        raise


def _account(settings: Settings, steam_id: str, user_id: str | None) -> str:
    """The SteamID64 that is meant; a user that cannot be is refused before Steam is asked."""
    if user_id is not None:
        _event(StageEvent, user_id=user_id)
    return asyncio.run(wiring.find_account(settings, steam_id))


def _enrich(settings: Settings, event: EnrichEvent) -> EnrichResponse:
    with progress_bars(Console(stderr=True)) as progress:
        response = asyncio.run(wiring.enrich(settings, event, progress))
    if response.stats and response.stats.pending:
        click.echo(f"IGDB did not answer for {response.stats.pending} games; run it again for these.", err=True)
    return response


def _load(settings: Settings, event: LoadEvent) -> LoadResponse:
    with with_database(settings, event.user_id) as local:
        return wiring.load(local, event)


def _owner(settings: Settings, location: str, stage: CsvStage) -> tuple[str, str]:
    """The location as an absolute one, and the user it belongs to."""
    if "://" not in location:
        location = os.path.normpath(Path(location).expanduser().absolute())
    return location, checkpoint(wiring.store(settings).key_of(location), stage).user_id


def _tell(settings: Settings, report: Report) -> None:
    console = Console()
    click.echo(f"Steam library of {report.steam_id64}:")
    console.print(summary(report))
    store = wiring.store(settings)
    where = report.enrich and report.enrich.s3_enriched_location
    enriched = read_checkpoint(store, checkpoint(store.key_of(str(where)), "enriched"), EnrichedLibrary).rows
    console.print(not_matched(enriched), markup=False, highlight=False)
    console.print(files(report), markup=False, highlight=False, soft_wrap=True)


def _event(event_type: type[Event], **fields: str | None) -> Event:
    return wiring.parse_event(fields, event_type)


def _json(response: StageResponse) -> str:
    return json.dumps(response.model_dump(mode="json"))
