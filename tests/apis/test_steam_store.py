import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

import httpx
import pytest

from pipeline.apis.batching import BatchResult, all_rows, all_unanswered
from pipeline.apis.http import HttpLimits
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import MAX_FAILED_STORE_BATCHES, MAX_OPEN_STORE_REQUESTS, SteamStore
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.apis import BRIEF, QUICK, open_steam_store

T = TypeVar("T")


class Trickle(httpx.AsyncByteStream):
    """A body that never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)


@pytest.fixture
def world() -> World:
    world = World()
    world.add_store_item(620, "Portal 2")
    return world


def asking(sandbox: Sandbox, call: Callable[[SteamStore], Awaitable[T]], policy: RetryPolicy = QUICK) -> T:
    async def ask() -> T:
        async with open_steam_store(sandbox.environment, policy) as store:
            return await call(store)

    return asyncio.run(ask())


def test_an_app_is_asked_for_by_its_id_with_a_country_and_without_a_key(sandbox: Sandbox) -> None:
    (result,) = asking(sandbox, lambda store: store.fetch_items([620]))
    assert [(row["id"], row["type"], row["success"]) for row in result.rows] == [(620, 0, 1)]
    (record,) = sandbox.requests
    assert (record.service, record.method, record.path) == ("store", "GET", "/IStoreBrowseService/GetItems/v1/")
    assert record.params.keys() == {"input_json"}
    assert json.loads(record.params["input_json"]) == {
        "ids": [{"appid": 620}],
        "context": {"language": "english", "country_code": "US"},
        "data_request": {"include_basic_info": True},
    }


@pytest.mark.parametrize(("apps", "requests"), [(0, 0), (200, 1), (401, 3)])
def test_two_hundred_apps_are_asked_for_at_once(sandbox: Sandbox, apps: int, requests: int) -> None:
    told: list[int] = []
    # The longest ids: Steam refuses addresses above 8 kilobytes, as the sandbox does.
    appids = [9_000_000 + 10 * number for number in range(apps)]
    answers = asking(sandbox, lambda store: store.fetch_items(reversed(appids), told.append))
    assert len(sandbox.requests) == len(answers) == requests
    asked = [json.loads(record.params["input_json"]) for record in sandbox.requests]
    assert sorted(one["appid"] for question in asked for one in question["ids"]) == appids
    assert [question for question in asked if len(question["ids"]) > 200] == []
    assert sorted(row["id"] for row in all_rows(answers)) == appids
    assert sum(told) == apps


KINDS = {
    "429": Fault(status=429),
    "400": Fault(status=400),
    "reset": Fault(kind="reset"),
    "page with status 200": Fault(kind="html"),
    "null for the items": Fault(status=200, body='{"response":{"store_items":null}}'),
    "deeply nested": Fault(status=200, body="[" * 100_000),
}
TWICE = RetryPolicy(attempts=2, base_seconds=0.01)


@pytest.mark.parametrize("fault", KINDS.values(), ids=KINDS)
def test_a_request_is_repeated_after_a_fault_and_a_lasting_one_leaves_its_own_apps_unanswered(
    sandbox: Sandbox, fault: Fault
) -> None:
    async def ask(store: SteamStore) -> tuple[list[BatchResult], int]:
        return await store.fetch_items([*range(201, 401), 620]), store.requests

    fault.times, fault.when = 1, lambda text: "%3A620%7D" not in text
    sandbox.faults.add(fault)
    answers, requests = asking(sandbox, ask, TWICE)
    assert (all_unanswered(answers), requests) == ([], len(sandbox.requests)) == ([], 3)
    fault.times = None
    answers, _ = asking(sandbox, ask, TWICE)
    assert sorted(all_unanswered(answers)) == list(range(201, 401))
    assert {answer.error.code for answer in answers if answer.error} == {"steam_unavailable"}
    assert [row["id"] for row in all_rows(answers)] == [620]


def through(
    answer: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]],
    appids: Sequence[int],
    limits: HttpLimits = BRIEF,
) -> list[BatchResult]:
    async def ask() -> list[BatchResult]:
        policy = RetryPolicy(attempts=3, base_seconds=0.001)
        async with open_steam_store(policy=policy, limits=limits, transport=httpx.MockTransport(answer)) as store:
            return await store.fetch_items(appids)

    return asyncio.run(ask())


def test_a_store_whose_answers_trickle_is_given_up_after_some_batches() -> None:
    asked = 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, stream=Trickle())

    began = time.monotonic()
    answers = through(answer, range(1, 4_001), HttpLimits(answer_seconds=0.05))
    assert sum(len(one.unanswered) for one in answers) == 4_000
    assert 3 * MAX_FAILED_STORE_BATCHES <= asked <= 3 * (MAX_FAILED_STORE_BATCHES + MAX_OPEN_STORE_REQUESTS - 1)
    assert time.monotonic() - began < 5


def test_a_store_that_fails_for_a_moment_is_still_asked() -> None:
    asked = 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked <= MAX_FAILED_STORE_BATCHES:
            return httpx.Response(429, headers={"Retry-After": "0"})
        return httpx.Response(200, json={"response": {"store_items": []}})

    answers = through(answer, range(1, 4_001))
    assert [one.error for one in answers if one.error] == []


def test_no_more_items_are_taken_than_apps_were_asked_for() -> None:
    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"response": {"store_items": [{"id": 10}] * 3}})

    (one,) = through(answer, [1, 2])
    assert (one.rows, one.unanswered) == ([], [1, 2])


def test_a_few_requests_are_open_at_once() -> None:
    opened, most = 0, 0

    async def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        await asyncio.sleep(0.02)
        opened -= 1
        return httpx.Response(200, json={"response": {"store_items": []}})

    through(answer, range(1, 4_001))
    assert most == 4
