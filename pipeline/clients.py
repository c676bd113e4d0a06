"""Clients opened from the settings, secrets read from AWS, and the state that the clients of one process share.

A client's module is imported by the function that opens it: a Lambda function imports only what its own stage needs.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.catalogue.files import CatalogueFiles, Memory
from pipeline.catalogue.look_up import CatalogueLookup
from pipeline.errors import Refused
from pipeline.frames.catalogue import Lifetimes
from pipeline.settings import Settings, is_key
from pipeline.storage.store import AwsLimits, Store, open_store_at_url

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider, SSMProvider

    from pipeline.apis.http import HttpLimits
    from pipeline.apis.igdb import Igdb, Token
    from pipeline.apis.steam import Steam, SteamStore
    from pipeline.database.database import Database

NEEDED_BY_FETCH = ("steam_api_key", "store")
NEEDED_BY_ENRICH = ("igdb_client_id", "igdb_client_secret", "store")
NEEDED_BY_LOAD = ("database_url", "store")
"""The fields of the settings without which a stage cannot start."""

STEAM_RETRY_SECONDS = 5.0
"""Seconds before the first retry of a call of Steam, which answers even a first call with 429 at times.

It recovers in seconds; Playnite tries 5 times, 5 s apart."""


def open_store(settings: Settings) -> Store:
    """Return the store that the settings name: the directory or bucket of checkpoints, catalogue and backfills."""
    settings.require("store")
    return open_store_at(settings, str(settings.store))


def open_store_at(settings: Settings, url: str) -> Store:
    """Return the store in a directory or at `s3://bucket[/prefix]`, opened with the AWS settings in `settings`."""
    return open_store_at_url(
        url,
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url_s3,
        aws_limits=_aws_limits(settings),
        file_max_bytes=settings.file_max_bytes,
    )


def open_catalogue(settings: Settings, store: Store | None = None) -> CatalogueFiles:
    """Return the catalogue of a store (default: the configured one), with the rows cached by this process."""
    store = store or open_store(settings)
    return CatalogueFiles(store, catalogue_memory(store.locate("")))


@asynccontextmanager
async def open_catalogue_lookup(
    settings: Settings, deadline: float | None = None, store: Store | None = None
) -> AsyncIterator[CatalogueLookup]:
    """Yield a look-up over the catalogue, IGDB and Steam's store, which asks until the deadline (`time.monotonic`)."""
    settings.require(*NEEDED_BY_ENRICH)
    async with open_igdb(settings, deadline) as igdb, open_steam_store(settings, deadline) as steam_store:
        yield CatalogueLookup(open_catalogue(settings, store), igdb, steam_store, lifetimes_of(settings))


def lifetimes_of(settings: Settings) -> Lifetimes:
    """Return how long the settings let an answer of Steam's store or IGDB be believed."""
    return Lifetimes(timedelta(days=settings.catalogue_ttl_days), timedelta(days=settings.catalogue_miss_ttl_days))


def open_database(settings: Settings) -> "Database":
    """Return a client of SavePoint's PostgreSQL database; each of its methods opens a connection of its own."""
    from pipeline.database.connection import Timeouts
    from pipeline.database.database import Database

    settings.require("database_url")
    policy = _retry_policy(settings)
    return Database(
        secret_value(settings, "database_url"),
        attempts=policy.attempts,
        retry_base_seconds=policy.base_seconds,
        timeouts=Timeouts(settings.statement_timeout_seconds, settings.lock_timeout_seconds),
    )


def open_steam(settings: Settings) -> "Steam":
    """Return a client of the Steam Web API with the configured key, which keeps to the configured rate."""
    from pipeline.apis.http import HttpClient
    from pipeline.apis.steam import Steam

    settings.require("steam_api_key")
    return Steam(
        HttpClient(settings.steam_api_url, _http_limits(settings)),
        secret_value(settings, "steam_api_key"),
        _retry_policy(settings, STEAM_RETRY_SECONDS),
        steam_rate_limiter(
            settings.steam_api_url,
            settings.steam_requests_per_second,
            settings.steam_concurrency,
            settings.steam_processes,
        ),
    )


def open_steam_store(settings: Settings, deadline: float | None = None) -> "SteamStore":
    """Return a client of Steam's store, which is asked until the deadline (`time.monotonic`) and needs no key."""
    from pipeline.apis.http import HttpClient
    from pipeline.apis.steam import SteamStore

    http = HttpClient(settings.steam_store_api_url, _http_limits(settings))
    return SteamStore(http, replace(_retry_policy(settings), deadline=deadline))


def open_igdb(settings: Settings, deadline: float | None = None) -> "Igdb":
    """Return a client of IGDB for the configured Twitch application, asked until the deadline (`time.monotonic`)."""
    from pipeline.apis.http import HttpClient
    from pipeline.apis.igdb import Igdb, TwitchApplication

    client_id = secret_value(settings, "igdb_client_id")
    client_secret = secret_value(settings, "igdb_client_secret")
    return Igdb(
        HttpClient(settings.igdb_api_url, _http_limits(settings)),
        TwitchApplication(client_id, client_secret, settings.twitch_token_url),
        replace(_retry_policy(settings), deadline=deadline),
        igdb_rate_limiter(client_id, settings.igdb_requests_per_second),
        token=igdb_token(client_id, sha256(client_secret.encode()).hexdigest(), settings.twitch_token_url),
        multiquery=settings.igdb_multiquery == "on",
    )


async def fetch_steam_time(settings: Settings) -> datetime | None:
    """Return the time on the clock of Steam's API server, to the second; None if its answer has no date."""
    from pipeline.apis.http import fetch_server_time

    return await fetch_server_time(
        settings.steam_api_url, "steam_unavailable", _retry_policy(settings), _http_limits(settings)
    )


def _retry_policy(settings: Settings, base_seconds: float = 1.0) -> RetryPolicy:
    base = base_seconds if settings.retry_base_seconds is None else settings.retry_base_seconds
    return RetryPolicy(settings.retry_attempts, base)


def _http_limits(settings: Settings) -> "HttpLimits":
    from pipeline.apis.http import HttpLimits

    return HttpLimits(settings.http_timeout_seconds, settings.http_answer_seconds, settings.http_max_bytes)


def _aws_limits(settings: Settings) -> AwsLimits:
    return AwsLimits(settings.http_timeout_seconds, settings.retry_attempts)


# The process-wide cache: what clients share from one invocation of a warm Lambda function to the next.


@cache
def catalogue_memory(_store: str) -> Memory:
    """Return the cache that this process keeps of a store's catalogue: the same at each call, and empty at first."""
    return Memory()


@cache
def igdb_rate_limiter(_client_id: str, requests_per_second: float) -> RateLimiter:
    """Return the rate limiter of a Twitch application; IGDB counts the requests of all its clients together."""
    from pipeline.apis.igdb import MAX_OPEN

    return RateLimiter(requests_per_second, MAX_OPEN)


@cache
def steam_rate_limiter(_api_url: str, requests_per_second: float, max_open: int, processes: int) -> RateLimiter:
    """Return the rate limiter of Steam's Web API; Steam counts the requests of all processes with the key together."""
    return RateLimiter(requests_per_second, max_open, processes)


@cache
def igdb_token(_client_id: str, _secret_sha256: str, _token_url: str) -> "Token":
    """Return the holder of a Twitch application's access token, which all IGDB clients of this process share.

    Twitch keeps 25 tokens of an application alive, and a warm process needs one.
    """
    from pipeline.apis.igdb import Token

    return Token()


@cache
def secret_provider(
    setting: str, arn: str, service: str, region: str, limits: AwsLimits
) -> "SecretsProvider | SSMProvider":
    """Return the Powertools provider that reads one secret of AWS and caches its value for five minutes."""
    from aws_lambda_powertools.utilities.parameters import SecretsProvider, SSMProvider

    from pipeline.storage.s3 import open_aws

    client = open_aws(service, f"{setting} ({arn})", limits, region=region)
    return SSMProvider(boto3_client=client) if service == "ssm" else SecretsProvider(boto3_client=client)


@cache
def cached_secrets() -> dict[tuple[str, str, AwsLimits], str]:
    """Return the values of all secrets that this process has read from AWS, by setting, ARN and request limits.

    `reread_secrets` compares them with today's values, to find out whether a secret was rotated.
    """
    return {}


# Secrets that AWS keeps.

ARN = re.compile(
    r"arn:aws[a-z-]*:(?P<service>secretsmanager|ssm):(?P<region>[a-z0-9-]+):\d{12}:(secret:|parameter/)[!-~]+"
)
ARN_FORMS = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"
PERMISSIONS = {"secretsmanager": "secretsmanager:GetSecretValue", "ssm": "ssm:GetParameter"}


def secret_value(settings: Settings, name: str) -> str:
    """Return the value of a secret setting: its own, or the one that AWS keeps under its ARN, cached for five minutes.

    Raises:
        Refused: `configuration`, if AWS has no such secret or does not let us read it, or if it cannot be a key.
        Retryable: `store_unavailable`, if AWS does not answer.
    """
    own = getattr(settings, name)
    if own:
        return own.get_secret_value() if isinstance(own, SecretStr) else str(own)
    secret = f"{name}_secret_arn".upper(), str(getattr(settings, f"{name}_secret_arn")), _aws_limits(settings)
    cached_secrets()[secret] = _read_secret(*secret)
    return cached_secrets()[secret]


def reread_secrets() -> bool:
    """Read again every secret that this process has read from AWS, and return True if any value changed."""
    before = dict(cached_secrets())
    cached_secrets().update({secret: _read_secret(*secret, force_fetch=True) for secret in before})
    return cached_secrets() != before


def _read_secret(setting: str, arn: str, limits: AwsLimits, *, force_fetch: bool = False) -> str:
    named = ARN.fullmatch(arn)
    if named is None:  # not quoted: somebody may have put the secret itself there
        raise Refused("configuration", f"{setting} is not the ARN of a secret: give {ARN_FORMS}.")
    from pipeline.storage.s3 import aws_error

    try:
        from aws_lambda_powertools.utilities.parameters import GetParameterError
    except ImportError:
        raise Refused(
            "configuration", f'To read {setting}, install the extra: pip install "steam-library-import[lambda]".'
        ) from None
    decryption: dict[str, Any] = {"decrypt": True} if named["service"] == "ssm" else {}
    try:
        provider = secret_provider(setting, arn, named["service"], named["region"], limits)
        value = provider.get(arn, force_fetch=force_fetch, **decryption)
    except GetParameterError as error:
        cause = error.__context__ or error
        needs = f"Check that it is there, and that we may {PERMISSIONS[named['service']]}."
        raise aws_error(cause, "AWS", f"{setting} ({arn})", needs) from cause
    value = value.strip() if isinstance(value, str) else ""
    if not is_key(value):
        raise Refused(
            "configuration",
            f"{setting}: {arn} holds no text, or more than letters, digits and signs. Put the bare value there, "
            "without JSON.",
        )
    return value
