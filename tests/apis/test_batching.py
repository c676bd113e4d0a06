import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.apis.batching import (
    SMALLEST_BATCH,
    BatchResult,
    all_rows,
    all_unanswered,
    gather_or_cancel,
    raise_if_all_failed,
    request_in_batches,
)
from pipeline.apis.retry import CircuitBreaker
from pipeline.errors import Retryable


def too_large(ids: Sequence[int]) -> Retryable:
    return Retryable("igdb_unavailable", f"{len(ids)} are too many", is_too_large=True)


def down(_ids: Sequence[int]) -> Retryable:
    return Retryable("igdb_unavailable", "down")


class Api:
    """Answers an id with itself, but for batches that `fails` accepts; those raise `error`."""

    def __init__(self, fails: Callable[[Sequence[int]], bool], error: Callable[[Sequence[int]], Exception]) -> None:
        self._fails = fails
        self._error = error
        self.asked: list[list[int]] = []

    async def request(self, ids: Sequence[int]) -> list[Any]:
        self.asked.append(list(ids))
        await asyncio.sleep(0)
        if self._fails(ids):
            raise self._error(ids)
        return list(ids)

    def results(
        self, ids: Sequence[int], size: int, breaker: CircuitBreaker | None = None
    ) -> tuple[list[BatchResult], int]:
        """The results, and how many ids progress was told of."""
        told: list[int] = []
        return asyncio.run(request_in_batches(ids, size, self.request, told.append, breaker)), sum(told)


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        pytest.param(400, [200, 400, 400], id="none is too large"),
        pytest.param(399, [200] * 5 + [400] * 2, id="a full one is"),
        pytest.param(100, [100] * 10 + [200] * 5 + [400] * 2, id="halves are too"),
    ],
)
def test_a_batch_that_is_too_large_is_halved_until_it_is_not(most: int, asked: list[int]) -> None:
    api = Api(lambda ids: len(ids) > most, too_large)
    results, told = api.results(range(1000), 400)
    assert (all_rows(results), all_unanswered(results), told) == (list(range(1000)), [], 1000)
    assert sorted(len(ids) for ids in api.asked) == asked


def test_a_batch_that_fails_however_small_it_is_takes_no_other_ids_with_it() -> None:
    api = Api(lambda ids: 7 in ids, too_large)
    results, told = api.results(range(400), 400)
    assert all_unanswered(results) == list(range(SMALLEST_BATCH))
    assert all_rows(results) == list(range(SMALLEST_BATCH, 400))
    assert [result.error.message for result in results if result.error] == [f"{SMALLEST_BATCH} are too many"]
    assert told == 400


def test_if_one_of_several_raises_the_others_are_cancelled() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError

    async def run() -> None:
        with pytest.raises(KeyError):
            await gather_or_cancel([wait(), fail()])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == ["cancelled"]


def test_while_the_api_counts_as_down_no_batch_is_halved() -> None:
    api = Api(lambda _ids: True, too_large)
    results, told = api.results(range(400), 400, CircuitBreaker(limit=1, failures=1))
    assert (all_unanswered(results), told, len(api.asked)) == (list(range(400)), 400, 1)


def test_only_if_all_batches_failed_the_first_error_is_raised() -> None:
    failed = BatchResult(unanswered=[1], error=down([1]))
    raise_if_all_failed([])
    raise_if_all_failed([failed, BatchResult([2])])
    with pytest.raises(Retryable) as raised:
        raise_if_all_failed([failed, BatchResult(unanswered=[2], error=too_large([2]))])
    assert raised.value is failed.error
