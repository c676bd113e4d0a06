"""The runs of a store, from the manifests that its stages left.

What notebooks and scripts read the pipeline's files with; `from pipeline import …` leads here.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandera.polars as pa
import polars as pl
import structlog

from pipeline import clients
from pipeline.backfill.plan import find_plan, require_plan
from pipeline.backfill.report import OUTCOMES_CSV, read_report
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently
from pipeline.backfill.steps import find_look_up
from pipeline.errors import Failed
from pipeline.frames.catalogue import decode_lists
from pipeline.settings import Settings
from pipeline.storage.checkpoints import read_csv, read_manifest
from pipeline.storage.csv import read_rows, unescape_formulas
from pipeline.storage.keys import BACKFILLS, Checkpoint, backfill_key, parse_manifest_key, parse_plan_key
from pipeline.storage.store import Store
from schemas.backfill import STATUS_COUNTS, Outcomes, Plan, Report, ShardManifest, StepEfforts, StepManifest
from schemas.events import KEY_TIME, SHARD_STEPS
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.manifest import STAGES, Manifest, Runs

EFFORTS = dtypes(StepEfforts)
SCHEMA = dtypes(Runs)
_OF_LAST = ("run_id", "rows", "matched", "unmatched", "filtered", "pending")
_OF_ALL = ("rejected", "requests", "seconds")


class RunRecord(NamedTuple):
    """A checkpoint, where its CSV is, and how it came about."""

    checkpoint: Checkpoint
    location: str
    manifest: Manifest


def imports(made: Iterable[RunRecord]) -> pl.DataFrame:
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


def backfills(planned: Iterable[tuple[Plan, Report | None]]) -> pl.DataFrame:
    """The backfills of these plans, as Runs; one without a report is under way, or was killed."""
    rows = [_of_plan(plan) | (_of_report(report) if report else {}) for plan, report in planned]
    return Runs.validate(newest_first(pl.DataFrame(rows, schema=SCHEMA)))


def efforts(records: Iterable[StepManifest]) -> pl.DataFrame:
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


def _of_plan(plan: Plan) -> dict[str, object]:
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


def _effort(record: StepManifest) -> dict[str, object]:
    """A step as a row; of no shard is the look-up of all."""
    of_shard: dict[str, object] = {"step": "catalogue", "shard": None, "users": 0, "rows": 0}
    if isinstance(record, ShardManifest):
        rows = sum(user["rows"] for user in record.users)
        of_shard = {"step": record.step, "shard": record.shard, "users": len(record.users), "rows": rows}
    return of_shard | {name: getattr(record, name) for name in ("requests", "rate_limited", "seconds")}


T = TypeVar("T")
log = structlog.get_logger()


def read_raw(location: str | os.PathLike[str], *, trust: bool = False) -> pl.DataFrame:
    """The raw CSV at a path or `s3://bucket/key`, under whatever name, as RawLibrary.

    A manifest that lies beside it proves it; without one, it has to conform to its schema, and with `trust` too, which
    is for a file that was edited on purpose.

    Raises:
        PipelineError: `checkpoint_invalid` for what is no raw CSV, with the file, the row and the column;
            `configuration` or `store_unavailable` for what cannot be read.
    """
    return read_at(Settings.read(), os.fspath(location), RawLibrary, trust=trust)


def read_enriched(location: str | os.PathLike[str], *, trust: bool = False) -> pl.DataFrame:
    """The enriched CSV at a path or `s3://bucket/key`, under whatever name, as DecodedLibrary.

    Genres and platforms are lists of structs, candidates lists of IGDB ids. Otherwise as `read_raw`.
    """
    rows = read_at(Settings.read(), os.fspath(location), EnrichedLibrary, trust=trust)
    return decode_lists(conform(rows, EnrichedLibrary))


def read_at(settings: Settings, location: str, model: type[pa.DataFrameModel], *, trust: bool = False) -> pl.DataFrame:
    """The rows of a CSV at any path or `s3://bucket/key`, as the model.

    Raises:
        PipelineError: As `read_raw`.
    """
    if "://" in location:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (location.startswith("s3://") and bucket and key):
            raise Failed("location_refused", f"{location!r} is neither a path nor s3://bucket/key.")
        return read_csv(clients.open_store_at(settings, f"s3://{bucket}"), key, model, trust=trust)
    path = Path(os.path.realpath(Path(location).expanduser()))
    return read_csv(clients.open_store_at(settings, str(path.parent)), path.name, model, trust=trust)


def list_runs(store_url: str | None = None) -> pl.DataFrame:
    """The runs in a store, as Runs, the newest first; without a `store_url`, in the configured store or `./data`.

    Raises:
        PipelineError: `configuration` or `store_unavailable`.
    """
    return runs_in(_store(store_url))


class Backfill(NamedTuple):
    """What became of a backfill: `outcomes` of its users as Outcomes, `efforts` of its steps as StepEfforts."""

    outcomes: pl.DataFrame
    efforts: pl.DataFrame


def read_backfill(run_id: str, store_url: str | None = None) -> Backfill:
    """What became of a backfill, with the id that `list_runs` names, in a store as that function takes it.

    Raises:
        PipelineError: `bad_event` where there is none, `checkpoint_invalid` while it has no report, or where its
            outcomes were edited; `configuration` or `store_unavailable` for what cannot be read.
    """
    return backfill_in(_store(store_url), run_id)


def backfill_in(store: Store, run_id: str) -> Backfill:
    """What became of a backfill of that store; raises as `read_backfill`."""
    plan = require_plan(store, run_id)
    if read_report(store, run_id) is None:
        raise Failed(
            "checkpoint_invalid",
            f"The backfill {run_id} has no report yet. Wait for it, or run `steam-import backfill --resume {run_id}`.",
        )
    key = backfill_key(run_id, OUTCOMES_CSV)
    outcomes = unescape_formulas(read_rows(store.read(key) or b"", key, Outcomes))
    done = [record for records in map_concurrently(_records, list_shards(store, plan)) for record in records]
    look_up = find_look_up(store, plan)
    return Backfill(outcomes, efforts([*([look_up] if look_up else []), *done]))


def runs_in(store: Store, limit: int | None = None) -> pl.DataFrame:
    """The newest runs in a store, as Runs; a manifest that is none is reported and left out."""
    return newest_first(pl.concat([_imports_in(store, limit), _backfills_in(store, limit)]))[:limit]


def _imports_in(store: Store, limit: int | None) -> pl.DataFrame:
    checkpoints = [found for key in store.list("imports/") if (found := parse_manifest_key(key))]
    newest = set(sorted({_run(found) for found in checkpoints}, reverse=True)[:limit])
    return imports(_made(store, [found for found in checkpoints if _run(found) in newest]))


def _backfills_in(store: Store, limit: int | None) -> pl.DataFrame:
    run_ids = [run_id for key in store.list(BACKFILLS) if (run_id := parse_plan_key(key))]
    plans = [plan for plan in map_concurrently(partial(_read, store, find_plan), run_ids) if plan]
    newest = sorted(plans, key=lambda plan: plan.created_at, reverse=True)[:limit]
    reports = map_concurrently(partial(_read, store, read_report), [plan.run_id for plan in newest])
    return backfills(zip(newest, reports, strict=True))


def _read(store: Store, find: Callable[[Store, str], T | None], run_id: str) -> T | None:
    """A plan or a report; one that is refused is reported and left out."""
    try:
        return find(store, run_id)
    except Failed as error:
        log.warning("record skipped", run_id=run_id, fault=error.message)
        return None


def _store(store_url: str | None) -> Store:
    return clients.open_store(Settings.read(store_url=store_url).with_default_store())


def _records(files: ShardFiles) -> list[ShardManifest]:
    return [record for step in SHARD_STEPS if (record := files.find_manifest(step))]


def _run(checkpoint: Checkpoint) -> tuple[str, str]:
    """What the checkpoints of one import share, as it sorts by time."""
    return checkpoint.stem, checkpoint.user_id


def _made(store: Store, checkpoints: Iterable[Checkpoint]) -> list[RunRecord]:
    return [made for made in map_concurrently(partial(_made_of, store), checkpoints) if made]


def _made_of(store: Store, checkpoint: Checkpoint) -> RunRecord | None:
    try:
        manifest = read_manifest(store, checkpoint.key)
    except Failed as error:
        log.warning("manifest skipped", key=checkpoint.manifest_key, fault=error.message)
        return None
    return RunRecord(checkpoint, store.locate(checkpoint.key), manifest) if manifest else None
