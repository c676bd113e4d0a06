"""The steps of a backfill: fetch, enrich and load one shard, and look up the apps of all shards in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import gather_or_cancel
from pipeline.apis.steam import Steam
from pipeline.backfill.outcomes import mark_failed, outcomes_of_enrich, outcomes_of_fetch
from pipeline.backfill.shards import APP_COLUMNS, ShardFiles, StepResult, map_concurrently, read_json, write_json
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import OVERRIDES, CatalogueLookup, Progress, no_progress, read_overrides
from pipeline.catalogue.wanted import want_apps
from pipeline.database.database import Database
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.frames.catalogue import (
    Lifetimes,
    join_catalogue,
    join_without_look_up,
    not_looked_up,
)
from pipeline.frames.raw_library import library_of_nobody, owned_games_as_text
from pipeline.frames.staging import stage_library
from pipeline.stages import find_account
from pipeline.storage.keys import backfill_key
from pipeline.storage.store import Store
from schemas.backfill import FetchedUsers, Plan, ShardManifest, ShardOutcomes, ShardUsers, StepManifest
from schemas.events import ErrorCode
from schemas.frames import conform, dtypes, empty_frame, set_aside
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

log = structlog.get_logger()

OUTCOME_OF_ERROR: dict[ErrorCode, str] = {"account_not_found": "not_found", "private_library": "private"}
"""The mapping of an error code of a user's fetch to the user's outcome; any other code gives `failed`."""

STOPPING_CODES: frozenset[ErrorCode] = frozenset(
    {"steam_blocked", "steam_rate_limited", "store_unavailable", "schema_mismatch"}
)
"""The error codes that stop a whole backfill, beside all `Refused` errors, because each shard would meet them."""


def stops_backfill(error: PipelineError) -> bool:
    """Return True if an error stops a whole backfill, because every other shard or user would meet it too."""
    if isinstance(error, Refused):
        return error.code != "bad_steam_id"
    if isinstance(error, Failed) and error.is_about_rows:
        return False
    return error.is_cancelled or error.code in STOPPING_CODES


@dataclass(frozen=True)
class _Answer:
    """The answer of Steam about one user: the rows of the library, none where Steam shows no library, or an error."""

    user_id: str
    steam_id: str
    steam_id64: str | None = None
    rows: pl.DataFrame | None = None
    error: PipelineError | None = None


async def fetch_shard(files: ShardFiles, steam: Steam, deadline: float | None = None) -> ShardManifest:
    """Fetch the libraries of a shard's users from Steam into one raw CSV, and return the manifest of the step.

    A user whose library cannot be fetched gets an outcome with the error, and the others are fetched all the same.

    Raises:
        Refused: `bad_steam_key`.
        Failed: `steam_blocked`.
        Retryable: `steam_rate_limited`; the first user's error, if Steam answered for none of them; `steam_unavailable`
            if the deadline, a time of `time.monotonic`, comes first.
    """
    started = files.start_step("fetch")
    before = steam.requests, steam.retries.rate_limited
    listed = files.users().select("user_id", "steam_id").rows()
    try:
        async with asyncio.timeout_at(deadline):
            answers = await gather_or_cancel([_fetch_user(steam, *user) for user in listed])
            users = await _fetched_users(steam, answers)
    except TimeoutError:
        says = "There was no time to ask Steam about all users of this shard. Try again later, or with smaller shards."
        raise Retryable("steam_unavailable", says) from None
    owned = [answer.rows for answer in answers if answer.rows is not None]
    rows, rejected = set_aside(pl.concat([owned_games_as_text([], "", ""), *owned]), RawLibrary)
    result = StepResult(
        outcomes_of_fetch(users, rows, rejected),
        rows,
        rejected,
        requests=steam.requests - before[0],
        rate_limited=steam.retries.rate_limited - before[1],
    )
    return files.commit(started, result)


async def _fetch_user(steam: Steam, user_id: str, steam_id: str) -> _Answer:
    steam_id64 = None
    try:
        steam_id64 = await find_account(steam, steam_id)
        games = await steam.fetch_owned_games(steam_id64)
    except PipelineError as error:
        if stops_backfill(error):
            raise
        return _Answer(user_id, steam_id, steam_id64, error=error)
    return _Answer(
        user_id, steam_id, steam_id64, None if games is None else owned_games_as_text(games, user_id, steam_id64)
    )


async def _fetched_users(steam: Steam, answers: Sequence[_Answer]) -> DataFrame[FetchedUsers]:
    """Return the users with their outcomes; where Steam shows no library, ask it which of the accounts exist."""
    errors = [answer.error for answer in answers if answer.error and answer.error.retryable]
    if errors and len(errors) == len(answers):
        raise errors[0]
    hidden = [one.steam_id64 for one in answers if one.steam_id64 and not one.error and one.rows is None]
    existing = await steam.fetch_existing_accounts(hidden)
    users = [(one.user_id, one.steam_id64 or one.steam_id, *_outcome(steam, one, existing)) for one in answers]
    return conform(pl.DataFrame(users, schema=dtypes(FetchedUsers), orient="row"), FetchedUsers)


def _outcome(steam: Steam, answer: _Answer, existing: set[str]) -> tuple[str, str | None]:
    """Return the outcome of a user, and the error if there is no library."""
    if answer.rows is not None:
        return ("done" if answer.rows.height else "empty"), None
    account = answer.steam_id64 or answer.steam_id
    error = answer.error or steam.hidden_library_error(account, has_account=account in existing)
    return OUTCOME_OF_ERROR.get(error.code, "failed"), f"{error.code}: {error.message}"


def enrich_shard(files: ShardFiles, catalogue: CatalogueFiles, lifetimes: Lifetimes) -> ShardManifest:
    """Join a shard's raw CSV with catalogue and overrides into one enriched CSV, and return the step's manifest.

    No API is asked: an app that no look-up has answered about is PENDING, whatever its name says. A user whose rows are
    those last loaded, none of them PENDING or just set aside, has none in the CSV, except in a replay.
    """
    started, fetched = files.start_step("enrich"), files.require_manifest("fetch")
    library, users = files.rows(fetched, RawLibrary), files.users()
    # After a replay the database has what this run loaded before it, and no longer what was loaded before the run.
    last_loaded = users if files.find_manifest("load") is None else empty_frame(ShardUsers)
    overrides = read_overrides(files.store)
    known = catalogue.read_about(library)
    joined, _ = join_without_look_up(library, known, overrides, datetime.now(UTC), lifetimes)
    rows, rejected = set_aside(joined, EnrichedLibrary)
    outcomes = outcomes_of_enrich(files.outcomes(fetched), rows, rejected, last_loaded)
    changed = outcomes.filter(~pl.col("is_unchanged"))
    rows_to_load = rows.join(changed, on="user_id", how="semi", maintain_order="left")
    return files.commit(started, StepResult(outcomes, rows_to_load, rejected))


def load_shard(files: ShardFiles, database: Database, options: LoadOptions = DEFAULT_OPTIONS) -> ShardManifest:
    """Load a shard's enriched CSV into SavePoint's tables in one transaction, and return the manifest of the step.

    A user without a row in the table of users fails, and the others are loaded all the same.

    Raises:
        Refused: `configuration`, where rows were left out because another database has them.
        Failed: `schema_mismatch`.
    """
    started, enriched = files.start_step("load"), files.require_manifest("enrich")
    outcomes = files.outcomes(enriched)
    _require_same_database(files, outcomes, database)
    rows, fetched_at = files.rows(enriched, EnrichedLibrary), files.require_manifest("fetch").finished_at
    users = outcomes.filter(pl.col("outcome") == "done")["user_id"]
    try:
        counts = _load_rows(database, rows, fetched_at, options)
        # The load proves that the users of rows are there; users whose rows are unchanged may be gone since.
        missing = _find_missing(database, users.filter(~users.is_in(rows["user_id"].implode())))
    except Failed as error:
        if error.code != "user_not_found":
            raise
        missing = _find_missing(database, users)
        rows = conform(rows.filter(~pl.col("user_id").is_in(missing)), EnrichedLibrary)
        counts = _load_rows(database, rows, fetched_at, options)
    result = StepResult(
        mark_failed(outcomes, missing, "user_not_found: the database has no such user"),
        counts={name: rows for name, rows in counts.items() if rows},
        database=str(database),
    )
    return files.commit(started, result)


def _load_rows(
    database: Database, rows: DataFrame[EnrichedLibrary], fetched_at: datetime, options: LoadOptions
) -> dict[str, int]:
    if rows.is_empty():
        return {}
    return database.load(stage_library(rows, fetched_at), rows["user_id"].unique(), options).counts


def _find_missing(database: Database, users: pl.Series) -> list[str]:
    return database.find_missing_users(users.to_list()) if users.len() else []


def _require_same_database(files: ShardFiles, outcomes: DataFrame[ShardOutcomes], database: Database) -> None:
    """Raise `configuration` if unchanged rows, which are not loaded again, went into another database than this one."""
    unchanged = outcomes.filter("is_unchanged")
    elsewhere = (
        files.users().join(unchanged, on="user_id", how="semi").filter(pl.col("last_loaded_database") != str(database))
    )
    if elsewhere.height:
        raise Refused(
            "configuration",
            f"The last backfill loaded {elsewhere.height} of these users into {elsewhere['last_loaded_database'][0]}, "
            f"and DATABASE_URL leads to {database}. Set DATABASE_URL to that database, or load all users into this one "
            "with `steam-import backfill --full`.",
        )


LOOK_UP = "catalogue"
"""The name of the look-up in `report.json`."""

LOOK_UP_JSON = f"{LOOK_UP}.json"
"""The name of the file with the manifest of the look-up."""


async def look_up(
    store: Store,
    plan: Plan,
    shards: Sequence[ShardFiles],
    lookup: CatalogueLookup,
    progress: Progress = no_progress,
) -> StepManifest:
    """Ask Steam's store and IGDB about the distinct apps of all fetched shards; return the manifest of the look-up.

    The answers go into the catalogue. The look-up is not repeated for the same libraries and overrides, unless some
    apps were left without an answer.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    fetched = _fetched_shards(shards)
    input_digest, last = _digest(store, fetched), find_look_up(store, plan)
    if last and last.input == input_digest and not last.counts.get("pending"):
        return last
    started_at, requests, limited = datetime.now(UTC), lookup.requests, lookup.retries.rate_limited
    apps, overrides = _distinct_apps(fetched), read_overrides(store)
    library, known = await lookup.look_up(apps, overrides, progress)
    pending = join_catalogue(library, known, overrides).filter(pl.col("match_status") == "PENDING")
    manifest = StepManifest(
        run_id=plan.run_id,
        input=input_digest,
        counts={"apps": apps["appid"].n_unique(), "pending": pending["appid"].n_unique()},
        requests=(last.requests if last else 0) + lookup.requests - requests,
        rate_limited=(last.rate_limited if last else 0) + lookup.retries.rate_limited - limited,
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )
    write_json(store, backfill_key(plan.run_id, LOOK_UP_JSON), manifest)
    return manifest


def want_apps_of_shards(
    store: Store, plan: Plan, shards: Sequence[ShardFiles], catalogue: CatalogueFiles, lifetimes: Lifetimes
) -> StepManifest:
    """Write the apps of all fetched shards that the catalogue lacks into `catalogue/wanted/`; return the manifest.

    The next look-up asks about them; no API is asked here. The manifest counts all `apps`, and as `pending` these.
    """
    started_at = datetime.now(UTC)
    fetched = _fetched_shards(shards)
    apps = _distinct_apps(fetched)
    known = catalogue.read_about(apps)
    missed = not_looked_up(apps, known, read_overrides(store), started_at, lifetimes)
    want_apps(store, plan.run_id, missed)
    manifest = StepManifest(
        run_id=plan.run_id,
        input=_digest(store, fetched),
        counts={"apps": apps["appid"].n_unique(), "pending": missed.len()},
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )
    write_json(store, backfill_key(plan.run_id, LOOK_UP_JSON), manifest)
    return manifest


_FetchedShard = tuple[ShardFiles, ShardManifest]


def _fetched_shards(shards: Sequence[ShardFiles]) -> list[_FetchedShard]:
    """Return the shards whose fetch is done, each with the manifest of it."""
    manifests = map_concurrently(_find_fetched, shards)
    return [(files, manifest) for files, manifest in zip(shards, manifests, strict=True) if manifest]


def find_look_up(store: Store, plan: Plan) -> StepManifest | None:
    """Return the stored manifest of a backfill's look-up, or None if the look-up was not done.

    Raises:
        Failed: `checkpoint_invalid`, for one of a version that this program does not read.
    """
    return read_json(store, backfill_key(plan.run_id, LOOK_UP_JSON), StepManifest)


def _find_fetched(files: ShardFiles) -> ShardManifest | None:
    """Return the manifest of a shard's fetch without its users; None where it is not done, or later steps will fail."""
    try:
        fetched = files.finished_steps().get("fetch")
    except Failed as error:
        _log_left_out(files, error)
        return None
    # The users of all shards, who may be millions, are not kept in memory.
    return fetched.model_copy(update={"users": []}) if fetched else None


def _apps(fetched: _FetchedShard) -> pl.DataFrame:
    """Return the apps of a shard's raw CSV; none, where the shard's own steps will fail."""
    files, manifest = fetched
    try:
        return files.apps(manifest)
    except Failed as error:
        _log_left_out(files, error)
        return pl.DataFrame(schema=APP_COLUMNS)


def _log_left_out(files: ShardFiles, error: Failed) -> None:
    log.warning("shard left out of the look-up", shard=files.shard.number, error=str(error))


def _distinct_apps(fetched: Sequence[_FetchedShard]) -> DataFrame[RawLibrary]:
    """Return each app by each of its names, as a library of nobody: one shard's apps are in memory at a time."""
    apps = pl.DataFrame(schema=APP_COLUMNS)
    for library in map_concurrently(_apps, fetched):
        apps = pl.concat([apps, library]).unique(maintain_order=True)
    return library_of_nobody(apps)


def _digest(store: Store, fetched: Sequence[_FetchedShard]) -> str:
    digest = sha256(store.read(OVERRIDES) or b"")
    for _, manifest in fetched:
        digest.update(manifest.file.sha256.encode() if manifest.file else b"")
    return digest.hexdigest()
