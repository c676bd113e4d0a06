"""The runs of a store, from the manifests that its stages left."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from pipeline.layout import Checkpoint
from schemas.backfill import STATUS_COUNTS, PlanRecord, Report, ShardRecord, StepEfforts, StepRecord
from schemas.events import KEY_TIME
from schemas.manifest import Manifest
from schemas.runs import STAGES, Runs

EFFORTS = {name: column.dtype.type for name, column in StepEfforts.to_schema().columns.items()}
SCHEMA = {name: column.dtype.type for name, column in Runs.to_schema().columns.items()}
_OF_LAST = ("run_id", "rows", "matched", "unmatched", "filtered", "pending")
_OF_ALL = ("rejected", "requests", "seconds")


class Made(NamedTuple):
    """A checkpoint, where its CSV is, and how it came about."""

    checkpoint: Checkpoint
    location: str
    manifest: Manifest


def imports(made: Iterable[Made]) -> pl.DataFrame:
    """The imports that these checkpoints belong to, as Runs: those of one user and one time are one import."""
    is_stage = {stage: pl.col("stage") == stage for stage in STAGES}
    runs = (
        pl.DataFrame([_row(*one) for one in made], schema=_ROW)
        .sort("stage")
        .group_by("user_id", "timestamp")
        .agg(
            pl.lit("import").alias("kind"),
            pl.lit(1).alias("users"),
            pl.lit(None).alias("is_ended"),
            pl.col("stage").alias("stages"),
            pl.col(_OF_LAST).last(),
            pl.col(_OF_ALL).sum().round(3),
            pl.col("started_at").min(),
            raw=pl.col("location").filter(is_stage["fetch"]).first(),
            enriched=pl.col("location").filter(is_stage["enrich"]).first(),
        )
    )
    return Runs.validate(newest_first(runs.select(SCHEMA.keys()).cast(SCHEMA)))


def backfills(planned: Iterable[tuple[PlanRecord, Report | None]]) -> pl.DataFrame:
    """The backfills of these plans, as Runs; one without a report is under way, or was killed."""
    rows = [_of_plan(plan) | (_of_report(report) if report else {}) for plan, report in planned]
    return Runs.validate(newest_first(pl.DataFrame(rows, schema=SCHEMA)))


def efforts(records: Iterable[StepRecord]) -> pl.DataFrame:
    """The steps of a backfill, as StepEfforts."""
    return StepEfforts.validate(pl.DataFrame([_effort(record) for record in records], schema=EFFORTS))


def newest_first(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs by time, and those of one time by user."""
    return runs.sort("timestamp", "user_id", descending=[True, False])


_ROW: dict[str, pl.DataType] = {"stage": pl.Enum(STAGES), "location": pl.String()} | {
    name: SCHEMA[name] for name in ("user_id", "timestamp", *_OF_LAST, *_OF_ALL, "started_at")
}


def _row(checkpoint: Checkpoint, location: str, manifest: Manifest) -> dict[str, object]:
    counts = {name: manifest.counts.get(name) for name in _OF_LAST}
    return counts | {
        "stage": manifest.stage,
        "location": location,
        "user_id": checkpoint.user_id,
        "timestamp": checkpoint.stem,
        "run_id": manifest.run_id,
        "rows": manifest.rows,
        "rejected": manifest.counts.get("rejected", 0),
        "requests": manifest.requests,
        "seconds": manifest.seconds,
        "started_at": manifest.started_at,
    }


def _of_plan(plan: PlanRecord) -> dict[str, object]:
    return {
        "kind": "backfill",
        "run_id": plan.run_id,
        "users": plan.users,
        "timestamp": plan.created_at.strftime(KEY_TIME),
        "stages": [],
        "is_ended": False,
        "started_at": plan.created_at.replace(microsecond=0),
    }


def _of_report(report: Report) -> dict[str, object]:
    """What the report says beyond the plan; rows are those of the fetch until some are enriched."""
    fetched, enriched = report.stages["fetch"], report.stages["enrich"]
    statuses = {count: enriched.get(count, 0) for count in STATUS_COUNTS if enriched}
    return statuses | {
        "stages": [stage for stage in STAGES if report.shards[stage] == report.shards["total"]],
        "is_ended": report.is_complete,
        "rows": sum(statuses.values()) if statuses else fetched.get("kept", 0),
        "rejected": fetched.get("rejected", 0) + enriched.get("rejected", 0),
        "requests": sum(effort.requests for effort in report.effort.values()),
        "seconds": round(sum(effort.seconds for effort in report.effort.values()), 3),
    }


def _effort(record: StepRecord) -> dict[str, object]:
    """A step as a row; of no shard is the look-up of all."""
    of_shard: dict[str, object] = {"step": "catalogue", "shard": None, "users": 0, "rows": 0}
    if isinstance(record, ShardRecord):
        rows = sum(user["rows"] for user in record.users)
        of_shard = {"step": record.step, "shard": record.shard, "users": len(record.users), "rows": rows}
    return of_shard | {name: getattr(record, name) for name in ("requests", "rate_limited", "seconds")}
