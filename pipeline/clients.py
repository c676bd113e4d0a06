"""Settings to open clients; what the command line and the handlers share.

What only some of the stages need is imported where it is opened: a Lambda function starts the faster for it.

What all clients of a process share, from one invocation of a warm function to the next.

Secrets that a setting names by their ARN: of AWS Secrets Manager, or parameters of SSM.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from pydantic import SecretStr

from pipeline.apis.rate_limit import Pace, Rhythm
from pipeline.apis.retry import RetryPolicy
from pipeline.catalogue.files import CatalogueFiles, Memory
from pipeline.catalogue.look_up import CatalogueLookup
from pipeline.errors import PipelineError, Refused, Retryable
from pipeline.frames.catalogue import Lifetimes
from pipeline.settings import Settings, is_key
from pipeline.storage.s3 import open_aws
from pipeline.storage.store import ReadLimits, Store, open_store_at_url

if TYPE_CHECKING:
    from pipeline.apis.igdb import Igdb, Token
    from pipeline.apis.steam import Steam
    from pipeline.apis.steam_store import SteamStore
    from pipeline.database.database import Database

STEAM_RETRY_SECONDS = 5.0
"""Steam answers even a first call with 429 at times, and mends itself in seconds (Playnite: 5 times, 5 s apart)."""

STORE_ATTEMPTS = 3
"""Nobody waits long for store types: where they are missing, names decide."""

NEEDED_BY_FETCH = ("steam_api_key", "store")
NEEDED_BY_ENRICH = ("igdb_client_id", "igdb_client_secret", "store")
NEEDED_BY_LOAD = ("database_url", "store")


@asynccontextmanager
async def open_knowledge(
    settings: Settings, deadline: float | None = None, place: Store | None = None
) -> AsyncIterator[CatalogueLookup]:
    """The catalogue, of another store if one is given, and whom to ask for what it lacks, up to the deadline."""
    settings.require(*NEEDED_BY_ENRICH)
    async with open_igdb(settings, deadline) as igdb, _steam_store(settings, deadline) as steam_store:
        yield CatalogueLookup(open_catalogue(settings, place), igdb, steam_store, _lifetimes(settings))


def open_store(settings: Settings) -> Store:
    """Where the checkpoints are."""
    settings.require("store")
    return open_store_at(settings, str(settings.store))


def open_store_at(settings: Settings, url: str) -> Store:
    """A store that need not be the configured one, with these settings for AWS."""
    return open_store_at_url(
        url,
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url_s3,
        patience=_patience(settings),
        limits=read_limits(settings),
    )


def read_limits(settings: Settings) -> ReadLimits:
    """How much is read of a file."""
    return ReadLimits(**{limit.name: getattr(settings, limit.name) for limit in fields(ReadLimits)})


def open_catalogue(settings: Settings, place: Store | None = None) -> CatalogueFiles:
    """The catalogue in the store, or in another one, with what this process read of it already."""
    place = place or open_store(settings)
    return CatalogueFiles(place, memory(place.locate("")))


def open_database(settings: Settings) -> "Database":
    """SavePoint's database; nothing is opened yet."""
    from pipeline.database.connection import Timeouts
    from pipeline.database.database import Database

    settings.require("database_url")
    patience = _patience(settings)
    return Database(
        secret(settings, "database_url"),
        attempts=patience.attempts,
        retry_base_seconds=patience.base_seconds,
        timeouts=Timeouts(settings.statement_timeout_seconds, settings.lock_timeout_seconds),
    )


async def steam_time(settings: Settings) -> datetime | None:
    """What time it is at Steam; see `http.fetch_time`."""
    from pipeline.apis.http import fetch_time

    return await fetch_time(settings.steam_api_url, "steam_unavailable", _patience(settings))


def open_steam(settings: Settings) -> "Steam":
    """Steam, to be asked on behalf of the configured key, no faster than the settings say."""
    from pipeline.apis.steam import Steam

    settings.require("steam_api_key")
    patience = _patience(settings, STEAM_RETRY_SECONDS)
    pace = Pace(Rhythm(1 / settings.steam_requests_per_second), settings.steam_concurrency)
    return Steam(secret(settings, "steam_api_key"), settings.steam_api_url, patience, pace=pace)


def _steam_store(settings: Settings, deadline: float | None = None) -> "SteamStore":
    from pipeline.apis.steam_store import SteamStore

    patience = _patience(settings)
    patience = replace(patience, attempts=min(patience.attempts, STORE_ATTEMPTS), deadline=deadline)
    return SteamStore(settings.steam_store_api_url, patience)


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(timedelta(days=settings.catalogue_ttl_days), timedelta(days=settings.catalogue_miss_ttl_days))


def open_igdb(settings: Settings, deadline: float | None = None) -> "Igdb":
    """IGDB, to be asked on behalf of the configured Twitch application; until a time of `time.monotonic`, if given."""
    from pipeline.apis.igdb import Igdb

    client_id, client_secret = secret(settings, "igdb_client_id"), secret(settings, "igdb_client_secret")
    return Igdb(
        client_id,
        client_secret,
        base_url=settings.igdb_api_url,
        token_url=settings.twitch_token_url,
        patience=replace(_patience(settings), deadline=deadline),
        token=token(client_id, sha256(client_secret.encode()).hexdigest(), settings.twitch_token_url),
        rhythm=rhythm(client_id),
        multiquery=settings.igdb_multiquery,
    )


def _patience(settings: Settings, base_seconds: float = 1.0) -> RetryPolicy:
    base = base_seconds if settings.retry_base_seconds is None else settings.retry_base_seconds
    return RetryPolicy(
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


@cache
def memory(_place: str) -> Memory:
    """One catalogue for all invocations of a warm Lambda."""
    return Memory()


@cache
def rhythm(_client_id: str) -> Rhythm:
    """One pace for all clients of a process: the four requests a second belong to the account."""
    from pipeline.apis.igdb import SECONDS_PER_REQUEST

    return Rhythm(SECONDS_PER_REQUEST)


@cache
def token(_client_id: str, _secret_sha256: str, _token_url: str) -> "Token":
    """One token for all clients of a process: Twitch keeps 25 alive an application, a warm Lambda needs one."""
    from pipeline.apis.igdb import Token

    return Token()


_ARN = re.compile(
    r"arn:aws[a-z-]*:(?P<service>secretsmanager|ssm):(?P<region>[a-z0-9-]+):\d{12}:(secret:|parameter/)[!-~]+"
)

_FORMS = "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"
_ALLOWED_BY = {"secretsmanager": "secretsmanager:GetSecretValue", "ssm": "ssm:GetParameter"}
_THROTTLED = {"ThrottlingException", "TooManyRequestsException"}


@cache
def read_secret(setting: str, arn: str, patience: RetryPolicy) -> str:
    """The value of a secret, read once a process; `setting` is whom an error names.

    Raises:
        Refused: `configuration`, where there is no such secret, it is not ours to read, or it holds no key.
        Retryable: `store_unavailable`, when AWS does not answer.
    """
    named = _ARN.fullmatch(arn)
    if named is None:  # not quoted: it may be the secret itself
        raise Refused("configuration", f"{setting} is no ARN of a secret: give {_FORMS}.")
    value = _fetch(setting, arn, named["service"], named["region"], patience).strip()
    if not is_key(value):
        raise Refused(
            "configuration",
            f"{setting}: {arn} holds no text, or more than letters, digits and signs. Put the bare value there, "
            "without JSON.",
        )
    return value


def _fetch(setting: str, arn: str, service: str, region: str, patience: RetryPolicy) -> str:
    client = open_aws(service, f"{setting} ({arn})", patience, region=region)
    try:
        if service == "ssm":
            return str(client.get_parameter(Name=arn, WithDecryption=True)["Parameter"]["Value"])
        return str(client.get_secret_value(SecretId=arn).get("SecretString", ""))
    except ClientError as error:
        code = str(error.response["Error"].get("Code"))
        raise _answered(setting, arn, service, code, error.response["ResponseMetadata"]["HTTPStatusCode"]) from error
    except (NoCredentialsError, PartialCredentialsError, ParamValidationError) as error:
        raise Refused("configuration", f"AWS cannot be asked for {setting} ({arn}): {error}.") from error
    except BotoCoreError as error:
        raise Retryable("store_unavailable", f"AWS cannot be reached for {setting}: {error}.") from error


def _answered(setting: str, arn: str, service: str, code: str, status: int) -> PipelineError:
    says = f"AWS answers {code} for {setting} ({arn})."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _THROTTLED:
        return Retryable("store_unavailable", f"{says} Try again later.")
    return Refused("configuration", f"{says} Check that it is there, and that we may {_ALLOWED_BY[service]}.")


DATA = Path("data")
"""Where the CSVs and the embedded database are, unless STORE_URL is another directory."""


def with_default_store(settings: Settings) -> Settings:
    """These settings, with a store at `DATA` if they name none."""
    return settings if settings.store else settings.model_copy(update={"store_url": str(DATA)})
