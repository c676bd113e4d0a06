"""Ask an API about many ids, several in a request; a request that fails is split, or leaves its ids unanswered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from pipeline.apis.retry import CircuitBreaker
from pipeline.errors import Retryable

SMALLEST_BATCH = 50
"""Batches of up to so many ids are not split any more."""

RequestBatch = Callable[[Sequence[int]], Awaitable[list[Any]]]
"""Returns the rows that an API has for some ids; raises `Retryable` where it gives no answer."""

OnBatch = Callable[[int], None]
"""Is told how many ids were answered or given up, batch by batch."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class BatchResult:
    """The outcome of one batch: the rows that the API returned, or the ids without an answer and the error."""

    rows: list[Any] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    error: Retryable | None = None


def ignore_count(_ids: int) -> None:
    """Do nothing with the number of ids that were answered: an `OnBatch` for callers without a progress bar."""


async def request_in_batches(
    ids: Sequence[int],
    size: int,
    request: RequestBatch,
    on_batch: OnBatch = ignore_count,
    breaker: CircuitBreaker | None = None,
) -> list[BatchResult]:
    """Request the rows of all ids concurrently, `size` ids at a time, and return the outcome of each batch.

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
    """Return the rows of all batches."""
    return [row for result in results for row in result.rows]


def all_unanswered(results: Iterable[BatchResult]) -> list[int]:
    """Return the ids of all batches that were not answered."""
    return [number for result in results for number in result.unanswered]


def raise_if_all_failed(results: Sequence[BatchResult]) -> None:
    """Raise the error of the first batch if no batch was answered; some failures among answers are accepted."""
    errors = [result.error for result in results if result.error]
    if errors and len(errors) == len(results):
        raise errors[0]


async def gather_or_cancel(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Run awaitables concurrently and return their results; if one raises, cancel the others and raise its error."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def split(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return consecutive slices of `size` items; the last one may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
