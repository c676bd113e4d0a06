import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pandera.errors import SchemaErrors
from pandera.typing.polars import DataFrame
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from pipeline.catalogue.files import APPS, ASIDE, NEW, CatalogueFiles, Compaction, Memory
from pipeline.errors import Retryable
from pipeline.frames.catalogue import merge_catalogues
from pipeline.storage.store import Store
from schemas.catalogue import Catalogue
from schemas.frames import conform, dtypes, empty_frame
from schemas.manifest import SCHEMA_VERSION
from tests.support.libraries import frame
from tests.support.stores import OpenedStore, Watched, opened

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GENRE = {"id": 5, "name": "Shooter", "slug": "shooter", "checksum": None}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Store]:
    """For what does not depend on the kind of store."""
    with opened("directory", tmp_path) as store:
        yield store


def known(*appids: int, days_old: int = 1, name: str = "Game") -> DataFrame[Catalogue]:
    decided = {"match_status": "MATCHED", "match_reason": "external_game", "igdb_id": 1, "igdb_slug": "game"}
    game = {"igdb_name": name, "genres": [GENRE], "platforms": [], "looked_up_at": NOW - timedelta(days=days_old)}
    return frame(Catalogue, [{"appid": appid, **decided, **game} for appid in appids])


def parquet(rows: pl.DataFrame, version: str | None = str(SCHEMA_VERSION)) -> bytes:
    body = BytesIO()
    rows.write_parquet(body, metadata={"schema_version": version} if version else None)
    return body.getvalue()


def apps(store: Store) -> list[int]:
    """The apps that one who comes anew finds."""
    return CatalogueFiles(store).read()["appid"].to_list()


def test_a_catalogue_that_is_not_there_is_empty(at: OpenedStore) -> None:
    assert_frame_equal(CatalogueFiles(at.store).read(), empty_frame(Catalogue))
    assert at.names() == []


def test_what_is_remembered_is_read_by_all(at: OpenedStore) -> None:
    one, other = CatalogueFiles(at.store), CatalogueFiles(at.store)
    one.remember(known(10, 20))
    other.remember(known(30))
    for catalogue in (one, other, CatalogueFiles(at.store)):
        assert_frame_equal(Catalogue.validate(catalogue.read()), known(10, 20, 30))
    assert len(at.names()) == 2
    assert all(name.startswith(NEW) for name in at.names())


def test_nothing_is_remembered_without_a_file(at: OpenedStore) -> None:
    CatalogueFiles(at.store).remember(empty_frame(Catalogue))
    assert at.names() == []


def test_the_latest_word_wins_whatever_the_files_are_called(at: OpenedStore) -> None:
    CatalogueFiles(at.store).remember(known(10, name="New", days_old=1))
    CatalogueFiles(at.store).remember(known(10, name="Old", days_old=2))
    assert CatalogueFiles(at.store).read()["igdb_name"].to_list() == ["New"]
    at.store.write(APPS, parquet(known(10, name="Newest", days_old=0)))
    assert CatalogueFiles(at.store).read()["igdb_name"].to_list() == ["Newest"]


def test_a_compaction_leaves_one_file_with_all_rows(at: OpenedStore) -> None:
    catalogue = CatalogueFiles(at.store)
    for rows in (known(10), known(20), known(10, 30, days_old=0)):
        catalogue.remember(rows)
    before = catalogue.read()
    assert catalogue.compact() == Compaction(apps=3, merged=3, set_aside=0)
    assert at.names() == [APPS]
    assert_frame_equal(CatalogueFiles(at.store).read(), before)
    assert_frame_equal(catalogue.read(), before)


def test_a_compaction_of_what_is_compact_changes_nothing(at: OpenedStore) -> None:
    catalogue = CatalogueFiles(at.store)
    catalogue.remember(known(10))
    catalogue.compact()
    assert catalogue.compact() == Compaction(apps=1, merged=0, set_aside=0)
    assert_frame_equal(CatalogueFiles(at.store).read(), known(10))


def test_a_compaction_of_nothing_is_no_harm(at: OpenedStore) -> None:
    assert CatalogueFiles(at.store).compact() == Compaction(apps=0, merged=0, set_aside=0)
    assert_frame_equal(CatalogueFiles(at.store).read(), empty_frame(Catalogue))


def test_other_files_are_nobodys_rows(at: OpenedStore) -> None:
    CatalogueFiles(at.store).remember(known(10))
    others = [
        "catalogue/sync.json",
        "catalogue/sync/pairs/1.parquet",
        f"{ASIDE}x.parquet",
        f"{NEW}x.txt",
        f"{APPS}.bak",
    ]
    for key in others:
        at.store.write(key, b"other")
    assert apps(at.store) == [10]
    CatalogueFiles(at.store).compact()
    assert at.names() == sorted([*others, APPS])


def _spoilt() -> list[Any]:
    whole = parquet(known(20))
    bodies = {
        "empty": b"",
        "text": b"not a Parquet file",
        "cut off": whole[:-9],
        "half": whole[: len(whole) // 2],
        "without its head": whole[9:],
        "another version": parquet(known(20), "2"),
        "no version": parquet(known(20), None),
        "a column too few": parquet(known(20).drop("igdb_slug")),
        "a column too many": parquet(known(20).with_columns(extra=1)),
        "columns in another order": parquet(known(20).select(reversed(dtypes(Catalogue)))),
        "another type": parquet(known(20).with_columns(pl.col("appid").cast(pl.Int64))),
        "an app twice": parquet(pl.concat([known(20), known(20)])),
        "appid 0": parquet(pl.DataFrame([{"appid": 0}], schema=dtypes(Catalogue))),
        "a null for an app": parquet(pl.DataFrame([{"appid": None}], schema=dtypes(Catalogue))),
        "another table": parquet(pl.DataFrame({"a": [1]})),
    }
    return [pytest.param(body, id=name) for name, body in bodies.items()]


@pytest.mark.parametrize("key", [f"{NEW}0.parquet", f"{NEW}z.parquet", APPS])
@pytest.mark.parametrize("body", _spoilt())
def test_a_spoilt_file_is_passed_over_set_aside_by_the_next_compaction_and_its_apps_are_unknown(
    here: Store, key: str, body: bytes
) -> None:
    CatalogueFiles(here).remember(known(10))
    here.write(key, body)
    with capture_logs() as logged:
        assert apps(here) == [10]
    assert [(event["log_level"], event["key"]) for event in logged] == [("warning", key)]
    assert CatalogueFiles(here).compact() == Compaction(apps=1, merged=1, set_aside=1)
    aside = f"{ASIDE}{key.removeprefix('catalogue/').replace('/', '-')}"
    assert here.read(aside) == body
    assert here.list("catalogue/").keys() == {APPS, aside}
    with capture_logs() as logged:
        assert apps(here) == [10]
    assert logged == []


def test_a_spoilt_file_is_set_aside_in_a_bucket_too(at: OpenedStore) -> None:
    at.store.write(f"{NEW}0.parquet", b"spoilt")
    CatalogueFiles(at.store).remember(known(10))
    assert CatalogueFiles(at.store).compact() == Compaction(apps=1, merged=1, set_aside=1)
    assert at.names() == [APPS, f"{ASIDE}new-0.parquet"]


def test_no_bytes_whatever_are_fatal(here: Store, capfd: pytest.CaptureFixture[str]) -> None:
    chance, whole = random.Random(3), parquet(known(*range(1, 40)))
    CatalogueFiles(here).remember(known(50))
    for _ in range(100):
        body = bytearray(whole)
        start = chance.randrange(len(body))
        body[start : start + chance.randrange(1, 200)] = chance.randbytes(chance.randrange(200))
        here.write(f"{NEW}x.parquet", bytes(body))
        assert 50 in apps(here)
    capfd.readouterr()  # Polars tells of its panics there


def test_what_was_read_is_not_read_again(at: OpenedStore) -> None:
    CatalogueFiles(at.store).remember(known(10))
    CatalogueFiles(at.store).compact()
    CatalogueFiles(at.store).remember(known(20))
    watched = Watched(at.store)
    catalogue = CatalogueFiles(watched)
    for _ in range(3):
        assert catalogue.read()["appid"].to_list() == [10, 20]
    assert len(watched.called("read")) == 2
    catalogue.remember(known(30))
    CatalogueFiles(at.store).remember(known(40))
    assert catalogue.read()["appid"].to_list() == [10, 20, 30, 40]
    assert len(watched.called("read")) == len(set(watched.called("read"))) == 4


def test_memory_is_shared_by_those_who_are_given_it(here: Store) -> None:
    memory = Memory()
    CatalogueFiles(here).remember(known(10))
    assert CatalogueFiles(here, memory).read().height == 1
    watched = Watched(here)
    assert CatalogueFiles(watched, memory).read().height == 1
    assert watched.called("read") == []


def test_after_a_compaction_the_large_file_alone_is_read(at: OpenedStore) -> None:
    watched = Watched(at.store)
    catalogue = CatalogueFiles(watched)
    for appid in (10, 20):
        CatalogueFiles(at.store).remember(known(appid))
    catalogue.read()
    CatalogueFiles(at.store).compact()
    watched.calls.clear()
    assert catalogue.read()["appid"].to_list() == [10, 20]
    assert watched.called("read") == [APPS]


def test_a_file_that_was_rewritten_in_its_place_is_read_again(at: OpenedStore) -> None:
    at.store.write(APPS, parquet(known(10, name="One")))
    catalogue = CatalogueFiles(at.store)
    catalogue.read()
    at.store.write(APPS, parquet(known(10, name="Two")))
    assert catalogue.read()["igdb_name"].to_list() == ["Two"]


@pytest.mark.parametrize("is_compact", [True, False], ids=["the large file", "the small ones"])
def test_a_catalogue_that_was_deleted_is_forgotten(at: OpenedStore, *, is_compact: bool) -> None:
    catalogue = CatalogueFiles(at.store)
    for appid in (10, 20):
        catalogue.remember(known(appid))
    if is_compact:
        catalogue.compact()
    assert catalogue.read().height == 2
    for key in at.store.list("catalogue/"):
        at.store.delete(key)
    assert catalogue.read().is_empty()


def test_of_small_files_one_that_was_deleted_is_forgotten(here: Store) -> None:
    catalogue = CatalogueFiles(here)
    catalogue.remember(known(10))
    (first,) = here.list(NEW)
    catalogue.remember(known(20))
    catalogue.read()
    here.delete(first)
    assert catalogue.read()["appid"].to_list() == [20]


@pytest.mark.slow
@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_a_compaction_killed_at_any_call_loses_nothing(tmp_path: Path, kind: str, *, is_carried_out: bool) -> None:
    with opened(kind, tmp_path) as store:
        for number in count(1):
            for key in store.list("catalogue/"):
                store.delete(key)
            store.write(APPS, parquet(known(10, 20)))
            store.write(f"{NEW}spoilt.parquet", b"spoilt")
            for appid in (20, 30, 40):
                CatalogueFiles(store).remember(known(appid, days_old=0))
            whole = CatalogueFiles(store).read()
            watched = Watched(store, number, is_carried_out)
            try:
                CatalogueFiles(watched).compact()
            except Retryable:
                assert_frame_equal(CatalogueFiles(store).read(), whole)
                spoilt = [key for key in store.list("catalogue/") if "spoilt" in key]
                assert {store.read(key) for key in spoilt} == {b"spoilt"}
                CatalogueFiles(store).compact()
                assert_frame_equal(CatalogueFiles(store).read(), whole)
                assert store.list("catalogue/").keys() == {APPS, f"{ASIDE}new-spoilt.parquet"}
            else:
                break
    assert number > 10
    assert watched.called("replace") == [APPS]


@pytest.mark.parametrize("number", range(1, 4))
def test_a_read_that_fails_leaves_the_memory_as_it_was(here: Store, number: int) -> None:
    memory = Memory()
    CatalogueFiles(here).remember(known(10))
    CatalogueFiles(here, memory).read()
    CatalogueFiles(here).remember(known(20))
    CatalogueFiles(here).compact()
    try:
        CatalogueFiles(Watched(here, number), memory).read()
    except Retryable:
        assert memory.known["appid"].to_list() == [10]
    assert CatalogueFiles(here, memory).read()["appid"].to_list() == [10, 20]


@dataclass
class Meddled(Watched):
    """A store in which something happens behind its user's back before a call."""

    before: str = ""
    meddle: Callable[[], object] = lambda: None
    times: int = 1

    def _call(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        if name == self.before and self.times:
            self.times -= 1
            self.meddle()
        return super()._call(name, key, call)


@pytest.mark.parametrize("before", ["list", "read"])
def test_a_compaction_under_a_readers_feet_hides_no_row(at: OpenedStore, before: str) -> None:
    for appid in (10, 20, 30):
        CatalogueFiles(at.store).remember(known(appid))
    meddled = Meddled(at.store, before=before, meddle=lambda: CatalogueFiles(at.store).compact())
    assert CatalogueFiles(meddled).read()["appid"].to_list() == [10, 20, 30]


def test_a_compaction_between_two_looks_hides_no_row_from_one_who_remembers(at: OpenedStore) -> None:
    CatalogueFiles(at.store).remember(known(10))
    CatalogueFiles(at.store).compact()
    memory = Memory()
    CatalogueFiles(at.store, memory).read()
    CatalogueFiles(at.store).remember(known(20))

    def meddle() -> None:
        """When the small files are listed, and the large one is not."""
        meddled.meddle = lambda: CatalogueFiles(at.store).compact()

    meddled = Meddled(at.store, before="list", meddle=meddle, times=2)
    assert CatalogueFiles(meddled, memory).read()["appid"].to_list() == [10, 20]


@pytest.mark.parametrize("before", ["list", "read", "replace"])
def test_what_comes_while_others_compact_is_not_deleted_unmerged(at: OpenedStore, before: str) -> None:
    CatalogueFiles(at.store).remember(known(10))
    meddled = Meddled(at.store, before=before, meddle=lambda: CatalogueFiles(at.store).remember(known(20)))
    CatalogueFiles(meddled).compact()
    assert apps(at.store) == [10, 20]


@pytest.mark.parametrize("before", ["list", "read", "replace", "delete"])
def test_two_compactions_at_once_lose_nothing(at: OpenedStore, before: str) -> None:
    def meddle() -> None:
        CatalogueFiles(at.store).remember(known(30))
        CatalogueFiles(at.store).compact()

    for appid in (10, 20):
        CatalogueFiles(at.store).remember(known(appid))
    CatalogueFiles(Meddled(at.store, before=before, meddle=meddle)).compact()
    assert apps(at.store) == [10, 20, 30]


@pytest.mark.parametrize("before", ["read", pytest.param("replace", marks=pytest.mark.slow)])
def test_whoever_loses_every_race_gives_up_and_harms_nothing(at: OpenedStore, before: str) -> None:
    appids = count(20)

    def meddle() -> None:
        CatalogueFiles(at.store).remember(known(next(appids)))
        CatalogueFiles(at.store).compact()

    CatalogueFiles(at.store).remember(known(10))
    meddled = Meddled(at.store, before=before, meddle=meddle, times=1000)
    with pytest.raises(Retryable, match="Try again later"):
        CatalogueFiles(meddled).compact()
    assert apps(at.store) == [10, *range(20, next(appids))]


def test_rows_of_many_files_are_merged_as_if_they_were_one(here: Store) -> None:
    parts = [known(*range(start, start + 5), days_old=start) for start in range(1, 20)]
    for rows in parts:
        CatalogueFiles(here).remember(rows)
    assert_frame_equal(CatalogueFiles(here).read(), merge_catalogues(parts))


def test_what_would_be_set_aside_is_not_written(here: Store) -> None:
    with pytest.raises(SchemaErrors):
        CatalogueFiles(here).remember(conform(known(10).with_columns(appid=pl.lit(-1, pl.Int32)), Catalogue))
    assert here.list(NEW) == {}


def test_an_object_is_replaced_only_if_it_is_the_one_that_was_seen(at: OpenedStore) -> None:
    assert at.store.replace("a/b", b"one", None)
    seen = at.store.list("a/")["a/b"]
    assert not at.store.replace("a/b", b"two", None)
    assert at.store.replace("a/b", b"three", seen)
    assert not at.store.replace("a/b", b"four", seen)
    assert at.store.read("a/b") == b"three"


def test_an_object_that_is_gone_is_not_replaced(at: OpenedStore) -> None:
    at.store.write("a/b", b"one")
    seen = at.store.list("a/")["a/b"]
    at.store.delete("a/b")
    assert not at.store.replace("a/b", b"two", seen)
    assert at.store.read("a/b") is None
    assert at.store.replace("a/b", b"three", None)


def test_a_listing_names_what_begins_so_by_an_etag_that_changes_with_the_bytes(at: OpenedStore) -> None:
    for key in ("a/b", "a/c/d", "a2/b", "b"):
        at.store.write(key, b"one")
    first = at.store.list("a/")
    assert list(first) == ["a/b", "a/c/d"]
    assert at.store.list("a/") == first
    at.store.write("a/b", b"two")
    second = at.store.list("a/")
    assert (second["a/b"] != first["a/b"], second["a/c/d"] == first["a/c/d"]) == (True, True)
    assert list(at.store.list("a/b")) == ["a/b"]
    assert at.store.list("never/") == {}


def test_neither_lock_nor_draft_is_listed(here: Store) -> None:
    here.replace("a/b", b"one", None)
    Path(here.locate("a/.b.draft")).write_bytes(b"half")
    assert list(here.list("a/")) == ["a/b"]


@pytest.mark.slow
def test_a_bucket_lists_more_than_a_page(tmp_path: Path) -> None:
    with opened("bucket", tmp_path) as store:
        for number in range(1_001):
            store.write(f"a/{number:04}", b"")
        assert len(store.list("a/")) == 1_001
