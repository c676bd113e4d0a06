"""The Lambda event of a backfill's step, and its response."""

from typing import Literal, Self

from pydantic import model_validator

from schemas.backfill import SHARD_STEPS, RunId, ShardNumber, ShardSize
from schemas.events import HandlerEvent, StageResponse

Step = Literal["plan", "fetch", "catalogue", "enrich", "load", "report"]


class BackfillEvent(HandlerEvent):
    """One step of a backfill; `shard` says which one, for a shard's step.

    For the plan `users` is the list's location, null where the run is to go on, and `shard_size` null for 200.
    """

    stage = "backfill"

    step: Step
    run_id: RunId
    users: str | None = None
    shard: ShardNumber | None = None
    shard_size: ShardSize | None = None

    @model_validator(mode="after")
    def _names_its_shard(self) -> Self:
        if self.step in SHARD_STEPS and self.shard is None:
            raise ValueError(f"{self.step} needs a shard")
        return self


class BackfillResponse(StageResponse):
    """What a step did; the plan says where the list of shards is, for the map over them."""

    step: Step | None = None
    run_id: str | None = None
    shard: int | None = None
    shards: int | None = None
    bucket: str | None = None
    shards_key: str | None = None
    report: str | None = None
    stats: dict[str, int] | None = None
