import polars as pl

from pipeline.backfill import outcomes as user_outcomes
from schemas.backfill import STATUS_COUNTS
from schemas.library import MATCH_STATUSES
from tests.support.libraries import app, library, matched

NOBODY_SEEN = pl.DataFrame(schema={"user_id": pl.String, "seen_digest": pl.String})
USERS = pl.DataFrame(
    {
        "user_id": ["u", "v"],
        "steam_id64": ["1", "2"],
        "outcome": ["done", "private"],
        "error": [None, "private_library"],
    }
)
ONE_REJECTED = pl.DataFrame({"user_id": ["u"]})


def test_no_match_status_escapes_the_books() -> None:
    assert sorted(STATUS_COUNTS.values()) == sorted(MATCH_STATUSES)


def test_rows_of_steam_are_those_kept_and_those_set_aside() -> None:
    found = user_outcomes.fetched(USERS, pl.DataFrame({"user_id": ["u", "u"]}), ONE_REJECTED)
    assert found.select("user_id", "outcome", "rows", "rejected").rows() == [
        ("u", "done", 3, 1),
        ("v", "private", 0, 0),
    ]


def enriched(seen: pl.DataFrame = NOBODY_SEEN, playtime: int = 5) -> pl.DataFrame:
    rows = library(matched(620, 72, user_id="u", playtime_forever=playtime), app(7, user_id="u"))
    outcomes = user_outcomes.fetched(USERS, rows, rows.clear())
    return user_outcomes.enriched(outcomes, rows, rows.clear(), seen)


def test_rows_are_counted_by_their_status() -> None:
    found = enriched()
    assert found.select(*STATUS_COUNTS, "rejected").rows() == [(1, 1, 0, 0, 0), (0, 0, 0, 0, 0)]
    assert user_outcomes.unbalanced(found).is_empty()


def test_a_user_is_unchanged_only_if_every_row_is_what_was_loaded() -> None:
    seen = enriched().select("user_id", seen_digest="digest")
    assert enriched(seen)["is_unchanged"].to_list() == [True, False]
    assert enriched(seen, playtime=6)["is_unchanged"].to_list() == [False, False]


def test_a_user_with_rows_that_nobody_accounts_for_is_unbalanced() -> None:
    lost = enriched().with_columns(matched=pl.lit(0, pl.Int64))
    assert user_outcomes.unbalanced(lost)["user_id"].to_list() == ["u"]


def test_a_failed_user_keeps_the_counts_and_says_why() -> None:
    found = user_outcomes.failed(enriched(), ["u"], "gone")
    assert found.select("user_id", "outcome", "matched", "error").rows() == [
        ("u", "failed", 1, "gone"),
        ("v", "private", 0, "private_library"),
    ]
