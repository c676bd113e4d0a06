"""What became of each user, and whether no row was lost on the way."""

from collections.abc import Sequence

import polars as pl

from schemas.backfill import OUTCOMES, STATUS_COUNTS, Outcomes, RefusedUsers, ShardOutcomes
from schemas.frames import dtypes

OUTCOME = pl.Enum(OUTCOMES)
COUNTS = (*STATUS_COUNTS, "rejected")
OUTCOME_COLUMNS = tuple(Outcomes.to_schema().columns)
SCHEMA = dtypes(ShardOutcomes)


def fetched(users: pl.DataFrame, library: pl.DataFrame, rejected: pl.DataFrame) -> pl.DataFrame:
    """Users (`user_id, steam_id64, outcome, error`) with the rows that Steam gave of them, as ShardOutcomes."""
    return _outcomes(
        users.join(_rows_by_user(library, "kept"), on="user_id", how="left", validate="1:1", maintain_order="left")
        .join(_rows_by_user(rejected, "rejected"), on="user_id", how="left", validate="1:1", maintain_order="left")
        .with_columns(pl.col("kept", "rejected").fill_null(0))
        .with_columns(rows=pl.col("kept") + pl.col("rejected"))
    )


def enriched(outcomes: pl.DataFrame, library: pl.DataFrame, rejected: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """ShardOutcomes of a fetch with the match statuses of an EnrichedLibrary, and whether that is what was Seen."""
    of_user = pl.struct("appid", *[name for name in library.columns if name != "appid"]).hash()
    counted = library.group_by("user_id").agg(
        *(_is_status(status).sum().cast(pl.Int64).alias(count) for count, status in STATUS_COUNTS.items()),
        digest=pl.format("{}-{}", of_user.sum(), pl.len()),
    )
    is_same = (pl.col("digest") == pl.col("seen_digest")) & (pl.col("pending") == 0) & (pl.col("more_rejected") == 0)
    return _outcomes(
        outcomes.drop(*STATUS_COUNTS, "digest", "is_unchanged")
        .join(counted, on="user_id", how="left", validate="1:1", maintain_order="left")
        .join(_rows_by_user(rejected, "more_rejected"), on="user_id", how="left", validate="1:1", maintain_order="left")
        .join(seen.select("user_id", "seen_digest"), on="user_id", how="left", validate="1:1", maintain_order="left")
        .with_columns(pl.col("more_rejected").fill_null(0))
        .with_columns(
            rejected=pl.col("rejected") + pl.col("more_rejected"), is_unchanged=is_same.fill_null(value=False)
        )
    )


def failed(outcomes: pl.DataFrame, user_ids: Sequence[str], error: str) -> pl.DataFrame:
    """ShardOutcomes in which these users failed."""
    is_hit = pl.col("user_id").is_in(user_ids)
    return outcomes.with_columns(
        outcome=pl.when(is_hit).then(pl.lit("failed", OUTCOME)).otherwise("outcome"),
        error=pl.when(is_hit).then(pl.lit(error)).otherwise("error"),
    )


def never_fetched(users: pl.DataFrame, error: str) -> pl.DataFrame:
    """The ShardOutcomes of ListedUsers whose shard could not be fetched."""
    return _outcomes(
        users.select("user_id", steam_id64=pl.col("steam_id"), outcome=pl.lit("failed"), error=pl.lit(error))
    )


def refused(lines: pl.DataFrame) -> pl.DataFrame:
    """The Outcomes of RefusedUsers."""
    RefusedUsers.validate(lines, lazy=True)
    error = pl.format("line {}: {}", "line", "error")
    return _outcomes(lines.select("user_id", "steam_id64", outcome=pl.lit("rejected"), error=error)).select(
        OUTCOME_COLUMNS
    )


def unbalanced(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The Outcomes of users whose rows are not all accounted for; there are none unless something is wrong."""
    is_enriched = pl.col("outcome") == "done"
    return outcomes.filter(is_enriched & (pl.col("rows") != pl.sum_horizontal(COUNTS)))


def _outcomes(users: pl.DataFrame) -> pl.DataFrame:
    """Users as ShardOutcomes; what is not counted is 0."""
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in SCHEMA.items() if name not in users.columns]
    return (
        users.with_columns(absent)
        .with_columns(pl.col("rows", *COUNTS).fill_null(0), pl.col("is_unchanged").fill_null(value=False))
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
        .pipe(ShardOutcomes.validate, lazy=True)
    )


def _rows_by_user(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.group_by("user_id").agg(pl.len().cast(pl.Int64).alias(name))


def _is_status(status: str) -> pl.Expr:
    return pl.col("match_status") == status
