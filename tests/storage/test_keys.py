from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import Failed
from pipeline.storage.keys import Checkpoint, parse_checkpoint_key, parse_manifest_key, raw_checkpoint
from schemas.events import KEY_TIME

RAW = "imports/user-1/20261123T031749Z-raw.csv"


def test_the_files_of_an_import_share_one_time() -> None:
    raw = raw_checkpoint("user-1", "20261123T031749Z")
    assert (raw.key, raw.manifest_key, raw.rejected_key) == (
        RAW,
        "imports/user-1/20261123T031749Z-raw.json",
        "imports/user-1/20261123T031749Z-raw.rejected.csv",
    )
    assert (raw.enriched.key, raw.enriched.manifest_key, raw.enriched.rejected_key) == (
        "imports/user-1/20261123T031749Z-enriched.csv",
        "imports/user-1/20261123T031749Z-enriched.json",
        "imports/user-1/20261123T031749Z-enriched.rejected.csv",
    )


def test_without_a_timestamp_the_time_is_now_in_utc() -> None:
    made = datetime.strptime(raw_checkpoint("user-1").stem, KEY_TIME).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - made) < timedelta(seconds=5)


def test_a_key_is_read_back_as_the_checkpoint_that_wrote_it() -> None:
    assert parse_checkpoint_key(RAW, "raw", "user-1") == raw_checkpoint("user-1", "20261123T031749Z")
    assert parse_checkpoint_key(RAW, "raw") == Checkpoint("user-1", "20261123T031749Z", "raw")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("imports/user-1/20261123T031749Z-enriched.csv", id="another stage"),
        pytest.param("imports/user-1/20261123T031749Z-raw.json", id="manifest"),
        pytest.param("imports/user１/20261123T031749Z-raw.csv", id="full-width digit"),  # noqa: RUF001
        pytest.param("x" * 10_000, id="10,000 characters"),
    ],
)
def test_a_key_that_is_no_raw_csv_is_refused(key: str) -> None:
    with pytest.raises(Failed) as refused:
        parse_checkpoint_key(key, "raw", "user-1")
    assert refused.value.code == "location_refused"
    assert len(refused.value.message) < 350


def test_a_manifests_key_leads_to_its_checkpoint_and_no_other_key_does() -> None:
    raw = raw_checkpoint("user-1", "20261123T031749Z")
    assert [parse_manifest_key(made.manifest_key) for made in (raw, raw.enriched)] == [raw, raw.enriched]
    others = (raw.key, raw.rejected_key, RAW.removesuffix(".csv"), "imports/user-1/notes.json", "imports/x-raw.json")
    assert [parse_manifest_key(key) for key in others] == [None] * len(others)
