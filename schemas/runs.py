"""The runs that a store tells of."""

from typing import Annotated

import pandera.polars as pa
import polars as pl

from schemas.frames import Time

RUN_KINDS = ("import", "backfill")
STAGES = ("fetch", "enrich")
"""The stages that leave a manifest; a load leaves rows."""


class Runs(pa.DataFrameModel):
    """One row per run of which a manifest is there, the newest first."""

    class Config:
        """Exactly these columns, in this order, of these types."""

        strict = True
        ordered = True

    kind: Annotated[pl.Enum, RUN_KINDS] = pa.Field(description="import: of one user; backfill: of many")
    run_id: str = pa.Field(description="The run's id; where its stages were started one by one, the last one's")
    user_id: str = pa.Field(nullable=True, description="SavePoint's id of the owner; null where there are many")
    timestamp: str = pa.Field(description="The time in the run's keys, YYYYMMDDTHHMMSSZ in UTC")
    stages: Annotated[pl.List, pl.Enum(STAGES)] = pa.Field(description="The stages that are done")
    rows: pl.Int64 = pa.Field(description="Rows of the last CSV")
    matched: pl.Int64 = pa.Field(nullable=True, description="Of these, the games found on IGDB")
    unmatched: pl.Int64 = pa.Field(nullable=True, description="The games not found")
    filtered: pl.Int64 = pa.Field(nullable=True, description="The apps that are no games")
    pending: pl.Int64 = pa.Field(nullable=True, description="The games IGDB gave no answer for")
    rejected: pl.Int64 = pa.Field(description="Rows set aside, by all stages")
    requests: pl.Int64 = pa.Field(description="Requests to any API, by all stages")
    seconds: pl.Float64 = pa.Field(description="Seconds that the stages took, without waits in between")
    started_at: Time = pa.Field(description="Start of the first stage, UTC")
    raw: str = pa.Field(nullable=True, description="Location of the raw CSV")
    enriched: str = pa.Field(nullable=True, description="Location of the enriched CSV")
