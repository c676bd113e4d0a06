"""The load of an enriched CSV, from a store into the database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import stages
from pipeline.database.database import Database
from pipeline.storage.checkpoints import Provenance, write_checkpoint
from pipeline.storage.keys import Checkpoint
from pipeline.storage.store import DirectoryStore
from schemas.events import LoadEvent
from schemas.frames import dtypes
from schemas.library import RawLibrary
from schemas.manifest import Manifest
from tests.support.databases import NewDatabase, rows_of
from tests.support.libraries import library, matched

STARTED = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
FETCHED = STARTED + timedelta(hours=5)
RAW = Checkpoint("user-1", "20261123T031749Z", "raw")


def write(store: DirectoryStore, *rows: dict[str, Any]) -> Manifest:
    """Write a raw and an enriched checkpoint, and return the manifest of the raw one."""
    enriched, making = library(*rows), Provenance("run", STARTED, 1, {})
    write_checkpoint(store, RAW.enriched, enriched, pl.DataFrame(), making)
    return write_checkpoint(store, RAW, enriched.select(dtypes(RawLibrary).names()), pl.DataFrame(), making)


@pytest.mark.parametrize(
    ("manifest", "statuses"),
    [
        ("of a fetch that took hours", ["PLAYING", "SHELF"]),
        ("rubbish", ["SHELF", "PLAYING"]),
    ],
)
def test_a_game_is_recently_played_in_the_seven_days_before_the_end_of_the_fetch(
    new_database: NewDatabase, tmp_path: Path, manifest: str, statuses: list[str]
) -> None:
    url, store = new_database(2026), DirectoryStore(tmp_path)
    since_the_start = matched(1, 1, playtime_forever=9, rtime_last_played=STARTED + timedelta(hours=4))
    week_ago = matched(2, 2, playtime_forever=9, rtime_last_played=STARTED - timedelta(days=6, hours=23))
    fetched = write(store, since_the_start, week_ago).model_copy(update={"finished_at": FETCHED})
    bodies = {"of a fetch that took hours": fetched.model_dump_json(), "rubbish": "rubbish"}
    store.delete(RAW.manifest_key)
    if body := bodies.get(manifest):
        store.write(RAW.manifest_key, body.encode())

    event = LoadEvent(user_id="user-1", s3_enriched_location=store.locate(RAW.enriched.key))
    stages.load(store, Database(url), event)

    assert [status for (status,) in rows_of(url, "LibraryItem", "status::text", "id")] == statuses
