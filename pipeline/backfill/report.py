"""The report of a backfill: the outcome of each user, the sums of all rows, and the memory of the last loaded rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.backfill.list import read_rejected_lines
from pipeline.backfill.outcomes import (
    ROW_COUNTS,
    loaded_users,
    mark_failed,
    outcomes_of_rejected_lines,
    outcomes_of_unfetched,
    users_with_lost_rows,
    without_shard_columns,
)
from pipeline.backfill.shards import ShardFiles, list_shards, map_concurrently, read_json, write_json
from pipeline.backfill.steps import LOOK_UP, find_look_up
from pipeline.errors import Failed, agree, count_of
from pipeline.storage.csv import escape_formulas, read_rows, to_spreadsheet, unescape_formulas
from pipeline.storage.keys import LAST_LOADED, LAST_LOADED_BEFORE, backfill_key
from pipeline.storage.store import Store, rewrite
from pipeline.storage.versioned import CorruptFile, read_parquet, to_parquet
from schemas.backfill import (
    OUTCOMES,
    STATUS_COUNTS,
    Effort,
    LastLoaded,
    Outcomes,
    Plan,
    Report,
    ShardManifest,
    ShardOutcomes,
    StepManifest,
)
from schemas.events import SHARD_STEPS, ShardStep
from schemas.frames import conform, dtypes, empty_frame

REPORT, OUTCOMES_CSV, REJECTED_CSV = "report.json", "outcomes.csv", "rejected.csv"
log = structlog.get_logger()


@dataclass
class _ShardSummary:
    """The part of one shard in the report; if one of its files is missing or damaged, only the failure."""

    failure: str | None
    outcomes: DataFrame[Outcomes] = field(default_factory=lambda: empty_frame(Outcomes))
    loaded: DataFrame[LastLoaded] = field(default_factory=lambda: empty_frame(LastLoaded))
    rejected: list[pl.DataFrame] = field(default_factory=list)
    manifests: dict[ShardStep, ShardManifest] = field(default_factory=dict)
    rows: dict[ShardStep, dict[str, int]] = field(default_factory=dict)


def read_report(store: Store, run_id: str) -> Report | None:
    """Return the stored report of a backfill, or None if it has not written one.

    Raises:
        Failed: `checkpoint_invalid`, for one of a version that this program does not read.
    """
    return read_json(store, backfill_key(run_id, REPORT), Report)


def read_outcomes(store: Store, run_id: str) -> DataFrame[Outcomes]:
    """Return the outcomes that a backfill with a report wrote into `outcomes.csv`.

    Raises:
        Failed: `checkpoint_invalid`, if the file is missing or was edited.
    """
    key = backfill_key(run_id, OUTCOMES_CSV)
    return conform(unescape_formulas(read_rows(store.read(key) or b"", key, Outcomes)), Outcomes)


@dataclass(frozen=True)
class BackfillProgress:
    """How far a backfill is: shards done by step, users fetched, and the failures of shards that are not done."""

    shards: dict[str, int]
    users_fetched: int
    failures: list[str]


NOT_BEGUN = BackfillProgress(dict.fromkeys(SHARD_STEPS, 0), 0, [])


def read_progress(store: Store, plan: Plan) -> BackfillProgress:
    """Return how far a backfill is, from the files of its shards; no report is needed."""
    shards, users_fetched, failures = Counter[str](), 0, list[str]()
    for steps, users, failure in map_concurrently(_progress_of_shard, list_shards(store, plan)):
        shards.update(steps)
        users_fetched += users
        failures += [failure] if failure else []
    return BackfillProgress({step: shards[step] for step in SHARD_STEPS}, users_fetched, failures)


def _progress_of_shard(files: ShardFiles) -> tuple[list[ShardStep], int, str | None]:
    """Return the finished steps of a shard, the number of its users if they are fetched, and its failure if any."""
    try:
        finished = files.finished_steps()
        failure = None if "load" in finished else files.find_failure()
    except Failed as error:
        return [], 0, f"shard {files.shard.number}: {error.code}: {error.message}"
    users = len(finished["fetch"].users) if "fetch" in finished else 0
    says = f"shard {files.shard.number}: {failure.error_code}: {failure.error}" if failure else None
    return list(finished), users, says


def count_errors(store: Store, run_id: str) -> dict[str, int]:
    """Return how many users of a backfill with a report failed with which error code, the most frequent first.

    Users of shards that the backfill has not come to yet count as `not_tried`.
    """
    code = pl.col("error").str.extract(r"^([a-z0-9_]+): ").fill_null("not_tried")
    failed = read_outcomes(store, run_id).filter(pl.col("outcome") == "failed")
    return dict(failed.group_by(code).len().sort("len", "error", descending=[True, False]).rows())


def withdraw_report(store: Store, plan: Plan) -> None:
    """Delete the report of a backfill that is not complete, so that it does not count as ended while it goes on."""
    report = read_report(store, plan.run_id)
    if report and not report.is_complete:
        store.delete(backfill_key(plan.run_id, REPORT))


def write_report(store: Store, plan: Plan) -> Report:
    """Write `outcomes.csv`, `rejected.csv` and, last, `report.json` of a backfill, and return the report.

    It is summed from the shards' manifests. The digests of the loaded rows are stored for the next backfill.

    Raises:
        Failed: `checkpoint_invalid`, where users or rows are lost, after the report was written; or before, where there
            is a report of another version, or `users.rejected.csv` cannot be read.
    """
    read_report(store, plan.run_id)  # it raises for a report of another version, which must not be overwritten
    rejected_lines = outcomes_of_rejected_lines(read_rejected_lines(store, plan.run_id))
    shards = list(map_concurrently(_summarize, list_shards(store, plan)))
    outcomes = conform(pl.concat([*(shard.outcomes for shard in shards), rejected_lines]), Outcomes)
    escaped = escape_formulas(outcomes.cast({"outcome": pl.String}))
    store.write(backfill_key(plan.run_id, OUTCOMES_CSV), escaped.write_csv().encode())
    if rejected := [rows for shard in shards for rows in shard.rejected]:
        store.write(backfill_key(plan.run_id, REJECTED_CSV), to_spreadsheet(pl.concat(rejected, how="diagonal")))
    else:
        store.delete(backfill_key(plan.run_id, REJECTED_CSV))
    _remember_loaded(store, [shard.loaded for shard in shards if shard.loaded.height])
    report = _report(plan, shards, outcomes, find_look_up(store, plan))
    write_json(store, backfill_key(plan.run_id, REPORT), report)
    _require_all_accounted_for(plan, report, outcomes)
    return report


def _summarize(files: ShardFiles) -> _ShardSummary:
    try:
        finished = files.finished_steps()
        outcomes, failure = _outcomes(files, finished)
        return _ShardSummary(
            failure and f"shard {files.shard.number}: {failure}",
            without_shard_columns(outcomes),
            loaded_users(outcomes, finished["load"]) if "load" in finished else empty_frame(LastLoaded),
            [_rejected_rows(files, manifest) for manifest in finished.values() if manifest.rejected],
            # The users of all shards, who may be millions, are not kept in memory.
            {step: manifest.model_copy(update={"users": []}) for step, manifest in finished.items()},
            {step: _row_counts(step, finished) for step in finished},
        )
    except Failed as error:
        return _ShardSummary(f"shard {files.shard.number}: {error.code}: {error.message}")


def _outcomes(
    files: ShardFiles, finished: dict[ShardStep, ShardManifest]
) -> tuple[DataFrame[ShardOutcomes], str | None]:
    """Return the outcomes of a shard's last step; before the load, its users with rows have failed, and why."""
    if "load" in finished:
        return files.outcomes(finished["load"]), None
    failure = files.find_failure()
    why = f"{failure.error_code}: {failure.error}" if failure else "the backfill has not come to this shard yet"
    if not finished:
        return outcomes_of_unfetched(files.users(), why), why
    outcomes = files.outcomes(list(finished.values())[-1])
    return mark_failed(outcomes, outcomes.filter(pl.col("outcome") == "done")["user_id"].to_list(), why), why


def _rejected_rows(files: ShardFiles, manifest: ShardManifest) -> pl.DataFrame:
    """Return the rows that a step set aside, with the step and the shard in their first columns."""
    where = {"step": pl.lit(manifest.step), "shard": pl.lit(str(manifest.shard))}
    return files.rejected_rows(manifest).with_columns(**where).select(*where, pl.exclude(*where))


def _row_counts(step: ShardStep, finished: dict[ShardStep, ShardManifest]) -> dict[str, int]:
    """Return how many rows came to a step of a shard, and what became of them."""
    users = pl.DataFrame(finished[step].users, schema=dtypes(ShardOutcomes))
    kept = {earlier: manifest.file.rows if manifest.file else 0 for earlier, manifest in finished.items()}
    rejected = finished[step].rejected
    rejected_rows = rejected.rows if rejected else 0
    if step == "fetch":
        return {"rows": int(users["rows"].sum()), "kept": kept["fetch"], "rejected": rejected_rows}
    statuses = {count: int(users[count].sum()) for count in STATUS_COUNTS}
    if step == "enrich":
        return {"rows": kept["fetch"], **statuses, "rejected": rejected_rows}
    unchanged = int(users.filter("is_unchanged").select(*STATUS_COUNTS).sum_horizontal().sum())
    return {"rows": kept["enrich"] + unchanged, **statuses, "rejected": 0, "unchanged": unchanged}


def _report(
    plan: Plan, shards: Sequence[_ShardSummary], outcomes: DataFrame[Outcomes], look_up: StepManifest | None
) -> Report:
    by_outcome = Counter(outcomes["outcome"].cast(pl.String))
    manifests = {step: [shard.manifests[step] for shard in shards if step in shard.manifests] for step in SHARD_STEPS}
    rows = {step: _add_up(shard.rows[step] for shard in shards if step in shard.rows) for step in SHARD_STEPS}
    return Report(
        run_id=plan.run_id,
        input=plan.input,
        is_complete=len(manifests["load"]) == plan.shards,
        users={"total": outcomes.height, **{outcome: by_outcome[outcome] for outcome in OUTCOMES}},
        shards={"total": plan.shards, **{step: len(manifests[step]) for step in SHARD_STEPS}},
        stages=rows,
        failures=[shard.failure for shard in shards if shard.failure],
        written=_add_up(manifest.counts for manifest in manifests["load"]),
        effort={
            LOOK_UP: _effort([look_up] if look_up else [], 0),
            **{step: _effort(manifests[step], rows[step].get("rows", 0)) for step in SHARD_STEPS},
        },
    )


def _add_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of several counts by name; a sum of 0 is kept."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(total)


def _effort(manifests: Sequence[StepManifest], rows: int) -> Effort:
    seconds = sum(manifest.seconds for manifest in manifests)
    return Effort(
        seconds=round(seconds, 3),
        requests=sum(manifest.requests for manifest in manifests),
        rate_limited=sum(manifest.rate_limited for manifest in manifests),
        rows_per_second=round(rows / seconds, 1) if rows and seconds else None,
    )


def _require_all_accounted_for(plan: Plan, report: Report, outcomes: DataFrame[Outcomes]) -> None:
    """Raise `checkpoint_invalid` unless the rows into each step come out of it, and each listed user has an outcome."""
    faults = [
        f"{step}: {count_of(counts['rows'], 'row')} came in, {out} {agree(out, 'is', 'are')} accounted for"
        for step, counts in report.stages.items()
        if counts and counts["rows"] != (out := sum(counts.get(name, 0) for name in ("kept", *ROW_COUNTS)))
    ]
    faults += [f"user {user_id}" for user_id in users_with_lost_rows(outcomes)[:5]]
    if outcomes.height != plan.users + plan.rejected:
        listed = count_of(plan.users + plan.rejected, "user was", "users were")
        faults.append(f"{listed} listed, {outcomes.height} {agree(outcomes.height, 'has', 'have')} an outcome")
    if faults:
        raise Failed(
            "checkpoint_invalid",
            f"The counts of backfill {plan.run_id} do not add up ({'; '.join(faults)}). This is a bug: keep "
            f"{backfill_key(plan.run_id, '')} and report it.",
        )


def read_last_loaded(store: Store) -> DataFrame[LastLoaded]:
    """Return one row per user whom backfills have loaded, with the digest of the user's last loaded rows.

    Without the file, or if it is corrupt, there are no rows: then all users are loaded again.

    Raises:
        Failed: `checkpoint_invalid`, for a file of a version that this program does not read.
    """
    return _known_loads(store, store.read(LAST_LOADED))


def _known_loads(store: Store, body: bytes | None) -> DataFrame[LastLoaded]:
    """Return the rows in the bytes of `last_loaded.parquet`, or without them those that earlier versions wrote."""
    key = LAST_LOADED
    if not body:
        key, body = LAST_LOADED_BEFORE, store.read(LAST_LOADED_BEFORE)
    try:
        return _parse_last_loaded(body, key) if body else empty_frame(LastLoaded)
    except CorruptFile as error:
        log.warning("all users are loaded again", key=key, fault=str(error))
        return empty_frame(LastLoaded)


def _parse_last_loaded(body: bytes, key: str) -> DataFrame[LastLoaded]:
    remedy = "Use the program's version that wrote it, or delete it: then all users are loaded again."
    return read_parquet(body, "last_loaded", LastLoaded, key, remedy)


def drop_from_last_loaded(body: bytes | None, key: str, user_id: str) -> bytes | None:
    """Return the bytes of the file of last loaded rows, which has this key, without a user's row; None for no file.

    Raises:
        Failed: `checkpoint_invalid`, if the file is corrupt, so that nobody knows who is in it.
    """
    if not body:
        return body
    try:
        known = _parse_last_loaded(body, key)
    except CorruptFile as error:
        raise Failed(
            "checkpoint_invalid",
            f"{key} is corrupt ({error}), so that users cannot be removed from it. Delete it, and run the same "
            "again: without it all users are loaded again.",
        ) from None
    left = known.filter(pl.col("user_id") != user_id)
    return body if left.height == known.height else to_parquet(left, "last_loaded")


def _remember_loaded(store: Store, loaded: Sequence[DataFrame[LastLoaded]]) -> None:
    """Add loads to those that the store remembers; of several loads of one user the latest counts.

    Other backfills may end at the same time, and the loads of this one may be older than what is remembered already.
    """
    if not loaded:
        return

    def add_loads(body: bytes | None) -> bytes:
        loads = pl.concat([*loaded, _known_loads(store, body)])
        latest_first = loads.sort("last_loaded_at", descending=True, maintain_order=True)
        known = latest_first.unique("user_id", keep="first", maintain_order=True)
        return to_parquet(known.sort("user_id"), "last_loaded")

    rewrite(store, LAST_LOADED, add_loads)
    store.delete(LAST_LOADED_BEFORE)
