"""The file beside each CSV that says what is in it and where it came from."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


class Source(BaseModel):
    """The checkpoint another one was made from."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str


class Manifest(BaseModel):
    """`rows` are data rows, `bytes` and `sha256` those of the CSV, `requests` those the stage made to any API."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA_VERSION
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
    started_at: datetime
    finished_at: datetime
    seconds: float
