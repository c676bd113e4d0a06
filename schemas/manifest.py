"""The version of each kind of file in a store, the manifest beside each CSV, and the model of the list of runs."""

from collections.abc import Mapping
from typing import Annotated, Literal

import pandera.polars as pa
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.events import ChangeSummary, ErrorCode
from schemas.frames import StrictFrame
from schemas.library import Time

FileKind = Literal["checkpoint", "catalogue", "names", "sync", "backfill", "last_loaded", "load", "failure"]

VERSIONS: Mapping[FileKind, int] = {
    "checkpoint": 1,
    "catalogue": 1,
    "names": 1,
    "sync": 1,
    "backfill": 1,
    "last_loaded": 2,
    "load": 1,
    "failure": 1,
}
"""The version in which this program writes each kind of file; `docs/extending.md` says when to raise one."""


class Source(BaseModel):
    """The checkpoint from which another one was made: the key of its CSV and the SHA-256 of the bytes."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str


class Manifest(BaseModel):
    """The JSON file beside a checkpoint's CSV: how the CSV was made, and the digest of its bytes.

    `rows` counts the data rows, `bytes` and `sha256` are the CSV's, `requests` counts what the stage sent to any API.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default_factory=lambda: VERSIONS["checkpoint"])
    stage: Literal["fetch", "enrich"]
    user_id: str
    run_id: str
    key: str
    rows: int
    bytes: int
    sha256: str
    input: Source | None
    counts: dict[str, int]
    requests: int
    started_at: AwareDatetime
    finished_at: AwareDatetime
    seconds: float


class LoadManifest(BaseModel):
    """The JSON file that a load writes beside the CSV it loaded: what it wrote, where, and in how many seconds.

    `input` is the CSV, `counts` are the response's stats, `tables` are rows of WrittenTables. `database` is its name
    and host, without user and password. `changes` is None where the earlier import cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default_factory=lambda: VERSIONS["load"])
    stage: Literal["load"] = "load"
    user_id: str
    run_id: str
    key: str
    input: Source
    rows: int
    counts: dict[str, int]
    tables: list[dict[str, str | int]]
    changes: ChangeSummary | None
    database: str
    statements: int
    started_at: AwareDatetime
    finished_at: AwareDatetime
    seconds: float


class StageFailure(BaseModel):
    """The JSON file beside the CSVs of an import whose last enrichment or load failed: the error's code and message.

    The next success of either deletes it.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(default_factory=lambda: VERSIONS["failure"])
    stage: Literal["enrich", "load"]
    error_code: ErrorCode
    error: str
    failed_at: AwareDatetime


STAGES = ("fetch", "enrich", "load")
"""The stages of a run, in their order."""


class Runs(StrictFrame):
    """One row per run in a store, the newest first: an import that has a manifest, or a backfill that has a plan."""

    kind: Annotated[pl.Enum, ("import", "backfill")] = pa.Field(description="import: of one user; backfill: of many")
    run_id: str = pa.Field(description="The run's id; the last stage's, if the stages were started separately")
    user_id: str = pa.Field(nullable=True, description="SavePoint's id of the owner; null where there are many")
    users: pl.Int64 = pa.Field(description="Number of users, without the lines of the list that were rejected")
    timestamp: str = pa.Field(description="The time in an import's keys, or of a backfill's plan: YYYYMMDDTHHMMSSZ")
    stages: Annotated[pl.List, pl.Enum(STAGES)] = pa.Field(
        description="The stages that are done, in a backfill for all shards"
    )
    is_ended: bool = pa.Field(nullable=True, description="Whether a backfill has ended; null for an import")
    rows: pl.Int64 = pa.Field(nullable=True, description="Rows of the last CSV; null while a backfill has no report")
    matched: pl.Int64 = pa.Field(nullable=True, description="Games that were found on IGDB")
    unmatched: pl.Int64 = pa.Field(nullable=True, description="Games that were not found on IGDB")
    filtered: pl.Int64 = pa.Field(nullable=True, description="Apps that are not games")
    pending: pl.Int64 = pa.Field(nullable=True, description="Games for which IGDB did not answer")
    rejected: pl.Int64 = pa.Field(nullable=True, description="Rows that were set aside, in all stages")
    requests: pl.Int64 = pa.Field(nullable=True, description="Requests to any API, in all stages")
    seconds: pl.Float64 = pa.Field(nullable=True, description="Seconds that the stages took, without pauses")
    started_at: Time = pa.Field(description="Start of the first stage, UTC")
    raw: str = pa.Field(nullable=True, description="Location of the raw CSV")
    enriched: str = pa.Field(nullable=True, description="Location of the enriched CSV")
