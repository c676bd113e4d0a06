import asyncio
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from structlog.testing import capture_logs

from pipeline.apis.batching import BatchResult, all_rows, all_unanswered
from pipeline.apis.igdb import MAX_OPEN, MAX_QUERIES, SINGLE_AFTER_REFUSAL, Igdb, RefusedQuery, Token
from pipeline.apis.igdb_queries import MAX_REQUEST_BYTES
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from tests.support.apis import QUICK, ask_igdb, open_igdb

APPIDS = range(1_000_000, 1_002_000)
KNOWN = set(map(str, APPIDS[::10]))
CHUNKS = 5


@pytest.fixture(scope="module")
def synthetic() -> World:
    return World.synthetic(200)


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
    return {row["uid"] for row in all_rows(results)} == KNOWN and not all_unanswered(results)


def asked(sandbox: Sandbox) -> list[tuple[str, int | None]]:
    """The endpoint of each request, and its status."""
    return [(record.path.removeprefix("/v4/"), record.status) for record in sandbox.asked("igdb")]


MULTI, SINGLE = "multiquery", "external_games"
RATE = Settings.model_fields["igdb_requests_per_second"].default


def test_as_many_queries_as_fit_go_in_one_request(sandbox: Sandbox) -> None:
    assert is_whole(fetched(sandbox))
    (record,) = sandbox.asked("igdb")
    assert record.path == "/v4/multiquery"
    assert len(record.body) <= MAX_REQUEST_BYTES
    assert record.body.count("query external_games") == CHUNKS


@pytest.mark.parametrize(
    ("call", "sizes"),
    [
        pytest.param(lambda igdb: igdb.fetch_external_games(range(100_000, 104_001)), [8, 3], id="by bytes"),
        pytest.param(lambda igdb: igdb.fetch_games(range(1, 5_501)), [10, 1], id="by number"),
    ],
)
def test_no_request_holds_more_than_ten_queries_or_32000_bytes(
    sandbox: Sandbox, call: Callable[[Igdb], Awaitable[object]], sizes: list[int]
) -> None:
    async def run() -> None:
        async with open_igdb(sandbox.environment) as igdb:
            await call(igdb)

    asyncio.run(run())
    bodies = [record.body for record in sandbox.asked("igdb")]
    assert [body.count("query ") for body in bodies] == sizes
    assert max(map(len, bodies)) <= MAX_REQUEST_BYTES


@pytest.mark.parametrize("status", [400, 403, 404])
def test_after_a_refused_multiquery_all_queries_of_the_run_are_single(sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=status))
    assert is_whole(fetched(sandbox, times=2))
    assert asked(sandbox) == [(MULTI, status)] + [(SINGLE, 200)] * 2 * CHUNKS


def test_a_second_refusal_in_a_row_ends_the_multiqueries_of_the_process(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=403))
    token = Token()
    for refused in (1, 1, 0):
        sandbox.requests.clear()
        assert is_whole(fetched(sandbox, token=token))
        assert asked(sandbox) == [(MULTI, 403)] * refused + [(SINGLE, 200)] * CHUNKS


def test_after_a_refusal_by_chance_multiqueries_are_sent_again(sandbox: Sandbox) -> None:
    token = Token()
    for _ in range(2):
        sandbox.requests.clear()
        sandbox.faults.add(Fault(service="igdb", path=MULTI, status=400, times=1))
        assert is_whole(fetched(sandbox, times=5, token=token))
        assert asked(sandbox) == [(MULTI, 400)] + [(SINGLE, 200)] * SINGLE_AFTER_REFUSAL + [(MULTI, 200)]


@pytest.mark.parametrize("status", [413, 504])
def test_what_asked_too_much_is_asked_singly_and_the_next_requests_of_its_endpoint_ask_less(
    sandbox: Sandbox, status: int
) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=status, times=1))

    async def run() -> tuple[list[BatchResult], int]:
        async with open_igdb(sandbox.environment, QUICK) as igdb:
            await igdb.fetch_external_games(APPIDS)
            return await igdb.fetch_external_games(APPIDS), igdb.queries_at_once("games")

    results, most_of_games = asyncio.run(run())
    assert (is_whole(results), most_of_games) == (True, MAX_QUERIES)
    queries = [record.body.count("query external_games") for record in sandbox.asked("igdb")]
    assert (queries[: 1 + CHUNKS], sorted(queries[1 + CHUNKS :])) == ([CHUNKS, *[0] * CHUNKS], [1, 2, 2])


def test_a_multiquery_that_fails_by_chance_is_repeated_once(sandbox: Sandbox) -> None:
    fault = sandbox.faults.add(Fault(service="igdb", path=MULTI, status=503, times=1))
    assert is_whole(fetched(sandbox))
    assert asked(sandbox) == [(MULTI, 503), (MULTI, 200)]
    sandbox.requests.clear()
    fault.times = None
    assert is_whole(fetched(sandbox))
    assert asked(sandbox) == [(MULTI, 503)] * 2 + [(SINGLE, 200)] * CHUNKS


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


def test_a_rate_limit_of_single_queries_says_nothing_about_multiqueries(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=SINGLE, status=429, times=4))

    async def run() -> int:
        async with open_igdb(sandbox.environment, RetryPolicy(attempts=5, base_seconds=0.001)) as igdb:
            await igdb.fetch_external_games([APPIDS[0]])
            return igdb.queries_at_once(SINGLE)

    assert asyncio.run(run()) == MAX_QUERIES


def test_multiqueries_that_wait_when_they_are_given_up_are_not_sent(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", path=MULTI, status=403))

    async def run() -> list[BatchResult]:
        async with open_igdb(sandbox.environment, rate_limiter=RateLimiter(50, 1)) as igdb:
            return await igdb.fetch_external_games(range(APPIDS.start, APPIDS.start + 4_001))

    assert not all_unanswered(asyncio.run(run()))
    assert [path for path, _ in asked(sandbox)] == [MULTI] + [SINGLE] * 11


def by_parts(change: Callable[[list[object]], object]) -> list[BatchResult]:
    """What a client makes of an IGDB that answers each query with two rows, in a multiquery with one.

    The answer to a multiquery is changed as a test wishes.
    """

    def answer(request: httpx.Request) -> httpx.Response:
        names = re.findall(r'query \w+ "(\d+)"', request.content.decode())
        whole: list[object] = [{"name": name, "result": [{"id": 1}]} for name in names]
        return httpx.Response(200, json=change(whole) if names else [{"id": 2}, {"id": 3}])

    return ask_igdb(answer, lambda igdb: igdb.fetch_external_games(range(1, 801)), QUICK)


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
    assert [len(result.rows) for result in by_parts(change)] == rows


def test_a_multiquery_that_takes_too_long_is_not_repeated_and_asked_singly() -> None:
    asked = 0

    def stall(_parts: list[object]) -> object:
        nonlocal asked
        asked += 1
        raise httpx.ReadTimeout("too long")

    assert [len(result.rows) for result in by_parts(stall)] == [2, 2]
    assert asked == 1


@pytest.mark.parametrize(("answer", "multiqueries"), [("[]", 1), ("<html>", 4)])
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

        asyncio.run(run(open_igdb(sandbox.environment, rate_limiter=RateLimiter(RATE, MAX_OPEN))))
        assert {record.status for record in sandbox.asked("igdb")} == {200}
        assert len(sandbox.asked("igdb")) >= 4
        assert sandbox.busiest_second("igdb") <= 4
