"""The stages as the commands run them: one after another, with bars, and with an embedded database if none is named."""

import asyncio
import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

import click
from rich.console import Console

from pipeline import clients, stages
from pipeline.cli.echo import echo, echo_always, is_quiet
from pipeline.cli.help import Command
from pipeline.cli.local import absolute, with_database
from pipeline.cli.options import (
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
from pipeline.cli.output import (
    ImportReport,
    console,
    files,
    not_matched,
    progress_bars,
    response_json,
    summary,
    would_write,
)
from pipeline.errors import PipelineError, Retryable
from pipeline.settings import Settings
from pipeline.stages import parse_event
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.keys import CsvStage, parse_checkpoint_key
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
from schemas.library import EnrichedLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions


@click.command(cls=Command, epilog="steam-import run gabelogannewell --dry-run")
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
    report = ImportReport(user_id)
    try:
        with recording_failure(report, "fetch", FetchResponse):
            settings.require(*clients.NEEDED_BY_FETCH, *clients.NEEDED_BY_ENRICH)
        import_library(settings, steam_id, report, LoadOptions(dry_run=dry_run, details=details))
    finally:
        if as_json:
            click.echo(json.dumps(report.as_json()))
    if not as_json:
        print_import(settings, report)


@click.command(cls=Command, epilog="steam-import fetch https://steamcommunity.com/id/gabelogannewell --user user-1")
@steam_id_argument
@user_option
@json_option
@with_settings(*STEAM)
def fetch(settings: Settings, steam_id: str, user_id: str | None, *, as_json: bool) -> None:
    """Write what Steam knows of a library into a raw CSV.

    Prints the location of the CSV, which `enrich` takes.
    """
    steam_id64 = find_account(settings, steam_id, user_id)
    whose = steam_id64 if user_id is None else user_id
    response = asyncio.run(
        stages.fetch_with_settings(settings, event_of(FetchEvent, user_id=whose, steam_id64=steam_id64))
    )
    click.echo(_json(response) if as_json else response.s3_location)


@click.command(cls=Command, epilog="steam-import enrich s3://bucket/imports/user-1/20261123T031749Z-raw.csv")
@click.argument("location")
@trust_option
@json_option
@with_settings(*IGDB)
def enrich(settings: Settings, location: str, *, trust: bool, as_json: bool) -> None:
    """Match the raw CSV at LOCATION to IGDB.

    Prints the location of the enriched CSV, which `load` takes.
    """
    location, user_id = owner_of(settings, location, "raw")
    response = enrich_csv(settings, EnrichEvent(user_id=user_id, s3_location=location), trust=trust)
    click.echo(_json(response) if as_json else response.s3_enriched_location)


@click.command(
    cls=Command, epilog="steam-import load data/imports/user-1/20261123T031749Z-enriched.csv --dry-run --details"
)
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
    response = load_csv(settings, event, LoadOptions(dry_run=dry_run, details=details, trust=trust))
    if as_json:
        click.echo(_json(response))
    else:
        console().print(summary(ImportReport(user_id, load=response)))
        _tell_changes(response)


def print_import(settings: Settings, report: ImportReport) -> None:
    """Print what an import did, which games were not matched, and where its CSVs are; if quiet, the last location."""
    where = str(report.enrich and report.enrich.s3_enriched_location)
    if is_quiet():
        click.echo(where)
        return
    out = console()
    echo_always(f"Steam library of {report.steam_id64}:")
    out.print(summary(report))
    if report.load:
        _tell_changes(report.load)
    store = clients.open_store(settings)
    enriched = read_checkpoint(store, parse_checkpoint_key(store.key_of(where), "enriched"), EnrichedLibrary).rows
    out.print(not_matched(enriched), markup=False, highlight=False)
    out.print(files(report), markup=False, highlight=False, soft_wrap=True)


def _tell_changes(load: LoadResponse) -> None:
    if load.dry_run:
        console().print(*would_write(load.dry_run))


def _json(response: StageResponse) -> str:
    return json.dumps(response_json(response))


Event = TypeVar("Event", bound=StageEvent)


def import_library(
    settings: Settings, steam_id: str, report: ImportReport, options: LoadOptions = DEFAULT_OPTIONS
) -> None:
    """All three stages under one time and one run id; `report` holds what was done, also when one fails."""
    try:
        _import(settings, steam_id, report, options)
    except (PipelineError, KeyboardInterrupt) as stopped:
        if command := _next_command(report):
            stopped.add_note(f"To go on from there, with the same settings: {command}{' --dry-run' * options.dry_run}")
        raise


def _import(settings: Settings, steam_id: str, report: ImportReport, options: LoadOptions) -> None:
    timestamp, run_id = datetime.now(UTC).strftime(KEY_TIME), uuid4().hex
    with recording_failure(report, "fetch", FetchResponse):
        report.steam_id64 = find_account(settings, steam_id, report.user_id)
        report.user_id = report.steam_id64 if report.user_id is None else report.user_id
        whose = {"user_id": report.user_id, "timestamp": timestamp, "run_id": run_id}
        fetched = event_of(FetchEvent, **whose, steam_id64=report.steam_id64)
        report.fetch = asyncio.run(stages.fetch_with_settings(settings, fetched))
    with recording_failure(report, "enrich", EnrichResponse):
        report.enrich = enrich_csv(settings, event_of(EnrichEvent, **whose, s3_location=report.fetch.s3_location))
    with recording_failure(report, "load", LoadResponse):
        event = event_of(LoadEvent, **whose, s3_enriched_location=report.enrich.s3_enriched_location)
        report.load = load_csv(settings, event, options)


def _next_command(report: ImportReport) -> str | None:
    """What takes an import on from the last CSV that it wrote."""
    if report.enrich and report.enrich.s3_enriched_location:
        return shlex.join(["steam-import", "load", report.enrich.s3_enriched_location])
    if report.fetch and report.fetch.s3_location:
        return shlex.join(["steam-import", "enrich", report.fetch.s3_location])
    return None


@contextmanager
def recording_failure(report: ImportReport, stage: str, response: type[StageResponse]) -> Iterator[None]:
    """Put a failure into the report as the stage's response, and let it fly on."""
    try:
        yield
    except PipelineError as error:
        setattr(report, stage, response.failed(error.code, error.message))
        raise


def find_account(settings: Settings, steam_id: str, user_id: str | None) -> str:
    """The SteamID64 that is meant; a user that cannot be is refused before Steam is asked."""
    if user_id is not None:
        event_of(StageEvent, user_id=user_id)
    return asyncio.run(stages.find_account_with_settings(settings, steam_id))


def enrich_csv(settings: Settings, event: EnrichEvent, *, trust: bool = False) -> EnrichResponse:
    """Stage 2, with bars, and a word where IGDB left something open."""
    with progress_bars(Console(stderr=True)) as progress:
        response = asyncio.run(stages.enrich_with_settings(settings, event, progress, trust=trust))
    if response.stats and response.stats.pending:
        echo(f"IGDB did not answer for {response.stats.pending} games; run it again for these.", err=True)
    return response


def load_csv(settings: Settings, event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """Stage 3, into the embedded database where none is named; one that was cancelled was interrupted."""
    with with_database(settings, event.user_id) as local, interruptible():
        return stages.load_with_settings(local, event, options)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt at once, wherever it comes.

    An event loop would keep it until it waits for something the next time, and a load never does. While a statement
    runs, it does not reach Python: the driver takes it, and cancels the statement.
    """
    # An event loop takes the place of Python's own handler only.
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except Retryable as error:
        if error.is_cancelled:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def owner_of(settings: Settings, location: str, stage: CsvStage) -> tuple[str, str]:
    """The location as an absolute one, and the user it belongs to."""
    location = absolute(location)
    return location, parse_checkpoint_key(clients.open_store(settings).key_of(location), stage).user_id


def event_of(event_type: type[Event], **fields: str | None) -> Event:
    """An event; raises `bad_event`."""
    return parse_event(fields, event_type)
