from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import polars as pl
import pytest
from pandera.typing.polars import DataFrame
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from pipeline.catalogue import files
from pipeline.catalogue.files import APPS, NEW, QUARANTINE, CatalogueFiles, Compaction, Memory
from pipeline.errors import Retryable
from pipeline.storage import versioned
from pipeline.storage.store import Store
from pipeline.storage.versioned import to_parquet
from schemas.catalogue import Catalogue, CatalogueLookUps
from schemas.frames import dtypes, empty_frame
from schemas.manifest import VERSIONS
from tests.support.libraries import frame
from tests.support.stores import OpenedStore, Watched, opened

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GENRE = {"id": 5, "name": "Shooter", "slug": "shooter", "checksum": None}


def known(*appids: int, days_old: int = 1, name: str = "Game") -> DataFrame[Catalogue]:
    decided = {"match_status": "MATCHED", "match_reason": "external_game", "igdb_id": 1, "igdb_slug": "game"}
    game = {"igdb_name": name, "genres": [GENRE], "platforms": [], "looked_up_at": NOW - timedelta(days=days_old)}
    return frame(Catalogue, [{"appid": appid, **decided, **game} for appid in appids])


def parquet(rows: pl.DataFrame) -> bytes:
    return to_parquet(rows, "catalogue")


def keys(store: Store) -> list[str]:
    return list(store.list(""))


def apps(store: Store) -> list[int]:
    """Return the appids that a reader without a memory finds."""
    return CatalogueFiles(store).read()["appid"].to_list()


def test_rows_that_one_reader_adds_are_read_by_all(here: OpenedStore) -> None:
    one, other = CatalogueFiles(here.store), CatalogueFiles(here.store)
    one.remember(known(10, 20))
    other.remember(known(30))
    for catalogue in (one, other, CatalogueFiles(here.store)):
        assert_frame_equal(Catalogue.validate(catalogue.read()), known(10, 20, 30))
    assert len(keys(here.store)) == 2
    assert all(name.startswith(NEW) for name in keys(here.store))


def test_the_latest_row_of_an_app_counts_whatever_its_file_is_called(here: OpenedStore) -> None:
    CatalogueFiles(here.store).remember(known(10, name="New", days_old=1))
    CatalogueFiles(here.store).remember(known(10, name="Old", days_old=2))
    assert CatalogueFiles(here.store).read()["igdb_name"].to_list() == ["New"]
    here.store.write(APPS, parquet(known(10, name="Newest", days_old=0)))
    assert CatalogueFiles(here.store).read()["igdb_name"].to_list() == ["Newest"]


def test_a_compaction_leaves_one_file_with_all_rows(at: OpenedStore) -> None:
    catalogue = CatalogueFiles(at.store)
    for rows in (known(10), known(20), known(10, 30, days_old=0)):
        catalogue.remember(rows)
    before = catalogue.read()
    assert catalogue.compact() == Compaction(apps=3, merged=3, quarantined=0)
    assert keys(at.store) == [APPS]
    assert_frame_equal(CatalogueFiles(at.store).read(), before)
    assert_frame_equal(catalogue.read(), before)


def test_whoever_adds_one_small_file_too_many_compacts(here: OpenedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SMALL_FILES", 3)
    for appid in (10, 20):
        CatalogueFiles(here.store).remember(known(appid))
    assert len(keys(here.store)) == 2
    CatalogueFiles(here.store).remember(known(30))
    assert keys(here.store) == [APPS]
    assert apps(here.store) == [10, 20, 30]


def test_rows_are_kept_though_their_writer_cannot_compact(here: OpenedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_SMALL_FILES", 1)
    watched = Watched(here.store, fails_at=3)
    with capture_logs() as logged:
        CatalogueFiles(watched).remember(known(10))
    assert [name for name, _ in watched.calls] == ["write", "list", "list"]
    assert [event["error_code"] for event in logged] == ["store_unavailable"]
    assert apps(here.store) == [10]


def test_other_files_below_the_catalogue_are_neither_read_nor_deleted(here: OpenedStore) -> None:
    CatalogueFiles(here.store).remember(known(10))
    others = [
        "catalogue/sync.json",
        "catalogue/sync/pairs/1.parquet",
        f"{QUARANTINE}x.parquet",
        f"{NEW}x.txt",
        f"{APPS}.bak",
    ]
    for key in others:
        here.store.write(key, b"other")
    assert apps(here.store) == [10]
    CatalogueFiles(here.store).compact()
    assert keys(here.store) == sorted([*others, APPS])


WHOLE = parquet(known(20))
CORRUPT = {
    "text": b"not a Parquet file",
    "cut off": WHOLE[:-9],
    "a column too few": parquet(known(20).drop("igdb_slug")),
    "columns in another order": parquet(known(20).select(reversed(dtypes(Catalogue)))),
    "another type": parquet(known(20).with_columns(appid=pl.lit("Portal 2"))),
}


@pytest.mark.parametrize("key", [f"{NEW}0.parquet", APPS])
@pytest.mark.parametrize("body", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_file_is_skipped_with_a_warning_and_the_next_compaction_puts_it_in_quarantine(
    here: OpenedStore, key: str, body: bytes
) -> None:
    CatalogueFiles(here.store).remember(known(10))
    here.store.write(key, body)
    with capture_logs() as logged:
        assert apps(here.store) == [10]
    assert [(event["log_level"], event["key"]) for event in logged] == [("warning", key)]
    assert CatalogueFiles(here.store).compact() == Compaction(apps=1, merged=1, quarantined=1)
    quarantined = f"{QUARANTINE}{key.removeprefix('catalogue/').replace('/', '-')}"
    assert here.store.read(quarantined) == body
    assert keys(here.store) == [APPS, quarantined]
    with capture_logs() as logged:
        assert apps(here.store) == [10]
    assert logged == []


def test_a_file_is_read_once(here: OpenedStore) -> None:
    CatalogueFiles(here.store).remember(known(10))
    CatalogueFiles(here.store).compact()
    CatalogueFiles(here.store).remember(known(20))
    watched = Watched(here.store)
    catalogue = CatalogueFiles(watched)
    for _ in range(3):
        assert catalogue.read()["appid"].to_list() == [10, 20]
    assert len(watched.called("read")) == 2
    catalogue.remember(known(30))
    CatalogueFiles(here.store).remember(known(40))
    assert catalogue.read()["appid"].to_list() == [10, 20, 30, 40]
    assert len(watched.called("read")) == len(set(watched.called("read"))) == 4


def about(store: Store, *appids: int) -> DataFrame[Catalogue]:
    """Return what the first join of a process reads about these apps."""
    return CatalogueFiles(store).read_about(pl.DataFrame({"appid": appids}, schema={"appid": pl.Int32}))


def test_a_join_opens_no_small_file_whose_name_lists_no_app_of_the_library(here: OpenedStore) -> None:
    here.store.write(APPS, parquet(known(10, 20, 30, days_old=3)))
    for rows in (known(20, 16_777_215), known(40, 50), known(*range(60, 107)), known(*range(200, 248)), known(1 << 24)):
        CatalogueFiles(here.store).remember(rows)
    by_hand = f"{NEW}part.0001.parquet"
    here.store.write(by_hand, parquet(known(70, 71, days_old=0)))
    watched = Watched(here.store)
    assert_frame_equal(about(watched, 30, 40, 99), pl.concat([known(30, days_old=3), known(40, 99)]))
    opened = watched.called("read")
    assert len(opened) == 6  # the large file, that by hand, two with an app, one with too many, one with too high an id
    assert {APPS, by_hand} <= set(opened)
    assert max(len(Path(key).name) for key in here.store.list(NEW)) + len("..0123456789abcdef.draft") <= 255


@pytest.mark.parametrize(
    "appids",
    [(), (5,), (10, 20), (10, 30, 70), (1, 45, 99), range(1, 100)],
    ids=["none", "no", "two", "three", "ends", "all"],
)
def test_a_join_reads_the_rows_that_a_read_of_all_has_about_its_apps(
    here: OpenedStore, monkeypatch: pytest.MonkeyPatch, appids: tuple[int, ...]
) -> None:
    monkeypatch.setattr(versioned, "ROWS_PER_GROUP", 4)
    here.store.write(APPS, parquet(known(*range(10, 90, 5), days_old=3)))
    parts = [
        known(20, 30, days_old=1),
        known(30, 40, days_old=2),
        known(*range(41, 50)),
        known(99),
        known(70, days_old=5),
    ]
    for number, rows in enumerate([*parts, empty_frame(Catalogue)]):
        here.store.write(f"{NEW}{number}.parquet", parquet(rows))
    whole = CatalogueFiles(here.store).read()
    assert_frame_equal(about(here.store, *appids), whole.filter(pl.col("appid").is_in(list(appids))))
    looked_up = CatalogueFiles(here.store).read_look_ups()
    assert_frame_equal(looked_up.rows, CatalogueLookUps.validate(whole.select(dtypes(CatalogueLookUps).keys())))
    assert (looked_up.files, looked_up.size) == (7, sum(len(here.store.read(key) or b"") for key in keys(here.store)))


def damaged(body: bytes) -> bytes:
    """Return a Parquet file with zeros in a column of its first rows, which is not that of the appids."""
    return body[:1000] + bytes(150) + body[1150:]


def test_a_join_decodes_neither_row_groups_nor_small_files_without_its_apps(
    here: OpenedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versioned, "ROWS_PER_GROUP", 4)
    here.store.write(APPS, damaged(parquet(known(*range(1, 9)))))
    here.store.write(f"{NEW}small.parquet", damaged(parquet(known(20, 30))))
    here.store.write(f"{NEW}other.parquet", parquet(known(8, 40, days_old=0)))
    with capture_logs() as logged:
        assert_frame_equal(about(here.store, 6, 8), pl.concat([known(6), known(8, days_old=0)]))
    assert logged == []
    for appid, key in ((1, APPS), (20, f"{NEW}small.parquet")):
        with capture_logs() as logged:
            about(here.store, appid)
        assert [event["key"] for event in logged] == [key]


def test_of_many_small_files_only_the_corrupt_ones_are_skipped(
    here: OpenedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "THREADS", 3)
    monkeypatch.setitem(versioned.MIGRATIONS, ("catalogue", 0), versioned.Migration())
    with monkeypatch.context() as older:
        older.setitem(VERSIONS, "catalogue", 0)
        here.store.write(f"{NEW}00.parquet", parquet(known(10, name="Of version 0")))
    here.store.write(APPS, parquet(known(10, 20)))
    for number in range(1, 20):
        here.store.write(f"{NEW}{number:02}.parquet", parquet(known(10 + number, 40, name=f"Game {number}")))
    corrupt = {f"{NEW}{name}.parquet": CORRUPT[fault] for name, fault in (("03", "cut off"), ("17", "another type"))}
    for key, body in corrupt.items():
        here.store.write(key, body)
    with capture_logs() as logged:
        rows = CatalogueFiles(here.store).read()
    assert [event["key"] for event in logged] == list(corrupt)
    assert rows["appid"].to_list() == sorted({*range(10, 30), 40} - {13, 27})
    assert rows.filter(pl.col("appid").is_in([10, 40]))["igdb_name"].to_list() == ["Of version 0", "Game 19"]
    with capture_logs() as logged:
        assert_frame_equal(about(here.store, 10, 13, 40), rows.filter(pl.col("appid").is_in([10, 40])))
    assert [event["key"] for event in logged] == list(corrupt)


@dataclass
class Meeting(Watched):
    """A store in which the reads of small files wait for each other."""

    all_there: Barrier = field(default_factory=lambda: Barrier(4, timeout=10))

    def _call(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        if name == "read" and key.startswith(NEW):
            self.all_there.wait()
        return super()._call(name, key, call)


def test_small_files_are_read_at_the_same_time(here: OpenedStore) -> None:
    for appid in (10, 20, 30, 40):
        CatalogueFiles(here.store).remember(known(appid))
    assert about(Meeting(here.store), 10, 20, 30, 40).height == 4
    assert CatalogueFiles(Meeting(here.store)).read().height == 4


def test_a_process_that_joins_again_keeps_the_rows_of_all_files(here: OpenedStore) -> None:
    here.store.write(APPS, parquet(known(10, 20)))
    CatalogueFiles(here.store).remember(known(30))
    watched, memory = Watched(here.store), Memory()
    library = pl.DataFrame({"appid": [10, 30]}, schema={"appid": pl.Int32})
    for reads in (2, 4, 4, 4):
        assert_frame_equal(CatalogueFiles(watched, memory).read_about(library), known(10, 30))
        assert len(watched.called("read")) == reads


@pytest.mark.parametrize("is_compact", [True, False], ids=["the large file", "the small ones"])
def test_rows_of_a_deleted_catalogue_are_forgotten(here: OpenedStore, *, is_compact: bool) -> None:
    catalogue = CatalogueFiles(here.store)
    for appid in (10, 20):
        catalogue.remember(known(appid))
    if is_compact:
        catalogue.compact()
    assert catalogue.read().height == 2
    for key in here.store.list("catalogue/"):
        here.store.delete(key)
    assert catalogue.read().is_empty()


@pytest.mark.slow
@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "behind"])
def test_a_compaction_that_s3_breaks_off_at_any_call_loses_nothing(tmp_path: Path, *, is_carried_out: bool) -> None:
    with opened("bucket", tmp_path) as store:
        for number in count(1):
            for key in store.list("catalogue/"):
                store.delete(key)
            store.write(APPS, parquet(known(10, 20)))
            store.write(f"{NEW}corrupt.parquet", b"corrupt")
            for appid in (20, 30, 40):
                CatalogueFiles(store).remember(known(appid, days_old=0))
            whole = CatalogueFiles(store).read()
            watched = Watched(store, number, is_carried_out)
            try:
                CatalogueFiles(watched).compact()
            except Retryable:
                assert_frame_equal(CatalogueFiles(store).read(), whole)
                corrupt = [key for key in store.list("catalogue/") if "corrupt" in key]
                assert {store.read(key) for key in corrupt} == {b"corrupt"}
                CatalogueFiles(store).compact()
                assert_frame_equal(CatalogueFiles(store).read(), whole)
                assert store.list("catalogue/").keys() == {APPS, f"{QUARANTINE}new-corrupt.parquet"}
            else:
                break
    assert number > 10
    assert watched.called("replace") == [APPS]


@pytest.mark.parametrize("number", range(1, 4))
def test_a_read_that_fails_leaves_the_memory_as_it_was(here: OpenedStore, number: int) -> None:
    memory = Memory()
    CatalogueFiles(here.store).remember(known(10))
    CatalogueFiles(here.store, memory).read()
    CatalogueFiles(here.store).remember(known(20))
    CatalogueFiles(here.store).compact()
    try:
        CatalogueFiles(Watched(here.store, number), memory).read()
    except Retryable:
        assert memory.known["appid"].to_list() == [10]
    assert CatalogueFiles(here.store, memory).read()["appid"].to_list() == [10, 20]


@dataclass
class Interfering(Watched):
    """A store in which something happens behind its user's back before a call."""

    before: str = ""
    interfere: Callable[[], object] = lambda: None
    times: int = 1

    def _call(self, name: str, key: str, call: Callable[[], Any]) -> Any:
        if name == self.before and self.times:
            self.times -= 1
            self.interfere()
        return super()._call(name, key, call)


@pytest.mark.parametrize("before", ["list", "read"])
@pytest.mark.parametrize("is_join", [False, True], ids=["of all rows", "of a join"])
def test_a_compaction_during_a_read_hides_no_row(at: OpenedStore, before: str, *, is_join: bool) -> None:
    for appid in (10, 20, 30):
        CatalogueFiles(at.store).remember(known(appid))
    interfering = Interfering(at.store, before=before, interfere=lambda: CatalogueFiles(at.store).compact())
    rows = about(interfering, 10, 20, 30) if is_join else CatalogueFiles(interfering).read()
    assert rows["appid"].to_list() == [10, 20, 30]


def test_a_compaction_between_the_two_listings_hides_no_row_from_a_reader_with_a_memory(here: OpenedStore) -> None:
    CatalogueFiles(here.store).remember(known(10))
    CatalogueFiles(here.store).compact()
    memory = Memory()
    CatalogueFiles(here.store, memory).read()
    CatalogueFiles(here.store).remember(known(20))

    def interfere() -> None:
        """When the small files are listed, and the large one is not."""
        interfering.interfere = lambda: CatalogueFiles(here.store).compact()

    interfering = Interfering(here.store, before="list", interfere=interfere, times=2)
    assert CatalogueFiles(interfering, memory).read()["appid"].to_list() == [10, 20]


@pytest.mark.parametrize("before", ["list", "read", "replace", "delete"])
@pytest.mark.parametrize("is_compacted", [False, True], ids=["rows are added", "and compacted"])
def test_rows_that_others_add_during_a_compaction_are_not_lost(
    at: OpenedStore, before: str, *, is_compacted: bool
) -> None:
    def interfere() -> None:
        CatalogueFiles(at.store).remember(known(30))
        if is_compacted:
            CatalogueFiles(at.store).compact()

    for appid in (10, 20):
        CatalogueFiles(at.store).remember(known(appid))
    CatalogueFiles(Interfering(at.store, before=before, interfere=interfere)).compact()
    assert apps(at.store) == [10, 20, 30]


@pytest.mark.parametrize("before", ["read", pytest.param("replace", marks=pytest.mark.slow)])
def test_a_compaction_that_loses_every_race_gives_up_and_loses_no_row(here: OpenedStore, before: str) -> None:
    appids = count(20)

    def interfere() -> None:
        CatalogueFiles(here.store).remember(known(next(appids)))
        CatalogueFiles(here.store).compact()

    CatalogueFiles(here.store).remember(known(10))
    interfering = Interfering(here.store, before=before, interfere=interfere, times=1000)
    with pytest.raises(Retryable, match="Try again later"):
        CatalogueFiles(interfering).compact()
    assert apps(here.store) == [10, *range(20, next(appids))]
