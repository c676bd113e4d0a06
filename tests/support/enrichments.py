"""Enrichments for tests: raw CSVs put into a store, the second stage run against a sandbox, and what came of it."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pipeline import stages
from pipeline.apis.igdb import Igdb, Multiquery, Token
from pipeline.apis.rate_limit import Rhythm
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam
from pipeline.apis.steam_store import SteamStore
from pipeline.catalogue.files import CatalogueFiles, Memory
from pipeline.catalogue.look_up import CatalogueLookup, Progress, no_progress
from pipeline.frames.catalogue import Lifetimes
from pipeline.sandbox.server import Sandbox
from pipeline.storage.store import Store
from schemas.events import EnrichEvent, EnrichResponse, EnrichStats, FetchEvent
from tests.support.stores import QUICK, RAW, TIMESTAMP

LONG = Lifetimes(timedelta(days=30), timedelta(days=7))


@dataclass(frozen=True)
class Setup:
    """How an enrichment is set up; `memory`, `token` and `rhythm` are kept by whoever runs several."""

    changed: Mapping[str, str] = field(default_factory=dict)
    patience: RetryPolicy = QUICK
    lifetimes: Lifetimes = LONG
    multiquery: Multiquery = "off"
    memory: Memory | None = None
    token: Token | None = None
    rhythm: Rhythm | None = None


PLAIN = Setup()


def open_igdb(settings: Mapping[str, str], setup: Setup = PLAIN) -> Igdb:
    return Igdb(
        settings["IGDB_CLIENT_ID"],
        settings["IGDB_CLIENT_SECRET"],
        base_url=settings["IGDB_API_URL"],
        token_url=settings["TWITCH_TOKEN_URL"],
        patience=setup.patience,
        token=setup.token,
        rhythm=setup.rhythm,
        multiquery=setup.multiquery,
    )


async def enriching(
    settings: Mapping[str, str], store: Store, location: str, progress: Progress, setup: Setup
) -> EnrichResponse:
    """The second stage with clients of its own."""
    user_id = raw_user(location)
    async with AsyncExitStack() as clients:
        igdb = await clients.enter_async_context(open_igdb(settings, setup))
        steam_store = await clients.enter_async_context(SteamStore(settings["STEAM_STORE_API_URL"], setup.patience))
        catalogue = CatalogueFiles(store, setup.memory)
        knowledge = CatalogueLookup(catalogue, igdb, steam_store, setup.lifetimes)
        event = EnrichEvent(user_id=user_id, run_id="run-1", s3_location=location)
        return await stages.enrich(store, knowledge, event, progress)


def paced(sandbox: Sandbox, setup: Setup) -> Setup:
    """At IGDB's pace where the sandbox has its limits, else faster."""
    return setup if sandbox.limits else replace(setup, rhythm=Rhythm(0.001))


def raw_user(location: str) -> str:
    """Whom a location says its rows belong to, or user-1."""
    _, _, rest = location.partition("/imports/")
    user_id = rest.split("/")[0]
    return user_id if user_id.startswith("player-") else "user-1"


def enrich(
    sandbox: Sandbox,
    store: Store,
    location: str | None = None,
    progress: Progress = no_progress,
    setup: Setup = PLAIN,
) -> EnrichResponse:
    settings = {**sandbox.environment, **setup.changed}
    place = store.locate(RAW.key) if location is None else location
    return asyncio.run(enriching(settings, store, place, progress, paced(sandbox, setup)))


def stats(response: EnrichResponse) -> EnrichStats:
    assert response.success
    assert response.stats is not None
    return response.stats


def fetch(sandbox: Sandbox, store: Store, account: str) -> str:
    """The location of an account's raw CSV, made by the stage before."""
    settings = sandbox.environment

    async def run() -> str | None:
        async with Steam(settings["STEAM_API_KEY"], settings["STEAM_API_URL"], RetryPolicy(attempts=1)) as steam:
            event = FetchEvent(user_id="user-1", timestamp=TIMESTAMP, steam_id64=account)
            return (await stages.fetch(store, steam, event)).s3_location

    return str(asyncio.run(run()))
