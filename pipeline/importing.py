"""The stages as the commands run them: one after another, with bars, and with an embedded database if none is named."""

import asyncio
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeVar
from uuid import uuid4

from rich.console import Console

from pipeline import wiring
from pipeline.errors import PipelineError, Retryable
from pipeline.events import parse_event
from pipeline.layout import CsvStage, checkpoint
from pipeline.local import with_database
from pipeline.settings import Settings
from pipeline.terminal import Report, progress_bars, say
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

Event = TypeVar("Event", bound=StageEvent)


class LoadMode(NamedTuple):
    """Whether a load is to be rolled back, to list what it would change, and to read an edited file."""

    is_dry: bool = False
    has_details: bool = False
    trusts: bool = False


WRITE = LoadMode()


def import_library(settings: Settings, steam_id: str, report: Report, mode: LoadMode = WRITE) -> None:
    """All three stages under one time and one run id; `report` holds what was done, also when one fails."""
    try:
        _import(settings, steam_id, report, mode)
    except (PipelineError, KeyboardInterrupt) as stopped:
        if command := _next_command(report):
            stopped.add_note(f"To go on from there, with the same settings: {command}{' --dry-run' * mode.is_dry}")
        raise


def _import(settings: Settings, steam_id: str, report: Report, mode: LoadMode) -> None:
    timestamp, run_id = datetime.now(UTC).strftime(KEY_TIME), uuid4().hex
    with noting_failure(report, "fetch", FetchResponse):
        report.steam_id64 = find_account(settings, steam_id, report.user_id)
        report.user_id = report.steam_id64 if report.user_id is None else report.user_id
        whose = {"user_id": report.user_id, "timestamp": timestamp, "run_id": run_id}
        fetched = event_of(FetchEvent, **whose, steam_id64=report.steam_id64)
        report.fetch = asyncio.run(wiring.fetch(settings, fetched))
    with noting_failure(report, "enrich", EnrichResponse):
        report.enrich = enrich_csv(settings, event_of(EnrichEvent, **whose, s3_location=report.fetch.s3_location))
    with noting_failure(report, "load", LoadResponse):
        event = event_of(LoadEvent, **whose, s3_enriched_location=report.enrich.s3_enriched_location)
        report.load = load_csv(settings, event, mode)


def _next_command(report: Report) -> str | None:
    """What takes an import on from the last CSV that it wrote."""
    if report.enrich and report.enrich.s3_enriched_location:
        return shlex.join(["steam-import", "load", report.enrich.s3_enriched_location])
    if report.fetch and report.fetch.s3_location:
        return shlex.join(["steam-import", "enrich", report.fetch.s3_location])
    return None


@contextmanager
def noting_failure(report: Report, stage: str, response: type[StageResponse]) -> Iterator[None]:
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
    return asyncio.run(wiring.find_account(settings, steam_id))


def enrich_csv(settings: Settings, event: EnrichEvent, *, trust: bool = False) -> EnrichResponse:
    """Stage 2, with bars, and a word where IGDB left something open."""
    with progress_bars(Console(stderr=True)) as progress:
        response = asyncio.run(wiring.enrich(settings, event, progress, trust=trust))
    if response.stats and response.stats.pending:
        say(f"IGDB did not answer for {response.stats.pending} games; run it again for these.", err=True)
    return response


def load_csv(settings: Settings, event: LoadEvent, mode: LoadMode = WRITE) -> LoadResponse:
    """Stage 3, into the embedded database where none is named; one that was cancelled was interrupted."""
    with with_database(settings, event.user_id) as local, interruptible():
        return wiring.load(local, event, dry_run=mode.is_dry, details=mode.has_details, trust=mode.trusts)


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
    return location, checkpoint(wiring.store(settings).key_of(location), stage).user_id


def absolute(location: str) -> str:
    """A location as the store has it: a path from wherever one stands is spelt out."""
    return location if "://" in location else os.path.normpath(Path(location).expanduser().absolute())


def event_of(event_type: type[Event], **fields: str | None) -> Event:
    """An event; raises `bad_event`."""
    return parse_event(fields, event_type)
