import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from pipeline import clients
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.apis.steam import Steam
from pipeline.errors import PipelineError, Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings
from schemas.events import ErrorCode
from tests.support.apis import EXAMPLE, QUICK, open_steam

T = TypeVar("T")
TOLERANCE = 0.12
"""Of seconds between two requests, the first of which may be longer on its way."""
CANARY = "CANARY0123456789ABCDEF/+&=%:;"


@pytest.fixture
def world() -> World:
    return World.recorded()


def asking(sandbox: Sandbox, call: Callable[[Steam], Awaitable[T]], policy: RetryPolicy = QUICK) -> T:
    async def ask() -> T:
        async with open_steam(sandbox.environment, policy) as steam:
            answer = await call(steam)
            assert steam.requests == len(sandbox.asked("steam"))
            return answer

    return asyncio.run(ask())


def owned_games(sandbox: Sandbox, account: str = World.RECORDED_ACCOUNT) -> list[Any] | None:
    return asking(sandbox, lambda steam: steam.fetch_owned_games(account))


def error(sandbox: Sandbox) -> PipelineError:
    with pytest.raises(PipelineError) as raised:
        owned_games(sandbox)
    return raised.value


def test_a_library_comes_whole_and_is_asked_for_with_its_free_and_unvetted_games(sandbox: Sandbox) -> None:
    games = owned_games(sandbox)
    assert games is not None
    assert len(games) == 129
    (record,) = sandbox.asked("steam")
    assert record.path == "/IPlayerService/GetOwnedGames/v1/"
    assert record.params == {
        "steamid": World.RECORDED_ACCOUNT,
        "include_appinfo": "1",
        "include_played_free_games": "1",
        "include_free_sub": "1",
        "skip_unvetted_apps": "0",
    }


@pytest.mark.parametrize(
    ("body", "games"),
    [
        pytest.param(
            '{"response":{"game_count":1,"games":[{"appid":1,"new":[]}],"new":{}},"new":1}',
            [{"appid": 1, "new": []}],
            id="everywhere",
        ),
        pytest.param('{"response":{"new":true}}', None, id="beside nothing at all"),
        pytest.param('{"response":{"games":[{"appid":1}]}}', [{"appid": 1}], id="no count"),
    ],
)
def test_unknown_fields_are_ignored(sandbox: Sandbox, body: str, games: list[Any] | None) -> None:
    sandbox.faults.add(Fault(status=200, body=body))
    assert owned_games(sandbox) == games


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"response":{"game_count":5}}', id="count without games"),
        pytest.param('{"response":{"game_count":3,"games":[{"appid":1}]}}', id="fewer rows than the count"),
        pytest.param('{"response":{"game_count":1,"games":"The Witcher 3"}}', id="games are text"),
        pytest.param('{"response":{"game_count":"1","games":[{"appid":1}]}}', id="count is text"),
        pytest.param('{"response":{"game_count":null}}', id="count is null"),
        pytest.param('{"response":{"games":[]}}', id="no games and no count"),
        pytest.param('{"response":[]}', id="response is a list"),
        pytest.param("{}", id="no response"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_short_or_malformed_answer_is_never_a_library(sandbox: Sandbox, body: str) -> None:
    sandbox.faults.add(Fault(status=200, body=body))
    assert error(sandbox).code == "steam_bad_answer"
    assert len(sandbox.asked("steam")) == QUICK.attempts


PASSING = [
    pytest.param(Fault(status=429), "steam_rate_limited", id="429"),
    pytest.param(Fault(status=200, body='{"response":{"game_count":5}}'), "steam_bad_answer", id="short answer"),
    pytest.param(Fault(kind="reset"), "steam_unavailable", id="reset"),
    pytest.param(Fault(kind="html"), "steam_bad_answer", id="page with status 200"),
    pytest.param(Fault(status=302, body="", headers={"Location": "/"}), "steam_bad_answer", id="redirect"),
]


@pytest.mark.parametrize(("fault", "code"), PASSING)
def test_a_request_is_repeated_until_it_is_answered_or_its_attempts_are_used_up(
    sandbox: Sandbox, fault: Fault, code: ErrorCode
) -> None:
    fault.times = 2
    sandbox.faults.add(fault)
    assert len(owned_games(sandbox) or []) == 129
    assert len(sandbox.asked("steam")) == 3
    fault.times = None
    sandbox.requests.clear()
    raised = error(sandbox)
    assert (type(raised), raised.code) == (Retryable, code)
    assert len(sandbox.asked("steam")) == QUICK.attempts


def test_an_absurd_retry_after_ends_the_stage_at_once(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(status=429, headers={"Retry-After": "86400"}))
    started = time.monotonic()
    assert error(sandbox).code == "steam_rate_limited"
    assert time.monotonic() - started < 1
    assert len(sandbox.asked("steam")) == 1


def crowding(sandbox: Sandbox, requests: int, **settings: float) -> list[float]:
    """When each of so many requests that are made at once arrives."""
    given = {name.lower(): value for name, value in sandbox.environment.items()} | {"retry_base_seconds": 0.01}
    configured = Settings.model_validate(given | settings)

    async def ask() -> None:
        async with clients.open_steam(configured) as steam:
            await asyncio.gather(*(steam.has_account(World.EMPTY_ACCOUNT) for _ in range(requests)))

    asyncio.run(ask())
    return [record.at for record in sandbox.asked("steam")]


def test_no_more_requests_a_second_than_are_allowed_however_many_are_made_at_once(sandbox: Sandbox) -> None:
    at = crowding(sandbox, 11, steam_requests_per_second=20)
    assert at[-1] - at[0] >= 10 / 20 - TOLERANCE


def test_no_more_requests_are_open_than_are_allowed(sandbox: Sandbox) -> None:
    sandbox.latency_seconds = 0.15
    at = crowding(sandbox, 6, steam_requests_per_second=1000, steam_concurrency=2)
    assert min(at[number + 2] - at[number] for number in range(4)) >= 0.15


def test_an_answer_of_429_halves_the_rate_and_the_next_answer_raises_it_a_little(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(status=429, times=1))
    limiter = RateLimiter(100, 8)

    async def ask() -> None:
        async with open_steam(sandbox.environment, rate_limiter=limiter) as steam:
            await steam.has_account(World.EMPTY_ACCOUNT)

    asyncio.run(ask())
    assert limiter.requests_per_second == pytest.approx(50.25)


async def resolve(steam: Steam) -> object:
    return await steam.resolve_vanity("gabe")


async def look_for(steam: Steam) -> object:
    return await steam.has_account(World.EMPTY_ACCOUNT)


@pytest.mark.parametrize(
    ("call", "response"),
    [
        pytest.param(resolve, '{"success":1}', id="no id"),
        pytest.param(resolve, '{"success":1,"steamid":76561197960287930}', id="a number for an id"),
        pytest.param(resolve, '{"success":1,"steamid":"7656119796028793"}', id="an id of 16 digits"),
        pytest.param(resolve, '{"success":1,"steamid":"７６５６１１９７９６０２８７９３０"}', id="full-width"),  # noqa: RUF001
        pytest.param(resolve, "{}", id="nothing about a custom URL"),
        pytest.param(look_for, "{}", id="no players"),
        pytest.param(look_for, '{"players":{}}', id="an object for players"),
    ],
)
def test_an_answer_about_an_account_that_lacks_it_is_bad(
    sandbox: Sandbox, call: Callable[[Steam], Awaitable[object]], response: str
) -> None:
    sandbox.faults.add(Fault(status=200, body=f'{{"response":{response}}}'))
    with pytest.raises(Retryable) as raised:
        asking(sandbox, call)
    assert raised.value.code == "steam_bad_answer"


def test_the_key_travels_in_a_header_and_in_no_address() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"response": {"game_count": 0}})

    async def ask() -> None:
        async with open_steam(EXAMPLE | {"STEAM_API_KEY": CANARY}, transport=httpx.MockTransport(answer)) as steam:
            await steam.fetch_owned_games(World.RECORDED_ACCOUNT)

    asyncio.run(ask())
    assert [request.headers["x-webapi-key"] for request in asked] == [CANARY]
    assert "CANARY" not in str(asked[0].url)
