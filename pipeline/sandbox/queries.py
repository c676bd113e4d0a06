"""How a query finds its rows in a world, with as few looks at a large table as its indices allow."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from pipeline.sandbox.apicalypse import Query
from pipeline.sandbox.conditions import ORDERINGS, Compare, Path, requirements
from pipeline.sandbox.schema import REFERENCES
from pipeline.sandbox.search import ranked
from pipeline.sandbox.tables import Ordered, Table
from pipeline.sandbox.wire import Row
from pipeline.sandbox.world import World

FEW = 5_000
"""So many rows are rather looked at and sorted than looked for in the order asked for."""

Shape = dict[str, "Shape"]
"""The fields asked for, each with those of the row it refers to."""


def page(world: World, table: str, query: Query) -> list[Row]:
    """The rows between `offset` and `limit`, each with the fields asked for."""
    shape = shaped(query.fields)
    rows = islice(found_rows(world, table, query), query.offset, query.offset + query.limit)
    return [selected(world, table, row, shape, query.exclude) for row in rows]


def found_rows(world: World, table: str, query: Query) -> Iterator[Row]:
    """The rows that meet the condition: by rank if searched for, else sorted, those without the sorted field last."""
    where = query.where
    return (
        row
        for row in candidates(world, table, query)
        if where is None or where.holds(lambda path, row=row: values(world, table, row, path))  # type: ignore[misc]
    )


def candidates(world: World, table: str, query: Query) -> Iterable[Row]:
    """Rows in the order asked for, among them all that meet the condition."""
    if query.search:
        return ranked(world, query.search)
    rows, needed = world.table(table), list(requirements(query.where))
    few = narrowed(rows, needed)
    if query.sort is None:
        return rows.listed() if few is None else few
    path, descending = query.sort
    if few is None and len(path) == 1:
        return walked(rows, path[0], needed, descending=descending)
    return resorted(world, table, rows.listed() if few is None else few, query.sort)


def narrowed(rows: Table, needed: Iterable[Compare]) -> Sequence[Row] | None:
    """The rows that meet one of the comparisons, in the table's order, if there is one that few rows can meet."""
    for compare in needed:
        ordered = rows.ordered_by(compare.path[0])
        steps = reached(ordered, compare)
        if steps is not None and sum(map(len, steps)) <= FEW:
            positions = {ordered.positions[step] for step in chain.from_iterable(steps)}
            return [rows.listed()[position] for position in sorted(positions)]
    return None


def reached(ordered: Ordered, compare: Compare) -> list[range] | None:
    """Where in the order of its field the rows are that can meet a comparison; None if the order does not tell."""
    if len(compare.path) > 1:
        return None
    if compare.operator in ORDERINGS:
        return [ordered.span(compare.operator, compare.wanted)]
    if compare.operator == "=" and not compare.negated:
        given = [wanted for wanted in compare.wanted if wanted is not None]
        return [ordered.equal(wanted) for wanted in given] if len(given) == len(compare.wanted) else None
    return None


def walked(rows: Table, field: str, needed: Iterable[Compare], *, descending: bool) -> Iterator[Row]:
    """The rows in the order of a field, from where orderings of that field begin to hold to where they end."""
    ordered, listed = rows.ordered_by(field), rows.listed()
    orderings = [compare for compare in needed if compare.path == (field,) and compare.operator in ORDERINGS]
    spans = [ordered.span(compare.operator, compare.wanted) for compare in orderings]
    start = max((span.start for span in spans), default=0)
    stop = min((span.stop for span in spans), default=len(ordered.positions))
    steps = range(stop - 1, start - 1, -1) if descending else range(start, stop)
    seen = set[int]()
    for position in chain((ordered.positions[step] for step in steps), () if orderings else ordered.lacking):
        if position not in seen:
            seen.add(position)
            yield listed[position]


def resorted(world: World, table: str, rows: Iterable[Row], sort: tuple[Path, bool]) -> list[Row]:
    """Rows in the order of the values at a path; those without one come last."""
    path, descending = sort
    keyed = [([(isinstance(value, str), value) for value in values(world, table, row, path)], row) for row in rows]
    given = [row for _, row in sorted((pair for pair in keyed if pair[0]), key=lambda pair: pair[0])]
    return given[:: -1 if descending else 1] + [row for key, row in keyed if not key]


def values(world: World, table: str, row: Row, path: Path) -> list[Any]:
    """The values at a path of a row, through references, lists laid flat."""
    value = row.get(path[0])
    found = value if isinstance(value, list) else [] if value is None else [value]
    if len(path) == 1:
        return found
    referred = (referred_row(world, table, path[0], one) for one in found)
    further = REFERENCES.get(table, {}).get(path[0], "")
    return [deep for one in referred if one is not None for deep in values(world, further, one, path[1:])]


def referred_row(world: World, table: str, field: str, row_id: int) -> Row | None:
    """The row a reference points to; None for one into a table or a row that is not here."""
    further = REFERENCES.get(table, {}).get(field)
    rows: dict[int, Row] = getattr(world, further) if further else {}
    return rows.get(row_id)


def shaped(fields: Iterable[Path]) -> Shape:
    """Paths as a tree."""
    shape: Shape = {}
    for path in fields:
        branch = shape
        for name in path:
            branch = branch.setdefault(name, {})
    return shape


def selected(world: World, table: str, row: Row, shape: Shape, exclude: tuple[Path, ...] = ()) -> Row:
    """A row with the fields asked for and its id; a field without a value is left out."""
    names = dict.fromkeys(row) | shape if "*" in shape else shape
    found = {"id": row["id"]}
    for name in names:
        value = row.get(name)
        if value is not None and value != [] and (name,) not in exclude:
            found[name] = expanded(world, table, name, value, shape.get(name, {}))
    return found


def expanded(world: World, table: str, field: str, value: Any, shape: Shape) -> Any:  # noqa: ANN401
    """A reference, or each of a list, as an object; as a bare id where no field of it is asked for."""
    if not shape:
        return value
    if isinstance(value, list):
        return [expanded(world, table, field, one, shape) for one in value]
    row = referred_row(world, table, field, value)
    return value if row is None else selected(world, REFERENCES[table][field], row, shape)
