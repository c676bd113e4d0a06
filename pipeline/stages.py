"""Fetch, enrich, load: each gathers, decides and writes. The only module that knows both sides.

An event from outside, as its model.
"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import polars as pl
import structlog
from pydantic import ValidationError

from pipeline.apis.retry import Retries
from pipeline.catalogue.look_up import CatalogueLookup, Progress, no_progress, read_overrides
from pipeline.clients import (
    NEEDED_BY_ENRICH,
    NEEDED_BY_FETCH,
    NEEDED_BY_LOAD,
    open_catalogue,
    open_catalogue_lookup,
    open_database,
    open_igdb,
    open_steam,
    open_store,
)
from pipeline.errors import Failed, Refused
from pipeline.frames.catalogue import join_catalogue
from pipeline.frames.raw_library import parse_owned_games
from pipeline.frames.staging import stage_library
from pipeline.settings import Settings
from pipeline.steam_id import Vanity, parse_steam_id
from pipeline.storage.checkpoints import Provenance, read_checkpoint, write_checkpoint
from pipeline.storage.keys import Checkpoint, parse_checkpoint_key, raw_checkpoint
from pipeline.storage.store import Store
from schemas.events import (
    DryRun,
    EnrichEvent,
    EnrichResponse,
    EnrichStats,
    FetchEvent,
    FetchResponse,
    HandlerEvent,
    LoadEvent,
    LoadResponse,
    StageEvent,
)
from schemas.frames import set_aside
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.manifest import Source
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from pipeline.apis.steam import Steam
    from pipeline.catalogue.sync import Synced
    from pipeline.database.database import Database

PRIVACY_PAGE = "https://steamcommunity.com/my/edit/settings"
log = structlog.get_logger()


def check(store: Store, event: StageEvent) -> None:
    """Refuse what a look at the event and the store is enough for, before more is opened, or imported, for it.

    Raises:
        Refused: `bad_steam_id`.
        Failed: `location_refused`.
    """
    match event:
        case FetchEvent():
            parse_steam_id(event.steam_id64)
        case EnrichEvent():
            _raw(store, event)
        case LoadEvent():
            _enriched(store, event)


async def find_account(steam: "Steam", steam_id: str) -> str:
    """The SteamID64 that any form of Steam id stands for; asks Steam only about a vanity name.

    Raises:
        Refused: `bad_steam_id`.
        Failed: `account_not_found`.
    """
    account = parse_steam_id(steam_id)
    if not isinstance(account, Vanity):
        return account
    steam_id64 = await steam.resolve_vanity(account.name)
    if steam_id64 is None:
        raise Failed(
            "account_not_found",
            f"No Steam profile has the custom URL {account.name!r}. Check its spelling, or give the SteamID64.",
        )
    return steam_id64


async def fetch(store: Store, steam: "Steam", event: FetchEvent) -> FetchResponse:
    """Steam's list of what an account owns, as a raw CSV.

    Raises:
        Failed: `private_library`, `account_not_found`, `steam_blocked`. Nothing is written then.
    """
    run = _Run(event)
    steam_id64 = await find_account(steam, event.steam_id64)
    owned = await steam.fetch_owned_games(steam_id64)
    if owned is None:
        raise await _nothing_shown(steam, steam_id64)
    rows, rejected = parse_owned_games(owned, event.user_id, steam_id64)
    counts = {"games": rows.height, "rejected": rejected.height}
    raw = raw_checkpoint(event.user_id, event.timestamp)
    manifest = write_checkpoint(store, raw, rows, rejected, run.making(steam.requests, counts))
    run.log("fetch", manifest.seconds, steam.requests, counts, steam.retries)
    return FetchResponse(
        success=True,
        s3_location=store.locate(raw.key),
        game_count=rows.height,
        rejected=rejected.height,
        seconds=manifest.seconds,
        requests=steam.requests,
        retries=steam.retries.count,
    )


async def enrich(
    store: Store,
    knowledge: CatalogueLookup,
    event: EnrichEvent,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
) -> EnrichResponse:
    """What each app of a raw CSV is, and which IGDB game it is, as an enriched CSV.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups; those that fail beside others are PENDING.
    """
    run = _Run(event)
    raw = _raw(store, event)
    source = read_checkpoint(store, raw, RawLibrary, trust=trust)
    overrides = read_overrides(store)
    apps, known = await knowledge.of(source.rows, overrides, progress)
    rows, rejected = set_aside(join_catalogue(apps, known, overrides), EnrichedLibrary)
    stats = _stats(rows)
    counts = stats.model_dump() | {"rejected": rejected.height}
    making = run.making(knowledge.requests, counts, source.source)
    manifest = write_checkpoint(store, raw.enriched, rows, rejected, making)
    run.log("enrich", manifest.seconds, knowledge.requests, counts, knowledge.retries)
    return EnrichResponse(
        success=True,
        s3_enriched_location=store.locate(raw.enriched.key),
        stats=stats,
        kinds=dict(Counter(rows["kind"].cast(pl.String))),
        rejected=rejected.height,
        seconds=manifest.seconds,
        requests=knowledge.requests,
        retries=knowledge.retries.count,
    )


def load(store: Store, database: "Database", event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """The rows of an enriched CSV in SavePoint's tables: all of them, or nothing; in a dry run, nothing.

    Raises:
        Failed: `schema_mismatch`, `user_not_found`.
        Refused: `configuration`, where a status is none that the database knows.
    """
    run = _Run(event)
    rows = read_checkpoint(store, _enriched(store, event), EnrichedLibrary, trust=options.trust).rows
    loaded = database.load(stage_library(rows), [event.user_id], options)
    written = {what: rows for what, rows in loaded.counts.items() if rows}
    run.log("dry run" if options.dry_run else "load", run.seconds, 0, written | {"statements": loaded.statements})
    would = DryRun(tables=loaded.tables.to_dicts(), changes=loaded.changes.to_dicts()) if options.dry_run else None
    return LoadResponse(success=True, stats=loaded.counts, rejected=0, seconds=run.seconds, dry_run=would)


def _raw(store: Store, event: EnrichEvent) -> Checkpoint:
    return parse_checkpoint_key(store.key_of(event.s3_location), "raw", event.user_id)


def _enriched(store: Store, event: LoadEvent) -> Checkpoint:
    return parse_checkpoint_key(store.key_of(event.s3_enriched_location), "enriched", event.user_id)


async def _nothing_shown(steam: "Steam", steam_id64: str) -> Failed:
    """Steam's empty answer means a private library as well as no account; its profile tells which."""
    if await steam.has_account(steam_id64):
        return Failed(
            "private_library",
            f"The games of {steam_id64} are private, and nothing was changed. Its owner can open {PRIVACY_PAGE}, set "
            '"My profile" and "Game details" to Public, and try again.',
        )
    return Failed("account_not_found", f"Steam knows no account {steam_id64}. Check the id, digit by digit.")


def _stats(rows: pl.DataFrame) -> EnrichStats:
    statuses = Counter(rows["match_status"].cast(pl.String))
    return EnrichStats(
        processed=rows.height,
        matched=statuses["MATCHED"],
        unmatched=statuses["UNMATCHED"],
        filtered=statuses["IGNORED"],
        pending=statuses["PENDING"],
        igdb_incomplete=rows.filter(pl.col("match_reason") == "igdb_incomplete").height,
    )


class _Run:
    """One stage of one import, from when it began."""

    def __init__(self, event: StageEvent) -> None:
        self._user_id = event.user_id
        self._run_id = event.run_id or uuid4().hex
        self._started_at = datetime.now(UTC)

    @property
    def seconds(self) -> float:
        return round((datetime.now(UTC) - self._started_at).total_seconds(), 3)

    def making(self, requests: int, counts: dict[str, int], source: Source | None = None) -> Provenance:
        return Provenance(self._run_id, self._started_at, requests, counts, source)

    def log(
        self, stage: str, seconds: float, requests: int, counts: dict[str, int], retries: Retries | None = None
    ) -> None:
        again = {"retries": retries.count, "rate_limited": retries.rate_limited} if retries else {}
        who = {"user_id": self._user_id, "run_id": self._run_id}
        log.info(stage, **who, seconds=seconds, requests=requests, **again, **counts)


Event = TypeVar("Event", bound=HandlerEvent)


def parse_event(event: object, event_type: type[Event]) -> Event:
    """The event as its model.

    Raises:
        Refused: `bad_event`, naming every field at fault.
    """
    try:
        return event_type.model_validate(event)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        listed = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
        raise Refused("bad_event", f"The event cannot be used; mend {listed}.") from None


async def find_account_with_settings(settings: Settings, steam_id: str) -> str:
    """The SteamID64 of any form of Steam id; see `find_account`."""
    settings.require("steam_api_key")
    async with open_steam(settings) as steam:
        return await find_account(steam, steam_id)


async def fetch_with_settings(settings: Settings, event: FetchEvent) -> FetchResponse:
    """Stage 1 with these settings; see `fetch`."""
    place = _store_for(settings, event, NEEDED_BY_FETCH)
    async with open_steam(settings) as steam:
        return await fetch(place, steam, event)


async def enrich_with_settings(
    settings: Settings,
    event: EnrichEvent,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
    deadline: float | None = None,
) -> EnrichResponse:
    """Stage 2 with these settings; see `enrich`. What is not answered by the deadline is PENDING."""
    place = _store_for(settings, event, NEEDED_BY_ENRICH)
    async with open_catalogue_lookup(settings, deadline) as knowledge:
        return await enrich(place, knowledge, event, progress, trust=trust)


async def sync_catalogue(settings: Settings, progress: Progress = no_progress) -> "Synced":
    """Bring in all that IGDB has for Steam; see `sync.sync`."""
    from pipeline.catalogue.sync import sync  # noqa: PLC0415 - a stage imports only what it needs

    settings.require(*NEEDED_BY_ENRICH)
    async with open_igdb(settings) as igdb:
        return await sync(open_store(settings), open_catalogue(settings), igdb, progress, settings.sync_max_rows)


def load_with_settings(settings: Settings, event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """Load as `load` does, into the settings' database, with their statuses for new library items."""
    store = _store_for(settings, event, NEEDED_BY_LOAD)
    options = replace(options, status_unplayed=settings.status_unplayed, status_played=settings.status_played)
    return load(store, open_database(settings), event, options)


def _store_for(settings: Settings, event: StageEvent, needed: tuple[str, ...]) -> Store:
    """The store alone: an event that can be refused is, before a client is made or a driver imported."""
    settings.require(*needed)
    place = open_store(settings)
    check(place, event)
    return place
