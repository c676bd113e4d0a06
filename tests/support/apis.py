"""Clients of the APIs for tests: few attempts, hardly a wait between them, and no rate to keep to."""

from collections.abc import Mapping

import httpx

from pipeline.apis.http import HttpClient, HttpLimits
from pipeline.apis.igdb import MAX_OPEN, Igdb, Multiquery, Token, TwitchApplication
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam
from pipeline.apis.steam_store import SteamStore

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
    multiquery: Multiquery = "off",
) -> Igdb:
    return Igdb(
        HttpClient(settings["IGDB_API_URL"], limits, transport),
        TwitchApplication(settings["IGDB_CLIENT_ID"], settings["IGDB_CLIENT_SECRET"], settings["TWITCH_TOKEN_URL"]),
        policy,
        rate_limiter or RateLimiter(1_000, MAX_OPEN),
        token=token,
        multiquery=multiquery,
    )
