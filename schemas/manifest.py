"""The file beside each CSV that says what is in it and where it came from."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""Beyond it, neither every program that reads JSON nor a sum of them in 64 bits could be trusted."""

Time = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
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
    started_at: Time
    finished_at: Time
    seconds: Seconds
