"""Names that IGDB spells otherwise are found, by few requests, and are remembered whatever happens meanwhile."""

import asyncio
import signal
from datetime import timedelta
from typing import Any, cast

import polars as pl
import pytest

from benchmarks.candidates import altered_games, measure, recorded_world
from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Failed, Refused
from pipeline.review import look_up
from pipeline.review.candidates import search_terms
from pipeline.review.look_up import MAX_REFUSED, NAMES, NameFile, NameLookup
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.storage.store import Store
from schemas.manifest import VERSIONS
from tests.support.apis import open_igdb
from tests.support.stores import Memory

WEEK = timedelta(days=7)
TWICE = RetryPolicy(attempts=2, base_seconds=0.01)


@pytest.fixture
def world() -> World:
    world = World()
    names = ("Dark Souls III", "Portal", "Portal II", "Castan", "Castan: A Game of Cards", "Youtubers Life 3: Stream")
    for number, name in enumerate(names, start=1):
        world.add_game(900 + number, number, name)
    return world


def looking_up(
    sandbox: Sandbox, store: Store, *names: str, lifetime: timedelta = WEEK, until: int | None = None
) -> tuple[dict[str, list[int]], list[str]]:
    """The games found for each name, the right one first, and the names without an answer; `until` stops at a name."""
    apps = pl.DataFrame({"appid": range(1, len(names) + 1), "name": names}, schema_overrides={"appid": pl.Int32})

    def stop(_what: str, done: int, _total: int) -> None:
        if done == until:
            signal.raise_signal(signal.SIGINT)

    async def ask() -> tuple[dict[str, list[int]], list[str]]:
        async with open_igdb(sandbox.environment, TWICE) as igdb:
            found, unanswered, _ = await NameLookup(igdb, NameFile(store, lifetime), stop).look_up(search_terms(apps))
        games: dict[str, list[int]] = {}
        for appid, igdb_id in found.select("appid", "igdb_id").rows():
            games.setdefault(names[appid - 1], []).append(igdb_id)
        return games, [names[appid - 1] for appid in sorted(unanswered)]

    return asyncio.run(ask())


def test_of_names_that_igdb_spells_otherwise_nearly_all_are_found_by_few_requests() -> None:
    world, names = recorded_world()
    apps = altered_games(names, names, 60, seed=1)
    assert apps["kind"].n_unique() == 7
    measured = measure(apps, world)
    assert measured.is_good, measured


@pytest.mark.parametrize(
    ("name", "game", "requests"),
    [
        pytest.param("PORTAL™", 2, 1, id="a mark"),
        pytest.param("Portal 2", 3, 1, id="an Arabic numeral"),
        pytest.param("DARK SOULS™ 3: Deluxe Edition", 1, 2, id="an edition"),
        pytest.param("Castan: The Beginning", 4, 3, id="a subtitle that IGDB lacks"),
        pytest.param("Youtubers Life III", 6, 3, id="found by distinctive words"),
    ],
)
def test_a_name_is_asked_for_exactly_then_searched_for_then_by_its_distinctive_words(
    sandbox: Sandbox, name: str, game: int, requests: int
) -> None:
    found, _ = looking_up(sandbox, Memory(), name)
    assert found[name][0] == game
    assert len(sandbox.asked("igdb")) <= requests


def test_a_game_with_another_name_that_is_the_apps_is_found_without_a_search(sandbox: Sandbox) -> None:
    sandbox.world.add_game(907, 7, "Resident Evil 4")
    sandbox.world.add_alternative_name(7, "Biohazard 4")
    assert looking_up(sandbox, Memory(), "BIOHAZARD™ 4")[0] == {"BIOHAZARD™ 4": [7]}
    assert len(sandbox.asked("igdb")) == 1


def test_what_was_found_and_what_was_not_is_asked_once_in_the_lifetime(sandbox: Sandbox) -> None:
    store, names = Memory(), ("Portal", "Zzyzx", "Castan 2")
    first = looking_up(sandbox, store, *names)
    assert first[0].keys() == {"Portal", "Castan 2"}
    sandbox.requests.clear()
    assert looking_up(sandbox, store, *names) == first
    assert sandbox.requests == [], "neither IGDB nor Twitch"
    looking_up(sandbox, store, "Portal", lifetime=timedelta(0))
    assert len(sandbox.asked("igdb")) == 1


def test_a_look_up_that_is_stopped_keeps_what_it_found(sandbox: Sandbox) -> None:
    store = Memory()
    with pytest.raises(KeyboardInterrupt):
        looking_up(sandbox, store, *(f"Zzyzx {'a' * number}" for number in range(1, 10)), until=5)
    assert NameFile(store, WEEK).read().height >= 5


def test_a_look_up_that_is_killed_has_written_what_it_found_some_names_ago(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, written, write = Memory(), list[str](), Memory.replace

    def note(memory: Memory, key: str, *file: Any) -> bool:
        written.append(key)
        return write(memory, key, *file)

    monkeypatch.setattr(Memory, "replace", note)
    monkeypatch.setattr(look_up, "WRITTEN_AT_ONCE", 2)
    looking_up(sandbox, store, *(f"Zzyzx {'a' * number}" for number in range(1, 6)))
    assert written == [NAMES] * 3


def test_a_name_that_fails_leaves_the_others_their_answers_and_is_asked_for_again(sandbox: Sandbox) -> None:
    store = Memory()
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "Zzyzx" in text, status=500, times=4))
    found, unanswered = looking_up(sandbox, store, "Zzyzx", "Portal", "Castan 2")
    assert (found["Portal"][0], found["Castan 2"][0], unanswered) == (2, 4, ["Zzyzx"])
    assert looking_up(sandbox, store, "Zzyzx")[1] == []


def test_a_name_that_igdb_refuses_spoils_no_other_and_is_remembered_like_them(sandbox: Sandbox) -> None:
    exact = [f"Quest of {first}{last}" for first in "ABCDEFGHIJ" for last in ("aba", "ebe", "ibi", "obo", "ubu")]
    for number, name in enumerate(exact, start=1):
        sandbox.world.add_game(1_000 + number, 1_000 + number, name)
    fault = sandbox.faults.add(Fault(service="igdb", when=lambda text: "Zzyzx" in text, status=400))
    store, names = Memory(), (*map(str.upper, exact), "Zzyzx")
    first = looking_up(sandbox, store, *names)
    assert (len(first[0]), first[1]) == (len(exact), [])
    assert len(sandbox.asked("igdb")) <= 2 + 2 * 6 + 2, "whole, halves down to one name, and the searches for it"
    assert NameFile(store, WEEK).read().height == len(names)
    sandbox.requests.clear()
    assert looking_up(sandbox, store, *names) == first
    assert sandbox.requests == []
    sandbox.faults.remove(fault)
    assert looking_up(sandbox, store, "Zzyzx", lifetime=timedelta(0)) == ({}, [])


def test_a_refusal_of_name_after_name_is_what_igdb_says_and_not_a_missing_answer(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", status=400))
    with pytest.raises(Refused, match="configuration"):
        looking_up(sandbox, Memory(), *(f"Zzyzx {number}" for number in range(40)))
    assert len(sandbox.asked("igdb")) < 3 * MAX_REFUSED


def test_a_corrupt_file_of_names_is_replaced_and_one_of_another_version_refused(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Memory({NAMES: b"rubbish"})
    assert looking_up(sandbox, store, "Portal")[0]["Portal"][0] == 2
    assert NameFile(store, WEEK).read()["name"].to_list() == ["Portal"]
    monkeypatch.setitem(cast("dict[str, int]", VERSIONS), "names", 2)
    with pytest.raises(Failed, match="of version 1 of the names format"):
        NameFile(store, WEEK).read()


def test_a_name_whose_exact_look_up_failed_is_searched_for_and_not_remembered(sandbox: Sandbox) -> None:
    store = Memory()
    fault = sandbox.faults.add(Fault(service="igdb", when=lambda text: "name ~" in text, status=500))
    assert looking_up(sandbox, store, "Zzyzx", "Castan 2")[0].keys() == {"Castan 2"}
    assert NameFile(store, WEEK).read().is_empty()
    sandbox.faults.remove(fault)
    looking_up(sandbox, store, "Zzyzx", "Castan 2")
    assert set(NameFile(store, WEEK).read()["name"]) == {"Zzyzx", "Castan 2"}
