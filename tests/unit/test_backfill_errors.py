import pytest

from pipeline.backfill.steps import concerns_all
from pipeline.errors import Failed, PipelineError, Refused, Retryable


@pytest.mark.parametrize(
    ("error", "is_of_all"),
    [
        (Refused("bad_steam_key", ""), True),
        (Refused("configuration", ""), True),
        (Refused("bad_steam_id", ""), False),
        (Failed("steam_blocked", ""), True),
        (Failed("schema_mismatch", ""), True),
        (Failed("account_not_found", ""), False),
        (Failed("checkpoint_invalid", ""), False),
        (Retryable("steam_rate_limited", ""), True),
        (Retryable("store_unavailable", ""), True),
        (Retryable("steam_unavailable", ""), False),
        (Retryable("database_unavailable", ""), False),
        (Retryable("database_unavailable", "", is_cancelled=True), True),
    ],
)
def test_what_is_of_one_shard_or_of_one_user_ends_no_backfill(error: PipelineError, *, is_of_all: bool) -> None:
    assert concerns_all(error) == is_of_all
