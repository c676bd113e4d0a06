"""The steps of one shard: fetch, enrich and load, for many users at once."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.backfill.files import ShardFiles
from pipeline.backfill.run import concerns_all
from pipeline.catalogue_files import CatalogueFiles
from pipeline.contract import set_aside
from pipeline.edges.batches import gather
from pipeline.edges.postgres import Database
from pipeline.edges.steam import Steam
from pipeline.errors import Failed, PipelineError, Refused, Retryable
from pipeline.frames import books
from pipeline.frames.catalogue import join_catalogue
from pipeline.frames.classify import classify
from pipeline.frames.library import as_owned
from pipeline.frames.staging import stage
from pipeline.knowledge import read_overrides
from pipeline.stages import find_account
from schemas.backfill import ShardRecord
from schemas.events import ErrorCode
from schemas.frames import EnrichedLibrary, RawLibrary

OUTCOME_OF: dict[ErrorCode, str] = {"account_not_found": "not_found", "private_library": "private"}


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
            fetched = await gather([_fetch_user(steam, *user) for user in listed])
            users = await _judged(steam, fetched)
    except TimeoutError:
        says = "There was no time to ask Steam about all users of this shard. Try again later, or with smaller shards."
        raise Retryable("steam_unavailable", says) from None
    rows, rejected = set_aside(pl.concat([as_owned([], "", ""), *_rows(fetched)]), RawLibrary)
    return files.commit(
        work,
        books.fetched(users, rows, rejected),
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
    library, users = files.rows(fetched.file, RawLibrary), files.users()
    # Once loaded, a shard that is taken back differs from what was loaded before it.
    seen = users if files.record("load") is None else users.clear()
    overrides = read_overrides(files.store)
    known = catalogue.read().join(library, on="appid", how="semi")
    rows, rejected = set_aside(join_catalogue(classify(library, known, overrides), known, overrides), EnrichedLibrary)
    outcomes = books.enriched(files.outcomes(fetched), rows, rejected, seen)
    changed = outcomes.filter(~pl.col("is_unchanged"))
    return files.commit(
        work, outcomes, rows=rows.join(changed, on="user_id", how="semi", maintain_order="left"), rejected=rejected
    )


def load_shard(
    files: ShardFiles, database: Database, *, status_unplayed: str | None = None, status_played: str | None = None
) -> ShardRecord:
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
        users = rows["user_id"].unique()
        return database.load(stage(rows), users, status_unplayed=status_unplayed, status_played=status_played).counts

    try:
        counts = load(rows)
        absent = _absent(database, owners.filter(~owners.is_in(rows["user_id"].implode())))
    except Failed as error:
        if error.code != "user_not_found":
            raise
        absent = _absent(database, owners)
        counts = load(rows.filter(~pl.col("user_id").is_in(absent)))
    lost = books.failed(outcomes, absent, "user_not_found: the database has no such user")
    return files.commit(
        work, lost, counts={what: rows for what, rows in counts.items() if rows}, database=str(database)
    )


def _absent(database: Database, owners: pl.Series) -> list[str]:
    return database.absent_users(owners.to_list()) if owners.len() else []


async def _fetch_user(steam: Steam, user_id: str, steam_id: str) -> _Fetched:
    steam_id64 = None
    try:
        steam_id64 = await find_account(steam, steam_id)
        games = await steam.fetch_owned_games(steam_id64)
    except PipelineError as error:
        if concerns_all(error):
            raise
        return _Fetched(user_id, steam_id, steam_id64, error=error)
    return _Fetched(user_id, steam_id, steam_id64, None if games is None else as_owned(games, user_id, steam_id64))


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
