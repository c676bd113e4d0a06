"""Objects of many shards, a few at a time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.edges.batches import batches

READERS = 8
"""Objects that are read or written at a time where there may be thousands; boto keeps ten connections open."""

S = TypeVar("S")
T = TypeVar("T")


def each(do: Callable[[S], T], things: Iterable[S]) -> Iterator[T]:
    """What is done with each shard, say, in their order: a few at a time, and no more results than those in memory."""
    with ThreadPoolExecutor(READERS) as readers:
        for some in batches(list(things), READERS):
            yield from readers.map(do, some)
