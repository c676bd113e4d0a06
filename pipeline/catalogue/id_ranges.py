"""Read all rows of an IGDB query, in the order of their ids, from several ranges of ids at once.

IGDB answers a query with up to 500 rows, and a multiquery holds ten queries. Which ids a query finds is not known
before: they are sparse, and unevenly so. Therefore ranges are guessed from how dense the ids were just before them, and
what a full page leaves of a range is asked for next.
"""

from collections.abc import AsyncIterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.apis.batching import OnBatch, ignore_count
from pipeline.apis.igdb_queries import PAGE_SIZE, Query
from pipeline.errors import Retryable
from schemas.apis import RowId, parse_rows

if TYPE_CHECKING:
    from pipeline.apis.igdb import Igdb

AIMED_ROWS = 430
"""The rows that a range is to have: below a full page, as one that overflows takes another query."""


class IdRange(NamedTuple):
    """The ids above `after`, up to `last` (None: without an end), and how many rows are expected for each id.

    `rows_per_id` is 0.0 where nothing is known.
    """

    after: int
    last: int | None = None
    rows_per_id: float = 0.0


class RowsInOrder(NamedTuple):
    """Rows of a query, all of those with ids up to `last_id` that were not returned before."""

    rows: list[Any]
    last_id: int
    is_complete: bool


async def read_in_order(
    igdb: "Igdb", query: Query, after: int, on_page: OnBatch = ignore_count
) -> AsyncIterator[RowsInOrder]:
    """Yield a query's rows with ids above `after`, in the order of their ids, until there are no more.

    Raises:
        Retryable: `igdb_unavailable`.
    """
    pending, ahead, last_id = [IdRange(after)], dict[int, list[Any]](), after
    while pending:
        asked, pending = next_ranges(pending, igdb.queries_at_once(query.endpoint))
        pages = await igdb.fetch_pages([query.within(each.after, each.last) for each in asked])
        on_page(sum(map(len, pages)))
        ahead |= {each.after: page for each, page in zip(asked, pages, strict=True)}
        rests = [rest_of(each, page, query.endpoint) for each, page in zip(asked, pages, strict=True)]
        pending = [rest for rest in rests if rest] + pending
        last_id = pending[0].after if pending else max(last_id, asked[-1].after)
        ready = sorted(start for start in ahead if start < last_id or not pending)
        yield RowsInOrder([row for start in ready for row in ahead.pop(start)], last_id, not pending)


def next_ranges(pending: Sequence[IdRange], most: int) -> tuple[list[IdRange], list[IdRange]]:
    """Return up to `most` ranges to ask for, the lowest ids of the pending ones, and what is pending after them."""
    if most == 1:
        return [pending[0]], list(pending[1:])
    asked, rest = list[IdRange](), list[IdRange]()
    for each in pending:
        if len(asked) == most:
            rest.append(each)
            continue
        pieces = _split(each, most - len(asked))
        asked += pieces
        if pieces[-1].last != each.last:
            rest.append(each._replace(after=pieces[-1].last or 0))
    return asked, rest


def _split(ids: IdRange, most: int) -> list[IdRange]:
    """Return up to `most` consecutive ranges of about AIMED_ROWS rows each, from the beginning of a range.

    Of a range without an end the last piece has none either: it holds a full page wherever the next ids are.
    """
    if not ids.rows_per_id:
        return [ids]
    if ids.last is None:
        width, pieces = ceil(AIMED_ROWS / ids.rows_per_id), most
    else:
        pieces = ceil((ids.last - ids.after) * ids.rows_per_id / AIMED_ROWS)
        width, pieces = ceil((ids.last - ids.after) / max(pieces, 1)), max(pieces, 1)
    starts = [ids.after + number * width for number in range(min(pieces, most))]
    ends: list[int | None] = [*starts[1:], ids.last if pieces <= most else starts[-1] + width]
    return [IdRange(start, end, ids.rows_per_id) for start, end in zip(starts, ends, strict=True)]


def rest_of(asked: IdRange, page: Sequence[Any], endpoint: str) -> IdRange | None:
    """Return the ids of a range that are above those of its page, or None if the page holds all rows of the range."""
    if len(page) < PAGE_SIZE:
        return None
    ids = sorted(row.id for row in parse_rows(page, RowId)[0])
    highest = ids[-1] if ids else 0
    if highest <= asked.after or (asked.last is not None and highest > asked.last):
        says = f"IGDB's pages of {endpoint} repeat the same ids. Try again later."
        raise Retryable("igdb_unavailable", says)
    if highest == asked.last:
        return None
    # Behind a page without an end, the ids are as dense as at its own end: it may have begun in a gap.
    low, rows = (ids[len(ids) // 2], len(ids) // 2) if asked.last is None else (asked.after, len(ids))
    return IdRange(highest, asked.last, max(rows, 1) / max(highest - low, 1))
