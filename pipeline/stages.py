"""The three stages of an import: fetch, enrich and load. Each gathers, decides and writes.

A stage takes open clients, or opens them itself as `…_with_settings`. Run again, it overwrites its own output.
"""

import re
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import polars as pl
import structlog
from pandera.typing.polars import DataFrame
from pydantic import ValidationError
from structlog.contextvars import bind_contextvars

from pipeline.apis.retry import Retries
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import CatalogueLookup, Progress, no_progress, read_overrides
from pipeline.catalogue.wanted import want_apps
from pipeline.clients import (
    NEEDED_BY_ENRICH,
    NEEDED_BY_FETCH,
    NEEDED_BY_LOAD,
    lifetimes_of,
    open_catalogue,
    open_catalogue_lookup,
    open_database,
    open_steam,
    open_store,
)
from pipeline.errors import Failed, Refused
from pipeline.frames.catalogue import (
    Lifetimes,
    join_catalogue,
    join_without_look_up,
)
from pipeline.frames.changes import Snapshot, summarize_changes
from pipeline.frames.raw_library import parse_owned_games
from pipeline.frames.staging import stage_library
from pipeline.settings import Settings
from pipeline.steam_id import Vanity, parse_steam_id
from pipeline.storage.checkpoints import (
    CheckpointData,
    Provenance,
    find_earlier,
    read_checkpoint,
    read_manifest,
    recording_failure,
    write_checkpoint,
    write_load_manifest,
)
from pipeline.storage.keys import Checkpoint, parse_checkpoint_key, raw_checkpoint
from pipeline.storage.store import Store
from schemas.events import (
    USER_ID,
    USER_ID_RULE,
    ChangeSummary,
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
from schemas.frames import Model, set_aside
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.manifest import LoadManifest, Source
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from pipeline.apis.steam import Steam
    from pipeline.database.database import Database, LoadResult

Event = TypeVar("Event", bound=HandlerEvent)
log = structlog.get_logger()


def parse_event(event: object, event_type: type[Event]) -> Event:
    """Return a Lambda event, any JSON value, as an object of its model.

    Raises:
        Refused: `bad_event`, naming every invalid field.
    """
    try:
        return event_type.model_validate(event)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        listed = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in faults
        )
        raise Refused("bad_event", f"The event cannot be used. Fix {listed}.") from None


def require_user_id(user_id: str) -> str:
    """Return a user id unchanged, or raise `bad_event` for a text that is none."""
    if not re.fullmatch(USER_ID, user_id):
        raise Refused("bad_event", f"{user_id!r:.80} is no user id. Give another: {USER_ID_RULE}.")
    return user_id


async def fetch(store: Store, steam: "Steam", event: FetchEvent) -> FetchResponse:
    """Write the games that a Steam account owns into a raw CSV, and return its location and counts.

    Raises:
        Failed: `private_library`, `account_not_found`, `steam_blocked`; nothing is written then.
    """
    run = _StageRun(event)
    steam_id64 = await find_account(steam, event.steam_id64)
    owned = await steam.fetch_owned_games(steam_id64)
    if owned is None:
        raise steam.hidden_library_error(steam_id64, has_account=await steam.has_account(steam_id64))

    library, rejected = parse_owned_games(owned, event.user_id, steam_id64)

    raw = raw_checkpoint(event.user_id, event.timestamp)
    counts = {"games": library.height, "rejected": rejected.height}
    manifest = write_checkpoint(store, raw, library, rejected, run.provenance(steam.requests, counts))
    run.log(manifest.seconds, steam.requests, counts, steam.retries)
    return FetchResponse(
        success=True,
        s3_location=store.locate(raw.key),
        game_count=library.height,
        rejected=rejected.height,
        seconds=manifest.seconds,
        requests=steam.requests,
        retries=steam.retries.count,
    )


async def enrich(
    store: Store,
    lookup: CatalogueLookup,
    event: EnrichEvent,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
) -> EnrichResponse:
    """Write the kind and the IGDB game of each app of a raw CSV into an enriched CSV; return its location and counts.

    Raises:
        Retryable: `igdb_unavailable`, if no look-up succeeded. If some did, the apps of the others are PENDING.
    """
    run = _StageRun(event)
    raw = read_checkpoint(store, _raw_checkpoint(store, event), RawLibrary, trust=trust)
    run.continue_run_of(raw)
    overrides = read_overrides(store)
    apps, known = await lookup.look_up(raw.rows, overrides, progress)

    library = join_catalogue(apps, known, overrides)

    return _write_enriched(store, run, raw.source, library, lookup)


def join(
    store: Store, catalogue: CatalogueFiles, lifetimes: Lifetimes, event: EnrichEvent, *, trust: bool = False
) -> EnrichResponse:
    """Write an enriched CSV from a raw one and the catalogue alone; return its location and counts.

    Apps that the catalogue has no fresh answer about are PENDING, and wanted from the next look-up.
    """
    run = _StageRun(event)
    raw = read_checkpoint(store, _raw_checkpoint(store, event), RawLibrary, trust=trust)
    run.continue_run_of(raw)
    overrides = read_overrides(store)
    known = catalogue.read_about(raw.rows)

    library, missed = join_without_look_up(raw.rows, known, overrides, datetime.now(UTC), lifetimes)

    want_apps(store, run.run_id, missed)
    return _write_enriched(store, run, raw.source, library)


def load(store: Store, database: "Database", event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """Write all rows of an enriched CSV, or none, into SavePoint's database, and return the numbers of rows written.

    A dry run writes none, and returns what it would write.

    Raises:
        Failed: `schema_mismatch`, `user_not_found`.
        Refused: `configuration`, if the database has no such status for library items as `options` name.
    """
    run = _StageRun(event)
    checkpoint = _enriched_checkpoint(store, event)
    data = read_checkpoint(store, checkpoint, EnrichedLibrary, trust=options.trust)
    run.continue_run_of(data)
    changes = _changes_since_last(store, checkpoint, data.rows)

    staged = stage_library(data.rows, _find_fetch_time(store, checkpoint))

    loaded = database.load(staged, [event.user_id], options)
    stats = loaded.counts | _count_changes(changes)
    written = {name: rows for name, rows in stats.items() if rows}
    if not options.dry_run:
        write_load_manifest(store, checkpoint, run.load_manifest(data, loaded, stats, changes, str(database)))
    run.log(run.seconds, 0, written | {"statements": loaded.statements}, is_dry=options.dry_run)
    dry_run = DryRun(tables=loaded.tables.to_dicts(), changes=loaded.changes.to_dicts()) if options.dry_run else None
    return LoadResponse(success=True, stats=stats, rejected=0, seconds=run.seconds, dry_run=dry_run, changes=changes)


def read_snapshot(store: Store, checkpoint: Checkpoint) -> Snapshot:
    """Return the library of an enriched checkpoint with its user and its time; raises what `read_checkpoint` raises."""
    return _snapshot(checkpoint, read_checkpoint(store, checkpoint, EnrichedLibrary).rows)


async def find_account(steam: "Steam", steam_id: str) -> str:
    """Return the SteamID64 for any form of Steam id; Steam is asked only about a custom URL.

    Raises:
        Refused: `bad_steam_id`, if the text has none of the forms.
        Failed: `account_not_found`, if no account has the custom URL.
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


async def fetch_with_settings(settings: Settings, event: FetchEvent) -> FetchResponse:
    """Fetch a library into a raw CSV, with the configured store and Steam client, and return the stage's response."""
    settings.require(*NEEDED_BY_FETCH)
    store = open_store(settings)
    async with open_steam(settings) as steam:
        return await fetch(store, steam, event)


async def enrich_with_settings(
    settings: Settings,
    event: EnrichEvent,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
    deadline: float | None = None,
) -> EnrichResponse:
    """Enrich a raw CSV with the store and the clients that the settings configure, and return its response.

    Apps that IGDB does not answer about before the deadline, in seconds of `time.monotonic`, get the `match_status`
    PENDING. An event whose `look_up` is false is joined with the catalogue as it is: no API is asked, and no secret is
    needed.
    """
    settings.require(*(NEEDED_BY_ENRICH if event.look_up else ("store",)))
    store = open_store(settings)
    with recording_failure(store, _raw_checkpoint(store, event), "enrich"):
        if not event.look_up:
            return join(store, open_catalogue(settings, store), lifetimes_of(settings), event, trust=trust)
        async with open_catalogue_lookup(settings, deadline, store) as lookup:
            return await enrich(store, lookup, event, progress, trust=trust)


def load_with_settings(settings: Settings, event: LoadEvent, options: LoadOptions = DEFAULT_OPTIONS) -> LoadResponse:
    """Load an enriched CSV into the configured database, and return the stage's response.

    New library items get the statuses that the settings name.
    """
    settings.require(*NEEDED_BY_LOAD)
    store = open_store(settings)
    checkpoint = _enriched_checkpoint(store, event)
    with nullcontext() if options.dry_run else recording_failure(store, checkpoint, "load"):
        return load(store, open_database(settings), event, with_statuses(options, settings))


def with_statuses(options: LoadOptions, settings: Settings) -> LoadOptions:
    """Return the options of a load with the statuses of new library items that the settings name."""
    return replace(
        options,
        status_unplayed=settings.status_unplayed,
        status_played=settings.status_played,
        status_recent=settings.status_recent,
    )


async def find_account_with_settings(settings: Settings, steam_id: str) -> str:
    """Return the SteamID64 for any form of Steam id, with the Steam client that the settings configure."""
    settings.require("steam_api_key")
    async with open_steam(settings) as steam:
        return await find_account(steam, steam_id)


def _find_fetch_time(store: Store, checkpoint: Checkpoint) -> datetime | None:
    """Return when the fetch of an import ended, by the raw CSV's manifest; without one, the time in the key, if any.

    The time in the key is that of the whole import's start: a fetch may be retried for hours after it.
    """
    try:
        fetched = read_manifest(store, checkpoint.raw.key)
    except Failed as error:
        log.warning("the end of the fetch is not known", key=checkpoint.raw.manifest_key, fault=error.message)
        fetched = None
    return fetched.finished_at if fetched else checkpoint.fetched_at


def _changes_since_last(store: Store, checkpoint: Checkpoint, rows: DataFrame[EnrichedLibrary]) -> ChangeSummary | None:
    """Return what changed since the user's last loaded import; None, with a warning, if that one cannot be read."""
    earlier = find_earlier(store, checkpoint)
    if earlier is None:
        return ChangeSummary(until=checkpoint.stem)
    try:
        return summarize_changes(read_snapshot(store, earlier), _snapshot(checkpoint, rows))
    except Failed as error:
        log.warning("what changed is not known", earlier=earlier.key, fault=error.message)
        return None


def _snapshot(checkpoint: Checkpoint, rows: DataFrame[EnrichedLibrary]) -> Snapshot:
    return Snapshot(checkpoint.user_id, checkpoint.stem, checkpoint.fetched_at, rows)


def _count_changes(changes: ChangeSummary | None) -> dict[str, int]:
    return {
        "new_games": len(changes.new_games) if changes else 0,
        "minutes_played_since": changes.minutes_played_since if changes else 0,
    }


class _StageRun:
    """The user, the run and the start of one stage of an import, for its manifest and its line of the log."""

    def __init__(self, event: StageEvent) -> None:
        self.event = event
        self._started_at = datetime.now(UTC)
        self._set_run_id(event.run_id or uuid4().hex)

    def continue_run_of(self, data: CheckpointData[Model]) -> None:
        """Take the run id of the run that made a CSV, unless the event names another run."""
        if self.event.run_id is None and data.run_id:
            self._set_run_id(data.run_id)

    def _set_run_id(self, run_id: str) -> None:
        self.run_id = run_id
        bind_contextvars(run_id=run_id)

    @property
    def seconds(self) -> float:
        """The seconds since the stage started."""
        return round((datetime.now(UTC) - self._started_at).total_seconds(), 3)

    def provenance(self, requests: int, counts: dict[str, int], source: Source | None = None) -> Provenance:
        """Return how the stage made its CSV, for the CSV's manifest."""
        return Provenance(self.run_id, self._started_at, requests, counts, source)

    def load_manifest(
        self,
        data: CheckpointData[EnrichedLibrary],
        loaded: "LoadResult",
        stats: dict[str, int],
        changes: ChangeSummary | None,
        database: str,
    ) -> LoadManifest:
        """Return the manifest of a load of a CSV that is committed."""
        return LoadManifest(
            user_id=self.event.user_id,
            run_id=self.run_id,
            key=data.source.key,
            input=data.source,
            rows=data.rows.height,
            counts=stats,
            tables=loaded.tables.to_dicts(),
            changes=changes,
            database=database,
            statements=loaded.statements,
            started_at=self._started_at,
            finished_at=datetime.now(UTC),
            seconds=self.seconds,
        )

    def log(
        self,
        seconds: float,
        requests: int,
        counts: dict[str, int],
        retries: Retries | None = None,
        *,
        is_dry: bool = False,
    ) -> None:
        """Log the one line that a stage writes when it is done."""
        repeated = {"retries": retries.count, "rate_limited": retries.rate_limited} if retries else {}
        log.info(
            "dry run" if is_dry else self.event.stage,
            user_id=self.event.user_id,
            run_id=self.run_id,
            seconds=seconds,
            requests=requests,
            **repeated,
            **counts,
        )


def _raw_checkpoint(store: Store, event: EnrichEvent) -> Checkpoint:
    return parse_checkpoint_key(store.key_of(event.s3_location), "raw", event.user_id)


def _enriched_checkpoint(store: Store, event: LoadEvent) -> Checkpoint:
    return parse_checkpoint_key(store.key_of(event.s3_enriched_location), "enriched", event.user_id)


def _write_enriched(
    store: Store,
    run: _StageRun,
    source: Source,
    library: DataFrame[EnrichedLibrary],
    lookup: CatalogueLookup | None = None,
) -> EnrichResponse:
    """Write an enriched checkpoint, and return the response with its location, its counts and the look-up's."""
    enriched, rejected = set_aside(library, EnrichedLibrary)
    checkpoint = parse_checkpoint_key(source.key, "raw").enriched
    stats = _count_statuses(enriched)
    counts = stats.model_dump() | {"rejected": rejected.height}
    requests, retries = (lookup.requests, lookup.retries) if lookup else (0, Retries())
    manifest = write_checkpoint(store, checkpoint, enriched, rejected, run.provenance(requests, counts, source))
    run.log(manifest.seconds, requests, counts, retries)
    return EnrichResponse(
        success=True,
        s3_enriched_location=store.locate(checkpoint.key),
        stats=stats,
        kinds=dict(Counter(enriched["kind"].cast(pl.String))),
        rejected=rejected.height,
        seconds=manifest.seconds,
        requests=requests,
        retries=retries.count,
    )


def _count_statuses(library: DataFrame[EnrichedLibrary]) -> EnrichStats:
    statuses = Counter(library["match_status"].cast(pl.String))
    return EnrichStats(
        processed=library.height,
        matched=statuses["MATCHED"],
        unmatched=statuses["UNMATCHED"],
        filtered=statuses["IGNORED"],
        pending=statuses["PENDING"],
        igdb_incomplete=library.filter(pl.col("match_reason") == "igdb_incomplete").height,
    )
