import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.apis.igdb import MAX_FAILURES, MAX_OPEN
from pipeline.apis.igdb_queries import (
    MAX_NAME_LENGTH,
    MAX_REQUEST_BYTES,
    SEARCH_LIMIT,
    Search,
    group_for_multiquery,
    multiquery_part,
)
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Refused
from pipeline.sandbox.apicalypse import Query, parse_multiquery, parse_query
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from tests.support.apis import open_igdb

TWICE = RetryPolicy(attempts=2, base_seconds=0.01)
RATE = Settings.model_fields["igdb_requests_per_second"].default
NAMES = [f"Quest {word}" for word in "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split()]  # noqa: SIM905


@pytest.fixture
def world() -> World:
    world = World()
    for number, name in enumerate(NAMES, start=1):
        world.add_game(number, 100 + number, name)
    return world


def search(
    sandbox: Sandbox,
    names: Iterable[str],
    per_second: float = 1_000,
    **changed: str,
) -> dict[str, list[Any]]:
    settings = sandbox.environment | changed

    async def ask() -> dict[str, list[Any]]:
        limiter = RateLimiter(per_second, MAX_OPEN)
        async with open_igdb(settings, TWICE, rate_limiter=limiter) as igdb:
            return await igdb.search_games(names)

    return asyncio.run(ask())


def firsts(found: dict[str, list[Any]]) -> dict[str, str]:
    return {name: rows[0]["name"] for name, rows in found.items() if rows}


def test_ten_names_are_searched_for_at_once_and_each_has_its_own_games(sandbox: Sandbox) -> None:
    assert firsts(search(sandbox, [*NAMES, *NAMES])) == dict(zip(NAMES, NAMES, strict=True))
    asked = sandbox.asked("igdb")
    assert {record.path for record in asked} == {"/v4/multiquery"}
    assert [len(parse_multiquery(record.body)) for record in asked] == [10, 2]


def test_a_name_that_no_game_is_like_has_an_answer_without_games(sandbox: Sandbox) -> None:
    assert search(sandbox, ["Zzyzx"]) == {"Zzyzx": []}
    assert search(sandbox, []) == {}


def test_a_game_comes_with_what_tells_it_from_others(sandbox: Sandbox) -> None:
    sandbox.world.add_game(50, 7, "Portal Two", platforms=[6], first_release_date=1303084800, version_parent=3)
    sandbox.world.add_alternative_name(7, "Portal II")
    (game,) = search(sandbox, ["Portal II"])["Portal II"]
    names = game.pop("alternative_names")
    assert [name["name"] for name in names] == ["Portal II"]
    assert game.pop("version_parent") == 3
    assert game == {
        "id": 7,
        "name": "Portal Two",
        "first_release_date": 1303084800,
        "game_type": 0,
        "platforms": [6],
    }


def test_names_whose_search_fails_are_searched_for_in_halves_until_the_bad_one_is_alone(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", when=lambda text: NAMES[3] in text, status=400))
    found = search(sandbox, NAMES[:10])
    assert firsts(found) == {name: name for name in NAMES[:10] if name != NAMES[3]}
    assert len(sandbox.asked("igdb")) == 9


@pytest.mark.parametrize("status", [413, 429, 500])
def test_a_multiquery_of_ten_that_is_too_large_is_asked_for_in_smaller_ones(sandbox: Sandbox, status: int) -> None:
    fault = Fault(service="igdb", when=lambda text: text.count("query games") > 5, status=status)
    sandbox.faults.add(fault)
    assert len(search(sandbox, NAMES)) == len(NAMES)


def test_when_igdb_is_down_no_name_has_an_answer_and_fewer_requests_than_names_are_sent(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", status=503))
    assert search(sandbox, [f"Name {number}" for number in range(60)]) == {}
    assert MAX_FAILURES <= len(sandbox.asked("igdb")) < 60


def test_bad_credentials_are_no_missing_answers(sandbox: Sandbox) -> None:
    with pytest.raises(Refused, match="bad_igdb_credentials"):
        search(sandbox, NAMES, IGDB_CLIENT_SECRET="another")


HOSTILE = [
    'say "hello"; fields *;',
    'a\\"; where id = 1; //',
    "back\\slash\\",
    '"',
    "\\",
    "two\nlines\r\nand\ttabs",
    "a\x00b\x1b[0m",
    'x" }; query games "2" { limit 500; };',
    "日本語 🎮 \u202e",
    "n" * 5000,
    '\\"' * 5000,
    "half \ud83d a pair",
    "// no comment",
    "*",
]


def test_no_name_can_say_anything_but_a_name(sandbox: Sandbox) -> None:
    found = search(sandbox, [*HOSTILE, NAMES[0]])
    assert found.keys() == {*HOSTILE, NAMES[0]}
    assert firsts(found)[NAMES[0]] == NAMES[0]
    assert {record.status for record in sandbox.asked("igdb")} == {200}


@given(st.text(st.one_of(st.characters(), st.sampled_from('"\\;{}\n')), min_size=1))
def test_any_name_is_read_as_it_was_meant(name: str) -> None:
    meant = "".join(character if character.isprintable() else " " for character in name[:MAX_NAME_LENGTH])
    query = parse_query(Search(name).text())
    assert query == Query(fields=query.fields, search=meant, limit=SEARCH_LIMIT)
    (asked,) = parse_multiquery(multiquery_part(3, Search(name)))
    assert (asked.endpoint, asked.name, asked.query) == ("games", "3", query)


def test_groups_stay_below_the_size_of_a_request_in_bytes() -> None:
    searches = [Search("🎮" * MAX_NAME_LENGTH + str(number)) for number in range(100)]
    groups = group_for_multiquery(searches, 100)
    assert [search for group in groups for search in group] == searches
    assert (
        max(sum(len(multiquery_part(0, search).encode()) for search in group) for group in groups) <= MAX_REQUEST_BYTES
    )
    assert len(groups) > 1
