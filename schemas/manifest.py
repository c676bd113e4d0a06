"""The file beside each CSV that says what is in it and where it came from.

The runs that a store tells of.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

import pandera.polars as pa
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.library import Time

SCHEMA_VERSION = 1

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""Beyond it, neither every program that reads JSON nor a sum of them in 64 bits could be trusted."""

AwareTime = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""Whose year in UTC is one that Python knows."""

Seconds = Annotated[float, Field(allow_inf_nan=False, ge=-1e18, le=1e18)]
"""More than all times between two such, of as many shards as a backfill may have."""


class Source(BaseModel):
    """The checkpoint another one was made from."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str


class Version(BaseModel):
    """What is read first of a file: it says how the rest is to be read; one that says nothing is of the first."""

    schema_version: Annotated[int, Field(strict=True)] = 1


class Manifest(BaseModel):
    """`rows` are data rows, `bytes` and `sha256` those of the CSV, `requests` those the stage made to any API."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1]
    stage: Literal["fetch", "enrich"]
    user_id: str
    run_id: str
    key: str
    rows: Count
    bytes: Count
    sha256: str
    input: Source | None
    counts: dict[str, Count]
    requests: Count
    started_at: AwareTime
    finished_at: AwareTime
    seconds: Seconds


RUN_KINDS = ("import", "backfill")

STAGES = ("fetch", "enrich", "load")
"""The stages that leave a manifest; an import's load leaves rows alone."""


class Runs(pa.DataFrameModel):
    """One row per import of which a manifest is there, or backfill of which a plan is there, the newest first."""

    class Config:
        """Exactly these columns, in this order, of these types."""

        strict = True
        ordered = True

    kind: Annotated[pl.Enum, RUN_KINDS] = pa.Field(description="import: of one user; backfill: of many")
    run_id: str = pa.Field(description="The run's id; where its stages were started one by one, the last one's")
    user_id: str = pa.Field(nullable=True, description="SavePoint's id of the owner; null where there are many")
    users: pl.Int64 = pa.Field(description="How many users it is of; without the lines of a list that were rejected")
    timestamp: str = pa.Field(description="The time in the keys, a backfill's of its plan; YYYYMMDDTHHMMSSZ in UTC")
    stages: Annotated[pl.List, pl.Enum(STAGES)] = pa.Field(description="The stages that are done; of all shards")
    is_ended: bool = pa.Field(nullable=True, description="Whether a backfill has come to its end; null for an import")
    rows: pl.Int64 = pa.Field(nullable=True, description="Rows of the last CSV; null while a backfill has no report")
    matched: pl.Int64 = pa.Field(nullable=True, description="Of these, the games found on IGDB")
    unmatched: pl.Int64 = pa.Field(nullable=True, description="The games not found")
    filtered: pl.Int64 = pa.Field(nullable=True, description="The apps that are no games")
    pending: pl.Int64 = pa.Field(nullable=True, description="The games IGDB gave no answer for")
    rejected: pl.Int64 = pa.Field(nullable=True, description="Rows set aside, by all stages")
    requests: pl.Int64 = pa.Field(nullable=True, description="Requests to any API, by all stages")
    seconds: pl.Float64 = pa.Field(nullable=True, description="Seconds that the stages took, without waits in between")
    started_at: Time = pa.Field(description="Start of the first stage, UTC")
    raw: str = pa.Field(nullable=True, description="Location of the raw CSV")
    enriched: str = pa.Field(nullable=True, description="Location of the enriched CSV")
