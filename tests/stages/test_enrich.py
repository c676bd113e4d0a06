"""The second stage, with clients of the sandbox's APIs and a catalogue in the store."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline import stages
from pipeline.apis.igdb_queries import APPS_PER_REQUEST
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from schemas.events import EnrichEvent
from tests.support.apis import ONCE, Setup, enrich, fetch, stats
from tests.support.stores import ENRICHED, RAW, OpenedStore

SOUNDTRACK = 11
LITTLE = Setup(policy=ONCE)
"""One attempt at what fails, four at what is limited."""


@pytest.fixture
def world() -> World:
    return World()


def test_a_recorded_library_is_enriched_and_every_row_accounted_for(at: OpenedStore) -> None:
    with Sandbox(World.recorded(), limits=False) as sandbox:
        response = enrich(sandbox, at.store, fetch(sandbox, at.store, World.RECORDED_ACCOUNT))
    counts = stats(response)
    assert response.s3_enriched_location == at.store.locate(ENRICHED.key)
    assert counts.processed == at.rows().height == sum(response.kinds.values()) == 129
    assert counts.matched + counts.unmatched + counts.filtered + counts.pending == counts.processed
    assert counts.matched > 100
    assert (counts.pending, response.rejected) == (0, 0)
    fallout = at.rows().filter(appid=22380).select("match_status", "igdb_id", "igdb_slug", "igdb_cover_url").rows()
    cover = "https://images.igdb.com/igdb/image/upload/t_cover_big/co1u60.jpg"
    assert fallout == [("MATCHED", 16, "fallout-new-vegas", cover)]


@pytest.mark.parametrize(
    ("changed", "endpoints"),
    [
        pytest.param({}, ["multiquery"], id="by default"),
        pytest.param({"igdb_multiquery": "off"}, ["external_games"] * 2, id="off"),
    ],
)
def test_the_setting_igdb_multiquery_decides_whether_queries_go_in_one_request(
    sandbox: Sandbox, here: OpenedStore, tmp_path: Path, changed: dict[str, str], endpoints: list[str]
) -> None:
    here.own(*({"appid": appid} for appid in range(1, APPS_PER_REQUEST + 2)))
    named = {name.lower(): value for name, value in sandbox.environment.items()}
    settings = Settings.read(**named, store_url=str(tmp_path), **changed)
    event = EnrichEvent(user_id="user-1", s3_location=here.store.locate(RAW.key))
    asyncio.run(stages.enrich_with_settings(settings, event))
    assert [record.path.removeprefix("/v4/") for record in sandbox.asked("igdb")] == endpoints


def test_every_kind_of_match_and_miss_has_its_reason(sandbox: Sandbox, here: OpenedStore) -> None:
    world = sandbox.world
    here.own(
        *({"appid": appid, "name": f"App {appid}"} for appid in range(10, 110, 10)), {"appid": 5, "name": "X - Demo"}
    )
    world.add_game(10, 1, "One")
    world.add_game(20, 2, "Base")
    world.add_game(20, 3, "Deluxe", version_parent=2)
    world.add_game(30, 4, "Main")
    world.add_game(30, 5, "Bundle", game_type=3)
    world.add_game(40, 6, "Twin")
    world.add_game(40, 7, "Twin again")
    world.add_external_game("50")
    world.add_external_game("60", game=999)
    world.add_game(70, 8, "Nameless")["name"] = None
    world.add_game(80, 9, "Shared")
    world.add_external_game("90, 80", game=9)
    world.add_game(5, 10, "X")
    response = enrich(sandbox, here.store)
    assert here.verdicts() == {
        10: ("MATCHED", "external_game", 1),
        20: ("MATCHED", "external_game", 2),
        30: ("MATCHED", "external_game", 4),
        40: ("UNMATCHED", "ambiguous", None),
        50: ("UNMATCHED", "not_found", None),
        60: ("UNMATCHED", "igdb_incomplete", None),
        70: ("UNMATCHED", "igdb_incomplete", None),
        80: ("MATCHED", "external_game", 9),
        90: ("UNMATCHED", "not_found", None),
        100: ("UNMATCHED", "not_found", None),
        5: ("IGNORED", "filtered", None),
    }
    assert here.rows().filter(appid=40)["igdb_candidates"].to_list() == ["[6,7]"]
    assert stats(response).model_dump() == {
        "processed": 11,
        "matched": 4,
        "unmatched": 6,
        "filtered": 1,
        "pending": 0,
        "igdb_incomplete": 2,
    }
    assert response.kinds == {"game": 10, "demo": 1}


def test_an_invalid_game_row_is_logged_and_leaves_its_app_unmatched(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10}, {"appid": 20})
    sandbox.world.add_game(10, 1, "Bad")["first_release_date"] = "1998"
    sandbox.world.add_game(20, 2, "Good")
    with capture_logs() as logged:
        response = enrich(sandbox, here.store)
    assert here.verdicts() == {10: ("UNMATCHED", "igdb_incomplete", None), 20: ("MATCHED", "external_game", 2)}
    assert stats(response).igdb_incomplete == 1
    assert [event["rows"] for event in logged if event["log_level"] == "warning"] == [1]


def test_the_apps_of_a_batch_without_an_answer_are_pending_and_no_others(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own(*({"appid": appid} for appid in range(1, 501)))
    for appid in (1, 401):
        sandbox.world.add_game(appid, 1000 + appid, f"Game {appid}")
    of_one_batch = Fault(
        service="igdb", kind="reset", when=lambda text: any(f'"{appid}"' in text for appid in range(2, 401))
    )
    sandbox.faults.add(of_one_batch)
    response = enrich(sandbox, here.store, setup=LITTLE)
    verdicts = here.verdicts()
    pending = {appid for appid, verdict in verdicts.items() if verdict == ("PENDING", "igdb_unavailable", None)}
    assert pending == set(range(1, 401))
    assert verdicts[401] == ("MATCHED", "external_game", 1401)
    assert {verdicts[appid] for appid in range(402, 501)} == {("UNMATCHED", "not_found", None)}
    counts = stats(response)
    assert (counts.pending, counts.matched, counts.unmatched) == (400, 1, 99)
    # A multiquery and its repetition, then the first 400 apps one query at a time, halved down to 50 apps.
    assert len(sandbox.asked("igdb")) == 1 + 15 + 2


def test_pending_apps_are_looked_up_again_and_others_are_not(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10}, {"appid": 20})
    sandbox.world.add_game(10, 1, "One")
    fault = sandbox.faults.add(Fault(service="igdb", path="/games", status=500))
    enrich(sandbox, here.store)
    assert here.verdicts() == {10: ("PENDING", "igdb_unavailable", None), 20: ("UNMATCHED", "not_found", None)}
    sandbox.faults.remove(fault)
    sandbox.requests.clear()
    enrich(sandbox, here.store)
    assert here.verdicts() == {10: ("MATCHED", "external_game", 1), 20: ("UNMATCHED", "not_found", None)}
    answered = [record.body for record in sandbox.asked("igdb") if record.status == 200]
    assert ['uid = ("10")' in body for body in answered] == [True, False]
    assert sandbox.asked("store") == []


def test_igdb_is_never_asked_about_apps_that_are_no_games_in_the_store(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "X - Soundtrack"}, {"appid": 20, "name": "X"})
    for appid in (10, 20):
        sandbox.world.add_store_item(appid, "X", type=SOUNDTRACK)
    response = enrich(sandbox, here.store)
    assert (stats(response).filtered, sandbox.asked("igdb"), sandbox.tokens_minted) == (2, [], 0)
    assert len(sandbox.asked("store")) == response.requests == 1


def test_an_app_in_the_library_twice_is_asked_for_once_and_stays_twice(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "One"}, {"appid": 10, "name": "One again"})
    sandbox.world.add_game(10, 1, "One")
    enrich(sandbox, here.store)
    assert here.rows().select("name", "igdb_id").rows() == [("One", 1), ("One again", 1)]
    assert sandbox.asked("igdb")[0].body.count('"10"') == 1


def test_the_manifest_names_the_raw_csv_it_was_made_from(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10})
    enrich(sandbox, here.store)
    raw, manifest = here.store.read(RAW.key) or b"", json.loads(here.store.read(ENRICHED.manifest_key) or b"")
    assert manifest["input"] == {"key": RAW.key, "sha256": sha256(raw).hexdigest()}
    assert (manifest["stage"], manifest["run_id"], manifest["rows"], manifest["requests"]) == ("enrich", "run-1", 1, 3)
    assert manifest["counts"] == {
        "processed": 1,
        "matched": 0,
        "unmatched": 1,
        "filtered": 0,
        "pending": 0,
        "igdb_incomplete": 0,
        "rejected": 0,
    }


def test_progress_is_reported_from_none_to_all(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own(*({"appid": appid} for appid in range(1, 501)))
    sandbox.world.add_game(1, 1, "One")
    told: dict[str, list[tuple[int, int]]] = {}
    enrich(sandbox, here.store, progress=lambda what, done, total: told.setdefault(what, []).append((done, total)))
    assert told.keys() == {"Types asked of Steam's store", "Apps looked up on IGDB", "Games read from IGDB"}
    assert [done for done, _ in told["Types asked of Steam's store"]][::3] == [0, 500]
    assert (told["Apps looked up on IGDB"][0], told["Apps looked up on IGDB"][-1]) == ((0, 500), (500, 500))
    assert told["Games read from IGDB"] == [(0, 1), (1, 1)]
