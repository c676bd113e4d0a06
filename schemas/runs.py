"""The runs that a store tells of."""

from typing import Annotated

import pandera.polars as pa
import polars as pl

from schemas.frames import Time

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
