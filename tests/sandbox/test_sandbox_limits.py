import asyncio
import time
from collections.abc import Callable
from typing import Literal

import httpx
import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.limits import Gate, busiest_second
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World

TOO_MANY = {"message": "Too Many Requests"}


async def ask(sandbox: Sandbox, times: int) -> list[int]:
    async with httpx.AsyncClient(timeout=5) as client:
        url = f"{sandbox.environment['IGDB_API_URL']}/games"
        answers = await asyncio.gather(*(client.post(url) for _ in range(times)))
    assert all(answer.json() == TOO_MANY for answer in answers if answer.status_code == 429)
    return sorted(answer.status_code for answer in answers)


def admitted(gate: Gate, times: list[float]) -> list[bool]:
    def knock(at: float) -> bool:
        with gate.passing(at) as passes:
            return passes

    return [knock(at) for at in times]


@pytest.mark.parametrize(
    ("times", "passes"),
    [
        pytest.param([0, 0.1, 0.2, 0.3, 0.4], [True] * 4 + [False], id="a fifth in one second"),
        pytest.param([0, 0.25, 0.5, 0.75, 1.0], [True] * 5, id="a second apart is another second"),
        pytest.param([0.5, 0.5, 1, 1, 1.25, 1.5, 1.5, 1.75], [True] * 4 + [False] + [True] * 2 + [False], id="sliding"),
        pytest.param([0, 0, 0, 0, 0.5, 1.0], [True] * 4 + [False, True], id="a refused one counts for nothing"),
    ],
)
def test_four_pass_in_any_second(times: list[float], passes: list[bool]) -> None:
    assert admitted(Gate(), times) == passes


@pytest.mark.parametrize(
    ("times", "busiest"),
    [([], 0), ([5.0], 1), ([0, 1, 2], 1), ([0, 0.5, 0.99, 1.0, 1.4], 4), ([3.0, 1.0, 2.5, 2.9], 3)],
)
def test_the_busiest_second_slides(times: list[float], busiest: int) -> None:
    assert busiest_second(times) == busiest


def test_a_request_of_many_slots_passes_and_takes_its_time() -> None:
    gate = Gate()

    def passes(at: float, slots: int = 1) -> bool:
        with gate.passing(at, slots) as admitted:
            return admitted

    assert passes(0, slots=10)
    assert [passes(at) for at in (0.5, 1.0, 1.9, 2.0, 2.5, 2.9, 3.0)] == [False, False, False, True, True, False, True]


@pytest.mark.parametrize(("slots", "statuses"), [("each", [401, 429]), ("one", [401, 401])])
def test_a_multiquery_is_one_request_or_each_of_its_queries(slots: Literal["one", "each"], statuses: list[int]) -> None:
    query = "".join(f'query games "{number}" {{ }};' for number in range(4))
    with Sandbox(World(), multiquery_slots=slots) as sandbox:
        url = sandbox.environment["IGDB_API_URL"]
        answers = [httpx.post(f"{url}/multiquery", content=query), httpx.post(f"{url}/games")]
        assert [answer.status_code for answer in answers] == statuses
        assert [record.slots for record in sandbox.asked("igdb")] == [4 if slots == "each" else 1, 1]


def test_what_is_no_multiquery_is_one_request() -> None:
    with Sandbox(World()) as sandbox:
        httpx.post(f"{sandbox.environment['IGDB_API_URL']}/multiquery", content="fields name;")
        assert sandbox.requests[0].slots == 1


def test_the_store_has_a_limit_of_its_own() -> None:
    with Sandbox(World(), store_per_second=2, limits=False) as sandbox:
        answers = [httpx.get(f"{sandbox.url}/{service}/x") for service in ("store", "steam", "store", "store", "steam")]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429, 404]
    assert "<title>429 Too Many Requests</title>" in answers[3].text


def test_the_fifth_request_in_a_second_is_refused_and_seen() -> None:
    with Sandbox(World()) as sandbox:
        assert asyncio.run(ask(sandbox, 6)) == [401] * 4 + [429] * 2
        assert sandbox.busiest_second("igdb") == 6
        assert [record.status for record in sandbox.asked("igdb")].count(429) == 2


def test_faulty_requests_count_for_the_limit() -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(Fault(service="igdb", status=503))
        url = f"{sandbox.environment['IGDB_API_URL']}/games"
        assert [httpx.post(url).status_code for _ in range(5)] == [503] * 4 + [429]


def test_without_limits_everything_passes() -> None:
    with Sandbox(World(), limits=False) as sandbox:
        assert asyncio.run(ask(sandbox, 20)) == [401] * 20


def test_eight_requests_may_be_open() -> None:
    with Sandbox(World(), latency_seconds=0.6) as sandbox:
        sandbox.gate.per_second = 100
        assert asyncio.run(ask(sandbox, 10)) == [401] * 8 + [429] * 2
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
        assert eventually(lambda: httpx.post(url).status_code == 401)


def eventually(comes_true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 2
    while not (true := comes_true()) and time.monotonic() < until:
        time.sleep(0.05)
    return true


def test_latency_delays_every_answer() -> None:
    with Sandbox(World(), latency_seconds=0.05) as sandbox:
        started = time.monotonic()
        httpx.post(sandbox.environment["TWITCH_TOKEN_URL"])
        assert time.monotonic() - started >= 0.05


def test_several_sandboxes_run_at_once_and_start_at_once() -> None:
    started = time.monotonic()
    with Sandbox(World()) as one, Sandbox(World()) as other:
        assert one.url != other.url
        assert one.environment["STEAM_API_KEY"] != other.environment["STEAM_API_KEY"]
    assert time.monotonic() - started < 1


def test_elsewhere_the_sandbox_says_what_it_has(sandbox: Sandbox) -> None:
    answer = httpx.get(sandbox.url)
    assert (answer.status_code, "/igdb" in answer.text) == (404, True)
    assert sandbox.requests == []
