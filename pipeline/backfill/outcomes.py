"""Pure functions that compute the outcome of each user of a backfill, and the counts of the rows that Steam gave."""

from collections.abc import Sequence

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.backfill import (
    OUTCOMES,
    STATUS_COUNTS,
    FetchedUsers,
    LastLoaded,
    Outcomes,
    RejectedLines,
    ShardManifest,
    ShardOutcomes,
    ShardUsers,
)
from schemas.frames import TIME_FORMAT, conform, dtypes
from schemas.library import EnrichedLibrary, RawLibrary

ROW_COUNTS = (*STATUS_COUNTS, "rejected")
"""The five columns of `Outcomes` that count a user's rows by their match status or rejection; their sum is `rows`."""


def outcomes_of_fetch(
    users: DataFrame[FetchedUsers], library: DataFrame[RawLibrary], rejected: pl.DataFrame
) -> DataFrame[ShardOutcomes]:
    """Return one row per user of a shard with the outcome of the fetch and the numbers of rows accepted and rejected.

    Args:
        users: The shard's users, with what Steam answered about each.
        library: The rows that were accepted, of all these users.
        rejected: The rows that were rejected, of all these users.
    """
    counted = _join_users(users, _rows_by_user(library, "accepted"), _rows_by_user(rejected, "rejected"))
    return _shard_outcomes(counted.with_columns(rows=pl.sum_horizontal("accepted", "rejected")))


def outcomes_of_enrich(
    fetched: DataFrame[ShardOutcomes],
    library: DataFrame[EnrichedLibrary],
    rejected: pl.DataFrame,
    last_loaded: DataFrame[ShardUsers],
) -> DataFrame[ShardOutcomes]:
    """Return the outcomes of a shard's users after the enrichment: one row per user, with rows counted by match status.

    A user is unchanged if the rows are those that were last loaded, none is PENDING, and none was set aside just now.
    """
    of_row = pl.struct("appid", *[name for name in library.columns if name != "appid"]).hash()
    counted = library.group_by("user_id").agg(
        *((pl.col("match_status") == status).sum().alias(count) for count, status in STATUS_COUNTS.items()),
        digest=pl.format("{}-{}", of_row.sum(), pl.len()),
    )
    is_as_loaded = (
        (pl.col("digest") == pl.col("last_loaded_digest"))
        & (pl.col("pending") == 0)
        & pl.col("newly_rejected").is_null()
    )
    enriched = _join_users(
        fetched.drop(*STATUS_COUNTS, "digest", "is_unchanged"),
        counted,
        _rows_by_user(rejected, "newly_rejected"),
        last_loaded.select("user_id", "last_loaded_digest"),
    )
    return _shard_outcomes(
        enriched.with_columns(rejected=pl.sum_horizontal("rejected", "newly_rejected"), is_unchanged=is_as_loaded)
    )


def mark_failed(outcomes: DataFrame[ShardOutcomes], user_ids: Sequence[str], error: str) -> DataFrame[ShardOutcomes]:
    """Return the outcomes with the users of `user_ids` changed to `failed`, each with the text of the error."""
    is_failed = pl.col("user_id").is_in(user_ids)
    marked = outcomes.with_columns(
        outcome=pl.when(is_failed).then(pl.lit("failed", pl.Enum(OUTCOMES))).otherwise("outcome"),
        error=pl.when(is_failed).then(pl.lit(error)).otherwise("error"),
    )
    return conform(marked, ShardOutcomes)


def outcomes_of_unfetched(users: DataFrame[ShardUsers], error: str) -> DataFrame[ShardOutcomes]:
    """Return an outcome `failed`, with the text of the error, for each user of a shard that could not be fetched."""
    return _shard_outcomes(
        users.select("user_id", steam_id64="steam_id", outcome=pl.lit("failed"), error=pl.lit(error))
    )


def outcomes_of_rejected_lines(lines: DataFrame[RejectedLines]) -> DataFrame[Outcomes]:
    """Return an outcome `rejected` for each rejected line of a list of users, with the line's number and error."""
    error = pl.format("line {}: {}", "line", "error")
    return without_shard_columns(
        _shard_outcomes(lines.select("user_id", "steam_id64", outcome=pl.lit("rejected"), error=error))
    )


def without_shard_columns(outcomes: DataFrame[ShardOutcomes]) -> DataFrame[Outcomes]:
    """Return the outcomes of a shard's users without `digest` and `is_unchanged`, as `outcomes.csv` has them."""
    return conform(outcomes.select(dtypes(Outcomes).names()), Outcomes)


def users_with_lost_rows(outcomes: DataFrame[Outcomes]) -> list[str]:
    """Return the ids of `done` users whose five row counts do not sum to `rows`; none, unless the code has a bug."""
    is_lost = (pl.col("outcome") == "done") & (pl.col("rows") != pl.sum_horizontal(ROW_COUNTS))
    return outcomes.filter(is_lost)["user_id"].to_list()


def _shard_outcomes(users: pl.DataFrame) -> DataFrame[ShardOutcomes]:
    """Return users as ShardOutcomes: counts that are missing are 0, other columns are null."""
    schema = dtypes(ShardOutcomes)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in users.columns]
    outcomes = users.with_columns(missing).with_columns(
        pl.col("rows", *ROW_COUNTS).fill_null(0), pl.col("is_unchanged").fill_null(value=False)
    )
    return conform(outcomes.select(pl.col(name).cast(dtype) for name, dtype in schema.items()), ShardOutcomes)


def _join_users(users: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """Return users with the columns of other frames that have a row per user; null where a frame lacks the user."""
    for other in others:
        users = users.join(other, on="user_id", how="left", validate="1:1", maintain_order="left")
    return users


def _rows_by_user(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("user_id").agg(pl.len().alias(name))


def loaded_users(outcomes: DataFrame[ShardOutcomes], load: ShardManifest) -> DataFrame[LastLoaded]:
    """Return one row per user whose rows a load put into the database, with their digest and the time of the load.

    Users with PENDING rows are left out, to be loaded again; so are users without a digest, whose rows were all set
    aside.
    """
    is_loaded = (pl.col("outcome") == "done") & (pl.col("pending") == 0) & pl.col("digest").is_not_null()
    loaded = outcomes.filter(is_loaded).select(
        "user_id",
        last_loaded_digest="digest",
        last_loaded_database=pl.lit(load.database, pl.String),
        last_loaded_at=pl.lit(load.finished_at.strftime(TIME_FORMAT)),
    )
    return conform(loaded, LastLoaded)
