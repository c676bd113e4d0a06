import asyncio
import time

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


def passes(gate: Gate, at: float) -> bool:
    with gate.passing(at) as admitted:
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


@pytest.mark.parametrize(
    ("times", "busiest"), [([], 0), ([0, 1, 2], 1), ([0, 0.5, 0.99, 1.0, 1.4], 4), ([3.0, 1.0, 2.5, 2.9], 3)]
)
def test_the_busiest_second_slides(times: list[float], busiest: int) -> None:
    assert busiest_second(times) == busiest


def test_a_multiquery_is_one_request(client: httpx.Client) -> None:
    query = "".join(f'query games "{number}" {{ }};' for number in range(10))
    with Sandbox(World()) as sandbox:
        url = f"{sandbox.environment['IGDB_API_URL']}/multiquery"
        answers = [client.post(url, content=query) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 4 + [429]


def test_the_store_has_a_limit_of_its_own(client: httpx.Client) -> None:
    with Sandbox(World(), store_per_second=2, limits=False) as sandbox:
        services = ("store", "steam", "store", "store", "steam")
        answers = [client.get(f"{sandbox.url}/{service}/x") for service in services]
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


def test_a_client_that_gives_up_frees_its_place(client: httpx.Client) -> None:
    with Sandbox(World()) as sandbox:
        sandbox.gate.open_at_once = 1
        stall = sandbox.faults.add(Fault(kind="stall", seconds=600))
        url = f"{sandbox.environment['IGDB_API_URL']}/games"
        with pytest.raises(httpx.ReadTimeout):
            client.post(url, timeout=0.1)
        sandbox.faults.remove(stall)
        until = time.monotonic() + 2
        while (status := client.post(url).status_code) == 429 and time.monotonic() < until:
            time.sleep(0.05)
        assert status == 401


def test_what_is_no_service_is_told_which_there_are_and_not_counted(sandbox: Sandbox, client: httpx.Client) -> None:
    answer = client.get(sandbox.url)
    assert (answer.status_code, "/igdb" in answer.text) == (404, True)
    assert sandbox.requests == []
