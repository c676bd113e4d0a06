"""Settings to open clients; what the command line and the handlers share.

What only some of the stages need is imported where it is opened: a Lambda function starts the faster for it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from pydantic import SecretStr

from pipeline import kept, stages
from pipeline.catalogue_files import CatalogueFiles
from pipeline.contract import ReadLimits, Store
from pipeline.edges.aws_secrets import read_secret
from pipeline.edges.pace import Pace, Rhythm
from pipeline.edges.patience import Patience
from pipeline.edges.store import open_store
from pipeline.frames.catalogue import Lifetimes
from pipeline.knowledge import Knowledge
from pipeline.lookup import Progress, no_progress
from pipeline.settings import Settings
from schemas.events import (
    EnrichEvent,
    EnrichResponse,
    FetchEvent,
    FetchResponse,
    LoadEvent,
    LoadResponse,
    StageEvent,
)

if TYPE_CHECKING:
    from pipeline.edges.igdb import Igdb
    from pipeline.edges.postgres import Database
    from pipeline.edges.steam import Steam
    from pipeline.edges.steam_store import SteamStore
    from pipeline.sync import Synced

STEAM_RETRY_SECONDS = 5.0
"""Steam answers even a first call with 429 at times, and mends itself in seconds (Playnite: 5 times, 5 s apart)."""

STORE_ATTEMPTS = 3
"""Nobody waits long for store types: where they are missing, names decide."""

NEEDED_BY_FETCH = ("steam_api_key", "store")
NEEDED_BY_ENRICH = ("igdb_client_id", "igdb_client_secret", "store")
NEEDED_BY_LOAD = ("database_url", "store")


async def find_account(settings: Settings, steam_id: str) -> str:
    """The SteamID64 of any form of Steam id; see `stages.find_account`."""
    settings.require("steam_api_key")
    async with open_steam(settings) as steam:
        return await stages.find_account(steam, steam_id)


async def fetch(settings: Settings, event: FetchEvent) -> FetchResponse:
    """Stage 1 with these settings; see `stages.fetch`."""
    place = _store_for(settings, event, NEEDED_BY_FETCH)
    async with open_steam(settings) as steam:
        return await stages.fetch(place, steam, event)


async def enrich(
    settings: Settings,
    event: EnrichEvent,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
    deadline: float | None = None,
) -> EnrichResponse:
    """Stage 2 with these settings; see `stages.enrich`. What is not answered by the deadline is PENDING."""
    place = _store_for(settings, event, NEEDED_BY_ENRICH)
    async with open_knowledge(settings, deadline) as knowledge:
        return await stages.enrich(place, knowledge, event, progress, trust=trust)


@asynccontextmanager
async def open_knowledge(
    settings: Settings, deadline: float | None = None, place: Store | None = None
) -> AsyncIterator[Knowledge]:
    """The catalogue, of another store if one is given, and whom to ask for what it lacks, up to the deadline."""
    settings.require(*NEEDED_BY_ENRICH)
    async with open_igdb(settings, deadline) as igdb, _steam_store(settings, deadline) as steam_store:
        yield Knowledge(
            catalogue(settings, place), igdb, steam_store, _lifetimes(settings), settings.igdb_follow_editions
        )


async def sync_catalogue(settings: Settings, progress: Progress = no_progress) -> "Synced":
    """Bring in all that IGDB has for Steam; see `sync.sync`."""
    from pipeline.sync import sync  # noqa: PLC0415 - a stage imports only what it needs

    settings.require(*NEEDED_BY_ENRICH)
    async with open_igdb(settings) as igdb:
        return await sync(store(settings), catalogue(settings), igdb, progress, settings.sync_max_rows)


def load(
    settings: Settings, event: LoadEvent, *, dry_run: bool = False, details: bool = False, trust: bool = False
) -> LoadResponse:
    """Stage 3 with these settings; see `stages.load`."""
    return stages.load(
        _store_for(settings, event, NEEDED_BY_LOAD),
        database(settings),
        event,
        status_unplayed=settings.status_unplayed,
        status_played=settings.status_played,
        dry_run=dry_run,
        details=details,
        trust=trust,
    )


def _store_for(settings: Settings, event: StageEvent, needed: tuple[str, ...]) -> Store:
    """The store alone: an event that can be refused is, before a client is made or a driver imported."""
    settings.require(*needed)
    place = store(settings)
    stages.check(place, event)
    return place


def store(settings: Settings) -> Store:
    """Where the checkpoints are."""
    settings.require("store")
    return store_at(settings, str(settings.store))


def store_at(settings: Settings, url: str) -> Store:
    """A store that need not be the configured one, with these settings for AWS."""
    return open_store(
        url,
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url_s3,
        patience=_patience(settings),
        limits=read_limits(settings),
    )


def read_limits(settings: Settings) -> ReadLimits:
    """How much is read of a file."""
    return ReadLimits(**{limit.name: getattr(settings, limit.name) for limit in fields(ReadLimits)})


def catalogue(settings: Settings, place: Store | None = None) -> CatalogueFiles:
    """The catalogue in the store, or in another one, with what this process read of it already."""
    place = place or store(settings)
    return CatalogueFiles(place, kept.memory(place.locate("")))


def database(settings: Settings) -> "Database":
    """SavePoint's database; nothing is opened yet."""
    from pipeline.edges.postgres import Database  # noqa: PLC0415 - a stage imports only what it needs
    from pipeline.edges.postgres_session import Limits  # noqa: PLC0415 - a stage imports only what it needs

    settings.require("database_url")
    patience = _patience(settings)
    return Database(
        secret(settings, "database_url"),
        attempts=patience.attempts,
        retry_base_seconds=patience.base_seconds,
        limits=Limits(settings.statement_timeout_seconds, settings.lock_timeout_seconds),
    )


async def steam_time(settings: Settings) -> datetime | None:
    """What time it is at Steam; see `http.fetch_time`."""
    from pipeline.edges.http import fetch_time  # noqa: PLC0415 - a stage imports only what it needs

    return await fetch_time(settings.steam_api_url, "steam_unavailable", _patience(settings))


def open_steam(settings: Settings) -> "Steam":
    """Steam, to be asked on behalf of the configured key, no faster than the settings say."""
    from pipeline.edges.steam import Steam  # noqa: PLC0415 - a stage imports only what it needs

    settings.require("steam_api_key")
    patience = _patience(settings, STEAM_RETRY_SECONDS)
    pace = Pace(Rhythm(1 / settings.steam_requests_per_second), settings.steam_concurrency)
    return Steam(secret(settings, "steam_api_key"), settings.steam_api_url, patience, pace=pace)


def _steam_store(settings: Settings, deadline: float | None = None) -> "SteamStore":
    from pipeline.edges.steam_store import SteamStore  # noqa: PLC0415 - a stage imports only what it needs

    patience = _patience(settings)
    patience = replace(patience, attempts=min(patience.attempts, STORE_ATTEMPTS), deadline=deadline)
    return SteamStore(settings.steam_store_api_url, patience)


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(timedelta(days=settings.catalogue_ttl_days), timedelta(days=settings.catalogue_miss_ttl_days))


def open_igdb(settings: Settings, deadline: float | None = None) -> "Igdb":
    """IGDB, to be asked on behalf of the configured Twitch application; until a time of `time.monotonic`, if given."""
    from pipeline.edges.igdb import Igdb  # noqa: PLC0415 - a stage imports only what it needs

    client_id, client_secret = secret(settings, "igdb_client_id"), secret(settings, "igdb_client_secret")
    return Igdb(
        client_id,
        client_secret,
        base_url=settings.igdb_api_url,
        token_url=settings.twitch_token_url,
        patience=replace(_patience(settings), deadline=deadline),
        token=kept.token(client_id, sha256(client_secret.encode()).hexdigest(), settings.twitch_token_url),
        rhythm=kept.rhythm(client_id),
        multiquery=settings.igdb_multiquery,
    )


def _patience(settings: Settings, base_seconds: float = 1.0) -> Patience:
    base = base_seconds if settings.retry_base_seconds is None else settings.retry_base_seconds
    return Patience(
        settings.http_timeout_seconds,
        settings.retry_attempts,
        base,
        answer_seconds=settings.http_answer_seconds,
        answer_bytes=settings.http_max_bytes,
        answer_rows=settings.http_max_rows,
    )


def secret(settings: Settings, name: str) -> str:
    """The value of a setting that may lie in AWS; read there when first needed, once a process.

    Raises:
        PipelineError: As `read_secret`.
    """
    own = getattr(settings, name)
    if not own:
        where = f"{name}_secret_arn"
        return read_secret(where.upper(), str(getattr(settings, where)), _patience(settings))
    return own.get_secret_value() if isinstance(own, SecretStr) else str(own)
