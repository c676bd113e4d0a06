import random
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pipeline.apis.igdb import Token
from pipeline.apis.retry import RetryPolicy
from pipeline.catalogue.files import Memory
from pipeline.catalogue.look_up import OVERRIDES
from pipeline.errors import Retryable
from pipeline.frames.catalogue import Lifetimes
from pipeline.sandbox.faults import Fault, Faults
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.wire import Record
from pipeline.sandbox.world import HIDDEN, World
from pipeline.storage.keys import raw_checkpoint
from pipeline.storage.store import DirectoryStore
from tests.support.apis import ONCE, Setup, enrich, fetch, stats
from tests.support.stores import ENRICHED, TIMESTAMP, OpenedStore, own

PLAYTEST, DEMO, TOOL = 12, 1, 13
HEADER = "appid,action,igdb_id,note\n"


@pytest.fixture
def world() -> World:
    return World()


def igdb_apps(asked: Iterable[Record]) -> Counter[str]:
    """How often IGDB was asked for each app."""
    lists = (record.body.split("uid = (")[1].split(")")[0] for record in asked if "external_games" in record.path)
    return Counter(appid for one in lists for appid in one.split(","))


def store_apps(asked: Iterable[Record]) -> Counter[str]:
    """How often the store was asked for each app."""
    lists = (record.params["input_json"].split('"context"')[0].split('"appid":')[1:] for record in asked)
    return Counter(part.split("}")[0] for one in lists for part in one)


def test_the_same_library_again_asks_nothing_and_gives_the_same_csv(here: OpenedStore) -> None:
    world = World.synthetic(100, ambiguous_every=7, shared_every=5, bare_every=9)
    with Sandbox(world, limits=False) as sandbox:
        location = fetch(sandbox, here.store, World.SYNTHETIC_ACCOUNT)
        first = enrich(sandbox, here.store, location)
        csv = here.store.read(ENRICHED.key)
        sandbox.requests.clear()
        second = enrich(sandbox, here.store, location)
        assert (sandbox.requests, second.requests) == ([], 0)
        assert here.store.read(ENRICHED.key) == csv
        assert stats(second) == stats(first)
        assert first.requests > 0


def test_two_thousand_new_games_take_two_requests_with_multiquery_and_nine_without_and_the_rows_are_the_same(
    tmp_path: Path,
) -> None:
    csvs = set()
    refused = Fault(service="igdb", path="multiquery", status=403)
    with Sandbox(World.synthetic(2000), limits=False) as sandbox:
        # What IGDB refuses shows only when it is asked: that takes a request, and the next queries are single.
        for multiquery, faults, statuses in (
            (True, [], [200] * 2),
            (False, [], [200] * 9),
            (True, [refused], [403] + [200] * 9),
        ):
            store = DirectoryStore(tmp_path / f"{len(statuses)}")
            location = fetch(sandbox, store, World.SYNTHETIC_ACCOUNT)
            sandbox.requests.clear()
            for fault in faults:
                sandbox.faults.add(fault)
            response = enrich(sandbox, store, location, setup=Setup(multiquery=multiquery))
            assert [record.status for record in sandbox.asked("igdb")] == statuses
            assert len(sandbox.asked("store")) == 10
            assert response.requests == len(statuses) + 10 + 1, "a token is asked for once"
            assert stats(response).matched == 2000
            csvs.add(store.read(ENRICHED.key))
    assert len(csvs) == 1


def import_many(sandbox: Sandbox, store: DirectoryStore, users: int, games: int, apps: int) -> None:
    """As many users as there are, one after the other, each with other games."""
    chance, setup = random.Random(0), Setup(memory=Memory(), token=Token())
    appids = [1_000_000 + 10 * number for number in range(apps)]
    for user in range(users):
        raw = raw_checkpoint(f"player-{user}", TIMESTAMP)
        own(store, [{"appid": appid, "name": f"App {appid}"} for appid in chance.sample(appids, games)], raw)
        counts = stats(enrich(sandbox, store, store.locate(raw.key), setup=setup))
        assert counts.matched + counts.unmatched == games


@pytest.mark.parametrize(
    ("users", "games", "apps"),
    [
        (4, 40, 60),
        pytest.param(100, 200, 5_000, marks=pytest.mark.slow),
    ],
)
def test_no_app_is_asked_for_twice_however_many_users_own_it(tmp_path: Path, users: int, games: int, apps: int) -> None:
    with Sandbox(World.synthetic(apps, ambiguous_every=11, bare_every=9), limits=False) as sandbox:
        import_many(sandbox, DirectoryStore(tmp_path), users, games, apps)
        for asked in (igdb_apps(sandbox.asked("igdb")), store_apps(sandbox.asked("store"))):
            assert max(asked.values()) == 1
            assert apps * 0.9 <= len(asked) <= apps


def test_where_the_store_is_down_names_decide_and_the_stage_succeeds(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "One"}, {"appid": 20, "name": "One - Demo"}, {"appid": 30, "name": "Wordless"})
    sandbox.world.add_game(10, 1, "One")
    for appid, type_ in ((10, 0), (20, DEMO), (30, TOOL)):
        sandbox.world.add_store_item(appid, "Any", type=type_)
    fault = sandbox.faults.add(Fault(service="store", status=503))
    response = enrich(sandbox, here.store, setup=Setup(policy=ONCE))
    assert (stats(response).matched, stats(response).filtered, stats(response).unmatched) == (1, 1, 1)
    assert here.rows()["kind_reason"].to_list() == ["default", "name:demo", "default"]
    sandbox.faults.remove(fault)
    enrich(sandbox, here.store)
    assert here.rows()["kind_reason"].to_list() == ["store:game", "store:demo", "store:tool"]
    assert here.rows()["match_status"].to_list() == ["MATCHED", "IGNORED", "IGNORED"]


def test_a_game_that_igdb_lists_is_none_that_its_name_filters_unless_it_stands_under_its_parent(
    sandbox: Sandbox, here: OpenedStore
) -> None:
    names = {10: "Trailer: The Game Trailer", 20: "X - Playtest", 30: "X Soundtrack", 40: "Y - Map Pack"}
    here.own({"appid": 1, "name": "X"}, *({"appid": appid, "name": name} for appid, name in names.items()))
    sandbox.faults.add(Fault(service="igdb", path="external_games", status=503, times=1))
    with pytest.raises(Retryable):
        enrich(sandbox, here.store, setup=Setup(policy=ONCE))
    for appid, igdb_id, name in ((1, 1, "X"), (10, 2, "Trailer: The Game Trailer"), (20, 1, "X"), (30, 1, "X")):
        sandbox.world.add_game(appid, igdb_id, name)
    sandbox.world.add_game(40, 3, "Y: Map Pack", game_type=1)
    response = enrich(sandbox, here.store)
    assert here.rows().select("kind_reason", "match_status", "igdb_id").rows() == [
        ("default", "MATCHED", 1),
        ("igdb", "MATCHED", 2),
        ("name:playtest", "IGNORED", None),
        ("name:soundtrack", "IGNORED", None),
        ("name:pack", "IGNORED", None),
    ]
    assert (stats(response).matched, stats(response).filtered, len(sandbox.asked("igdb"))) == (2, 3, 3)
    sandbox.requests.clear()
    enrich(sandbox, here.store)
    assert sandbox.requests == []


def test_an_app_that_igdb_did_not_answer_for_is_pending_whatever_its_name_says(
    sandbox: Sandbox, here: OpenedStore
) -> None:
    sandbox.world.add_game(10, 1, "One")
    sandbox.world.add_game(9000, 2, "Trailer: The Game Trailer")
    sandbox.world.add_store_item(9020, "Store Game Playtest", type=0)
    names = {9000: "Trailer: The Game Trailer", 9010: "Plain", 9020: "Store Game Playtest", 9030: "Forced - Demo"}
    here.own(
        *({"appid": appid, "name": f"{appid} - Demo"} for appid in range(10, 410)),
        *({"appid": appid, "name": name} for appid, name in names.items()),
    )
    override(here, "9030,game,,")
    fault = sandbox.faults.add(Fault(service="igdb", status=503, when=lambda text: '"9000"' in text))
    enrich(sandbox, here.store, setup=Setup(policy=ONCE))
    rows = here.rows().select("appid", "name", "kind", "kind_reason", "match_status", "match_reason").rows()
    assert rows[1] == (11, "11 - Demo", "demo", "name:demo", "IGNORED", "filtered")
    pending = ("PENDING", "igdb_unavailable")
    assert rows[400:] == [
        (9000, "Trailer: The Game Trailer", "game", "default", *pending),
        (9010, "Plain", "game", "default", *pending),
        (9020, "Store Game Playtest", "game", "store:game", *pending),
        (9030, "Forced - Demo", "game", "override", *pending),
    ]
    sandbox.faults.remove(fault)
    enrich(sandbox, here.store)
    assert here.verdicts()[9000] == ("MATCHED", "external_game", 2)
    assert here.verdicts()[9020] == ("IGNORED", "filtered", None)


def override(here: OpenedStore, *lines: str) -> None:
    here.store.write(OVERRIDES, (HEADER + "".join(f"{line}\n" for line in lines)).encode())


def test_overrides_are_honoured_in_every_run_and_taken_back_when_they_are_gone(
    sandbox: Sandbox, here: OpenedStore
) -> None:
    here.own(*({"appid": appid, "name": f"App {appid}"} for appid in (10, 20, 30)), {"appid": 40, "name": "X - Demo"})
    for appid, igdb_id, name in ((10, 1, "Game 1"), (20, 2, "Game 2"), (40, 3, "X")):
        sandbox.world.add_game(appid, igdb_id, name)
    plain = {
        10: ("MATCHED", "external_game", 1),
        20: ("MATCHED", "external_game", 2),
        30: ("UNMATCHED", "not_found", None),
        40: ("IGNORED", "filtered", None),
    }
    overridden = {
        10: ("MATCHED", "override", 2),
        20: ("IGNORED", "override", None),
        30: ("MATCHED", "override", 1),
        40: ("MATCHED", "external_game", 3),
    }
    enrich(sandbox, here.store)
    assert here.verdicts() == plain
    override(here, "10,match,2,", "20,ignore,,", "30,match,1,", "40,game,,")
    for _ in range(2):
        enrich(sandbox, here.store)
        assert here.verdicts() == overridden
    assert here.rows().filter(appid=30)["igdb_name"].to_list() == ["Game 1"]
    sandbox.requests.clear()
    enrich(sandbox, here.store)
    assert sandbox.requests == []
    here.store.delete(OVERRIDES)
    enrich(sandbox, here.store)
    assert here.verdicts() == plain


def test_an_override_to_a_game_that_igdb_lacks_is_incomplete_and_asked_for_once(
    sandbox: Sandbox, here: OpenedStore
) -> None:
    here.own({"appid": 10, "name": "One"})
    override(here, "10,match,999,")
    for _ in range(2):
        enrich(sandbox, here.store)
        assert here.verdicts() == {10: ("UNMATCHED", "igdb_incomplete", None)}
    assert len(sandbox.asked("igdb")) == 1
    override(here, "10,match,1,")
    sandbox.world.add_game(900, 1, "One")
    enrich(sandbox, here.store)
    assert here.verdicts() == {10: ("MATCHED", "override", 1)}


def test_a_bad_line_of_the_overrides_is_logged_and_the_others_count(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "One"}, {"appid": 20, "name": "Two"})
    override(here, "10,hide,,", "20,ignore,,")
    with capture_logs() as logged:
        enrich(sandbox, here.store)
    assert here.verdicts() == {10: ("UNMATCHED", "not_found", None), 20: ("IGNORED", "override", None)}
    (warning,) = [event for event in logged if event["log_level"] == "warning"]
    assert warning["fault"].startswith("line 2: action")


def test_hits_and_misses_have_lifetimes_of_their_own(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "One"}, {"appid": 20, "name": "Two"})
    sandbox.world.add_game(10, 1, "One")
    sandbox.world.add_store_item(10, "One")
    sandbox.world.add_store_item(20, "", success=HIDDEN)
    enrich(sandbox, here.store)
    sandbox.world.add_game(20, 2, "Two")
    for lifetimes, asked in (
        (Lifetimes(hit=timedelta(days=1), miss=timedelta(days=1)), set()),
        (Lifetimes(hit=timedelta(days=1), miss=timedelta(0)), {"20"}),
        (Lifetimes(hit=timedelta(0), miss=timedelta(days=1)), {"10", "20"}),
    ):
        sandbox.requests.clear()
        enrich(sandbox, here.store, setup=Setup(lifetimes=lifetimes))
        assert {appid.strip('"') for appid in igdb_apps(sandbox.asked("igdb"))} == asked
    assert here.verdicts()[20] == ("MATCHED", "external_game", 2)


def test_where_igdb_does_not_answer_for_a_stale_app_its_old_row_stands(sandbox: Sandbox, here: OpenedStore) -> None:
    here.own({"appid": 10, "name": "One"})
    sandbox.world.add_game(10, 1, "One")
    enrich(sandbox, here.store)
    here.own({"appid": 10, "name": "One"}, *({"appid": appid, "name": "New"} for appid in range(11, 451)))
    sandbox.faults.add(Fault(service="igdb", status=503, when=lambda text: '"10"' in text))
    enrich(sandbox, here.store, setup=Setup(lifetimes=Lifetimes(timedelta(0), timedelta(0)), policy=ONCE))
    verdicts = here.verdicts()
    assert verdicts[10] == ("MATCHED", "external_game", 1)
    assert verdicts[11] == ("PENDING", "igdb_unavailable", None)
    assert verdicts[450] == ("UNMATCHED", "not_found", None)


def storm(sandbox: Sandbox, seed: int) -> None:
    """429 to 20 % of all requests, 500 to 10 %, a reset for 5 %; two tokens are revoked as they are used.

    The second one after an answer: that IGDB refuses two in a row from the start is what wrong credentials look like.
    """
    sandbox.faults = Faults(seed)
    revoked = 0

    def revokes(_text: str) -> bool:
        nonlocal revoked
        is_welcome = any(record.status == 200 for record in sandbox.asked("igdb"))
        if sandbox.tokens_minted > revoked < 1 + is_welcome:
            sandbox.revoke_tokens()
            revoked += 1
        return False

    sandbox.faults.add(Fault(service="igdb", when=revokes))
    sandbox.faults.add(Fault(status=429, probability=0.2))
    sandbox.faults.add(Fault(status=500, probability=0.1 / 0.8))
    sandbox.faults.add(Fault(kind="reset", probability=0.05 / 0.7))


PATIENT = RetryPolicy(attempts=5, base_seconds=0.05)


@pytest.mark.parametrize(
    ("apps", "seed", "multiquery"),
    [
        (500, 5, True),
        *(
            pytest.param(2000, seed, multiquery, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
            for seed, multiquery in enumerate((False, True), start=2)
        ),
    ],
)
def test_in_a_storm_of_faults_every_game_is_matched_at_no_more_than_four_requests_a_second(
    here: OpenedStore, apps: int, seed: int, *, multiquery: bool
) -> None:
    with Sandbox(World.synthetic(apps, bare_every=20)) as sandbox:
        location = fetch(sandbox, here.store, World.SYNTHETIC_ACCOUNT)
        storm(sandbox, seed)
        response = enrich(sandbox, here.store, location, setup=Setup(policy=PATIENT, multiquery=multiquery))
        assert sandbox.busiest_second("igdb") <= 4
        assert sandbox.tokens_minted == 3
    assert (stats(response).matched, stats(response).pending) == (apps - apps // 20, 0)
