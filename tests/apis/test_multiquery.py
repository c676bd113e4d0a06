import asyncio
import re
import time
from collections.abc import Callable

import httpx
import pytest
from structlog.testing import capture_logs

from pipeline.apis.batching import BatchResult, all_rows, all_unanswered
from pipeline.apis.http import HttpLimits
from pipeline.apis.igdb import MAX_OPEN, MAX_QUERIES, SINGLE_AFTER_REFUSAL, Igdb, RefusedQuery, Token
from pipeline.apis.igdb_queries import MAX_REQUEST_BYTES
from pipeline.apis.rate_limit import RateLimiter
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.apis import QUICK, open_igdb

APPIDS = range(1_000_000, 1_000_000 + 10 * 2_000, 10)
CHUNKS = 5


@pytest.fixture(scope="module")
def synthetic() -> World:
    return World.synthetic(2_000)


@pytest.fixture
def world(synthetic: World) -> World:
    return synthetic


def fetched(sandbox: Sandbox, times: int = 1, token: Token | None = None) -> list[BatchResult]:
    """What a client answers about 2,000 apps, the last time of several."""

    async def run() -> list[BatchResult]:
        limiter = RateLimiter(1_000, MAX_OPEN)
        async with open_igdb(sandbox.environment, QUICK, rate_limiter=limiter, token=token) as igdb:
            for _ in range(times):
                results = await igdb.fetch_external_games(APPIDS)
            return results

    return asyncio.run(run())


def is_whole(results: list[BatchResult]) -> bool:
    return {row["uid"] for row in all_rows(results)} == set(map(str, APPIDS)) and not all_unanswered(results)


def asked(sandbox: Sandbox) -> list[tuple[str, int | None]]:
    """The endpoint of each request, and its status."""
    return [(record.path.removeprefix("/v4/"), record.status) for record in sandbox.asked("igdb")]


MULTI, SINGLE = "multiquery", "external_games"


def test_as_many_queries_as_fit_go_in_one_request(sandbox: Sandbox) -> None:
    assert is_whole(fetched(sandbox))
    (record,) = sandbox.asked("igdb")
    assert record.path == "/v4/multiquery"
    assert len(record.body) <= MAX_REQUEST_BYTES
    assert record.body.count("query external_games") == CHUNKS


@pytest.mark.parametrize(("apps", "sizes"), [(4_001, [8, 3]), (6_000, [8, 7])])
def test_no_request_holds_more_than_ten_queries_or_32000_bytes(apps: int, sizes: list[int]) -> None:
    with Sandbox(World(), limits=False) as sandbox:

        async def run() -> None:
            async with open_igdb(sandbox.environment) as igdb:
                await igdb.fetch_external_games(range(100_000, 100_000 + apps))
                await igdb.fetch_external_games(range(1, 99, 1))

        asyncio.run(run())
        *bodies, single = [record.body for record in sandbox.asked("igdb")]
        assert [body.count("query external_games") for body in bodies] == sizes
        assert max(map(len, bodies)) <= MAX_REQUEST_BYTES
        assert single.startswith("fields")


REFUSALS = {
    "400": Fault(status=400),
    "403": Fault(status=403),
    "404": Fault(status=404, body="Endpoint POST /multiquery not found"),
    "405": Fault(status=405),
}
TOO_MUCH = {"413": Fault(status=413), "408": Fault(status=408), "504": Fault(status=504)}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
def test_after_a_refused_multiquery_all_queries_of_the_run_are_single(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=fault.status, body=fault.body))
    assert is_whole(fetched(sandbox, times=2))
    assert asked(sandbox) == [(MULTI, fault.status)] + [(SINGLE, 200)] * 2 * CHUNKS


def test_a_second_refusal_in_a_row_ends_the_multiqueries_of_the_process(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=403))
    token = Token()
    for refused in (1, 1, 0):
        sandbox.requests.clear()
        assert is_whole(fetched(sandbox, token=token))
        assert asked(sandbox) == [(MULTI, 403)] * refused + [(SINGLE, 200)] * CHUNKS


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
def test_after_a_refusal_by_chance_multiqueries_are_sent_again(sandbox: Sandbox, fault: Fault) -> None:
    token = Token()
    for _ in range(3):
        sandbox.requests.clear()
        sandbox.faults.add(Fault(service="igdb", path=MULTI, status=fault.status, body=fault.body, times=1))
        assert is_whole(fetched(sandbox, times=5, token=token))
        assert asked(sandbox) == [(MULTI, fault.status)] + [(SINGLE, 200)] * SINGLE_AFTER_REFUSAL + [(MULTI, 200)]


@pytest.mark.parametrize("fault", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_asked_too_much_is_asked_singly_and_the_next_requests_ask_less(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=fault.status, times=1))
    assert is_whole(fetched(sandbox, times=2))
    queries = [record.body.count("query external_games") for record in sandbox.asked("igdb")]
    assert (queries[: 1 + CHUNKS], sorted(queries[1 + CHUNKS :])) == ([CHUNKS, *[0] * CHUNKS], [1, 2, 2])


@pytest.mark.parametrize("fault", TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_asked_too_much_limits_no_other_endpoint(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=fault.status, times=1))

    async def run() -> tuple[int, int]:
        async with open_igdb(sandbox.environment, QUICK) as igdb:
            await igdb.fetch_external_games(APPIDS)
            return igdb.queries_at_once("external_games"), igdb.queries_at_once("games")

    assert asyncio.run(run()) == (CHUNKS // 2, MAX_QUERIES)


def test_a_multiquery_that_takes_too_long_is_asked_singly(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, kind="stall", times=1))

    async def run() -> list[BatchResult]:
        async with open_igdb(sandbox.environment, limits=HttpLimits(timeout_seconds=0.3)) as igdb:
            return await igdb.fetch_external_games(APPIDS)

    assert is_whole(asyncio.run(run()))
    assert [path for path, _ in asked(sandbox)] == [MULTI] + [SINGLE] * CHUNKS


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_multiquery_that_fails_by_chance_is_repeated_once(sandbox: Sandbox, status: int) -> None:
    fault = sandbox.faults.add(Fault(service="igdb", path=MULTI, status=status, times=1))
    assert is_whole(fetched(sandbox))
    assert asked(sandbox) == [(MULTI, status), (MULTI, 200)]
    sandbox.requests.clear()
    fault.times = None
    assert is_whole(fetched(sandbox))
    assert asked(sandbox) == [(MULTI, status)] * 2 + [(SINGLE, 200)] * CHUNKS


def test_one_rate_limit_is_waited_for_and_a_second_ends_the_multiqueries_of_the_run(sandbox: Sandbox) -> None:
    fault = sandbox.faults.add(Fault(service="igdb", path=MULTI, status=429, times=1))
    assert is_whole(fetched(sandbox))
    assert asked(sandbox) == [(MULTI, 429), (MULTI, 200)]
    sandbox.requests.clear()
    fault.times = None
    with capture_logs() as logged:
        assert is_whole(fetched(sandbox, times=2))
    assert asked(sandbox) == [(MULTI, 429)] * 2 + [(SINGLE, 200)] * 2 * CHUNKS
    assert [line["event"] for line in logged].count("no more multiqueries") == 1


def test_multiqueries_that_wait_when_they_are_given_up_are_not_sent(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=403))

    async def run() -> list[BatchResult]:
        async with open_igdb(sandbox.environment, rate_limiter=RateLimiter(50, 1)) as igdb:
            return await igdb.fetch_external_games(range(APPIDS.start, APPIDS.start + 10_000))

    assert not all_unanswered(asyncio.run(run()))
    assert [path for path, _ in asked(sandbox)] == [MULTI] + [SINGLE] * 25


def answers(change: Callable[[list[object]], object]) -> Callable[[httpx.Request], httpx.Response]:
    """An IGDB that answers a multiquery with one row a query, changed as a test wishes, and other requests with two."""

    def answer(request: httpx.Request) -> httpx.Response:
        names = re.findall(r'query \w+ "(\d+)"', request.content.decode())
        whole: list[object] = [{"name": name, "result": [{"id": 1}]} for name in names]
        return httpx.Response(200, json=change(whole) if names else [{"id": 2}, {"id": 3}])

    return answer


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        pytest.param(lambda parts: parts, [1, 1], id="whole"),
        pytest.param(lambda parts: parts[::-1], [1, 1], id="in another order"),
        pytest.param(lambda parts: parts[:1], [1, 2], id="a part is missing"),
        pytest.param(lambda parts: [parts[0], {"name": "1", "title": "Forbidden"}], [1, 2], id="a part is refused"),
        pytest.param(lambda parts: [parts[0], {"name": "1", "count": 3}], [1, 2], id="a part is a count"),
        pytest.param(lambda parts: [parts[0], "1"], [1, 2], id="a part is no object"),
        pytest.param(lambda parts: [*parts, parts[0]], [2, 1], id="a part twice"),
        pytest.param(lambda parts: [parts[0], {"name": "1", "result": []}], [1, 0], id="a part finds nothing"),
        pytest.param(lambda _parts: [], [2, 2], id="nothing"),
        pytest.param(
            lambda _parts: [{"name": "Count", "count": 3}, {"name": "Rows", "result": [{"id": 1}]}],
            [2, 2],
            id="parts of other names",
        ),
    ],
)
def test_a_part_without_an_answer_is_asked_singly(change: Callable[[list[object]], object], rows: list[int]) -> None:
    async def run() -> list[BatchResult]:
        token = Token("token", time.time() + 3_600)
        async with open_igdb(transport=httpx.MockTransport(answers(change)), token=token) as igdb:
            return await igdb.fetch_external_games(range(1, 801))

    assert [len(result.rows) for result in asyncio.run(run())] == rows


@pytest.mark.parametrize(("answer", "multiqueries"), [("[]", 1), ("<html>", 4), ('{"name": "0"}', 4)])
def test_a_multiquery_with_no_useful_answer_is_asked_singly(sandbox: Sandbox, answer: str, multiqueries: int) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=200, body=answer))
    assert is_whole(fetched(sandbox, times=2))
    assert sorted(path for path, _ in asked(sandbox)) == [SINGLE] * 2 * CHUNKS + [MULTI] * multiqueries


def test_a_query_that_igdb_does_not_know_ends_the_run_when_it_is_refused_singly_too(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", status=400))
    with pytest.raises(RefusedQuery, match="400: Syntax Error") as raised:
        fetched(sandbox)
    assert raised.value.code == "configuration"
    assert asked(sandbox)[:2] == [(MULTI, 400), (SINGLE, 400)]


def test_multiqueries_count_once_towards_igdbs_limit_and_keep_to_it() -> None:
    with Sandbox(World()) as sandbox:

        async def run(igdb: Igdb) -> None:
            async with igdb:
                await igdb.fetch_external_games(range(1, 15_000))

        asyncio.run(run(open_igdb(sandbox.environment, rate_limiter=RateLimiter(3.6, MAX_OPEN))))
        assert {record.status for record in sandbox.asked("igdb")} == {200}
        assert len(sandbox.asked("igdb")) >= 4
        assert sandbox.busiest_second("igdb") <= 4
