"""A backfill taken back to what has to be done again after a rule, an override or a schema was mended."""

from functools import partial

import polars as pl

from pipeline.backfill import outcomes as user_outcomes
from pipeline.backfill.plan import REPORT, shards_of
from pipeline.backfill.report import read_report
from pipeline.backfill.shards import ShardFiles, map_concurrently
from pipeline.backfill.steps import find_look_up, forget_look_up
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import PlanRecord, ShardRecord
from schemas.frames import set_aside
from schemas.library import RawLibrary


def reset_for_replay(store: Store, plan: PlanRecord, *, everything: bool = False) -> int:
    """Take the shards with rejected or PENDING rows, or all, back to their raw CSVs; how many that are.

    Rows that were set aside, and conform today, are in the raw CSV after it. The backfill is to be run again then, but
    for the fetch.

    Raises:
        Failed: `checkpoint_invalid`, for a file of another schema version: it is not deleted.
    """
    read_report(store, plan.run_id)
    find_look_up(store, plan)
    reopened = sum(map_concurrently(partial(_reopen, everything=everything), shards_of(store, plan)))
    if reopened:
        forget_look_up(store, plan)
        store.delete(backfill_key(plan.run_id, REPORT))
    return reopened


def _reopen(files: ShardFiles, *, everything: bool) -> bool:
    done = files.done()
    if "fetch" not in done:
        return False
    is_left = any(record.rejected for record in done.values())
    is_pending = "enrich" in done and files.outcomes(done["enrich"])["pending"].sum() > 0
    if not (everything or is_left or is_pending):
        return False
    _take_back(files, done["fetch"])
    files.store.delete(files.shard.manifest_key("enrich"))
    return True


def _take_back(files: ShardFiles, fetched: ShardRecord) -> None:
    """Put rows that were set aside, and conform today, into the raw CSV."""
    if fetched.rejected is None:
        return
    text = files.text(fetched.rejected, *RawLibrary.to_schema().columns, is_rejected=True)
    taken_back, rejected = set_aside(text, RawLibrary)
    if not taken_back.height:
        return
    rows = pl.concat([files.rows(fetched.file, RawLibrary), taken_back])
    users = files.outcomes(fetched).select("user_id", "steam_id64", "outcome", "error")
    files.commit(
        files.begin("fetch"),
        user_outcomes.fetched(users, rows, rejected),
        rows=rows,
        rejected=rejected,
        requests=fetched.requests,
        rate_limited=fetched.rate_limited,
    )
