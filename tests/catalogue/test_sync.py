import asyncio
import json
import random
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import httpx
import pytest
from polars.testing import assert_frame_equal

from pipeline.apis.igdb import Token
from pipeline.apis.igdb_queries import PAGE_SIZE, Query
from pipeline.catalogue import sync
from pipeline.catalogue.files import APPS, CatalogueFiles
from pipeline.catalogue.look_up import OVERRIDES, Progress, no_progress
from pipeline.catalogue.sync import (
    GAMES,
    PAIRS,
    STATE,
    RowsInOrder,
    SyncResult,
    read_in_order,
    sync_catalogue,
)
from pipeline.errors import Retryable
from pipeline.sandbox.apicalypse import parse_multiquery
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import GOG_SOURCE, World
from pipeline.storage.store import DirectoryStore, Store
from tests.support.apis import ONCE, enrich, open_igdb, stats
from tests.support.stores import OpenedStore, Watched, opened


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return DirectoryStore(tmp_path)


@pytest.fixture
def world() -> World:
    return World.synthetic(30)


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    world = World.synthetic(2_700, shared_every=9, ambiguous_every=50, bare_every=20)
    with Sandbox(world, limits=False) as running:
        yield running


@pytest.fixture
def large(shared_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """More than a part of pairs and more than a part of games; the parts are smaller than usual."""
    monkeypatch.setattr(sync, "PAIRS_PER_PART", 900)
    monkeypatch.setattr(sync, "GAMES_PER_PART", 2_000)
    shared_sandbox.requests.clear()
    return shared_sandbox


def synced(
    sandbox: Sandbox,
    store: Store,
    progress: Progress = no_progress,
    *,
    multiquery: bool = True,
) -> SyncResult:
    async def run() -> SyncResult:
        async with open_igdb(sandbox.environment, ONCE, multiquery=multiquery) as igdb:
            return await sync_catalogue(store, CatalogueFiles(store), igdb, progress)

    return asyncio.run(run())


def pages(sandbox: Sandbox) -> list[int]:
    """After which rows of external_games the answered pages came."""
    asked = (record for record in sandbox.asked("igdb") if record.status == 200)
    return [int(after) for record in asked for after in re.findall(r"1 & id > (\d+)", record.body)]


def games_asked(sandbox: Sandbox) -> list[int]:
    """The games that were read, in the order in which they were."""
    asked = (record for record in sandbox.asked("igdb") if record.status == 200)
    lists = (one for record in asked for one in re.findall(r"where id = \(([\d,]*)\)", record.body))
    return [int(number) for one in lists for number in one.split(",")]


def verdicts(store: Store) -> dict[int, tuple[str, str, int | None]]:
    rows = CatalogueFiles(store).read().select("appid", "match_status", "match_reason", "igdb_id")
    return {appid: (status, reason, igdb_id) for appid, status, reason, igdb_id in rows.iter_rows()}


def test_a_sync_knows_all_of_steam_and_an_enrichment_after_it_asks_igdb_nothing(
    large: Sandbox, here: OpenedStore
) -> None:
    done = synced(large, here.store)
    apps = {int(row["uid"]) for row in large.world.external_games.values() if row.get("game")}
    assert (done.is_full, done.apps, done.known) == (True, len(apps), len(apps))
    assert verdicts(here.store).keys() == apps
    assert {record.status for record in large.asked("igdb")} == {200}
    assert pages(large) == sorted(set(pages(large)))
    assert len(games_asked(large)) == len(set(games_asked(large)))
    assert len(large.asked("igdb")) == done.requests - 1 <= 5
    assert here.store.list("catalogue/").keys() == {APPS, STATE}
    large.requests.clear()
    here.own(*({"appid": appid, "name": "Any"} for appid in sorted(apps)[:300]))
    counts = stats(enrich(large, here.store))
    assert (counts.matched + counts.unmatched, large.asked("igdb")) == (300, [])


def test_a_sync_and_an_enrichment_come_to_the_same_verdicts(here: OpenedStore, tmp_path: Path) -> None:
    world = World.synthetic(60, shared_every=4, ambiguous_every=7)
    world.add_external_game("90, 91", game=500_000)
    world.add_external_game("none", game=500_000)
    world.add_external_game("92", game=500_000, external_game_source=GOG_SOURCE)
    world.add_external_game("93", game=9_999_999)
    world.add_game(94, 7, "Nameless")["name"] = None
    one_by_one = [1_000_000 + 10 * number for number in range(60)]
    with Sandbox(world, limits=False) as sandbox:
        synced(sandbox, DirectoryStore(tmp_path / "synced"))
        here.own(*({"appid": appid, "name": "Any"} for appid in (*one_by_one, 93, 94)))
        enrich(sandbox, here.store)
    known = verdicts(DirectoryStore(tmp_path / "synced"))
    assert {appid: known.pop(appid) for appid in (90, 91)} == dict.fromkeys(
        (90, 91), ("MATCHED", "external_game", 500_000)
    )
    assert known == here.verdicts()
    assert known[93] == known[94] == ("UNMATCHED", "igdb_incomplete", None)


def test_progress_is_told_from_nothing_to_all(sandbox: Sandbox, store: Store) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    synced(sandbox, store, progress=lambda what, done, total: told.setdefault(what, []).append((done, total)))
    assert {what: (steps[0], steps[-1]) for what, steps in told.items()} == {
        "Steam apps on IGDB": ((0, 30), (30, 30)),
        "Games on IGDB": ((0, 30), (30, 30)),
    }


def test_a_sync_killed_among_the_pages_is_continued_after_its_last_part(large: Sandbox, store: Store) -> None:
    fault = large.faults.add(Fault(service="igdb", status=503, when=lambda text: "id > 2500;" in text))
    with pytest.raises(Retryable):
        synced(large, store, multiquery=False)
    large.faults.remove(fault)
    assert len(store.list(PAIRS)) == 2
    asked = pages(large)
    large.requests.clear()
    synced(large, store, multiquery=False)
    assert asked[0] == 0
    assert pages(large)[0] == 2000
    assert set(asked) & set(pages(large)) == {2000}
    assert store.list("catalogue/").keys() == {APPS, STATE}


def test_a_sync_killed_among_the_games_asks_for_no_page_and_no_finished_game_again(
    large: Sandbox, store: Store
) -> None:
    last = max(large.world.games)
    fault = large.faults.add(Fault(service="igdb", status=503, when=lambda text: f"{last})" in text))
    with pytest.raises(Retryable):
        synced(large, store)
    large.faults.remove(fault)
    (part,) = store.list(GAMES)
    finished = int(part.removeprefix(GAMES).removesuffix(".parquet"))
    large.requests.clear()
    synced(large, store)
    assert pages(large) == []
    assert min(games_asked(large)) > finished
    apps = {int(row["uid"]) for row in large.world.external_games.values() if row.get("game")}
    assert verdicts(store).keys() == apps


@pytest.mark.slow
@pytest.mark.parametrize("is_carried_out", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("is_first", [True, False], ids=["the first sync", "an incremental one"])
def test_a_sync_killed_at_any_call_of_the_store_is_completed_by_the_next(
    sandbox: Sandbox, tmp_path: Path, *, is_first: bool, is_carried_out: bool
) -> None:
    whole = DirectoryStore(tmp_path / "whole")
    synced(sandbox, whole)
    expected = CatalogueFiles(whole).read().drop("looked_up_at")
    for number in count(1):
        store = DirectoryStore(tmp_path / str(number))
        if not is_first:
            synced(sandbox, store)
        watched = Watched(store, number, is_carried_out)
        try:
            synced(sandbox, watched)
        except Retryable:
            synced(sandbox, store)
        else:
            break
        assert_frame_equal(CatalogueFiles(store).read().drop("looked_up_at"), expected)
        assert store.list("catalogue/").keys() == {APPS, STATE}
    assert number > 8


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_after_the_first_only_what_igdb_changed_is_asked_for(sandbox: Sandbox, tmp_path: Path, kind: str) -> None:
    with opened(kind, tmp_path) as store:
        synced(sandbox, store)
        sandbox.requests.clear()
        again = synced(sandbox, store)
        assert (again.is_full, again.apps, again.known) == (False, 0, 30)
        asked = [(record.path, "updated_at > 1" in record.body) for record in sandbox.asked("igdb")]
        assert asked == [("/v4/external_games", True), ("/v4/games", True)]
        sandbox.world.touch(500_002, name="Renamed", updated_at=int(time.time()) - 2 * 86_400)
        sandbox.world.touch(500_003, name="Renamed")
        sandbox.world.add_game(77, 600_001, "New", updated_at=int(time.time()))
        sandbox.world.touch_external_game("77")
        sandbox.world.touch_external_game("1000050", game=500_006)
        sandbox.requests.clear()
        third = synced(sandbox, store)
        assert (third.is_full, third.apps, third.known) == (False, 3, 31)
        assert sorted(games_asked(sandbox)) == [500_003, 500_006, 600_001]
        known = CatalogueFiles(store).read()
        assert known.filter(appid=1_000_030)["igdb_name"].to_list() == ["Renamed"]
        assert verdicts(store)[77] == ("MATCHED", "external_game", 600_001)
        assert verdicts(store)[1_000_050] == ("MATCHED", "external_game", 500_006)


def test_an_ambiguous_app_is_looked_up_again_when_a_candidate_changed(store: Store) -> None:
    world = World()
    world.add_game(10, 1, "One")
    world.add_game(10, 2, "One again")
    with Sandbox(world, limits=False) as sandbox:
        synced(sandbox, store)
        assert verdicts(store) == {10: ("UNMATCHED", "ambiguous", None)}
        world.touch(2, version_parent=1)
        synced(sandbox, store)
    assert verdicts(store) == {10: ("MATCHED", "external_game", 1)}


@pytest.mark.parametrize("is_known", [True, False], ids=["an incremental sync", "the first sync"])
def test_apps_with_an_override_are_left_as_they_are(sandbox: Sandbox, here: OpenedStore, *, is_known: bool) -> None:
    here.own({"appid": 1_000_030, "name": "Any"})
    here.store.write(OVERRIDES, b"appid,action,igdb_id,note\n1000030,match,500007,\n")
    if is_known:
        synced(sandbox, here.store)
    enrich(sandbox, here.store)
    sandbox.world.touch(500_003, name="Renamed")
    synced(sandbox, here.store)
    assert verdicts(here.store)[1_000_030] == ("MATCHED", "override", 500_007)
    sandbox.requests.clear()
    enrich(sandbox, here.store)
    assert here.verdicts() == {1_000_030: ("MATCHED", "override", 500_007)}
    assert sandbox.requests == []


def test_a_corrupt_state_makes_the_next_sync_a_full_one(sandbox: Sandbox, store: Store) -> None:
    store.write(STATE, b"corrupt")
    assert synced(sandbox, store).is_full
    assert json.loads(store.read(STATE) or b"")["synced_at"] <= datetime.now(UTC).timestamp()


def test_a_corrupt_part_is_deleted_and_read_again_by_the_next_sync(sandbox: Sandbox, store: Store) -> None:
    store.write(f"{PAIRS}000000000009-last.parquet", b"corrupt")
    with pytest.raises(Retryable, match=r"in catalogue/sync/pairs/ is corrupt\. All of them were deleted"):
        synced(sandbox, store)
    assert synced(sandbox, store).known == 30


def test_a_count_that_is_no_number_is_an_error(sandbox: Sandbox, store: Store) -> None:
    sandbox.faults.add(Fault(service="igdb", path="count", status=200, body='{"count":-1}'))
    with pytest.raises(Retryable, match="no number"):
        synced(sandbox, store)


QUERY = Query("external_games", "uid", "external_game_source = 1")


class Table:
    """An IGDB whose one table has rows with the given ids, and that answers multiqueries unless it refuses them."""

    def __init__(self, ids: list[int], *, refuses_multiqueries: bool = False) -> None:
        self._ids = ids
        self._refuses = refuses_multiqueries
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        text = request.content.decode()
        if not request.url.path.endswith("multiquery"):
            return httpx.Response(200, json=self._page(text))
        if self._refuses:
            return httpx.Response(400, json=[{"title": "Syntax Error"}])
        parts = text.splitlines()
        assert len(parse_multiquery(text)) == len(parts) <= 10
        named = [{"name": part.split('"')[1], "result": self._page(part)} for part in parts]
        return httpx.Response(200, json=named)

    def _page(self, text: str) -> list[dict[str, int]]:
        bounds = re.search(r"id > (\d+)(?: & id <= (\d+))?;", text)
        assert bounds is not None
        first = bisect_right(self._ids, int(bounds[1]))
        last = bisect_right(self._ids, int(bounds[2])) if bounds[2] else len(self._ids)
        return [{"id": number} for number in self._ids[first : min(last, first + PAGE_SIZE)]]


def read(table: Callable[[httpx.Request], httpx.Response]) -> list[RowsInOrder]:
    async def run() -> list[RowsInOrder]:
        async with open_igdb(transport=httpx.MockTransport(table), token=Token("token", time.time() + 3_600)) as igdb:
            return [each async for each in read_in_order(igdb, QUERY, 0)]

    return asyncio.run(run())


def uneven(rows: int) -> list[int]:
    """Ids in blocks of some hundred rows, each up to a hundred times as dense as the next."""
    chance, ids, last = random.Random(1), list[int](), 0.0
    while len(ids) < rows:
        mean = 10 ** chance.uniform(0, 2)
        for _ in range(chance.randrange(50, 3_000)):
            last += max(1.0, chance.expovariate(1 / mean))
            ids.append(int(last))
    return ids[:rows]


WORLDS = {
    "none": [],
    "one": [7],
    "a full page": list(range(1, 501)),
    "one more than a page": list(range(1, 502)),
    "every id": list(range(1, 20_001)),
    "evenly sparse": list(range(13, 20_000 * 13, 13)),
    "unevenly sparse": uneven(20_000),
    "sparse, then dense": [*range(1, 2_000_000, 1_000), *range(2_000_000, 2_020_000)],
    "one block far behind another": [*range(1, 4_001), *range(2_000_000_000, 2_000_004_000)],
    "full pages with gaps between them": [start + number for start in range(1, 10**6, 10**5) for number in range(500)],
}


@pytest.mark.parametrize("refuses_multiqueries", [False, True], ids=["multiqueries", "single queries"])
@pytest.mark.parametrize("ids", WORLDS.values(), ids=WORLDS)
def test_every_row_is_read_once_and_in_order_however_the_ids_lie(ids: list[int], *, refuses_multiqueries: bool) -> None:
    parts = read(Table(ids, refuses_multiqueries=refuses_multiqueries))
    assert [row["id"] for part in parts for row in part.rows] == ids
    assert [part.is_complete for part in parts] == [False] * (len(parts) - 1) + [True]
    reached = 0
    for part in parts:
        assert all(reached < row["id"] for row in part.rows)
        assert part.is_complete or all(row["id"] <= part.last_id for row in part.rows)
        reached = part.last_id


def test_several_ranges_at_once_take_less_than_a_fifth_of_the_requests_of_single_pages() -> None:
    ids = uneven(40_000)
    single, several = Table(ids, refuses_multiqueries=True), Table(ids)
    read(single)
    read(several)
    assert several.requests * 5 < single.requests


def test_a_list_whose_pages_repeat_the_same_ids_is_given_up() -> None:
    page = [{"id": number} for number in range(1, PAGE_SIZE + 1)]
    with pytest.raises(Retryable, match="repeat the same ids"):
        read(lambda request: httpx.Response(400 if request.url.path.endswith("multiquery") else 200, json=page))


def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "MAX_ROWS", 10_000)
    endless = Table(list(range(1, 20_001)))
    with pytest.raises(Retryable, match="do not end"):
        read(endless)
    assert endless.requests < 20
