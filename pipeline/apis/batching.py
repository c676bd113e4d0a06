"""Requests to an API about many ids, several ids in each; a failing request is split, or leaves its ids unanswered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from pipeline.apis.retry import CircuitBreaker
from pipeline.errors import Retryable

SMALLEST_BATCH = 50
"""The number of ids up to which a failing batch is not split any more."""

RequestBatch = Callable[[Sequence[int]], Awaitable[list[Any]]]
"""The type of a function that returns an API's rows for some ids; it raises `Retryable` if there is no answer."""

OnBatch = Callable[[int], None]
"""The type of a function called after each batch with the number of its ids, answered or not; for progress bars."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class BatchResult:
    """The outcome of one batch: the rows that the API returned, or the ids without an answer and the error."""

    rows: list[Any] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    error: Retryable | None = None


def ignore_count(_ids: int) -> None:
    """Do nothing with a batch's number of ids: for callers that show no progress bar."""


async def request_in_batches(
    ids: Sequence[int],
    size: int,
    request: RequestBatch,
    on_batch: OnBatch = ignore_count,
    breaker: CircuitBreaker | None = None,
) -> list[BatchResult]:
    """Request the rows of all ids, `size` ids in each of several concurrent requests; return a BatchResult per batch.

    A batch whose error says that it may be too large is split into halves, unless the API counts as down. Errors that
    are not `Retryable` end all batches, and are raised.
    """

    async def request_one(batch: Sequence[int]) -> list[BatchResult]:
        try:
            results = [BatchResult(await request(batch))]
        except Retryable as error:
            is_down = breaker is not None and breaker.is_open
            if error.is_too_large and len(batch) > SMALLEST_BATCH and not is_down:
                return await request_in_batches(batch, -(-len(batch) // 2), request, on_batch, breaker)
            log.warning("batch failed", ids=len(batch), first=batch[0], error=error.message)
            results = [BatchResult(unanswered=list(batch), error=error)]
        on_batch(len(batch))
        return results

    parts = await gather_or_cancel([request_one(batch) for batch in split(ids, size)])
    return [result for part in parts for result in part]


def all_rows(results: Iterable[BatchResult]) -> list[Any]:
    """Return one list of the rows of all batches, in their order."""
    return [row for result in results for row in result.rows]


def all_unanswered(results: Iterable[BatchResult]) -> list[int]:
    """Return one list of the ids that got no answer in these batches, in the order of the batches."""
    return [number for result in results for number in result.unanswered]


def raise_if_all_failed(results: Sequence[BatchResult]) -> None:
    """Raise the error of the first batch if no batch was answered; some failures among answers are accepted."""
    errors = [result.error for result in results if result.error]
    if errors and len(errors) == len(results):
        raise errors[0]


async def gather_or_cancel(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Run awaitables concurrently, and return the list of their results in order; if one raises, cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def split(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return a list of consecutive slices of `size` items; the last slice may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
