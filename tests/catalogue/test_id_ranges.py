import asyncio
import random
import re
import time
from bisect import bisect_right
from typing import Any

import httpx
import pytest

from pipeline.apis.igdb import Token
from pipeline.apis.igdb_queries import PAGE_SIZE, Query
from pipeline.catalogue.id_ranges import IdRange, RowsInOrder, next_ranges, read_in_order, rest_of
from pipeline.errors import Retryable
from pipeline.sandbox.apicalypse import parse_multiquery
from tests.support.apis import open_igdb

QUERY = Query("external_games", "uid", "external_game_source = 1")


class Table:
    """An IGDB whose one table has rows with the given ids, and that answers multiqueries unless it refuses them."""

    def __init__(self, ids: list[int], *, refuses_multiqueries: bool = False) -> None:
        self._ids = ids
        self._refuses = refuses_multiqueries
        self.requests = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        text = request.content.decode()
        if not request.url.path.endswith("multiquery"):
            return httpx.Response(200, json=self._page(text))
        if self._refuses:
            return httpx.Response(400, json=[{"title": "Syntax Error"}])
        parts = text.splitlines()
        assert len(parse_multiquery(text)) == len(parts) <= 10
        named = [{"name": part.split('"')[1], "result": self._page(part)} for part in parts]
        return httpx.Response(200, json=named)

    def _page(self, text: str) -> list[dict[str, int]]:
        bounds = re.search(r"id > (\d+)(?: & id <= (\d+))?;", text)
        assert bounds is not None
        first = bisect_right(self._ids, int(bounds[1]))
        last = bisect_right(self._ids, int(bounds[2])) if bounds[2] else len(self._ids)
        return [{"id": number} for number in self._ids[first : min(last, first + PAGE_SIZE)]]


def read(table: Table, after: int = 0) -> list[RowsInOrder]:
    async def run() -> list[RowsInOrder]:
        async with open_igdb(transport=httpx.MockTransport(table), token=Token("token", time.time() + 3_600)) as igdb:
            return [each async for each in read_in_order(igdb, QUERY, after)]

    return asyncio.run(run())


def growing(gaps: list[float]) -> list[int]:
    """Ids with these gaps between them."""
    ids, last = list[int](), 0.0
    for gap in gaps:
        last += max(1.0, gap)
        ids.append(int(last))
    return ids


def uneven(rows: int, seed: int = 1) -> list[int]:
    """Ids in blocks of some hundred rows, each up to a hundred times as dense as the next."""
    chance, gaps = random.Random(seed), list[float]()
    while len(gaps) < rows:
        mean = 10 ** chance.uniform(0, 2)
        gaps += [chance.expovariate(1 / mean) for _ in range(chance.randrange(50, 3_000))]
    return growing(gaps[:rows])


WORLDS = {
    "none": [],
    "one": [7],
    "a full page": list(range(1, 501)),
    "one more than a page": list(range(1, 502)),
    "every id": list(range(1, 20_001)),
    "evenly sparse": list(range(13, 20_000 * 13, 13)),
    "unevenly sparse": uneven(20_000),
    "one block far behind another": [*range(1, 4_001), *range(2_000_000_000, 2_000_004_000)],
    "full pages with gaps between them": [start + number for start in range(1, 10**6, 10**5) for number in range(500)],
}


@pytest.mark.parametrize("refuses_multiqueries", [False, True], ids=["multiqueries", "single queries"])
@pytest.mark.parametrize("ids", WORLDS.values(), ids=WORLDS)
def test_every_row_is_read_once_and_in_order_however_the_ids_lie(ids: list[int], *, refuses_multiqueries: bool) -> None:
    parts = read(Table(ids, refuses_multiqueries=refuses_multiqueries))
    assert [row["id"] for part in parts for row in part.rows] == ids
    assert [part.is_complete for part in parts] == [False] * (len(parts) - 1) + [True]
    reached = 0
    for part in parts:
        assert all(reached < row["id"] for row in part.rows)
        assert part.is_complete or all(row["id"] <= part.last_id for row in part.rows)
        reached = part.last_id


@pytest.mark.parametrize(
    "ids", [list(range(1, 60_001)), uneven(60_000), uneven(60_000, seed=2)], ids=["every id", "uneven", "as uneven"]
)
def test_several_ranges_at_once_take_less_than_a_fifth_of_the_requests_of_single_pages(ids: list[int]) -> None:
    single, several = Table(ids, refuses_multiqueries=True), Table(ids)
    read(single)
    read(several)
    assert several.requests * 5 < single.requests


def test_a_reading_that_stopped_is_continued_behind_its_last_id() -> None:
    ids = uneven(5_000)
    stopped_at = read(Table(ids))[1].last_id
    rest = [row["id"] for part in read(Table(ids), stopped_at) for row in part.rows]
    assert rest == [number for number in ids if number > stopped_at]


def test_a_full_range_is_asked_again_for_its_rest_before_any_other() -> None:
    page = [{"id": number} for number in range(1, 501)]
    rest = rest_of(IdRange(0, 1_000, 0.1), page, "games")
    assert rest == IdRange(500, 1_000, 1.0)
    asked, pending = next_ranges([rest, IdRange(1_000, None, 0.5)], 4)
    assert [(each.after, each.last) for each in asked] == [(500, 750), (750, 1_000), (1_000, 1_860), (1_860, None)]
    assert pending == []


@pytest.mark.parametrize(
    ("asked", "ids"),
    [(IdRange(500), range(1, 501)), (IdRange(0, 400), range(1, 501))],
    ids=["not above the range's beginning", "above its end"],
)
def test_a_full_page_outside_of_its_range_is_an_error(asked: IdRange, ids: Any) -> None:
    with pytest.raises(Retryable, match="repeat the same ids"):
        rest_of(asked, [{"id": number} for number in ids], "games")
