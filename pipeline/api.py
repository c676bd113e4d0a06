"""Functions with which notebooks and scripts read the pipeline's files; `from pipeline import …` gives them."""

import os
import re
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline import clients
from pipeline.backfill.libraries import read_enriched_library, read_fetched_libraries
from pipeline.backfill.plan import find_plan, list_plans, require_plan
from pipeline.backfill.report import read_outcomes, read_report
from pipeline.backfill.shards import list_shards, map_concurrently
from pipeline.backfill.steps import find_look_up
from pipeline.errors import Failed, Refused
from pipeline.frames.catalogue import decode_lists
from pipeline.frames.changes import Snapshot, compare_libraries, follow_playtimes
from pipeline.settings import Settings, absolute_path
from pipeline.stages import read_snapshot, require_user_id
from pipeline.storage.checkpoints import (
    find_earlier,
    list_checkpoints,
    read_checkpoint,
    read_csv,
    read_load_manifest,
    read_manifest,
)
from pipeline.storage.keys import (
    IMPORTS,
    Checkpoint,
    parse_csv_key,
    parse_loaded_key,
    parse_manifest_key,
    user_folder,
)
from pipeline.storage.store import Store
from schemas.backfill import STATUS_COUNTS, Outcomes, Plan, Report, ShardManifest, StepEfforts, StepManifest
from schemas.events import KEY_TIME, RUN_ID, SHARD_STEPS
from schemas.frames import Model, conform, dtypes
from schemas.library import DecodedLibrary, EnrichedLibrary, RawLibrary
from schemas.manifest import STAGES, LoadManifest, Runs
from schemas.report import History, LibraryChanges

log = structlog.get_logger()


def read_raw(location: str | os.PathLike[str], *, trust: bool = False) -> DataFrame[RawLibrary]:
    """Return the rows of the raw CSV at a path or `s3://bucket/key`, whatever the file's name.

    The CSV has to be the one that the manifest beside it describes. Without a manifest, or with `trust`, which is for a
    file that was edited on purpose, it only has to conform to its schema.

    Raises:
        PipelineError: `checkpoint_invalid` for a file that is no raw CSV, naming the file, the row and the column;
            `configuration` or `store_unavailable` for one that cannot be read.
    """
    return read_any_csv(Settings.read(), os.fspath(location), RawLibrary, trust=trust)


def read_enriched(location: str | os.PathLike[str], *, trust: bool = False) -> DataFrame[DecodedLibrary]:
    """Return the rows of the enriched CSV at a path or `s3://bucket/key`, whatever the file's name.

    Genres and platforms are lists of structs, candidates are lists of IGDB ids. The manifest is checked, and errors
    are raised, as by `read_raw`.
    """
    rows = read_any_csv(Settings.read(), os.fspath(location), EnrichedLibrary, trust=trust)
    return decode_lists(rows)


def list_runs(store_url: str | None = None) -> DataFrame[Runs]:
    """Return a row for each import and backfill in a store, the newest first.

    Without a `store_url`, the store that the settings name is read, or `./data`.

    Raises:
        PipelineError: `configuration` or `store_unavailable`.
    """
    return runs_in(_open_store(store_url))


def read_changes(
    run: str, later: str | None = None, store_url: str | None = None, *, user: str | None = None
) -> DataFrame[LibraryChanges]:
    """Return a row for each game that changed from the import before `run` to it, or from `run` to a later run.

    The import before is the user's last one that was loaded, or the last one of all where none was. A run is the run id
    of an import, the time in its keys, or the location of one of its CSVs. Of two runs one or both may be backfills, by
    their run ids; `user` says whose library is meant where none of them is an import.
    Without a `store_url`, the store that the settings name is read, or `./data`.

    Raises:
        PipelineError: `bad_event` if there is no such run, or none before it; `checkpoint_invalid`, `configuration` or
            `store_unavailable` if one cannot be read.
    """
    return compare_libraries(*read_pair(_open_store(store_url), run, later, user))


def read_history(user: str, store_url: str | None = None) -> DataFrame[History]:
    """Return a row for each app of a user in each import and ended backfill, the oldest first, with playtimes.

    Without a `store_url`, the store that the settings name is read, or `./data`. Backfills are there until the store
    deletes their files. A user whom nothing has fetched has no rows.

    Raises:
        PipelineError: `bad_event` for an invalid user id; `checkpoint_invalid`, `configuration` or `store_unavailable`
            if an import or a backfill cannot be read.
    """
    store = _open_store(store_url)
    user_id = require_user_id(user)
    imported = [
        (checkpoint.fetched_at, read_checkpoint(store, checkpoint, RawLibrary).rows)
        for checkpoint in list_checkpoints(store, "raw", user_id)
        if checkpoint.fetched_at
    ]
    return follow_playtimes(sorted([*imported, *read_fetched_libraries(store, user_id)], key=itemgetter(0)))


def read_pair(
    store: Store, run: str, later: str | None = None, user_id: str | None = None
) -> tuple[Snapshot, Snapshot]:
    """Return the enriched libraries of a user in two runs, the earlier one first.

    With one run, which has to be an import, the other is the user's last import before it that was loaded. Raises the
    errors of `read_changes`.
    """
    found = [_find_run(store, of, user_id) for of in (run, later) if of is not None]
    users = {of.user_id for of in found if isinstance(of, Checkpoint)} | ({user_id} if user_id else set())
    if len(users) > 1:
        raise Refused("bad_event", f"{run} and {later} are imports of two users. Give two of one user.")
    if not users:
        raise Refused("bad_event", f"{run} has libraries of many users. Say whose is meant: --user (in Python user=…).")
    (owner,) = users
    if later is None:
        if isinstance(found[0], Plan):
            raise Refused("bad_event", f"{run} is a backfill. Give the run to compare it with, too.")
        before = find_earlier(store, found[0])
        if before is None:
            says = f"{found[0].key} is the first import of {owner}: there is none to compare with."
            raise Refused("bad_event", says)
        found.append(before)
    first, second = (
        read_snapshot(store, of) if isinstance(of, Checkpoint) else read_enriched_library(store, of, owner)
        for of in found
    )
    return (first, second) if first.time <= second.time else (second, first)


def _find_run(store: Store, run: str, user_id: str | None) -> Plan | Checkpoint:
    """Return the plan of a backfill by its run id, or else the enriched checkpoint of an import."""
    plan = find_plan(store, run) if re.fullmatch(RUN_ID, run) else None
    return plan or find_import(store, run, user_id)


def find_import(store: Store, run: str, user_id: str | None = None) -> Checkpoint:
    """Return the enriched checkpoint of an import by its run id, its time, or the location of one of its CSVs.

    With a user id, only imports of the user are looked at.

    Raises:
        Refused: `bad_event`, if there is no such import, or more than one.
    """
    is_location = "/" in run or run.endswith(".csv")
    named = parse_csv_key(store.key_of(run if "://" in run else str(absolute_path(run)))) if is_location else None
    folder, stem = (user_folder(named.user_id), named.stem) if named else (IMPORTS, run)
    found = {of.enriched for key in store.list(folder) if (of := parse_csv_key(key)) and of.stem == stem}
    if not found and named is None:
        of_run = runs_in(store).filter((pl.col("kind") == "import") & (pl.col("run_id") == run))
        found = {Checkpoint(user, time, "enriched") for user, time in of_run.select("user_id", "timestamp").rows()}
    found = {of for of in found if user_id in (None, of.user_id)}
    if len(found) != 1:
        says = "More than one import has" if found else "No import has"
        raise Refused(
            "bad_event",
            f"{says} the run id, time or location {run!r:.200}. Give the run id or a location that `steam-import runs` "
            "--json prints.",
        )
    return found.pop()


class BackfillResults(NamedTuple):
    """The results of a backfill: a frame with a row per user, and a frame with a row per shard and step."""

    outcomes: DataFrame[Outcomes]
    efforts: DataFrame[StepEfforts]


def read_backfill(run_id: str, store_url: str | None = None) -> BackfillResults:
    """Return the outcomes and efforts of the backfill with a run id, which `list_runs` shows.

    Without a `store_url`, the store that the settings name is read, or `./data`.

    Raises:
        PipelineError: `bad_event` if there is no such backfill; `checkpoint_invalid` if it has no report yet, or its
            outcomes were edited; `configuration` or `store_unavailable` if it cannot be read.
    """
    store = _open_store(store_url)
    plan = require_plan(store, run_id)
    if read_report(store, run_id) is None:
        raise Failed(
            "checkpoint_invalid",
            f"The backfill {run_id} has no report yet. Wait for it, or run `steam-import backfill --resume {run_id}`.",
        )
    outcomes = read_outcomes(store, run_id)
    look_up = find_look_up(store, plan)
    manifests: list[StepManifest] = [look_up] if look_up else []
    for of_shard in map_concurrently(lambda files: map(files.find_manifest, SHARD_STEPS), list_shards(store, plan)):
        manifests += filter(None, of_shard)
    efforts = pl.DataFrame([_effort_row(manifest) for manifest in manifests], schema=dtypes(StepEfforts))
    return BackfillResults(outcomes, conform(efforts, StepEfforts))


def read_any_csv(settings: Settings, location: str, model: type[Model], *, trust: bool = False) -> DataFrame[Model]:
    """Return the rows of the CSV at a path or `s3://bucket/key` as the model; raises what `read_raw` raises."""
    if "://" in location:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (location.startswith("s3://") and bucket and key):
            raise Failed("location_refused", f"{location!r} is neither a path nor s3://bucket/key.")
        store_url = f"s3://{bucket}"
    else:
        path = Path(os.path.realpath(absolute_path(location)))
        store_url, key = str(path.parent), path.name
    return read_csv(clients.open_store_at(settings, store_url), key, model, trust=trust)


def runs_in(store: Store, limit: int | None = None) -> DataFrame[Runs]:
    """Return a row for each of the newest imports and backfills in a store, at most `limit`, the newest first.

    A manifest, plan or report that cannot be read is logged, and its run is left out.
    """
    runs = pl.concat([_list_imports(store, limit), _list_backfills(store, limit)])
    return conform(runs.sort("timestamp", "user_id", descending=[True, False])[:limit], Runs)


def _open_store(store_url: str | None) -> Store:
    return clients.open_store(Settings.read(store_url=store_url).with_default_store())


OF_LAST_STAGE = ("run_id", "rows", "matched", "unmatched", "filtered", "pending")
OF_ALL_STAGES = ("rejected", "requests", "seconds")
_MANIFEST_ROW = pl.Schema(
    {"stage": pl.Enum(STAGES), "location": pl.String(), "sha256": pl.String()}
    | {name: dtypes(Runs)[name] for name in ("user_id", "timestamp", *OF_LAST_STAGE, *OF_ALL_STAGES, "started_at")}
)


def _list_imports(store: Store, limit: int | None) -> DataFrame[Runs]:
    """Return a row for each of the newest imports; manifests of one user and one time belong to one import.

    A load does not count if its CSV was enriched anew since.
    """
    keys = store.list(IMPORTS)
    checkpoints = [checkpoint for key in keys if (checkpoint := parse_manifest_key(key))]
    loaded = [checkpoint for key in keys if (checkpoint := parse_loaded_key(key))]
    newest = set(sorted({(of.stem, of.user_id) for of in checkpoints + loaded}, reverse=True)[:limit])
    of_newest, loads = ([of for of in some if (of.stem, of.user_id) in newest] for some in (checkpoints, loaded))
    rows = [row for row in map_concurrently(partial(_stage_row, store), of_newest) if row]
    rows += [row for row in map_concurrently(partial(_stage_row, store, is_load=True), loads) if row]
    is_stage = {stage: pl.col("stage") == stage for stage in STAGES}
    enriched_now = pl.col("sha256").filter(is_stage["enrich"]).first().over("user_id", "timestamp")
    runs = (
        pl.DataFrame(rows, schema=_MANIFEST_ROW)
        .filter(~is_stage["load"] | (pl.col("sha256") == enriched_now).fill_null(value=True))
        .sort("stage")
        .group_by("user_id", "timestamp")
        .agg(
            pl.lit("import").alias("kind"),
            pl.lit(1).alias("users"),
            pl.lit(None).alias("is_ended"),
            pl.col("stage").alias("stages"),
            pl.col(OF_LAST_STAGE).drop_nulls().last(),
            pl.col(OF_ALL_STAGES).sum().round(3),
            pl.col("started_at").min(),
            raw=pl.col("location").filter(is_stage["fetch"]).first(),
            enriched=pl.col("location").filter(is_stage["enrich"]).first(),
        )
    )
    return conform(runs.select(dtypes(Runs).names()).cast(dtypes(Runs)), Runs)


def _stage_row(store: Store, checkpoint: Checkpoint, *, is_load: bool = False) -> dict[str, object] | None:
    """Return a row about a stage of an import from its manifest; None if there is none, or it cannot be read."""
    try:
        manifest = read_load_manifest(store, checkpoint) if is_load else read_manifest(store, checkpoint.key)
    except Failed as error:
        log.warning("manifest skipped", key=checkpoint.key, fault=error.message)
        return None
    if manifest is None:
        return None
    row = {"user_id": checkpoint.user_id, "timestamp": checkpoint.stem} | {
        name: getattr(manifest, name) for name in ("stage", "run_id", "rows", "seconds", "started_at")
    }
    if isinstance(manifest, LoadManifest):
        return row | {"sha256": manifest.input.sha256}
    counts = {count: manifest.counts.get(count) for count in STATUS_COUNTS}
    rejected = manifest.counts.get("rejected", 0)
    of_csv = {"location": store.locate(checkpoint.key), "sha256": manifest.sha256, "requests": manifest.requests}
    return row | counts | of_csv | {"rejected": rejected}


def _list_backfills(store: Store, limit: int | None) -> DataFrame[Runs]:
    """Return a row for each of the newest backfills; one without a report is running, or was killed."""
    newest = list_plans(store)[:limit]
    reports = map_concurrently(partial(_find_report, store), newest)
    rows = [
        _plan_row(plan) | (_report_row(report) if report else {}) for plan, report in zip(newest, reports, strict=True)
    ]
    return conform(pl.DataFrame(rows, schema=dtypes(Runs)), Runs)


def _find_report(store: Store, plan: Plan) -> Report | None:
    """Return the report of a backfill; None if there is none, or if it cannot be read, which is logged."""
    try:
        return read_report(store, plan.run_id)
    except Failed as error:
        log.warning("record skipped", run_id=plan.run_id, fault=error.message)
        return None


def _plan_row(plan: Plan) -> dict[str, object]:
    return {
        "kind": "backfill",
        "run_id": plan.run_id,
        "users": plan.users,
        "timestamp": plan.created_at.strftime(KEY_TIME),
        "stages": [],
        "is_ended": False,
        "started_at": plan.created_at.replace(microsecond=0),
    }


def _report_row(report: Report) -> dict[str, object]:
    """Return the columns of Runs that a report gives; `rows` are those of the fetch until some rows are enriched."""
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


def _effort_row(manifest: StepManifest) -> dict[str, object]:
    """Return the row of StepEfforts for a step's manifest; the look-up, which all shards share, has no shard."""
    of_shard: dict[str, object] = {"step": "catalogue", "shard": None, "users": 0, "rows": 0}
    if isinstance(manifest, ShardManifest):
        rows = sum(user["rows"] for user in manifest.users)
        of_shard = {"step": manifest.step, "shard": manifest.shard, "users": len(manifest.users), "rows": rows}
    return of_shard | {name: getattr(manifest, name) for name in ("requests", "rate_limited", "seconds")}
