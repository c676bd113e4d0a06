import asyncio
import time

import pytest
from structlog.testing import capture_logs

from pipeline.apis.retry import CircuitBreaker, Retries, RetryPolicy, ShouldRetry, call_with_retries
from pipeline.errors import Failed, Retryable

QUICK = RetryPolicy(attempts=4, base_seconds=0.01)


class Call:
    """Raises one error after the other, then answers; `count` says how often it was made."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def failure(*, status: int | None = None, retry_after: float | None = None) -> Retryable:
    return Retryable("igdb_unavailable", "Try again later.", status=status, retry_after=retry_after)


def run(
    call: Call, policy: RetryPolicy = QUICK, retries: Retries | None = None, should_retry: ShouldRetry | None = None
) -> str:
    decides = should_retry or (lambda _error, _failures: True)
    return asyncio.run(call_with_retries(call, policy, "igdb_unavailable", retries or Retries(), decides))


def test_a_call_is_repeated_until_it_answers_and_the_error_of_its_last_attempt_is_raised() -> None:
    call = Call(failure(), failure(), failure())
    assert (run(call), call.count) == ("answer", 4)
    errors = [failure() for _ in range(9)]
    call = Call(*errors)
    with pytest.raises(Retryable) as raised:
        run(call)
    assert (raised.value, call.count) == (errors[3], 4)


@pytest.mark.parametrize("error", [Failed("steam_blocked", "Wait."), ZeroDivisionError()], ids=["final answer", "bug"])
def test_an_error_that_is_not_retryable_is_raised_at_once(error: Exception) -> None:
    call = Call(error)
    with pytest.raises(type(error)):
        run(call)
    assert call.count == 1


def test_the_caller_decides_by_the_error_and_the_number_of_failures() -> None:
    asked: list[tuple[int | None, int]] = []

    def should_retry(error: Retryable, failures: int) -> bool:
        asked.append((error.status, failures))
        return failures < 2

    call = Call(failure(status=503), failure(status=429), failure(status=500), failure())
    with pytest.raises(Retryable):
        run(call, should_retry=should_retry)
    assert asked == [(503, 1), (429, 1), (500, 2)]


def test_rate_limits_and_failures_do_not_use_up_the_attempts_of_each_other() -> None:
    policy = RetryPolicy(attempts=2, base_seconds=0.001, rate_limit_factor=3)
    limits = [failure(status=429) for _ in range(5)]
    assert run(Call(*limits, failure()), policy) == "answer"
    with pytest.raises(Retryable):
        run(Call(*limits, failure(status=429)), policy)


@pytest.mark.parametrize("seconds", [-1.0, 0.2], ids=["over", "near"])
def test_at_the_deadline_calls_and_waits_end(seconds: float) -> None:
    started = time.monotonic()
    policy = RetryPolicy(attempts=4, base_seconds=30.0, deadline=started + seconds)
    with pytest.raises(Retryable, match=r"igdb_unavailable: There is no time left"):
        run(Call(failure(), failure()), policy)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("errors", "waited"),
    [
        pytest.param([failure()] * 3, 0.05 + 0.1 + 0.2, id="doubled from one to the next"),
        pytest.param([failure(retry_after=0.3)], 0.3, id="as the API asks"),
    ],
)
def test_before_a_repetition_it_waits(errors: list[Exception], waited: float) -> None:
    started = time.monotonic()
    assert run(Call(*errors), RetryPolicy(attempts=4, base_seconds=0.05)) == "answer"
    assert waited <= time.monotonic() - started < 2


def test_an_api_that_asks_for_more_than_a_minute_is_not_waited_for() -> None:
    call = Call(failure(retry_after=60.5))
    started = time.monotonic()
    with pytest.raises(Retryable):
        run(call)
    assert call.count == 1
    assert time.monotonic() - started < 1


def test_repetitions_are_counted_and_logged() -> None:
    retries = Retries("igdb")
    with capture_logs() as logged:
        run(Call(failure(status=429), failure()), retries=retries)
    assert (retries.count, retries.rate_limited) == (2, 1)
    assert [(event["api"], event["status"], event["attempt"]) for event in logged] == [
        ("igdb", 429, 1),
        ("igdb", None, 2),
    ]
    assert (retries + retries).count == 4


def test_a_circuit_breaker_opens_after_failures_in_a_row_and_closes_after_an_answer() -> None:
    breaker = CircuitBreaker(limit=2)
    states = []
    for note in (breaker.note_failure, breaker.note_success, *[breaker.note_failure] * 2, breaker.note_success):
        note()
        states.append(breaker.is_open)
    assert states == [False, False, False, True, False]
