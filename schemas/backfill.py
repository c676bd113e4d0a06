"""The frames and the JSON files of a backfill: its list, its plan, its shards, the outcomes and the report."""

from collections.abc import Mapping
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.events import USER_ID, ErrorCode, RunId, ShardNumber, ShardSize, ShardStep
from schemas.frames import StrictFrame
from schemas.manifest import VERSIONS

OUTCOMES = ("done", "empty", "private", "not_found", "failed", "rejected")
Outcome = Annotated[pl.Enum, OUTCOMES]

STATUS_COUNTS: Mapping[str, str] = {
    "matched": "MATCHED",
    "unmatched": "UNMATCHED",
    "filtered": "IGNORED",
    "pending": "PENDING",
}
"""The mapping of each column of `Outcomes` that counts rows to the match status that the column counts."""


class ListedUsers(StrictFrame):
    """One row per user on a backfill's list, from the lines of the list that can be used."""

    user_id: str = pa.Field(unique=True, str_matches=USER_ID, description="SavePoint's id of the user")
    steam_id: str = pa.Field(description="A SteamID64, or the name in a custom profile URL, which Steam has to resolve")


class RejectedLines(StrictFrame):
    """One row per line of a backfill's list that cannot be used, with the reason."""

    line: pl.Int64 = pa.Field(ge=1, description="The number of the line in the list; the header is line 1")
    user_id: str = pa.Field(description="The user's id as the list has it")
    steam_id64: str = pa.Field(description="The Steam id as the list has it")
    error: str = pa.Field(description="What is wrong with the line")


class ShardUsers(ListedUsers):
    """One row per user of a shard, with the digest of the rows last loaded, and the database that has them."""

    last_loaded_digest: str = pa.Field(
        nullable=True, description="Digest of the rows that were last loaded, if any were"
    )
    last_loaded_database: str = pa.Field(nullable=True, description="The database that they were loaded into")


class LastLoaded(StrictFrame):
    """One row per user whom a backfill has loaded: digest of the rows last loaded, the database, and the time."""

    user_id: str = pa.Field(unique=True, description="SavePoint's id of the user")
    last_loaded_digest: str = pa.Field(description="Digest of the rows that were last loaded")
    last_loaded_database: str = pa.Field(description="The database that they were loaded into")
    last_loaded_at: str = pa.Field(description="When the load ended; of several loads of one user the latest counts")


class Outcomes(StrictFrame):
    """One row per line of a backfill's list: the outcome of the user, and the rows counted by match status.

    `rows` is the sum of the five counts after it.
    """

    user_id: str = pa.Field(description="SavePoint's id of the user; of a rejected line, as the list has it")
    steam_id64: str = pa.Field(nullable=True, description="The SteamID64; of a rejected line, as the list has it")
    outcome: Outcome = pa.Field(description="done, empty, private, not_found, failed or rejected")
    rows: pl.Int64 = pa.Field(ge=0, description="Rows that Steam gave")
    matched: pl.Int64 = pa.Field(ge=0, description="Rows that are MATCHED")
    unmatched: pl.Int64 = pa.Field(ge=0, description="Rows that are UNMATCHED")
    filtered: pl.Int64 = pa.Field(ge=0, description="Rows that are IGNORED: no games, or ignored by an override")
    pending: pl.Int64 = pa.Field(ge=0, description="Rows that are PENDING: IGDB did not answer")
    rejected: pl.Int64 = pa.Field(ge=0, description="Rows that were set aside")
    error: str = pa.Field(nullable=True, description="Why there are no rows, or none in the database")


class FetchedUsers(StrictFrame):
    """One row per user of a shard after its fetch: the outcome, and the error if Steam gave no library."""

    user_id: str = pa.Field(description="SavePoint's id of the user")
    steam_id64: str = pa.Field(description="The SteamID64, or the name in a custom URL that could not be resolved")
    outcome: Outcome = pa.Field(description="done, empty, private, not_found or failed")
    error: str = pa.Field(nullable=True, description="Why there is no library")


class ShardOutcomes(Outcomes):
    """One row per user of a shard: the outcome so far, and whether the rows equal the last loaded ones."""

    digest: str = pa.Field(nullable=True, description="Digest of the user's enriched rows")
    is_unchanged: bool = pa.Field(description="Whether these rows are what was last loaded, so that nothing was done")


class StepEfforts(StrictFrame):
    """One row per finished step of a shard, and one for the look-up of all shards: users, rows, requests and time."""

    step: Annotated[pl.Enum, ("fetch", "catalogue", "enrich", "load")] = pa.Field(description="The step")
    shard: pl.Int64 = pa.Field(nullable=True, description="Number of the shard, from 0; null for the look-up")
    users: pl.Int64 = pa.Field(description="Users of the shard")
    rows: pl.Int64 = pa.Field(description="Rows that Steam gave of them")
    requests: pl.Int64 = pa.Field(description="Requests to any API")
    rate_limited: pl.Int64 = pa.Field(description="Of these, the ones answered with 429")
    seconds: pl.Float64 = pa.Field(description="How long it took")


class BackfillFile(BaseModel):
    """The base model of each JSON file of a backfill, with the version number of its format."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default_factory=lambda: VERSIONS["backfill"])


class Plan(BackfillFile):
    """The plan of a backfill: its id, the list (`input` is its SHA-256), and the numbers of users and shards."""

    run_id: RunId
    source: str
    input: str
    users: int
    rejected: int
    shard_size: ShardSize
    shards: int
    is_full: bool = False
    created_at: AwareDatetime


class ShardCsv(BaseModel):
    """The description of a CSV that a step wrote for a shard: key, numbers of rows and bytes, and SHA-256."""

    model_config = ConfigDict(frozen=True)

    key: str
    rows: int
    bytes: int
    sha256: str


class StepManifest(BackfillFile):
    """The manifest of a finished step: the SHA-256 of its input, its counts, its requests and its times.

    The look-up of all shards writes one of these, and a step of a shard a ShardManifest.
    `rate_limited` counts the answers with status 429.
    """

    run_id: str
    input: str
    counts: dict[str, int] = {}
    requests: int = 0
    rate_limited: int = 0
    started_at: AwareDatetime
    finished_at: AwareDatetime

    @property
    def seconds(self) -> float:
        """Return the duration of the step in seconds, to the millisecond."""
        return round((self.finished_at - self.started_at).total_seconds(), 3)


class ShardManifest(StepManifest):
    """The manifest of one step of one shard: its CSV, its rejected rows, and its users (rows of ShardOutcomes)."""

    shard: ShardNumber
    step: ShardStep
    file: ShardCsv | None = None
    rejected: ShardCsv | None = None
    database: str | None = None
    """The database that a load wrote to, as `database at host`, without user or password."""
    users: list[dict[str, Any]]


class ShardFailure(BackfillFile):
    """The error of a shard's last attempted step: its code and message, and whether a retry may help."""

    step: ShardStep
    error_code: ErrorCode
    error: str
    retryable: bool


class Effort(BaseModel):
    """The seconds and the numbers of requests of one step of a backfill, summed over all shards."""

    seconds: float
    requests: int
    rate_limited: int
    rows_per_second: float | None = None


class Report(BackfillFile):
    """The report of a backfill: users by outcome, shards and rows by step, failures, and the effort of each step.

    All fields but `effort` and `written` are the same however often the backfill was interrupted.
    """

    run_id: str
    input: str
    is_complete: bool
    users: dict[str, int]
    shards: dict[str, int]
    stages: dict[str, dict[str, int]]
    failures: list[str]
    written: dict[str, int]
    effort: dict[str, Effort]
