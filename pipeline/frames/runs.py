"""The runs of a store, from the manifests that its stages left."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from pipeline.layout import Checkpoint
from schemas.manifest import Manifest
from schemas.runs import STAGES, Runs

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
            pl.col("stage").alias("stages"),
            pl.col(_OF_LAST).last(),
            pl.col(_OF_ALL).sum().round(3),
            pl.col("started_at").min(),
            raw=pl.col("location").filter(is_stage["fetch"]).first(),
            enriched=pl.col("location").filter(is_stage["enrich"]).first(),
        )
    )
    return Runs.validate(newest_first(runs.select(SCHEMA.keys()).cast(SCHEMA)))


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
