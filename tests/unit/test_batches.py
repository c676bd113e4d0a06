import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.apis.batching import SMALLEST, BatchResult, ask_in_batches, batches, gather
from pipeline.errors import Refused, Retryable


def too_much(ids: Sequence[int]) -> Retryable:
    return Retryable("igdb_unavailable", f"{len(ids)} are too many", is_too_much=True)


def down(_ids: Sequence[int]) -> Retryable:
    return Retryable("igdb_unavailable", "down")


class Api:
    """Answers an id with itself, but for batches that `fails` accepts; those raise `error`."""

    def __init__(self, fails: Callable[[Sequence[int]], bool], error: Callable[[Sequence[int]], Exception]) -> None:
        self._fails = fails
        self._error = error
        self.asked: list[list[int]] = []

    async def ask(self, ids: Sequence[int]) -> list[Any]:
        self.asked.append(list(ids))
        await asyncio.sleep(0)
        if self._fails(ids):
            raise self._error(ids)
        return list(ids)

    def answers(self, ids: Sequence[int], size: int) -> tuple[list[BatchResult], int]:
        """The answers, and how many ids progress was told of."""
        told: list[int] = []
        return asyncio.run(ask_in_batches(ids, size, self.ask, told.append)), sum(told)


def rows(answers: list[BatchResult]) -> list[int]:
    return sorted(row for answer in answers for row in answer.rows)


def unanswered(answers: list[BatchResult]) -> list[int]:
    return sorted(number for answer in answers for number in answer.unanswered)


@pytest.mark.parametrize(
    ("ids", "size", "lengths"),
    [(0, 400, []), (1, 400, [1]), (400, 400, [400]), (401, 400, [400, 1]), (1000, 400, [400, 400, 200])],
)
def test_ids_are_cut_into_batches_of_a_size(ids: int, size: int, lengths: list[int]) -> None:
    cut = batches(range(ids), size)
    assert [len(batch) for batch in cut] == lengths
    assert [number for batch in cut for number in batch] == list(range(ids))


@pytest.mark.parametrize("most", [399, 200, 100, 50])
def test_what_is_too_much_is_halved_until_it_is_not(most: int) -> None:
    api = Api(lambda ids: len(ids) > most, too_much)
    answers, told = api.answers(range(1000), 400)
    assert (rows(answers), unanswered(answers), told) == (list(range(1000)), [], 1000)
    assert max(len(ids) for ids in api.asked if len(ids) <= most) <= most


def test_only_the_half_that_is_too_much_is_halved_again() -> None:
    api = Api(lambda ids: 399 in ids and len(ids) > 100, too_much)
    answers, _ = api.answers(range(400), 400)
    assert rows(answers) == list(range(400))
    assert sorted(len(ids) for ids in api.asked) == [100, 100, 200, 200, 400]


def test_what_is_too_much_however_small_takes_nothing_else_with_it() -> None:
    api = Api(lambda ids: 7 in ids, too_much)
    answers, told = api.answers(range(400), 400)
    assert unanswered(answers) == list(range(SMALLEST))
    assert rows(answers) == list(range(SMALLEST, 400))
    assert [answer.error.message for answer in answers if answer.error] == [f"{SMALLEST} are too many"]
    assert told == 400


def test_no_batch_is_smaller_than_half_of_the_smallest() -> None:
    api = Api(lambda _ids: True, too_much)
    answers, told = api.answers(range(SMALLEST + 1), 400)
    assert sorted(len(ids) for ids in api.asked) == [SMALLEST // 2, SMALLEST // 2 + 1, SMALLEST + 1]
    assert (unanswered(answers), told) == (list(range(SMALLEST + 1)), SMALLEST + 1)


def test_what_fails_for_another_reason_is_not_halved() -> None:
    api = Api(lambda ids: 7 in ids, down)
    answers, told = api.answers(range(800), 400)
    assert [len(ids) for ids in api.asked] == [400, 400]
    assert (unanswered(answers), rows(answers), told) == (list(range(400)), list(range(400, 800)), 800)


def test_what_is_no_failure_of_the_api_ends_everything() -> None:
    api = Api(lambda ids: 7 in ids, lambda _ids: Refused("bad_igdb_credentials", "no"))
    with pytest.raises(Refused):
        api.answers(range(800), 400)


def test_if_one_raises_the_others_are_not_left_running() -> None:
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
            await gather([wait(), fail()])
        await asyncio.sleep(0)

    asyncio.run(run())
    assert ended == ["cancelled"]
