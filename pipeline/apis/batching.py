"""Many ids, a batch a request: what fails is halved, and what fails for good takes nothing else with it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from pipeline.errors import Retryable

SMALLEST = 50
"""Ids in a batch that is not halved any more."""

Ask = Callable[[Sequence[int]], Awaitable[list[Any]]]

OnBatch = Callable[[int], None]
"""Told how many ids were answered, or given up."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True)
class BatchResult:
    """What became of one batch: rows as the API gave them, or the ids without an answer and why."""

    rows: list[Any] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    error: Retryable | None = None


def ignore(_ids: int) -> None:
    """For where nobody counts."""


async def ask_in_batches(ids: Sequence[int], size: int, ask: Ask, on_batch: OnBatch = ignore) -> list[BatchResult]:
    """Ask for all ids at once, in batches of a size; what is not `Retryable` is raised."""
    answers = await gather([_ask(batch, ask, on_batch) for batch in batches(ids, size)])
    return [answer for parts in answers for answer in parts]


async def _ask(ids: Sequence[int], ask: Ask, on_batch: OnBatch) -> list[BatchResult]:
    try:
        answers = [BatchResult(await ask(ids))]
    except Retryable as error:
        if error.is_too_much and len(ids) > SMALLEST:
            return await ask_in_batches(ids, -(-len(ids) // 2), ask, on_batch)
        log.warning("batch failed", ids=len(ids), first=ids[0], error=error.message)
        answers = [BatchResult(unanswered=list(ids), error=error)]
    on_batch(len(ids))
    return answers


async def gather(awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """All at once; if one raises, the others are not left running."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def batches(ids: Sequence[T], size: int) -> list[Sequence[T]]:
    """The ids in slices of a size, the last one smaller."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]
