import asyncio
import time
from typing import Literal

import httpx
import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.limits import Gate, busiest_second
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World


async def ask(sandbox: Sandbox, times: int) -> list[int]:
    """The statuses of requests without a token that are sent at once."""
    async with httpx.AsyncClient(timeout=5) as client:
        url = f"{sandbox.environment['IGDB_API_URL']}/games"
        answers = await asyncio.gather(*(client.post(url) for _ in range(times)))
    return sorted(answer.status_code for answer in answers)


def passes(gate: Gate, at: float, slots: int = 1) -> bool:
    with gate.passing(at, slots) as admitted:
        return admitted


@pytest.mark.parametrize(
    ("times", "passed"),
    [
        pytest.param([0, 0.1, 0.2, 0.3, 0.4], [True] * 4 + [False], id="a fifth in one second"),
        pytest.param([0, 0.25, 0.5, 0.75, 1.0], [True] * 5, id="a second apart is another second"),
        pytest.param([0.5, 0.5, 1, 1, 1.25, 1.5, 1.5, 1.75], [True] * 4 + [False] + [True] * 2 + [False], id="sliding"),
        pytest.param([0, 0, 0, 0, 0.5, 1.0], [True] * 4 + [False, True], id="a refused one counts for nothing"),
    ],
)
def test_four_requests_pass_in_any_second(times: list[float], passed: list[bool]) -> None:
    gate = Gate()
    assert [passes(gate, at) for at in times] == passed


def test_a_request_of_many_slots_passes_and_takes_its_time() -> None:
    gate = Gate()
    assert passes(gate, 0, slots=10)
    later = (0.5, 1.0, 1.9, 2.0, 2.5, 2.9, 3.0)
    assert [passes(gate, at) for at in later] == [False, False, False, True, True, False, True]


@pytest.mark.parametrize(
    ("times", "busiest"), [([], 0), ([0, 1, 2], 1), ([0, 0.5, 0.99, 1.0, 1.4], 4), ([3.0, 1.0, 2.5, 2.9], 3)]
)
def test_the_busiest_second_slides(times: list[float], busiest: int) -> None:
    assert busiest_second(times) == busiest


@pytest.mark.parametrize(("slots", "statuses"), [("each", [401, 429]), ("one", [401, 401])])
def test_a_multiquery_is_one_request_or_each_of_its_queries(slots: Literal["one", "each"], statuses: list[int]) -> None:
    query = "".join(f'query games "{number}" {{ }};' for number in range(4))
    with Sandbox(World(), multiquery_slots=slots) as sandbox:
        url = sandbox.environment["IGDB_API_URL"]
        answers = [httpx.post(f"{url}/multiquery", content=query), httpx.post(f"{url}/games")]
        assert [answer.status_code for answer in answers] == statuses
        httpx.post(f"{url}/multiquery", content="fields name;")
        assert [record.slots for record in sandbox.asked("igdb")] == [4 if slots == "each" else 1, 1, 1]


def test_the_store_has_a_limit_of_its_own() -> None:
    with Sandbox(World(), store_per_second=2, limits=False) as sandbox:
        answers = [httpx.get(f"{sandbox.url}/{service}/x") for service in ("store", "steam", "store", "store", "steam")]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429, 404]


def test_the_fifth_request_in_a_second_is_refused_and_seen_unless_limits_are_off() -> None:
    for limits, statuses in {True: [401] * 4 + [429] * 2, False: [401] * 6}.items():
        with Sandbox(World(), limits=limits) as sandbox:
            assert asyncio.run(ask(sandbox, 6)) == statuses
            assert len(sandbox.asked("igdb")) == 6


def test_faulty_requests_count_for_the_limit() -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(Fault(service="igdb", status=503))
        assert asyncio.run(ask(sandbox, 5)) == [429] + [503] * 4


def test_eight_requests_may_be_open() -> None:
    with Sandbox(World(), latency_seconds=0.6) as sandbox:
        sandbox.gate.per_second = 100
        started = time.monotonic()
        assert asyncio.run(ask(sandbox, 10)) == [401] * 8 + [429] * 2
        assert time.monotonic() - started >= 0.6
        sandbox.latency_seconds = 0
        assert asyncio.run(ask(sandbox, 8)) == [401] * 8


def test_a_client_that_gives_up_frees_its_place() -> None:
    with Sandbox(World()) as sandbox:
        sandbox.gate.open_at_once = 1
        stall = sandbox.faults.add(Fault(kind="stall", seconds=600))
        url = f"{sandbox.environment['IGDB_API_URL']}/games"
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, timeout=0.1)
        sandbox.faults.remove(stall)
        until = time.monotonic() + 2
        while (status := httpx.post(url).status_code) == 429 and time.monotonic() < until:
            time.sleep(0.05)
        assert status == 401


def test_what_is_no_service_is_told_which_there_are_and_not_counted(sandbox: Sandbox) -> None:
    answer = httpx.get(sandbox.url)
    assert (answer.status_code, "/igdb" in answer.text) == (404, True)
    assert sandbox.requests == []
