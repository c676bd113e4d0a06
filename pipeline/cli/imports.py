"""The commands that import one library: all three stages, or one of them."""

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import cast

import click

from pipeline import clients, stages
from pipeline.cli.local import absolute_location, describe_embedded, with_database, with_sandbox
from pipeline.cli.options import (
    DATABASE,
    IGDB,
    STEAM,
    TIMEOUTS,
    details_option,
    dry_run_option,
    json_option,
    next_command,
    steam_id_argument,
    trust_option,
    user_option,
    with_settings,
)
from pipeline.cli.output import (
    ImportReport,
    console,
    dry_run_tables,
    format_unmatched_games,
    progress_bars,
    response_json,
    summary_table,
)
from pipeline.cli.report import write_report
from pipeline.cli.terminal import Command, echo, echo_always, is_quiet
from pipeline.errors import Failed, PipelineError, Refused, Retryable, agree, count_of
from pipeline.settings import DATA, Settings
from pipeline.stages import parse_event, require_user_id
from pipeline.steam_id import HINT, Vanity, parse_steam_id
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.keys import CsvStage, parse_checkpoint_key
from schemas.events import (
    EnrichEvent,
    EnrichResponse,
    FetchEvent,
    FetchResponse,
    LoadEvent,
    LoadResponse,
    StageResponse,
)
from schemas.library import EnrichedLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

MAX_OWNERS_NAMED = 3
"""The number of users with one account that an error names."""

DEMO_REPORT = DATA / "demo" / "report.html"


@click.command(cls=Command, epilog="steam-import run gabelogannewell --dry-run")
@steam_id_argument
@user_option
@dry_run_option
@details_option
@json_option
@with_settings(*dict.fromkeys(STEAM + IGDB + DATABASE + TIMEOUTS))
def run(
    settings: Settings, steam_id: str | None, user_id: str | None, *, dry_run: bool, details: bool, as_json: bool
) -> None:
    """Fetch, enrich and load a library.

    STEAM_ID is a SteamID64, any other form of Steam id, a profile link or the name in a custom profile URL. Without
    it, --user names a user of DATABASE_URL who has a steamId64.
    """
    report = ImportReport(user_id)
    try:
        with recording_failure(report, "fetch", FetchResponse):
            settings.require(*clients.NEEDED_BY_FETCH, *clients.NEEDED_BY_ENRICH)
            _check_ids(steam_id, user_id)
        with recording_failure(report, "load", LoadResponse):
            steam_id, report.user_id = _complete_ids(settings, steam_id, user_id)
            _check_database(settings, report.user_id)
        import_library(settings, steam_id, report, LoadOptions(dry_run=dry_run, details=details))
    finally:
        if as_json:
            click.echo(json.dumps(report.as_json()))
    if not as_json:
        print_import(settings, report)
        _print_next(report)


@click.command(cls=Command, epilog="steam-import fetch https://steamcommunity.com/id/gabelogannewell --user user-1")
@steam_id_argument
@user_option
@json_option
@with_settings(*STEAM, "database_url")
def fetch(settings: Settings, steam_id: str | None, user_id: str | None, *, as_json: bool) -> None:
    """Fetch the games and playtimes of an account from Steam into a raw CSV.

    Prints the location of the CSV, which `enrich` takes. STEAM_ID and --user are as for `run`.
    """
    _check_ids(steam_id, user_id)
    steam_id, user_id = _complete_ids(settings, steam_id, user_id)
    steam_id64 = asyncio.run(stages.find_account_with_settings(settings, steam_id))
    event = {"user_id": user_id or _find_owner(settings, steam_id64), "steam_id64": steam_id64}
    response = asyncio.run(stages.fetch_with_settings(settings, parse_event(event, FetchEvent)))
    click.echo(json.dumps(response_json(response)) if as_json else response.s3_location)


@click.command(cls=Command, epilog="steam-import enrich s3://bucket/imports/user-1/20261123T031749Z-raw.csv")
@click.argument("location")
@trust_option
@json_option
@with_settings(*IGDB)
def enrich(settings: Settings, location: str, *, trust: bool, as_json: bool) -> None:
    """Match the raw CSV at LOCATION to IGDB.

    Prints the location of the enriched CSV, which `load` takes.
    """
    location, user_id = _parse_location(settings, location, "raw")
    response = enrich_csv(settings, EnrichEvent(user_id=user_id, s3_location=location), trust=trust)
    click.echo(json.dumps(response_json(response)) if as_json else response.s3_enriched_location)


@click.command(cls=Command, epilog="steam-import load data/imports/user-1/20261123T031749Z-enriched.csv")
@click.argument("location")
@dry_run_option
@details_option
@trust_option
@json_option
@with_settings(*DATABASE, *TIMEOUTS)
def load(settings: Settings, location: str, *, dry_run: bool, details: bool, trust: bool, as_json: bool) -> None:
    """Load the enriched CSV at LOCATION into the database."""
    location, user_id = _parse_location(settings, location, "enriched")
    event = LoadEvent(user_id=user_id, s3_enriched_location=location)
    response = load_csv(settings, event, LoadOptions(dry_run=dry_run, details=details, trust=trust))
    if as_json:
        click.echo(json.dumps(response_json(response)))
    else:
        _print_tables(ImportReport(user_id, load=response))


def _check_ids(steam_id: str | None, user_id: str | None) -> None:
    """Refuse a malformed Steam id or user id, and a command with neither, before anything is asked."""
    if steam_id is None and user_id is None:
        raise click.UsageError(f"{HINT} Or give --user, and the account is that user's steamId64 in DATABASE_URL.")
    if steam_id is not None:
        parse_steam_id(steam_id)
    if user_id is not None:
        require_user_id(user_id)


def _complete_ids(settings: Settings, steam_id: str | None, user_id: str | None) -> tuple[str, str | None]:
    """Return the Steam id and the user id, with the one that was not given from the database.

    The user is None where only Steam knows the account, which has a custom URL.
    """
    if steam_id is None:
        return _find_steam_id(settings, cast("str", user_id)), user_id
    account = parse_steam_id(steam_id)
    if user_id is None and not isinstance(account, Vanity):
        user_id = _find_owner(settings, account)
    return steam_id, user_id


def _find_steam_id(settings: Settings, user_id: str) -> str:
    """Return the SteamID64 of a user of the database.

    Raises:
        Refused: `bad_steam_id`, where the user has none, or one that is malformed.
        PipelineError: As `Database.find_steam_id`.
    """
    database = clients.open_database(settings)
    found = database.find_steam_id(user_id)
    try:
        account = parse_steam_id(found or "")
    except Refused:
        account = None
    if not isinstance(account, str):
        has = f"has the steamId64 {found!r:.80}, which is none," if found else "has no steamId64"
        says = f"The user {user_id} {has} in {database}."
        raise Refused("bad_steam_id", f"{says} Give the Steam id as well: steam-import run STEAM_ID --user {user_id}")
    return account


def _find_owner(settings: Settings, steam_id64: str) -> str:
    """Return the id of the user whose account it is: in the embedded database, where no other is, the SteamID64.

    Raises:
        Failed: `user_not_found`, where no user of the database has the account, or several have.
    """
    if not settings.has("database_url"):
        return steam_id64
    database = clients.open_database(settings)
    owners = database.find_owners(steam_id64)
    if len(owners) != 1:
        who = f"{len(owners)} users ({', '.join(owners[:MAX_OWNERS_NAMED])}) have" if owners else "No user has"
        raise Failed(
            "user_not_found",
            f"{who} the steamId64 {steam_id64} in {database}; nothing was written. Name the user with --user.",
        )
    return owners[0]


def _check_database(settings: Settings, owner: str | None) -> None:
    """Check the database before Steam and IGDB are asked: URL, connection, tables, rights, and the user.

    Of the embedded one, which is not started for it, only that its folder can be one.
    """
    if not settings.has("database_url"):
        describe_embedded(settings)
        return
    options = stages.with_statuses(DEFAULT_OPTIONS, settings)
    clients.open_database(settings).require_ready([owner] if owner else [], options)


def import_library(
    settings: Settings, steam_id: str, report: ImportReport, options: LoadOptions = DEFAULT_OPTIONS
) -> None:
    """Fetch, enrich and load an account's library, and put the stages' responses into `report`.

    A stage that fails with an error of ours has a response too. An error or an interruption is raised again, with a
    note (`add_note`) that names the command which continues from the last CSV written.
    """
    try:
        _run_stages(settings, steam_id, report, options)
    except (PipelineError, KeyboardInterrupt) as stopped:
        raw, enriched = report.locations["raw"], report.locations["enriched"]
        if raw:
            words = ("load", enriched) if enriched else ("enrich", raw)
            command = next_command(*words, *(["--dry-run"] if options.dry_run else []))
            stopped.add_note(f"To continue, with the same settings: {command}")
        raise


def _run_stages(settings: Settings, steam_id: str, report: ImportReport, options: LoadOptions) -> None:
    with recording_failure(report, "fetch", FetchResponse):
        report.steam_id64 = asyncio.run(stages.find_account_with_settings(settings, steam_id))
        report.user_id = report.user_id or _find_owner(settings, report.steam_id64)
        event = {"user_id": report.user_id, "steam_id64": report.steam_id64}
        report.fetch = asyncio.run(stages.fetch_with_settings(settings, parse_event(event, FetchEvent)))
    with recording_failure(report, "enrich", EnrichResponse):
        raw = EnrichEvent(user_id=report.user_id, s3_location=str(report.fetch.s3_location))
        report.enrich = enrich_csv(settings, raw)
    with recording_failure(report, "load", LoadResponse):
        enriched = LoadEvent(user_id=report.user_id, s3_enriched_location=str(report.enrich.s3_enriched_location))
        report.load = load_csv(settings, enriched, options)


@contextmanager
def recording_failure(report: ImportReport, stage: str, response: type[StageResponse]) -> Iterator[None]:
    """Put an error that the body raises into the report as the response of a stage, and raise it again."""
    try:
        yield
    except PipelineError as error:
        setattr(report, stage, response.failed(error.code, error.message))
        raise


def _parse_location(settings: Settings, location: str, stage: CsvStage) -> tuple[str, str]:
    """Return the absolute location of a CSV, and the id of the user that it belongs to."""
    location = absolute_location(location)
    return location, parse_checkpoint_key(clients.open_store(settings).key_of(location), stage).user_id


def enrich_csv(settings: Settings, event: EnrichEvent, *, trust: bool = False) -> EnrichResponse:
    """Enrich a raw CSV with progress bars, print a warning about PENDING games, and return the stage's response."""
    with progress_bars() as progress:
        response = asyncio.run(stages.enrich_with_settings(settings, event, progress, trust=trust))
    if response.stats and response.stats.pending:
        games, them = count_of(response.stats.pending, "game"), agree(response.stats.pending, "it", "these")
        echo(f"IGDB did not answer for {games}; run it again for {them}.", err=True)
    return response


def load_csv(settings: Settings, event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """Load an enriched CSV and return the stage's response; the database is embedded if none is configured."""
    with with_database(settings, event.user_id) as local, interruptible():
        return stages.load_with_settings(local, event, options)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C raise KeyboardInterrupt at once in the body, even in an event loop or an SQL statement.

    An event loop would put the interruption off until it waits for something, which a load never does. While an SQL
    statement runs, Ctrl-C reaches the driver instead of Python: it cancels the statement, and that error is converted.
    """
    # An event loop replaces no handler but Python's own.
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


def print_import(settings: Settings, report: ImportReport) -> None:
    """Print the results of an import that is done: tables, games without a match, and locations of its CSVs.

    With `--quiet`, only the location of the enriched CSV is printed.
    """
    if is_quiet():
        click.echo(report.locations["enriched"])
        return
    echo_always(f"Steam library of {report.steam_id64}:")
    _print_tables(report)
    store = clients.open_store(settings)
    key = store.key_of(str(report.locations["enriched"]))
    enriched = read_checkpoint(store, parse_checkpoint_key(key, "enriched"), EnrichedLibrary).rows
    echo_always(format_unmatched_games(enriched))
    for name, location in report.locations.items():
        echo_always(f"{name.capitalize() + ' CSV:':14}{location}")


def _print_next(report: ImportReport) -> None:
    """Print the commands that are useful after an import: a review, if games were not matched, and a report."""
    enriched = str(report.locations["enriched"])
    if report.enrich and report.enrich.stats and report.enrich.stats.unmatched:
        # `review export` refuses a page that exists, which may hold decisions.
        names = chain(["games.html"], (f"games-{number}.html" for number in count(2)))
        page = next(name for name in names if not Path(name).exists())
        echo(f"To match games by hand: {next_command('review', 'export', enriched, '-o', page)}")
    echo(f"To see it in a browser: {next_command('report', enriched, '-o', 'library.html')}")


def _print_tables(report: ImportReport) -> None:
    out = console()
    out.print(summary_table(report))
    if report.load and report.load.dry_run:
        out.print(*dry_run_tables(report.load.dry_run))


@click.command(cls=Command, epilog="steam-import demo --json")
@json_option
@with_settings(log_level="WARNING")
def demo(settings: Settings, *, as_json: bool) -> None:
    """Import a recorded library twice, with nothing configured.

    The APIs of Steam and IGDB are played by a server of this process, and the rows go into an embedded PostgreSQL.
    """
    first, again = ImportReport(), ImportReport()
    with with_sandbox(settings) as (apis, account), with_database(apis, account) as local:
        import_library(local, account, first)
        import_library(local, account, again)
        if as_json:
            click.echo(json.dumps([first.as_json(), again.as_json()]))
        else:
            print_import(local, first)
            echo("\nThe same library once more:")
            console().print(summary_table(again))
        page = write_report(local, str(again.enrich and again.enrich.s3_enriched_location), DEMO_REPORT)
        click.echo(f"\nReport, for a browser: {page}", err=as_json)
