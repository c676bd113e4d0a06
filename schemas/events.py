"""Events and responses of the Lambda functions; their keys are the contract with SavePoint and the state machines."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

ErrorCode = Literal[
    "bad_event",
    "bad_steam_id",
    "configuration",
    "bad_steam_key",
    "bad_igdb_credentials",
    "private_library",
    "account_not_found",
    "steam_blocked",
    "location_refused",
    "checkpoint_invalid",
    "user_not_found",
    "schema_mismatch",
    "steam_rate_limited",
    "steam_unavailable",
    "steam_bad_answer",
    "igdb_unavailable",
    "store_unavailable",
    "database_unavailable",
]

Stage = Literal["fetch", "enrich", "load", "backfill"]
USER_ID = r"^[A-Za-z0-9_-]{1,64}$"
STEAM_BEGAN = 2003
KEY_TIME = "%Y%m%dT%H%M%SZ"


def to_key_time(text: object) -> object:
    """Return a time in the form of the store's keys, `YYYYMMDDTHHMMSSZ` in UTC.

    Takes that form or ISO 8601; a time without a zone is in UTC. What is not a text is returned as it is.

    Raises:
        ValueError: The text is not a time, or one before Steam began.
    """
    if not isinstance(text, str):
        return text
    if not (text.isascii() and text.isprintable()):  # Python ignores a NUL at the end
        raise ValueError(f"{text!r:.40} is not a time")
    time = datetime.fromisoformat(text)
    if time.year < STEAM_BEGAN:
        raise ValueError(f"{text} is before Steam began")
    try:
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).strftime(KEY_TIME)
    except OverflowError:
        raise ValueError(f"{text} is out of range in UTC") from None


UserId = Annotated[str, Field(pattern=USER_ID)]
KeyTime = Annotated[str, BeforeValidator(to_key_time)]


class HandlerEvent(BaseModel):
    """The keys that events of all functions may have; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True)
    stage: ClassVar[Stage]
    """What log lines and metrics call the work that the event starts."""

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,256}$")] | None = None


class StageEvent(HandlerEvent):
    """The keys that the events of fetch, enrich and load have in common."""

    user_id: UserId
    timestamp: KeyTime | None = None


class FetchEvent(StageEvent):
    """The event of a fetch; `steam_id64` may be any form of Steam id."""

    stage = "fetch"
    steam_id64: str


class EnrichEvent(StageEvent):
    """The event of an enrichment; `s3_location` is the location of a raw CSV."""

    stage = "enrich"
    s3_location: str


class LoadEvent(StageEvent):
    """The event of a load; `s3_enriched_location` is the location of an enriched CSV."""

    stage = "load"
    s3_enriched_location: str


class EnrichStats(BaseModel):
    """Numbers of rows of the enriched CSV, by match status.

    `igdb_incomplete` counts those of the unmatched whose row at IGDB cannot be used.
    """

    processed: int
    matched: int
    unmatched: int
    filtered: int
    pending: int
    igdb_incomplete: int = 0


class StageResponse(BaseModel):
    """The keys that the responses of all functions have, and figures for people and metrics.

    `seconds` and `requests` (to all APIs) are shown on the command line, and are no part of a function's response.
    """

    success: bool
    error: str | None = None
    error_code: ErrorCode | None = None
    rejected: int | None = Field(default=None, description="Rows in the stage's rejected CSV")
    seconds: float = 0.0
    requests: int = 0
    retries: int = Field(default=0, exclude=True, description="Requests that repeated a failed one, for the metrics")

    @classmethod
    def failed(cls, code: ErrorCode, message: str) -> Self:
        """Return the response of a stage that ended with this error."""
        return cls(success=False, error=message, error_code=code)

    def to_lambda_response(self) -> dict[str, Any]:
        """Return the response as a Lambda function gives it: JSON types, every key present."""
        return self.model_dump(mode="json", exclude={"seconds", "requests"})


class FetchResponse(StageResponse):
    """The response of a fetch; `game_count` is the number of rows of the raw CSV."""

    s3_location: str | None = None
    game_count: int | None = None


class EnrichResponse(StageResponse):
    """The response of an enrichment; `stats.processed` is the number of rows of the enriched CSV."""

    s3_enriched_location: str | None = None
    stats: EnrichStats | None = None
    kinds: dict[str, int] = Field(default={}, exclude=True, description="Number of apps by kind, for people")


class DryRun(BaseModel):
    """What a load would write: rows of WrittenTables, and of Changes if they were asked for."""

    tables: list[dict[str, str | int]]
    changes: list[dict[str, str | None]]


class LoadResponse(StageResponse):
    """The response of a load; `stats` counts the rows written, and may hold more than the contract's five counts."""

    stats: dict[str, int] | None = None
    dry_run: DryRun | None = Field(default=None, exclude=True, description="What a dry run would write")


RUN_ID = r"^[A-Za-z0-9_-]{1,80}$"
"""A name that Step Functions allow for an execution, and that can be a folder."""

DEFAULT_SHARD_SIZE, MAX_SHARD_SIZE = 200, 1_000
"""Users in a shard."""

MAX_SHARDS = 100_000
"""The keys number the shards with five digits."""

ShardStep = Literal["fetch", "enrich", "load"]
SHARD_STEPS: tuple[ShardStep, ...] = ("fetch", "enrich", "load")
RunId = Annotated[str, Field(pattern=RUN_ID)]
ShardNumber = Annotated[int, Field(strict=True, ge=0, lt=MAX_SHARDS)]
ShardSize = Annotated[int, Field(strict=True, ge=1, le=MAX_SHARD_SIZE)]
Step = Literal["plan", "fetch", "catalogue", "enrich", "load", "report"]


class BackfillEvent(HandlerEvent):
    """The event that asks for one step of a backfill; the steps of a shard name it by its number.

    The plan takes the location of the list of users, or none where an earlier run is to go on; and the size of a shard.
    """

    stage = "backfill"

    step: Step
    run_id: RunId
    users: str | None = None
    shard: ShardNumber | None = None
    shard_size: ShardSize | None = None

    @model_validator(mode="after")
    def _require_shard(self) -> Self:
        if self.step in SHARD_STEPS and self.shard is None:
            raise ValueError(f"{self.step} needs a shard")
        return self


class BackfillResponse(StageResponse):
    """What one step of a backfill did; after the plan, where Step Functions find the shards to map over."""

    step: Step | None = None
    run_id: str | None = None
    shard: int | None = None
    shards: int | None = None
    bucket: str | None = None
    shards_key: str | None = None
    report: str | None = None
    stats: dict[str, int] | None = None
