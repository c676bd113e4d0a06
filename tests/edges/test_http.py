import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from pipeline.apis.http import decode, open_client, retry_after
from pipeline.apis.retry import RetryPolicy
from pipeline.errors import Failed, PipelineError, Retryable

QUICK = RetryPolicy(attempts=4, base_seconds=0.01)


class Calls:
    """Raises one error after the other, then answers; `count` says how often it was called."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def passing(retry_after: float | None = None) -> Retryable:
    return Retryable("igdb_unavailable", "Try again later.", retry_after=retry_after)


def in_seconds(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def test_a_call_is_repeated_until_it_answers() -> None:
    call = Calls(passing(), passing(), passing())
    assert asyncio.run(QUICK.repeat("igdb_unavailable", call)) == "answer"
    assert call.count == 4


def test_after_so_many_attempts_the_last_error_is_raised() -> None:
    errors = [passing() for _ in range(9)]
    call = Calls(*errors)
    with pytest.raises(Retryable) as raised:
        asyncio.run(QUICK.repeat("igdb_unavailable", call))
    assert raised.value is errors[3]
    assert call.count == 4


@pytest.mark.parametrize("error", [Failed("steam_blocked", "Wait."), ZeroDivisionError()], ids=["final answer", "bug"])
def test_what_a_repetition_cannot_mend_is_raised_at_once(error: Exception) -> None:
    call = Calls(error)
    with pytest.raises(type(error)):
        asyncio.run(QUICK.repeat("igdb_unavailable", call))
    assert call.count == 1


@pytest.mark.parametrize("seconds", [-1.0, 0.2], ids=["over", "near"])
def test_at_the_deadline_nothing_is_awaited_any_more(seconds: float) -> None:
    started = time.monotonic()
    patience = RetryPolicy(attempts=4, base_seconds=30.0, deadline=started + seconds)
    with pytest.raises(Retryable, match=r"igdb_unavailable: There is no time left"):
        asyncio.run(patience.repeat("igdb_unavailable", Calls(passing(), passing())))
    assert time.monotonic() - started < 2


def test_waits_double() -> None:
    started = time.monotonic()
    asyncio.run(
        RetryPolicy(attempts=4, base_seconds=0.05).repeat("igdb_unavailable", Calls(passing(), passing(), passing()))
    )
    assert 0.05 + 0.1 + 0.2 <= time.monotonic() - started < 2


def test_the_other_side_is_given_the_time_it_asks_for() -> None:
    started = time.monotonic()
    assert asyncio.run(QUICK.repeat("igdb_unavailable", Calls(passing(retry_after=0.3)))) == "answer"
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("seconds", [60.5, 3600.0, float("inf")])
def test_whoever_asks_for_more_than_a_minute_is_not_waited_for(seconds: float) -> None:
    call = Calls(passing(retry_after=seconds))
    started = time.monotonic()
    with pytest.raises(PipelineError):
        asyncio.run(QUICK.repeat("igdb_unavailable", call))
    assert call.count == 1
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0", 0, id="zero"),
        pytest.param("7", 7, id="seconds"),
        pytest.param("9" * 400, float("inf"), id="400 digits"),
        pytest.param("Wed, 21 Oct 2015 07:28:00 GMT", 0, id="date in the past"),
        pytest.param("", None, id="empty"),
        pytest.param("soon", None, id="word"),
        pytest.param("-7", None, id="negative"),
        pytest.param("Wed, 21 Oct 2015 07:28:00", None, id="date without zone"),
        pytest.param("Mon, 01 Jan 99999 00:00:00 GMT", None, id="no such year"),
        pytest.param(f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", None, id="year of 20 digits"),
        pytest.param(f"Wed, 21 Oct 2015 07:28:00 +{'9' * 20}", None, id="zone of 20 digits"),
    ],
)
def test_retry_after_is_read_in_both_spellings_and_nonsense_is_none(text: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": text})) == seconds


def test_retry_after_may_be_a_date_to_come() -> None:
    seconds = retry_after(httpx.Response(429, headers={"Retry-After": in_seconds(90)}))
    assert seconds == pytest.approx(90, abs=3)


def test_without_the_header_nobody_asks_to_wait() -> None:
    assert retry_after(httpx.Response(429)) is None


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html></html>", id="page"),
        pytest.param(b'{"response":', id="half"),
        pytest.param(b'"\xff\xfe"', id="no text"),
        pytest.param(b"[" * 100_000, id="100,000 brackets"),
        pytest.param(b"9" * 10_000, id="10,000 digits"),
    ],
)
def test_what_is_no_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(httpx.Response(200, content=body))


def test_a_redirect_is_not_followed() -> None:
    hosts = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(302, headers={"Location": "https://evil.example/"})

    async def ask() -> httpx.Response:
        async with open_client("https://api.example", QUICK, httpx.MockTransport(answer)) as client:
            return await client.get("games")

    assert asyncio.run(ask()).status_code == 302
    assert hosts == ["api.example"]
