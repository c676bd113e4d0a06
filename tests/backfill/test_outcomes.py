import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.backfill.outcomes import (
    mark_failed,
    outcomes_of_enrich,
    outcomes_of_fetch,
    users_with_lost_rows,
    without_shard_columns,
)
from schemas.backfill import STATUS_COUNTS, FetchedUsers, Outcomes, ShardOutcomes, ShardUsers
from schemas.frames import conform, dtypes
from schemas.library import MATCH_STATUSES, EnrichedLibrary, RawLibrary
from tests.support.libraries import app, library, matched


def enriched(loaded_digest: str | None = None, playtime: int = 5) -> DataFrame[ShardOutcomes]:
    """The outcomes of user-1, who has one game on IGDB and one that is not, and of user-2, whose games are private."""
    fetched = pl.DataFrame(
        [("user-1", "1", "done", None), ("user-2", "2", "private", "private_library")],
        schema=dtypes(FetchedUsers),
        orient="row",
    )
    users = pl.DataFrame(
        [("user-1", "1", loaded_digest, "db"), ("user-2", "2", None, None)], schema=dtypes(ShardUsers), orient="row"
    )
    rows = conform(library(matched(620, 72, playtime_forever=playtime), app(7)), EnrichedLibrary)
    raw = conform(rows.select(dtypes(RawLibrary).names()), RawLibrary)
    outcomes = outcomes_of_fetch(conform(fetched, FetchedUsers), raw, rows.head(1))
    return outcomes_of_enrich(outcomes, rows, rows.clear(), conform(users, ShardUsers))


def test_every_match_status_is_counted() -> None:
    assert sorted(STATUS_COUNTS.values()) == sorted(MATCH_STATUSES)


def test_rows_are_those_accepted_and_those_set_aside_and_each_is_counted_once() -> None:
    counts = enriched().select("user_id", "outcome", "rows", "matched", "unmatched", "filtered", "pending", "rejected")
    assert counts.rows() == [("user-1", "done", 3, 1, 1, 0, 0, 1), ("user-2", "private", 0, 0, 0, 0, 0, 0)]


def test_users_whose_counts_do_not_add_up_are_found() -> None:
    outcomes = without_shard_columns(enriched())
    assert users_with_lost_rows(outcomes) == []
    lost = conform(outcomes.with_columns(matched=pl.lit(0, pl.Int64)), Outcomes)
    assert users_with_lost_rows(lost) == ["user-1"]


def test_a_user_is_unchanged_only_if_every_row_is_what_was_loaded() -> None:
    digest = enriched()["digest"][0]
    assert enriched(digest)["is_unchanged"].to_list() == [True, False]
    assert enriched(digest, playtime=6)["is_unchanged"].to_list() == [False, False]


def test_a_failed_user_keeps_the_counts_and_has_an_error() -> None:
    outcomes = mark_failed(enriched(), ["user-1"], "gone")
    assert outcomes.select("user_id", "outcome", "matched", "error").rows() == [
        ("user-1", "failed", 1, "gone"),
        ("user-2", "private", 0, "private_library"),
    ]
