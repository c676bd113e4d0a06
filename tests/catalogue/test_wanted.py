"""Joins that ask nobody, what they want looked up, and the look-up that answers all of them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pytest
from structlog.testing import capture_logs

from pipeline import stages
from pipeline.catalogue.files import NEW, CatalogueFiles
from pipeline.catalogue.look_up import OVERRIDES, CatalogueLookup
from pipeline.catalogue.wanted import Answered, look_up_wanted, want_apps
from pipeline.errors import Retryable
from pipeline.frames.catalogue import Lifetimes
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.keys import WANTED, wanted_key
from pipeline.storage.store import Store
from schemas.events import EnrichEvent
from tests.catalogue.test_catalogue_files import known
from tests.support.apis import LONG, ONCE, QUICK, open_igdb, open_steam_store
from tests.support.stores import RAW, OpenedStore, Watched

DEMO = 1
PENDING = ("PENDING", "not_looked_up", None)


@pytest.fixture
def world() -> World:
    """One game, a demo that only the store calls one, and a game that its name calls a demo."""
    world = World()
    world.add_game(10, 1, "One")
    world.add_game(30, 3, "Three - Demo")
    for appid, type_ in ((10, 0), (20, DEMO), (30, 0), (40, 0)):
        world.add_store_item(appid, "Any", type=type_)
    return world


@pytest.fixture
def owned(here: OpenedStore) -> OpenedStore:
    names = {10: "One", 20: "Two", 30: "Three - Demo", 40: "Four"}
    here.own(*({"appid": appid, "name": name} for appid, name in names.items()))
    return here


def join(here: OpenedStore, run_id: str = "run-1", lifetimes: Lifetimes = LONG) -> dict[int, tuple[object, ...]]:
    """What a join by the catalogue alone says of each app."""
    event = EnrichEvent(user_id="user-1", run_id=run_id, s3_location=here.store.locate(RAW.key), look_up=False)
    response = stages.join(here.store, CatalogueFiles(here.store), lifetimes, event)
    assert response.requests == 0
    return here.verdicts()


def test_a_join_opens_only_the_catalogue_files_that_have_apps_of_its_library(owned: OpenedStore) -> None:
    for appids in ((10, 77), (78,), (79, 80)):
        CatalogueFiles(owned.store).remember(known(*appids))
    watched = Watched(owned.store)
    event = EnrichEvent(user_id="user-1", s3_location=owned.store.locate(RAW.key), look_up=False)
    stages.join(watched, CatalogueFiles(watched), LONG, event)
    assert len([key for key in watched.called("read") if key.startswith(NEW)]) == 1


def look_up(sandbox: Sandbox, store: Store, *, patient: bool = True) -> Answered:
    async def run() -> Answered:
        policy = QUICK if patient else ONCE
        igdb, steam_store = open_igdb(sandbox.environment, policy), open_steam_store(sandbox.environment, policy)
        async with igdb, steam_store:
            return await look_up_wanted(store, CatalogueLookup(CatalogueFiles(store), igdb, steam_store, LONG))

    return asyncio.run(run())


def wanted(store: Store) -> dict[str, list[int]]:
    """The apps in each file, by the name of the file."""
    bodies = {key.removeprefix(WANTED): store.read(key) or b"" for key in store.list(WANTED)}
    return {name: pl.read_csv(body)["appid"].to_list() for name, body in bodies.items()}


def test_what_a_join_misses_is_pending_whatever_its_name_says_until_a_look_up(
    sandbox: Sandbox, owned: OpenedStore
) -> None:
    assert join(owned) == dict.fromkeys((10, 20, 30, 40), PENDING)
    assert set(owned.rows().select("kind", "kind_reason").rows()) == {("game", "default")}
    assert wanted(owned.store) == {"run-1.csv": [10, 20, 30, 40]}
    assert sandbox.requests == []

    assert look_up(sandbox, owned.store) == (1, 4, 0)
    assert wanted(owned.store) == {}
    verdicts = join(owned)
    assert verdicts[10] == ("MATCHED", "external_game", 1)
    assert verdicts[20] == ("IGNORED", "filtered", None)
    assert verdicts[40] == ("UNMATCHED", "not_found", None)
    assert PENDING not in verdicts.values()
    assert wanted(owned.store) == {}


def test_a_stale_answer_is_wanted_again_and_a_persons_decision_is_not(sandbox: Sandbox, owned: OpenedStore) -> None:
    owned.store.write(OVERRIDES, b"appid,action,igdb_id,note\n20,ignore,,\n")
    join(owned)
    assert wanted(owned.store) == {"run-1.csv": [10, 30, 40]}
    look_up(sandbox, owned.store)
    stale = Lifetimes(hit=timedelta(0), miss=timedelta(days=1))
    verdicts = join(owned, "run-2", stale)
    assert verdicts[10] == PENDING
    assert verdicts[20] == ("IGNORED", "override", None)
    assert wanted(owned.store) == {"run-2.csv": [10, 30, 40]}


def test_a_look_up_asks_once_for_what_many_runs_want(sandbox: Sandbox, here: OpenedStore) -> None:
    for run in range(5):
        want_apps(here.store, f"run-{run}", pl.Series([10 * (run + 1), 10], dtype=pl.Int32).unique())
    assert look_up(sandbox, here.store) == (5, 5, 0)
    assert wanted(here.store) == {}
    assert [record.body.count('"10"') for record in sandbox.asked("igdb") if "external" in record.path] == [1]


def test_a_file_that_is_written_meanwhile_stays_for_the_next_look_up(sandbox: Sandbox, here: OpenedStore) -> None:
    want_apps(here.store, "run-1", pl.Series([10], dtype=pl.Int32))

    def write_more(_text: str) -> bool:
        want_apps(here.store, "run-1", pl.Series([10, 40], dtype=pl.Int32))
        want_apps(here.store, "run-2", pl.Series([20], dtype=pl.Int32))
        return False

    sandbox.faults.add(Fault(service="igdb", when=write_more))
    assert look_up(sandbox, here.store).files == 1
    assert sorted(wanted(here.store).values()) == [[10, 40], [20]]
    sandbox.faults.clear()
    assert look_up(sandbox, here.store) == (2, 3, 0)
    assert wanted(here.store) == {}


def test_a_look_up_that_breaks_off_anywhere_loses_no_wanted_app(sandbox: Sandbox, here: OpenedStore) -> None:
    want_apps(here.store, "run-1", pl.Series([10], dtype=pl.Int32))
    want_apps(here.store, "run-2", pl.Series([20], dtype=pl.Int32))
    for operation in range(1, 100):
        store = Watched(here.store, fails_at=operation)
        try:
            look_up(sandbox, store)
        except Retryable:
            lost = {10, 20} - set(CatalogueFiles(here.store).read()["appid"])
            assert {appid for apps in wanted(here.store).values() for appid in apps} >= lost
        if len(store.calls) < operation:
            break
    assert wanted(here.store) == {}


def test_where_igdb_is_down_all_is_wanted_still(sandbox: Sandbox, owned: OpenedStore) -> None:
    join(owned)
    outage = sandbox.faults.add(Fault(service="igdb", status=503))
    with pytest.raises(Retryable, match="igdb_unavailable"):
        look_up(sandbox, owned.store, patient=False)
    assert wanted(owned.store) == {"run-1.csv": [10, 20, 30, 40]}
    sandbox.faults.remove(outage)
    assert look_up(sandbox, owned.store).unanswered == 0


def test_where_the_store_is_down_igdb_and_the_name_decide_for_an_hour(sandbox: Sandbox, owned: OpenedStore) -> None:
    join(owned)
    outage = sandbox.faults.add(Fault(service="store", status=503))
    assert look_up(sandbox, owned.store, patient=False) == (1, 4, 0)
    verdicts = join(owned)
    assert verdicts[10] == ("MATCHED", "external_game", 1)
    assert verdicts[20] == ("UNMATCHED", "not_found", None)
    sandbox.faults.remove(outage)
    an_hour_later = Lifetimes(LONG.hit, LONG.miss - timedelta(hours=1))
    assert join(owned, "run-2", an_hour_later)[20] == PENDING
    look_up(sandbox, owned.store)


def corrupt(store: Store) -> None:
    store.write(f"{WANTED}rubbish.csv", b"\xff\xfe\0")


def vanish(store: Store) -> None:
    store.delete(f"{WANTED}run-9.csv")


@pytest.mark.parametrize("misfortune", [corrupt, vanish])
def test_a_file_that_cannot_be_read_holds_no_other_up(
    sandbox: Sandbox, here: OpenedStore, misfortune: Callable[[Store], None]
) -> None:
    want_apps(here.store, "run-1", pl.Series([10], dtype=pl.Int32))
    misfortune(here.store)
    with capture_logs() as logged:
        assert look_up(sandbox, here.store).unanswered == 0
    assert here.store.list(WANTED) == {}
    assert [event["key"] for event in logged if "corrupt" in event["event"]] == (
        [f"{WANTED}rubbish.csv"] if misfortune is corrupt else []
    )


@pytest.mark.parametrize("run_id", ["../../imports/user-2", "a/../b", "r" * 256, "arn:aws:states"])
def test_no_run_id_leads_out_of_the_folder(here: OpenedStore, run_id: str) -> None:
    key = wanted_key(run_id)
    assert key.startswith(WANTED)
    assert "/" not in key.removeprefix(WANTED)
    want_apps(here.store, run_id, pl.Series([10], dtype=pl.Int32))
    assert list(here.store.list(WANTED)) == [key]
