import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.apis.igdb import MAX_FAILURES, Igdb
from pipeline.apis.igdb_queries import (
    MAX_NAME_LENGTH,
    MAX_REQUEST_BYTES,
    PAGE_SIZE,
    SEARCH_LIMIT,
    group_names,
    named_games_query,
    quote,
    search_text,
)
from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Retryable
from pipeline.sandbox.apicalypse import Query, parse_query
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.apis import open_igdb

TWICE = RetryPolicy(attempts=2, base_seconds=0.01)
NAMES = [f"Quest {number}" for number in range(120)]


@pytest.fixture
def world() -> World:
    world = World()
    for number, name in enumerate(NAMES, start=1):
        world.add_game(number, 100 + number, name)
    return world


def asking(sandbox: Sandbox, exact: Iterable[str] = (), search: Iterable[str] = ()) -> list[Any]:
    """The names of the games that are found by their exact names and by searches, or the errors of searches."""

    async def searched(igdb: Igdb, name: str) -> list[Any]:
        try:
            return [row["name"] for row in await igdb.search_games(name)]
        except Retryable as error:
            return [error.code]

    async def ask() -> list[Any]:
        async with open_igdb(sandbox.environment, TWICE) as igdb:
            rows, _ = await igdb.fetch_games_named(exact)
            return [row["name"] for row in rows] + [found for name in search for found in await searched(igdb, name)]

    return asyncio.run(ask())


def test_many_exact_names_go_in_one_request_whatever_their_case(sandbox: Sandbox) -> None:
    sandbox.world.add_alternative_name(101, "The First Quest")
    names = [*(name.upper() for name in NAMES[1:]), "THE FIRST QUEST", "Quest", "Quest 1*"]
    assert sorted(asking(sandbox, names)) == sorted(NAMES)
    (asked,) = sandbox.asked("igdb")
    assert asked.path == "/v4/games"


def test_a_full_page_of_games_of_the_same_name_is_followed_by_the_next(sandbox: Sandbox) -> None:
    for number in range(PAGE_SIZE + 5):
        sandbox.world.add_game(10_000 + number, 10_000 + number, "Home")
    assert len(asking(sandbox, ["home"])) == PAGE_SIZE + 5
    assert len(sandbox.asked("igdb")) == 2


def test_names_whose_request_is_too_large_for_igdb_are_asked_for_in_halves(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", when=lambda text: text.count(" ~ ") > 140, status=413))
    assert sorted(asking(sandbox, NAMES)) == sorted(NAMES)


def test_where_igdb_refuses_alternative_names_names_alone_are_asked_for(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "alternative_names.name ~" in text, status=400))
    assert sorted(asking(sandbox, NAMES)) == sorted(NAMES)
    assert len(sandbox.asked("igdb")) == 2


def test_a_search_is_a_request_of_its_own_and_fails_alone(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", when=lambda text: NAMES[3] in text, status=500))
    assert asking(sandbox, search=NAMES[2:5]) == [NAMES[2], "igdb_unavailable", NAMES[4]]
    assert {record.path for record in sandbox.asked("igdb")} == {"/v4/games"}


def test_when_igdb_is_down_fewer_requests_than_names_are_sent(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", status=503))
    assert asking(sandbox, search=NAMES[:60]) == ["igdb_unavailable"] * 60
    assert MAX_FAILURES <= len(sandbox.asked("igdb")) < 60


def test_a_game_comes_with_what_tells_it_from_others(sandbox: Sandbox) -> None:
    sandbox.world.add_game(500, 7, "Portal Two", platforms=[6], first_release_date=1303084800, version_parent=3)
    sandbox.world.add_alternative_name(7, "Portal II")

    async def ask() -> list[Any]:
        async with open_igdb(sandbox.environment, TWICE) as igdb:
            return [*await igdb.search_games("Portal II"), *(await igdb.fetch_games_named(["portal ii"]))[0]]

    searched, named = asyncio.run(ask())
    assert searched == named
    assert [name["name"] for name in named.pop("alternative_names")] == ["Portal II"]
    assert named.pop("version_parent") == 3
    assert named == {
        "id": 7,
        "name": "Portal Two",
        "first_release_date": 1303084800,
        "game_type": 0,
        "platforms": [6],
    }


@given(st.text(st.one_of(st.characters(), st.sampled_from('"\\;{}\n*')), min_size=1))
def test_any_name_is_read_as_it_was_meant(name: str) -> None:
    meant = "".join(character if character.isprintable() else " " for character in name[:MAX_NAME_LENGTH])
    query = parse_query(search_text(name))
    assert query == Query(fields=query.fields, search=meant, limit=SEARCH_LIMIT)
    (by_name,), (by_other_name,) = parse_query(named_games_query([name]).text()).where
    assert (by_name.operator, set(by_name.values)) == ("~", {meant.casefold()})
    assert by_other_name.values == by_name.values


def test_groups_of_names_stay_below_the_size_of_a_request_in_bytes() -> None:
    names = ["🎮" * MAX_NAME_LENGTH, *('"' * 150 + str(number) for number in range(300))]
    groups = group_names(names)
    assert [name for group in groups for name in group] == names
    sizes = [len(named_games_query(group).text(page=99).encode()) for group in groups]
    assert max(sizes) <= 32_000 == MAX_REQUEST_BYTES
    assert min(sizes[:-1]) > 30_000
    assert quote('"')[1:-1] == '\\"'
