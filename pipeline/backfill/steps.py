"""The steps of one shard: fetch, enrich and load, for many users at once.

The one look-up of a backfill: every app of all its shards, once.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import gather_or_cancel
from pipeline.apis.steam import Steam
from pipeline.backfill import outcomes as user_outcomes
from pipeline.backfill.shards import ShardFiles, map_concurrently, read_record, write_record
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import OVERRIDES, CatalogueLookup, Progress, no_progress, read_overrides
from pipeline.database.database import Database
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.frames.catalogue import join_catalogue, rows_about_apps
from pipeline.frames.classify import classify
from pipeline.frames.raw_library import owned_games_as_text
from pipeline.frames.staging import stage_library
from pipeline.stages import find_account
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import MOST_COUNTED, PlanRecord, ShardFile, ShardRecord, StepRecord
from schemas.events import ErrorCode
from schemas.frames import conform, dtypes, set_aside
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

OUTCOME_OF: dict[ErrorCode, str] = {"account_not_found": "not_found", "private_library": "private"}


OF_ALL: frozenset[ErrorCode] = frozenset(
    {"steam_blocked", "steam_rate_limited", "store_unavailable", "schema_mismatch"}
)

OF_ONE: frozenset[ErrorCode] = frozenset({"bad_steam_id"})


def concerns_all(error: PipelineError) -> bool:
    """Whether an error ends the backfill, for it has nothing to do with the shard or the user that met it."""
    if isinstance(error, Refused):
        return error.code not in OF_ONE
    return error.is_cancelled or error.code in OF_ALL


@dataclass(frozen=True)
class _Fetched:
    """What Steam said of one user: rows as text, None where it shows nothing."""

    user_id: str
    steam_id: str
    steam_id64: str | None = None
    rows: pl.DataFrame | None = None
    error: PipelineError | None = None


async def fetch_shard(files: ShardFiles, steam: Steam, deadline: float | None = None) -> ShardRecord:
    """What each user of a shard owns, as one raw CSV; a user whose library cannot be had does not fail the others.

    Raises:
        Refused: `bad_steam_key`.
        Failed: `steam_blocked`.
        Retryable: `steam_rate_limited`; whatever the first user met, if it met all of them; `steam_unavailable` if the
            deadline, a time of `time.monotonic`, comes first.
    """
    work = files.begin("fetch")
    before = steam.requests, steam.retries.rate_limited
    listed = files.users().select("user_id", "steam_id").rows()
    try:
        async with asyncio.timeout_at(deadline):
            fetched = await gather_or_cancel([_fetch_user(steam, *user) for user in listed])
            users = await _judged(steam, fetched)
    except TimeoutError:
        says = "There was no time to ask Steam about all users of this shard. Try again later, or with smaller shards."
        raise Retryable("steam_unavailable", says) from None
    rows, rejected = set_aside(pl.concat([owned_games_as_text([], "", ""), *_rows(fetched)]), RawLibrary)
    return files.commit(
        work,
        user_outcomes.fetched(users, rows, rejected),
        rows=rows,
        rejected=rejected,
        requests=steam.requests - before[0],
        rate_limited=steam.retries.rate_limited - before[1],
    )


def enrich_shard(files: ShardFiles, catalogue: CatalogueFiles) -> ShardRecord:
    """What the catalogue and the overrides say of each app of a shard, as one enriched CSV; asks nobody.

    Of users for whom that is what was loaded last, there are no rows in it.
    """
    work, fetched = files.begin("enrich"), files.require("fetch")
    library, users = conform(files.rows(fetched.file, RawLibrary), RawLibrary), files.users()
    # Once loaded, a shard that is taken back differs from what was loaded before it.
    seen = users if files.record("load") is None else users.clear()
    overrides = read_overrides(files.store)
    known = rows_about_apps(catalogue.read(), library)
    rows, rejected = set_aside(join_catalogue(classify(library, known, overrides), known, overrides), EnrichedLibrary)
    outcomes = user_outcomes.enriched(files.outcomes(fetched), rows, rejected, seen)
    changed = outcomes.filter(~pl.col("is_unchanged"))
    return files.commit(
        work, outcomes, rows=rows.join(changed, on="user_id", how="semi", maintain_order="left"), rejected=rejected
    )


def load_shard(files: ShardFiles, database: Database, options: LoadOptions = DEFAULT_OPTIONS) -> ShardRecord:
    """The rows of a shard in SavePoint's tables, in one transaction; a user that is not there fails alone.

    Raises:
        Refused: `configuration`, where rows were left out because another database has them.
        Failed: `schema_mismatch`.
    """
    work, enriched = files.begin("load"), files.require("enrich")
    outcomes = files.outcomes(enriched)
    _require_same_database(files, outcomes, database)
    rows = files.rows(enriched.file, EnrichedLibrary)
    owners = outcomes.filter(pl.col("outcome") == "done")["user_id"]

    def load(rows: pl.DataFrame) -> dict[str, int]:
        if not rows.height:
            return {}
        return database.load(stage_library(conform(rows, EnrichedLibrary)), rows["user_id"].unique(), options).counts

    try:
        counts = load(rows)
        absent = _absent(database, owners.filter(~owners.is_in(rows["user_id"].implode())))
    except Failed as error:
        if error.code != "user_not_found":
            raise
        absent = _absent(database, owners)
        counts = load(rows.filter(~pl.col("user_id").is_in(absent)))
    lost = user_outcomes.failed(outcomes, absent, "user_not_found: the database has no such user")
    return files.commit(
        work, lost, counts={what: rows for what, rows in counts.items() if rows}, database=str(database)
    )


def _absent(database: Database, owners: pl.Series) -> list[str]:
    return database.find_missing_users(owners.to_list()) if owners.len() else []


async def _fetch_user(steam: Steam, user_id: str, steam_id: str) -> _Fetched:
    steam_id64 = None
    try:
        steam_id64 = await find_account(steam, steam_id)
        games = await steam.fetch_owned_games(steam_id64)
    except PipelineError as error:
        if concerns_all(error):
            raise
        return _Fetched(user_id, steam_id, steam_id64, error=error)
    return _Fetched(
        user_id, steam_id, steam_id64, None if games is None else owned_games_as_text(games, user_id, steam_id64)
    )


async def _judged(steam: Steam, fetched: Sequence[_Fetched]) -> pl.DataFrame:
    """The users with their outcomes; of those of whom Steam shows nothing, its profiles tell which exist."""
    errors = [one.error for one in fetched if one.error and one.error.retryable]
    if errors and len(errors) == len(fetched):
        raise errors[0]
    silent = [one.steam_id64 for one in fetched if one.steam_id64 and not one.error and one.rows is None]
    existing = await steam.fetch_existing(silent)
    outcomes = [_outcome(one, existing) for one in fetched]
    return pl.DataFrame(
        {
            "user_id": [one.user_id for one in fetched],
            "steam_id64": [one.steam_id64 or one.steam_id for one in fetched],
            "outcome": [outcome for outcome, _ in outcomes],
            "error": [error for _, error in outcomes],
        },
        schema=dict.fromkeys(("user_id", "steam_id64", "outcome", "error"), pl.String),
    )


def _outcome(one: _Fetched, existing: set[str]) -> tuple[str, str | None]:
    """A user's outcome so far, and why it is no better."""
    if one.error:
        return OUTCOME_OF.get(one.error.code, "failed"), f"{one.error.code}: {one.error.message}"
    if one.rows is not None:
        return ("done" if one.rows.height else "empty"), None
    if one.steam_id64 in existing:
        return "private", f"private_library: the games of {one.steam_id64} are private"
    return "not_found", f"account_not_found: Steam knows no account {one.steam_id64}"


def _rows(fetched: Iterable[_Fetched]) -> list[pl.DataFrame]:
    return [one.rows for one in fetched if one.rows is not None]


def _require_same_database(files: ShardFiles, outcomes: pl.DataFrame, database: Database) -> None:
    """What was left out because it was loaded before has to be in this database."""
    unchanged = outcomes.filter("is_unchanged")
    elsewhere = files.users().join(unchanged, on="user_id", how="semi").filter(pl.col("seen_database") != str(database))
    if elsewhere.height:
        raise Refused(
            "configuration",
            f"The last backfill loaded {elsewhere.height} of these users into {elsewhere['seen_database'][0]}, and "
            f"DATABASE_URL leads to {database}. Mend it, or start anew with `steam-import backfill --full`.",
        )


CATALOGUE = "catalogue"
RAW = dtypes(RawLibrary)
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
    knowledge: CatalogueLookup,
    progress: Progress = no_progress,
) -> StepRecord:
    """Ask the store and IGDB about the distinct apps of all shards that were fetched, and remember the answers.

    Done once for the same libraries and overrides, unless some apps were left unanswered.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    raws = [(files, raw) for files, raw in zip(shards, map_concurrently(_raw, shards), strict=True) if raw]
    made_from = _digest(store, [raw for _, raw in raws])
    last = find_look_up(store, plan)
    if last and last.input == made_from and not last.counts.get("pending"):
        return last
    started_at, requests, limited = datetime.now(UTC), knowledge.requests, knowledge.retries.rate_limited
    apps, overrides = _distinct(map_concurrently(_apps, raws)), read_overrides(store)
    library, known = await knowledge.look_up(apps, overrides, progress)
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


def _distinct(libraries: Iterable[pl.DataFrame]) -> DataFrame[RawLibrary]:
    """Each app by each of its names, as a RawLibrary of nobody's; a shard at a time, and no other column of it."""
    apps = NO_APPS
    for library in libraries:
        apps = pl.concat([apps, library]).unique(maintain_order=True)
    absent = {name: pl.lit(None, dtype).alias(name) for name, dtype in RAW.items() if name not in apps.columns}
    of_nobody = {"user_id": pl.lit("nobody"), "steam_id64": pl.lit("0" * 17), "playtime_forever": pl.lit(0, pl.Int32)}
    appid = pl.col("appid").cast(pl.Int32, strict=False)
    rows = apps.select(appid, "name", **absent | of_nobody).select(RAW.keys()).filter(pl.col("appid") > 0)
    return conform(rows, RawLibrary)


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
