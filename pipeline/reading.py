"""What notebooks and scripts read the pipeline's files with; `from pipeline import …` leads here."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandera.polars as pa
import polars as pl
import structlog

from pipeline import wiring
from pipeline.backfill.catalogue import find_look_up
from pipeline.backfill.files import ShardFiles
from pipeline.backfill.plan import find_plan, require_plan, shards_of
from pipeline.backfill.readers import each
from pipeline.backfill.report import OUTCOMES_CSV, read_report
from pipeline.checkpoints import read_copy, read_manifest
from pipeline.contract import Store
from pipeline.errors import Failed
from pipeline.frames.json_lists import decode
from pipeline.frames.runs import Made, backfills, efforts, imports, newest_first
from pipeline.frames.spreadsheet import as_written
from pipeline.layout import BACKFILLS, Checkpoint, backfill_key, described, planned
from pipeline.local import with_default_store
from pipeline.settings import Settings
from schemas.backfill import SHARD_STEPS, Outcomes, ShardRecord
from schemas.frames import EnrichedLibrary, RawLibrary

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
    return decode(read_at(Settings.read(), os.fspath(location), EnrichedLibrary, trust=trust))


def read_at(settings: Settings, location: str, model: type[pa.DataFrameModel], *, trust: bool = False) -> pl.DataFrame:
    """The rows of a CSV at any path or `s3://bucket/key`, as the model.

    Raises:
        PipelineError: As `read_raw`.
    """
    if "://" in location:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not (location.startswith("s3://") and bucket and key):
            raise Failed("location_refused", f"{location!r} is neither a path nor s3://bucket/key.")
        return read_copy(wiring.store_at(settings, f"s3://{bucket}"), key, model, trust=trust)
    path = Path(os.path.realpath(Path(location).expanduser()))
    return read_copy(wiring.store_at(settings, str(path.parent)), path.name, model, trust=trust)


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
    outcomes = as_written(read_copy(store, backfill_key(run_id, OUTCOMES_CSV), Outcomes))
    done = [record for records in each(_records, shards_of(store, plan)) for record in records]
    look_up = find_look_up(store, plan)
    return Backfill(outcomes, efforts([*([look_up] if look_up else []), *done]))


def runs_in(store: Store, limit: int | None = None) -> pl.DataFrame:
    """The newest runs in a store, as Runs; a manifest that is none is reported and left out."""
    return newest_first(pl.concat([_imports_in(store, limit), _backfills_in(store, limit)]))[:limit]


def _imports_in(store: Store, limit: int | None) -> pl.DataFrame:
    checkpoints = [found for key in store.list("imports/") if (found := described(key))]
    newest = set(sorted({_run(found) for found in checkpoints}, reverse=True)[:limit])
    return imports(_made(store, [found for found in checkpoints if _run(found) in newest]))


def _backfills_in(store: Store, limit: int | None) -> pl.DataFrame:
    run_ids = [run_id for key in store.list(BACKFILLS) if (run_id := planned(key))]
    plans = [plan for plan in each(partial(_read, store, find_plan), run_ids) if plan]
    newest = sorted(plans, key=lambda plan: plan.created_at, reverse=True)[:limit]
    reports = each(partial(_read, store, read_report), [plan.run_id for plan in newest])
    return backfills(zip(newest, reports, strict=True))


def _read(store: Store, find: Callable[[Store, str], T | None], run_id: str) -> T | None:
    """A plan or a report; one that is refused is reported and left out."""
    try:
        return find(store, run_id)
    except Failed as error:
        log.warning("record skipped", run_id=run_id, fault=error.message)
        return None


def _store(store_url: str | None) -> Store:
    return wiring.store(with_default_store(Settings.read(store_url=store_url)))


def _records(files: ShardFiles) -> list[ShardRecord]:
    return [record for step in SHARD_STEPS if (record := files.record(step))]


def _run(checkpoint: Checkpoint) -> tuple[str, str]:
    """What the checkpoints of one import share, as it sorts by time."""
    return checkpoint.stem, checkpoint.user_id


def _made(store: Store, checkpoints: Iterable[Checkpoint]) -> list[Made]:
    return [made for made in each(partial(_made_of, store), checkpoints) if made]


def _made_of(store: Store, checkpoint: Checkpoint) -> Made | None:
    try:
        manifest = read_manifest(store, checkpoint.key)
    except Failed as error:
        log.warning("manifest skipped", key=checkpoint.manifest_key, fault=error.message)
        return None
    return Made(checkpoint, store.locate(checkpoint.key), manifest) if manifest else None
