"""A backfill: its list of users, the shards it is cut into, and what became of every one of them."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import pandera.polars as pa
import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.events import (
    LARGEST_SHARD,
    MOST_SHARDS,
    SHARD_STEPS,
    USER_ID,
    ErrorCode,
    RunId,
    ShardNumber,
    ShardSize,
    ShardStep,
)
from schemas.frames import StrictFrame
from schemas.manifest import VERSIONS, AwareTime, Count, Seconds

MOST_ROWS, MOST_COUNTED = 10_000_000, 10_000_000 * LARGEST_SHARD
"""Of one user, more than Steam has apps; of one shard. What all shards have of them is a `Count` still."""

OUTCOMES = ("done", "empty", "private", "not_found", "failed", "rejected")
Outcome = Annotated[pl.Enum, OUTCOMES]

STATUS_COUNTS: Mapping[str, str] = {
    "matched": "MATCHED",
    "unmatched": "UNMATCHED",
    "filtered": "IGNORED",
    "pending": "PENDING",
}
"""What the books call the rows of each match status."""

ShardCount = Annotated[int, Field(strict=True, ge=0, le=MOST_COUNTED)]


class ListedUsers(StrictFrame):
    """The users of a list that can be imported: one row per user."""

    user_id: str = pa.Field(unique=True, str_matches=USER_ID, description="SavePoint's id of the user")
    steam_id: str = pa.Field(description="A SteamID64, or the name in a custom profile URL, which Steam has to resolve")


class RefusedUsers(StrictFrame):
    """The lines of a list that cannot be imported."""

    line: pl.Int64 = pa.Field(ge=1, description="The line of the list, the header's being 1")
    user_id: str = pa.Field(description="The user's id as the list has it")
    steam_id64: str = pa.Field(description="The Steam id as the list has it")
    error: str = pa.Field(description="What is wrong with the line")


class ShardUsers(ListedUsers):
    """The users of one shard, with what their last load was made of."""

    seen_digest: str = pa.Field(nullable=True, description="Digest of the rows that were last loaded, if any were")
    seen_database: str = pa.Field(nullable=True, description="The database that they were loaded into")


class LastLoaded(StrictFrame):
    """What was last loaded for whom."""

    user_id: str = pa.Field(unique=True, description="SavePoint's id of the user")
    seen_digest: str = pa.Field(description="Digest of the rows that were last loaded")
    seen_database: str = pa.Field(description="The database that they were loaded into")
    seen_at: str = pa.Field(description="When that was: of several times the last one counts")


class Outcomes(StrictFrame):
    """What became of each user of a backfill; `rows` are Steam's, and the sum of the five counts after it."""

    user_id: str = pa.Field(description="SavePoint's id of the user; of a rejected line, as the list has it")
    steam_id64: str = pa.Field(nullable=True, description="The SteamID64; of a rejected line, as the list has it")
    outcome: Outcome = pa.Field(description="done, empty, private, not_found, failed or rejected")
    rows: pl.Int64 = pa.Field(ge=0, description="Rows that Steam gave")
    matched: pl.Int64 = pa.Field(ge=0, description="Rows that are MATCHED")
    unmatched: pl.Int64 = pa.Field(ge=0, description="Rows that are UNMATCHED")
    filtered: pl.Int64 = pa.Field(ge=0, description="Rows that are no games, or that a human ignored")
    pending: pl.Int64 = pa.Field(ge=0, description="Rows for which IGDB did not answer")
    rejected: pl.Int64 = pa.Field(ge=0, description="Rows that were set aside")
    error: str = pa.Field(nullable=True, description="Why there are no rows, or none in the database")


class ShardOutcomes(Outcomes):
    """What a step made of each user of its shard."""

    digest: str = pa.Field(nullable=True, description="Digest of the user's enriched rows")
    is_unchanged: bool = pa.Field(description="Whether these rows are what was last loaded, so that nothing was done")


class StepEfforts(StrictFrame):
    """What each step of each shard took, and the one look-up of all; those that are done."""

    step: Annotated[pl.Enum, ("fetch", "catalogue", "enrich", "load")] = pa.Field(description="The step")
    shard: pl.Int64 = pa.Field(nullable=True, description="Number of the shard, from 0; null for the look-up")
    users: pl.Int64 = pa.Field(description="Users of the shard")
    rows: pl.Int64 = pa.Field(description="Rows that Steam gave of them")
    requests: pl.Int64 = pa.Field(description="Requests to any API")
    rate_limited: pl.Int64 = pa.Field(description="Of these, the ones answered with 429")
    seconds: pl.Float64 = pa.Field(description="How long it took")


class Record(BaseModel):
    """What a backfill writes as JSON."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default_factory=lambda: VERSIONS["backfill"])


class ShardFile(BaseModel):
    """A CSV of a shard."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: ShardCount
    bytes: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StepRecord(Record):
    """What a step did. `input` is the sha256 of what it was made from; `rate_limited` counts answers of 429."""

    run_id: str
    input: str
    counts: dict[str, ShardCount] = {}
    requests: ShardCount = 0
    rate_limited: ShardCount = 0
    started_at: AwareTime
    finished_at: AwareTime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return round((self.finished_at - self.started_at).total_seconds(), 3)


def _fitting(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of ShardOutcomes that these can be: a number may be written as text."""
    columns = ShardOutcomes.to_schema().columns
    try:
        outcomes = pl.DataFrame(users, schema={name: column.dtype.type for name, column in columns.items()})
    except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
        raise ValueError(f"the users are no outcomes: {type(error).__name__}") from error
    # A word that is none of the outcomes has become null.
    if any(outcomes[name].has_nulls() for name, column in columns.items() if not column.nullable):
        raise ValueError("the outcomes have gaps")
    if outcomes["user_id"].n_unique() < outcomes.height:
        raise ValueError("a user is there twice")
    counts = outcomes.select("rows", *STATUS_COUNTS, "rejected")
    if not all(column.is_between(0, MOST_ROWS).all() for column in counts):
        raise ValueError("nobody has so many rows")
    return outcomes.to_dicts()


class ShardRecord(StepRecord):
    """The manifest of one step of one shard: its CSV, its rejected rows and its users (rows of ShardOutcomes)."""

    shard: ShardNumber
    step: ShardStep
    file: ShardFile | None = None
    rejected: ShardFile | None = None
    database: str | None = Field(default=None, description="What the rows were loaded into, without user or password")
    users: Annotated[list[dict[str, Any]], AfterValidator(_fitting)]


class Failure(Record):
    """Why a shard's step could not be done."""

    step: ShardStep
    error_code: ErrorCode
    error: str
    retryable: bool


class PlanRecord(Record):
    """What a backfill set out to do: the list it read (`input` is its sha256), and how it cut it."""

    run_id: RunId
    source: str
    input: str
    users: Count
    rejected: Count
    shard_size: ShardSize
    shards: Annotated[int, Field(strict=True, ge=0, le=MOST_SHARDS)]
    is_full: bool = False
    created_at: AwareTime

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.shards != -(-self.users // self.shard_size):
            raise ValueError(f"{self.users} users do not make {self.shards} shards of {self.shard_size}")
        return self


class Effort(BaseModel):
    """What a step cost, over all shards."""

    seconds: Seconds
    requests: Count
    rate_limited: Count
    rows_per_second: float | None = None


def _named(*names: str) -> AfterValidator:
    """A dict of these names, and of no other."""

    def check(found: dict[str, Any]) -> dict[str, Any]:
        if set(found) != set(names):
            raise ValueError(f"it is not of {', '.join(names)}")
        return found

    return AfterValidator(check)


class Report(Record):
    """What became of a backfill. All but `effort` and `written` is the same however often it was interrupted."""

    run_id: str
    input: str
    is_complete: bool
    users: Annotated[dict[str, Count], _named("total", *OUTCOMES)]
    shards: Annotated[dict[str, Count], _named("total", *SHARD_STEPS)]
    stages: Annotated[dict[str, dict[str, Count]], _named(*SHARD_STEPS)]
    failures: list[str]
    written: dict[str, Count]
    effort: Annotated[dict[str, Effort], _named("catalogue", *SHARD_STEPS)]
