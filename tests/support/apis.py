"""Clients of the APIs for tests, with few attempts and no rate to keep to, and the stages run with them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

import httpx

from pipeline import stages
from pipeline.apis.http import HttpClient, HttpLimits
from pipeline.apis.igdb import MAX_OPEN, Igdb, Token, TwitchApplication
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam, SteamStore
from pipeline.catalogue.files import CatalogueFiles, Memory
from pipeline.catalogue.look_up import CatalogueLookup, Progress, no_progress
from pipeline.frames.catalogue import Lifetimes
from pipeline.sandbox.server import Sandbox
from pipeline.settings import Settings
from pipeline.storage.store import Store
from schemas.events import EnrichEvent, EnrichResponse, EnrichStats, FetchEvent
from tests.support.stores import RAW, TIMESTAMP

QUICK = RetryPolicy(attempts=3, base_seconds=0.01)
ONCE = RetryPolicy(attempts=1, base_seconds=0.01)
BRIEF = HttpLimits(timeout_seconds=5.0)

EXAMPLE = {
    "STEAM_API_KEY": "key",
    "STEAM_API_URL": "https://steam.example",
    "STEAM_STORE_API_URL": "https://store.example",
    "IGDB_CLIENT_ID": "id",
    "IGDB_CLIENT_SECRET": "secret",
    "IGDB_API_URL": "https://igdb.example/v4",
    "TWITCH_TOKEN_URL": "https://twitch.example/token",
}
"""Settings for clients whose network is a transport of the test."""

Network = httpx.AsyncBaseTransport | None
T = TypeVar("T")


def open_steam(
    settings: Mapping[str, str] = EXAMPLE,
    policy: RetryPolicy = QUICK,
    limits: HttpLimits = BRIEF,
    transport: Network = None,
    rate_limiter: RateLimiter | None = None,
) -> Steam:
    http = HttpClient(settings["STEAM_API_URL"], limits, transport)
    return Steam(http, settings["STEAM_API_KEY"], policy, rate_limiter or RateLimiter(1_000, 100))


def open_steam_store(
    settings: Mapping[str, str] = EXAMPLE,
    policy: RetryPolicy = QUICK,
    limits: HttpLimits = BRIEF,
    transport: Network = None,
) -> SteamStore:
    return SteamStore(HttpClient(settings["STEAM_STORE_API_URL"], limits, transport), policy)


def open_igdb(  # noqa: PLR0913 - those of three constructors
    settings: Mapping[str, str] = EXAMPLE,
    policy: RetryPolicy = QUICK,
    limits: HttpLimits = BRIEF,
    transport: Network = None,
    *,
    token: Token | None = None,
    rate_limiter: RateLimiter | None = None,
    multiquery: bool = True,
) -> Igdb:
    return Igdb(
        HttpClient(settings["IGDB_API_URL"], limits, transport),
        TwitchApplication(settings["IGDB_CLIENT_ID"], settings["IGDB_CLIENT_SECRET"], settings["TWITCH_TOKEN_URL"]),
        policy,
        rate_limiter or RateLimiter(1_000, MAX_OPEN),
        token=token,
        multiquery=multiquery,
    )


def ask_igdb(
    answer: Callable[[httpx.Request], httpx.Response],
    call: Callable[[Igdb], Awaitable[T]],
    policy: RetryPolicy = ONCE,
    *,
    has_token: bool = True,
) -> T:
    """What a call returns of a client whose requests `answer` answers, those for a token too unless it has one."""

    async def ask() -> T:
        token = Token("token", time.time() + 3_600) if has_token else None
        async with open_igdb(policy=policy, transport=httpx.MockTransport(answer), token=token) as igdb:
            return await call(igdb)

    return asyncio.run(ask())


LONG = Lifetimes(timedelta(days=30), timedelta(days=7))


@dataclass(frozen=True)
class Setup:
    """How an enrichment is set up; `memory` and `token` are kept by whoever runs several."""

    changed: Mapping[str, str] = field(default_factory=dict)
    policy: RetryPolicy = QUICK
    lifetimes: Lifetimes = LONG
    multiquery: bool = True
    memory: Memory | None = None
    token: Token | None = None
    requests_per_second: float = 1_000


PLAIN = Setup()


async def enriching(
    settings: Mapping[str, str], store: Store, location: str, progress: Progress, setup: Setup
) -> EnrichResponse:
    """The second stage with clients of its own."""
    user_id = raw_user(location)
    limiter = RateLimiter(setup.requests_per_second, MAX_OPEN)
    igdb = open_igdb(settings, setup.policy, token=setup.token, rate_limiter=limiter, multiquery=setup.multiquery)
    async with igdb, open_steam_store(settings, setup.policy) as steam_store:
        catalogue = CatalogueFiles(store, setup.memory)
        knowledge = CatalogueLookup(catalogue, igdb, steam_store, setup.lifetimes)
        event = EnrichEvent(user_id=user_id, run_id="run-1", s3_location=location)
        return await stages.enrich(store, knowledge, event, progress)


def at_igdbs_rate(sandbox: Sandbox, setup: Setup) -> Setup:
    """The set-up with the rate that is the default of the setting, where the sandbox limits the rate."""
    default = Settings.model_fields["igdb_requests_per_second"].default
    return replace(setup, requests_per_second=default) if sandbox.limits else setup


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
    return asyncio.run(enriching(settings, store, place, progress, at_igdbs_rate(sandbox, setup)))


def stats(response: EnrichResponse) -> EnrichStats:
    assert response.success
    assert response.stats is not None
    return response.stats


def fetch(sandbox: Sandbox, store: Store, account: str) -> str:
    """The location of an account's raw CSV, made by the stage before."""

    async def run() -> str | None:
        async with open_steam(sandbox.environment) as steam:
            event = FetchEvent(user_id="user-1", timestamp=TIMESTAMP, steam_id64=account)
            return (await stages.fetch(store, steam, event)).s3_location

    return str(asyncio.run(run()))
