import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import pytest

from pipeline.apis.batching import BatchResult
from pipeline.apis.igdb import MAX_OPEN, Igdb, Token, TwitchApplication
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import RetryPolicy
from pipeline.errors import PipelineError, Refused
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import GOG_SOURCE, World
from tests.support.apis import ONCE, QUICK, ask_igdb, open_igdb

T = TypeVar("T")
TWICE = RetryPolicy(attempts=2, base_seconds=0.01)


@pytest.fixture
def world() -> World:
    world = World()
    world.add_game(620, 72, "Portal 2")
    return world


def asking(
    sandbox: Sandbox,
    call: Callable[[Igdb], Awaitable[T]],
    *,
    policy: RetryPolicy = QUICK,
    token: Token | None = None,
    rate_limiter: RateLimiter | None = None,
    changed: Mapping[str, str] = MappingProxyType({}),
) -> T:
    """What a call of a client returns that sends no multiqueries; tests/apis/test_multiquery.py is about these."""
    settings = {**sandbox.environment, **changed}

    async def ask() -> T:
        opened = open_igdb(settings, policy, token=token, rate_limiter=rate_limiter, multiquery=False)
        async with opened as igdb:
            return await call(igdb)

    return asyncio.run(ask())


def portal(sandbox: Sandbox, **given: Any) -> BatchResult:
    """What IGDB says of the one app."""
    (answer,) = asking(sandbox, lambda igdb: igdb.fetch_external_games([620]), **given)
    return answer


def test_apps_are_asked_for_by_steams_uid(sandbox: Sandbox) -> None:
    sandbox.world.add_external_game("620", external_game_source=GOG_SOURCE, game=9)
    assert [(row["uid"], row["game"]) for row in portal(sandbox).rows] == [("620", 72)]
    (record,) = sandbox.asked("igdb")
    assert (record.method, record.path) == ("POST", "/v4/external_games")
    assert record.body == (
        'fields uid,game; where external_game_source = 1 & uid = ("620"); sort id asc; limit 500; offset 0;'
    )


@pytest.mark.parametrize(("apps", "requests"), [(0, 0), (400, 1), (901, 3)])
def test_many_apps_are_asked_for_by_the_hundred_and_progress_is_told(
    sandbox: Sandbox, apps: int, requests: int
) -> None:
    told: list[int] = []

    async def ask(igdb: Igdb) -> tuple[list[BatchResult], int]:
        return await igdb.fetch_external_games(range(1, apps + 1), told.append), igdb.requests

    answers, counted = asking(sandbox, ask)
    assert len(answers) == len(sandbox.asked("igdb")) == requests
    assert (sum(told), sandbox.tokens_minted, counted) == (apps, min(requests, 1), len(sandbox.requests))


def test_two_tokens_revoked_at_once_are_replaced_where_igdb_has_answered_before(sandbox: Sandbox) -> None:
    async def ask(igdb: Igdb) -> list[BatchResult]:
        await igdb.fetch_external_games([620])
        sandbox.faults.add(Fault(service="igdb", status=401, times=2))
        return await igdb.fetch_external_games([620])

    (answer,) = asking(sandbox, ask)
    assert (len(answer.rows), answer.error) == (1, None)


def test_a_refused_token_is_not_sent_again_where_no_new_one_can_be_had(sandbox: Sandbox) -> None:
    async def ask(igdb: Igdb) -> list[BatchResult]:
        await igdb.fetch_external_games([620])
        sandbox.revoke_tokens()
        sandbox.faults.add(Fault(service="twitch", status=503, times=2))
        return await igdb.fetch_external_games([620])

    (answer,) = asking(sandbox, ask)
    assert len(answer.rows) == 1
    assert [record.status for record in sandbox.asked("igdb")] == [200, 401, 200]


def test_a_rate_limit_of_twitch_does_not_slow_igdb_down(sandbox: Sandbox) -> None:
    limiter = RateLimiter(1_000, MAX_OPEN)
    sandbox.faults.add(Fault(service="twitch", status=429, times=1))
    portal(sandbox, rate_limiter=limiter)
    assert limiter.requests_per_second == 1_000
    sandbox.faults.add(Fault(service="igdb", status=429, times=1))
    portal(sandbox, rate_limiter=limiter)
    assert limiter.requests_per_second < 1_000


@pytest.mark.parametrize(("rows", "offsets"), [(499, ["0"]), (500, ["0", "500"]), (1000, ["0", "500", "1000"])])
def test_a_full_page_is_followed_by_the_next(sandbox: Sandbox, rows: int, offsets: list[str]) -> None:
    for number in range(rows):
        sandbox.world.add_external_game(str(1 + number % 100), game=number + 1)
    (answer,) = asking(sandbox, lambda igdb: igdb.fetch_external_games(range(1, 101)))
    assert len({row["id"] for row in answer.rows}) == rows
    assert [record.body.split("offset ")[1].rstrip(";") for record in sandbox.asked("igdb")] == offsets


def test_a_token_is_used_by_the_next_client_too(sandbox: Sandbox) -> None:
    token = Token()
    portal(sandbox, token=token)
    (answer,) = asking(sandbox, lambda igdb: igdb.fetch_games([72]), token=token)
    assert len(answer.rows) == 1
    assert sandbox.tokens_minted == 1


@pytest.mark.parametrize(("seconds", "minted"), [(3600, 1), (59, 2)])
def test_a_token_is_minted_anew_a_minute_before_it_expires(sandbox: Sandbox, seconds: int, minted: int) -> None:
    sandbox.twitch.token_seconds = seconds

    async def ask(igdb: Igdb) -> list[BatchResult]:
        return await igdb.fetch_external_games([620]) + await igdb.fetch_games([72])

    assert [len(answer.rows) for answer in asking(sandbox, ask)] == [1, 1]
    assert sandbox.tokens_minted == minted


def test_a_token_that_was_revoked_is_minted_anew_once_for_all_batches(sandbox: Sandbox) -> None:
    async def ask(igdb: Igdb) -> list[BatchResult]:
        await igdb.fetch_external_games([620])
        sandbox.revoke_tokens()
        return await igdb.fetch_external_games(range(1, 1001))

    answers = asking(sandbox, ask)
    assert [len(answer.rows) for answer in answers] == [0, 1, 0]
    assert sandbox.tokens_minted == 2


def test_wrong_credentials_end_the_stage_at_once(sandbox: Sandbox) -> None:
    changed = {"IGDB_CLIENT_SECRET": "wrong"}
    with pytest.raises(Refused, match="IGDB_CLIENT_ID and IGDB_CLIENT_SECRET: invalid client secret") as refused:
        asking(sandbox, lambda igdb: igdb.fetch_external_games(range(1, 2001)), changed=changed)
    assert refused.value.code == "bad_igdb_credentials"
    assert sandbox.asked("igdb") == []


PASSING = {
    "429": Fault(service="igdb", status=429),
    "503": Fault(service="igdb", status=503),
    "408": Fault(service="igdb", status=408),
    "reset": Fault(service="igdb", kind="reset"),
    "page with status 200": Fault(service="igdb", kind="html"),
    "an object": Fault(service="igdb", status=200, body='{"message":"?"}'),
    "503 of Twitch": Fault(service="twitch", status=503),
    "reset of Twitch": Fault(service="twitch", kind="reset"),
    "page of Twitch": Fault(service="twitch", kind="html"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_after_a_passing_fault_the_request_is_repeated(sandbox: Sandbox, fault: Fault) -> None:
    sandbox.faults.add(replace(fault, times=1))
    answer = portal(sandbox, policy=TWICE)
    assert (len(answer.rows), answer.error) == (1, None)
    assert fault.service
    assert len(sandbox.asked(fault.service)) == 2


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        pytest.param(Fault(status=429), 4, id="429, asked four times as often"),
        pytest.param(Fault(status=503), 15, id="503, halved down to 50 apps"),
    ],
)
def test_a_batch_that_fails_for_good_says_which_ids_were_not_answered(
    sandbox: Sandbox, fault: Fault, requests: int
) -> None:
    fault.service, fault.when = "igdb", lambda text: '"620"' not in text
    sandbox.faults.add(fault)
    told: list[int] = []
    answers = asking(sandbox, lambda igdb: igdb.fetch_external_games([*range(1, 401), 620], told.append), policy=ONCE)
    *failed, whole = answers
    assert [row for answer in failed for row in answer.rows] == []
    assert sorted(appid for answer in failed for appid in answer.unanswered) == list(range(1, 401))
    assert {answer.error.code for answer in failed if answer.error} == {"igdb_unavailable"}
    assert (len(whole.rows), whole.unanswered, whole.error) == (1, [], None)
    assert sum(told) == 401
    assert len(sandbox.asked("igdb")) == requests + 1


def test_a_batch_of_which_a_later_page_fails_is_not_answered(sandbox: Sandbox) -> None:
    for number in range(500):
        sandbox.world.add_external_game("7", game=number + 1)
    sandbox.faults.add(Fault(service="igdb", when=lambda text: "offset 500;" in text))
    (answer,) = asking(sandbox, lambda igdb: igdb.fetch_external_games([7]))
    assert (answer.rows, answer.unanswered) == ([], [7])


def test_a_request_that_is_too_large_is_not_repeated(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(service="igdb", status=413))
    error = portal(sandbox).error
    assert error is not None
    assert "413: Payload Too Large, Response size exceeds maximum allowed" in error.message
    assert len(sandbox.asked("igdb")) == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"access_token":null,"expires_in":3600}', id="null token"),
        pytest.param('{"access_token":"x","expires_in":"soon"}', id="word for a lifetime"),
    ],
)
def test_an_answer_without_token_and_lifetime_is_no_token(sandbox: Sandbox, body: str) -> None:
    sandbox.faults.add(Fault(service="twitch", status=200, body=body))
    error = portal(sandbox).error
    assert error is not None
    assert error.code == "igdb_unavailable"
    assert (len(sandbox.asked("twitch")), sandbox.asked("igdb")) == (QUICK.attempts, [])


def test_a_page_of_more_rows_than_asked_for_is_no_answer() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[{"id": 72}] * 501)

    (one,) = ask_igdb(answer, lambda igdb: igdb.fetch_games([72]))
    assert one.error
    assert "more than 500 rows" in one.error.message


def test_every_request_says_who_asks() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json=[])

    ask_igdb(answer, lambda igdb: igdb.fetch_games([72]))
    assert (seen[0]["Client-ID"], seen[0]["Authorization"], seen[0]["Accept"]) == (
        "id",
        "Bearer token",
        "application/json",
    )


def test_secrets_are_in_no_repr() -> None:
    application = TwitchApplication("id", "SECRET", "https://twitch.example/token")
    assert "SECRET" not in f"{application!r} {Token('SECRET')!r}"


@pytest.mark.parametrize("status", [400, 500])
def test_messages_of_twitch_that_are_not_known_are_not_quoted(sandbox: Sandbox, status: int) -> None:
    sandbox.faults.add(Fault(service="twitch", status=status, body='{"message":"CANARY is no secret"}'))
    try:
        error: PipelineError | None = portal(sandbox, policy=ONCE).error
    except Refused as refused:
        error = refused
    assert error is not None
    assert str(status) in error.message
    assert "CANARY" not in error.message
