"""IGDB's tables: rows that may be changed at any time, and indices that are built when needed and notice changes."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from pipeline.sandbox.wire import Row

Built = TypeVar("Built")


@dataclass
class Changes:
    """How often a table was changed; its rows hold this, and not the table, so that a dropped world is gone at once."""

    count: int = 0


class Table:
    """What both kinds of table have in common; a row is copied when it comes in, and is changed through the table."""

    def __init__(self) -> None:
        self.changes = Changes()
        self._built: dict[object, tuple[int, Any]] = {}

    def _all(self) -> Iterable[Row]:
        raise NotImplementedError

    def adopted(self, row: Row) -> "TableRow":
        """The row as one of this table's."""
        return row if isinstance(row, TableRow) and row.changes is self.changes else TableRow(self.changes, row)

    def derived(self, what: object, build: Callable[[], Built]) -> Built:
        """Something made from the rows, made anew if they changed since."""
        now = self.changes.count
        then, built = self._built.get(what, (-1, None))
        if then != now:
            built = build()
            self._built[what] = now, built
        found: Built = built
        return found

    def listed(self) -> Sequence[Row]:
        """All rows, in the order in which they came."""
        return self.derived(None, lambda: list(self._all()))

    def ordered_by(self, field: str) -> "Ordered":
        """The index of a field."""
        return self.derived(field, lambda: _ordered(self.listed(), field))


class TableRow(dict[str, Any]):
    """A row that tells its table when it is changed."""

    __slots__ = ("changes",)

    def __init__(self, changes: Changes, row: Row) -> None:
        super().__init__(row)
        self.changes = changes


def _telling(change: Callable[..., Any]) -> Callable[..., Any]:
    """The same change of a row, its table being told."""

    @wraps(change)
    def told(self: TableRow, *args: Any, **fields: Any) -> Any:  # noqa: ANN401 - whatever dict's own takes
        found = change(self, *args, **fields)
        self.changes.count += 1
        return found

    return told


for _name in ("__setitem__", "__delitem__", "__ior__", "update", "setdefault", "pop", "popitem", "clear"):
    setattr(TableRow, _name, _telling(getattr(dict, _name)))


class KeyedTable(MutableMapping[int, Row], Table):
    """A table by id."""

    def __init__(self, rows: Mapping[int, Row]) -> None:
        super().__init__()
        self._rows: dict[int, Row] = {row_id: self.adopted(row) for row_id, row in rows.items()}

    def _all(self) -> Iterable[Row]:
        return self._rows.values()

    def __getitem__(self, row_id: int) -> Row:
        return self._rows[row_id]

    def __setitem__(self, row_id: int, row: Row) -> None:
        self._rows[row_id] = self.adopted(row)
        self.changes.count += 1

    def __delitem__(self, row_id: int) -> None:
        del self._rows[row_id]
        self.changes.count += 1

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class ListedTable(MutableSequence[Row], Table):
    """A table in the order of its rows, in which an id may occur twice."""

    def __init__(self, rows: Iterable[Row]) -> None:
        super().__init__()
        self._rows: list[Row] = [self.adopted(row) for row in rows]

    def _all(self) -> Iterable[Row]:
        return self._rows

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 - a row for an index, rows for a slice
        return self._rows[at]

    def __setitem__(self, at: Any, given: Any) -> None:  # noqa: ANN401 - the same
        self._rows[at] = [self.adopted(row) for row in given] if isinstance(at, slice) else self.adopted(given)
        self.changes.count += 1

    def __delitem__(self, at: Any) -> None:  # noqa: ANN401 - the same
        del self._rows[at]
        self.changes.count += 1

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def insert(self, index: int, value: Row) -> None:
        """Put a row before another."""
        self._rows.insert(index, self.adopted(value))
        self.changes.count += 1


@dataclass(frozen=True)
class Ordered:
    """Positions of rows in the order of a field, numbers before texts; of those that lack it, in `lacking`."""

    numbers: list[float]
    texts: list[str]
    positions: list[int]
    lacking: list[int]

    def equal(self, value: float | str) -> range:
        """Which of `positions` have the value."""
        if isinstance(value, str):
            before = len(self.numbers)
            return range(before + bisect_left(self.texts, value), before + bisect_right(self.texts, value))
        return range(bisect_left(self.numbers, value), bisect_right(self.numbers, value))

    def span(self, sign: str, limits: Iterable[Any]) -> range:
        """Which of `positions` an ordering holds for, any of some limits."""
        bounds = [limit for limit in limits if isinstance(limit, int | float)]
        if not bounds:
            return range(0)
        if sign in {">", ">="}:
            beginning = bisect_right if sign == ">" else bisect_left
            return range(beginning(self.numbers, min(bounds)), len(self.numbers))
        end = bisect_left if sign == "<" else bisect_right
        return range(end(self.numbers, max(bounds)))


def _ordered(rows: Sequence[Row], field: str) -> Ordered:
    placed = [(value, position) for position, row in enumerate(rows) for value in _values(row, field)]
    numbers = sorted(place for place in placed if isinstance(place[0], int | float))
    texts = sorted(place for place in placed if isinstance(place[0], str))
    return Ordered(
        numbers=[value for value, _ in numbers],
        texts=[value for value, _ in texts],
        positions=[position for _, position in (*numbers, *texts)],
        lacking=[position for value, position in placed if value is None],
    )


def _values(row: Row, field: str) -> Sequence[Any]:
    """Those of a list, the only one, or None."""
    value = row.get(field)
    return (value or (None,)) if isinstance(value, list) else (value,)
