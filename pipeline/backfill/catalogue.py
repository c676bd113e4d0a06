"""The one look-up of a backfill: every app of all its shards, once."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import polars as pl
import structlog

from pipeline.backfill.files import ShardFiles
from pipeline.backfill.readers import each
from pipeline.backfill.records import read_record, write_record
from pipeline.contract import Store
from pipeline.errors import Failed
from pipeline.frames.catalogue import join_catalogue
from pipeline.knowledge import OVERRIDES, Knowledge, read_overrides
from pipeline.layout import backfill_key
from pipeline.lookup import Progress, no_progress
from schemas.backfill import MOST_COUNTED, PlanRecord, ShardFile, StepRecord
from schemas.frames import RawLibrary

CATALOGUE = "catalogue"
RAW = {name: column.dtype.type for name, column in RawLibrary.to_schema().columns.items()}
NO_APPS = pl.DataFrame(schema={"appid": pl.String, "name": pl.String})

log = structlog.get_logger()


def find_look_up(store: Store, plan: PlanRecord) -> StepRecord | None:
    """What the look-up did, if it was done."""
    return read_record(store, _key(plan), StepRecord, run_id=plan.run_id)


def forget_look_up(store: Store, plan: PlanRecord) -> None:
    """Have everything that is not known looked up once more."""
    store.delete(_key(plan))


async def look_up(
    store: Store,
    plan: PlanRecord,
    shards: Sequence[ShardFiles],
    knowledge: Knowledge,
    progress: Progress = no_progress,
) -> StepRecord:
    """Ask the store and IGDB about the distinct apps of all shards that were fetched, and remember the answers.

    Done once for the same libraries and overrides, unless some apps were left unanswered.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    raws = [(files, raw) for files, raw in zip(shards, each(_raw, shards), strict=True) if raw]
    made_from = _digest(store, [raw for _, raw in raws])
    last = find_look_up(store, plan)
    if last and last.input == made_from and not last.counts.get("pending"):
        return last
    started_at, requests, limited = datetime.now(UTC), knowledge.requests, knowledge.retries.rate_limited
    apps, overrides = _distinct(each(_apps, raws)), read_overrides(store)
    library, known = await knowledge.of(apps, overrides, progress)
    pending = join_catalogue(library, known, overrides).filter(pl.col("match_status") == "PENDING")
    record = StepRecord(
        run_id=plan.run_id,
        input=made_from,
        counts={"apps": apps["appid"].n_unique(), "pending": pending["appid"].n_unique()},
        requests=_added(last.requests if last else 0, knowledge.requests - requests),
        rate_limited=_added(last.rate_limited if last else 0, knowledge.retries.rate_limited - limited),
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )
    write_record(store, _key(plan), record)
    return record


def _raw(files: ShardFiles) -> ShardFile | None:
    """The raw CSV of a shard that was fetched, unless its own steps will refuse it; its manifest is not kept."""
    try:
        fetched = files.done().get("fetch")
    except Failed as error:
        _leave_out(files, error)
        return None
    return fetched.file if fetched else None


def _apps(found: tuple[ShardFiles, ShardFile]) -> pl.DataFrame:
    """The apps of a raw CSV, as text; none of one that its shard's own steps will refuse."""
    files, raw = found
    try:
        return files.text(raw, "appid", "name")
    except Failed as error:
        _leave_out(files, error)
        return NO_APPS


def _leave_out(files: ShardFiles, error: Failed) -> None:
    log.warning("shard left out", shard=files.shard.number, error=str(error))


def _distinct(libraries: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Each app by each of its names, as a RawLibrary of nobody's; a shard at a time, and no other column of it."""
    apps = NO_APPS
    for library in libraries:
        apps = pl.concat([apps, library]).unique(maintain_order=True)
    absent = {name: pl.lit(None, dtype).alias(name) for name, dtype in RAW.items() if name not in apps.columns}
    of_nobody = {"user_id": pl.lit("nobody"), "steam_id64": pl.lit("0" * 17), "playtime_forever": pl.lit(0, pl.Int32)}
    appid = pl.col("appid").cast(pl.Int32, strict=False)
    return apps.select(appid, "name", **absent | of_nobody).select(RAW.keys()).filter(pl.col("appid") > 0)


def _added(before: int, more: int) -> int:
    """No more than a record may hold, whatever an edited one held before."""
    return min(before + more, MOST_COUNTED)


def _digest(store: Store, raws: Sequence[ShardFile]) -> str:
    made_from = sha256(store.read(OVERRIDES) or b"")
    for raw in raws:
        made_from.update(raw.sha256.encode())
    return made_from.hexdigest()


def _key(plan: PlanRecord) -> str:
    return backfill_key(plan.run_id, f"{CATALOGUE}.json")
