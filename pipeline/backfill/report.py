"""The books of a backfill: every user in exactly one outcome, and every row accounted for."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from pipeline.backfill import outcomes as user_outcomes
from pipeline.backfill.plan import REPORT, read_refused, read_seen, shards_of
from pipeline.backfill.shards import ShardFiles, map_concurrently, read_record, write_record
from pipeline.backfill.steps import CATALOGUE, find_look_up
from pipeline.errors import Failed, Retryable
from pipeline.storage.csv import escape_formulas, to_spreadsheet
from pipeline.storage.keys import LAST_LOADED, backfill_key
from pipeline.storage.store import Store
from pipeline.storage.versioned import to_parquet
from schemas.backfill import OUTCOMES, STATUS_COUNTS, Effort, PlanRecord, Report, ShardRecord, StepRecord
from schemas.events import SHARD_STEPS, ShardStep
from schemas.frames import TIME_FORMAT

OUTCOMES_CSV, REJECTED = "outcomes.csv", "rejected.csv"
TRIES = 10


@dataclass
class _Shard:
    """What the store holds of one shard; without users where it is damaged, and `failure` says how."""

    done: dict[ShardStep, ShardRecord] = field(default_factory=dict)
    outcomes: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=user_outcomes.SCHEMA))
    rejected: list[pl.DataFrame] = field(default_factory=list)
    failure: str | None = None


@dataclass
class _Books:
    """What is added up over the shards; of their manifests without the users, of whom there may be millions."""

    outcomes: list[pl.DataFrame] = field(default_factory=list)
    seen: list[pl.DataFrame] = field(default_factory=list)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    records: dict[ShardStep, list[ShardRecord]] = field(default_factory=lambda: {step: [] for step in SHARD_STEPS})
    stages: dict[ShardStep, Counter[str]] = field(default_factory=lambda: {step: Counter() for step in SHARD_STEPS})
    failures: list[str] = field(default_factory=list)


def write_report(store: Store, plan: PlanRecord) -> Report:
    """Add up what the shards' manifests say, and write `outcomes.csv`, `rejected.csv`, and `report.json` last.

    Raises:
        Failed: `checkpoint_invalid`, where the books do not balance; the report is written even so. It is not where
            there is one of another schema version, or `users.rejected.csv` was edited.
    """
    read_report(store, plan.run_id)  # one of another schema version is not overwritten
    refused, found = user_outcomes.refused(read_refused(store, plan)), _Books()
    for shard in map_concurrently(_read, shards_of(store, plan)):
        _add(found, shard)
    outcomes = pl.concat([*found.outcomes, refused])
    escaped = escape_formulas(outcomes.cast({"outcome": pl.String}))
    store.write(backfill_key(plan.run_id, OUTCOMES_CSV), escaped.write_csv().encode())
    _write_rejected(store, plan, found.rejected)
    _remember_seen(store, found.seen)
    report = _report(store, plan, found, outcomes)
    write_record(store, backfill_key(plan.run_id, REPORT), report)
    _require_balance(plan, found, outcomes)
    return report


def _read(files: ShardFiles) -> _Shard:
    try:
        done = files.done()
        rejected = [part for record in done.values() for part in _rejected(files, record)]
        outcomes, why = _outcomes(files, done)
    except Failed as error:
        return _Shard(failure=f"shard {files.shard.number}: {error.code}: {error.message}")
    return _Shard(done, outcomes, rejected, why and f"shard {files.shard.number}: {why}")


def _outcomes(files: ShardFiles, done: dict[ShardStep, ShardRecord]) -> tuple[pl.DataFrame, str | None]:
    """The ShardOutcomes of the last step; where that is not the load, whoever had rows failed, and why."""
    if "load" in done:
        return files.outcomes(done["load"]), None
    failure = files.failure()
    why = f"{failure.error_code}: {failure.error}" if failure else "the backfill has not come to this shard yet"
    if not done:
        return user_outcomes.never_fetched(files.users(), why), why
    outcomes = files.outcomes(list(done.values())[-1])
    return user_outcomes.failed(outcomes, outcomes.filter(pl.col("outcome") == "done")["user_id"].to_list(), why), why


def _add(found: _Books, shard: _Shard) -> None:
    for step, record in shard.done.items():
        outcomes = pl.DataFrame(record.users, schema=user_outcomes.SCHEMA)
        found.records[step].append(record.model_copy(update={"users": []}))
        found.stages[step].update(_rows(step, shard.done, outcomes))
    found.rejected += shard.rejected
    found.failures += [shard.failure] if shard.failure else []
    found.outcomes.append(shard.outcomes.select(user_outcomes.OUTCOME_COLUMNS))
    if "load" in shard.done:
        found.seen.append(_seen(shard.outcomes, shard.done["load"]))


def _seen(outcomes: pl.DataFrame, loaded: ShardRecord) -> pl.DataFrame:
    """What was loaded for whom, as Seen; rows that are PENDING are to be loaded again."""
    is_loaded = (pl.col("outcome") == "done") & (pl.col("pending") == 0)
    seen = outcomes.filter(is_loaded).select(
        "user_id",
        seen_digest="digest",
        seen_database=pl.lit(loaded.database, pl.String),
        seen_at=pl.lit(loaded.finished_at.strftime(TIME_FORMAT)),
    )
    return seen.drop_nulls()  # of an edited manifest


def _rows(step: ShardStep, done: dict[ShardStep, ShardRecord], outcomes: pl.DataFrame) -> dict[str, int]:
    """The rows that came to a step, and what became of them."""
    rejected = done[step].rejected
    if step == "fetch":
        file = done["fetch"].file
        return {
            "rows": int(outcomes["rows"].sum()),
            "kept": file.rows if file else 0,
            "rejected": rejected.rows if rejected else 0,
        }
    statuses = {count: int(outcomes[count].sum()) for count in STATUS_COUNTS}
    if step == "enrich":
        file = done["fetch"].file
        return {"rows": file.rows if file else 0, **statuses, "rejected": rejected.rows if rejected else 0}
    file = done["enrich"].file
    unchanged = int(outcomes.filter("is_unchanged").select(*STATUS_COUNTS).sum_horizontal().sum())
    return {"rows": (file.rows if file else 0) + unchanged, **statuses, "rejected": 0, "unchanged": unchanged}


def _require_balance(plan: PlanRecord, found: _Books, outcomes: pl.DataFrame) -> None:
    """Rows in = rows out, of each user and of each stage; each listed user is there once."""
    faults = [
        f"{step}: {counts['rows']} rows came in, {out} are accounted for"
        for step, counts in found.stages.items()
        if counts["rows"] != (out := sum(counts[name] for name in ("kept", *user_outcomes.COUNTS)))
    ]
    faults += [f"user {user_id}" for user_id in user_outcomes.unbalanced(outcomes)["user_id"].head(5)]
    if outcomes.height != plan.users + plan.rejected:
        faults.append(f"{plan.users + plan.rejected} users were listed, {outcomes.height} have an outcome")
    if faults:
        raise Failed(
            "checkpoint_invalid",
            f"The books of backfill {plan.run_id} do not balance ({'; '.join(faults)}). This is a bug: keep "
            f"{backfill_key(plan.run_id, '')} and report it.",
        )


def _report(store: Store, plan: PlanRecord, found: _Books, outcomes: pl.DataFrame) -> Report:
    by_outcome = Counter(outcomes["outcome"].cast(pl.String))
    written: Counter[str] = Counter()
    for record in found.records["load"]:
        written.update(record.counts)
    look_up = find_look_up(store, plan)
    steps: dict[str, Sequence[StepRecord]] = {CATALOGUE: [look_up] if look_up else [], **dict(found.records.items())}
    return Report(
        run_id=plan.run_id,
        input=plan.input,
        is_complete=len(found.records["load"]) == plan.shards,
        users={"total": outcomes.height, **{outcome: by_outcome[outcome] for outcome in OUTCOMES}},
        shards={"total": plan.shards, **{step: len(records) for step, records in found.records.items()}},
        stages={step: dict(counts) for step, counts in found.stages.items()},
        failures=found.failures,
        written=dict(written),
        effort={step: _effort(records, found.stages) for step, records in steps.items()},
    )


def _effort(records: Sequence[StepRecord], stages: dict[ShardStep, Counter[str]]) -> Effort:
    seconds = sum(record.seconds for record in records)
    rows = sum(stages[record.step]["rows"] for record in records[:1] if isinstance(record, ShardRecord))
    return Effort(
        seconds=round(seconds, 3),
        requests=sum(record.requests for record in records),
        rate_limited=sum(record.rate_limited for record in records),
        rows_per_second=round(rows / seconds, 1) if rows and seconds else None,
    )


def _rejected(files: ShardFiles, record: ShardRecord) -> list[pl.DataFrame]:
    """The rows that a step set aside, and which step of which shard that was."""
    if record.rejected is None:
        return []
    where = {"step": pl.lit(record.step), "shard": pl.lit(str(record.shard))}
    return [files.text(record.rejected, is_rejected=True).with_columns(**where).select(*where, pl.exclude(*where))]


def _write_rejected(store: Store, plan: PlanRecord, rejected: Iterable[pl.DataFrame]) -> None:
    key = backfill_key(plan.run_id, REJECTED)
    parts = list(rejected)
    if parts:
        store.write(key, to_spreadsheet(pl.concat(parts, how="diagonal")))
    else:
        store.delete(key)


def _remember_seen(store: Store, seen: Sequence[pl.DataFrame]) -> None:
    """Add to what all backfills remember; others may end at the same time, and this one may have ended long ago."""
    if not seen:
        return
    for _ in range(TRIES):
        etag = store.list(LAST_LOADED).get(LAST_LOADED)
        latest_first = pl.concat([*seen, read_seen(store)]).sort("seen_at", descending=True, maintain_order=True)
        known = latest_first.unique("user_id", keep="first", maintain_order=True)
        if store.replace(LAST_LOADED, to_parquet(known.sort("user_id"), "last_loaded"), etag):
            return
    raise Retryable("store_unavailable", f"{LAST_LOADED} is being rewritten by others all the time. Try again later.")


def read_report(store: Store, run_id: str) -> Report | None:
    """The report of a backfill that has ended, if there is one."""
    return read_record(store, backfill_key(run_id, REPORT), Report, run_id=run_id)
