"""What a `where` of Apicalypse says of a row (https://api-docs.igdb.com/#filters)."""

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]
Scalar = str | int | float | bool | None
Look = Callable[[Path], list[Any]]
"""Gives the values found at a path of a row: none, one, or those of a list."""

ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Compare:
    """One comparison; `brackets` says how a list is meant: ( any of, [ all of, { exactly; `negated` by a !."""

    path: Path
    operator: str
    wanted: frozenset[Scalar]
    brackets: str = "("
    negated: bool = False

    def holds(self, look: Look) -> bool:
        """Whether a row meets it; an ordering holds between numbers only."""
        found = look(self.path)
        match self.operator:
            case "=":
                return self._equals(found) is not self.negated
            case "!=":
                return self._equals(found) is self.negated
            case "~":
                return _folded(self.wanted).isdisjoint(_folded(found)) is self.negated
        compare = ORDERINGS[self.operator]
        return any(compare(value, limit) for value in found for limit in self.wanted if _comparable(value, limit))

    def comparisons(self) -> Iterator["Comparison"]:
        """The comparisons in this condition: itself."""
        yield self

    def _equals(self, found: list[Any]) -> bool:
        match self.brackets:
            case "[":
                return self.wanted <= set(found)
            case "{":
                return self.wanted == set(found)
        return not self.wanted.isdisjoint(found or (None,))


@dataclass(frozen=True)
class Like:
    """A comparison with a text that a * leaves open before it, behind it, or on both sides."""

    path: Path
    operator: str
    text: str
    open_before: bool
    open_behind: bool

    @property
    def wanted(self) -> frozenset[Scalar]:
        """The text without its wildcards."""
        return frozenset({self.text})

    def holds(self, look: Look) -> bool:
        """Whether a row meets it; ~ does not mind the case, != is met where = is not, an ordering never is."""
        found = [value for value in look(self.path) if isinstance(value, str)]
        match self.operator:
            case "=" | "!=":
                return any(self._fits(value, self.text) for value in found) is (self.operator == "=")
            case "~":
                return any(self._fits(value.casefold(), self.text.casefold()) for value in found)
        return False

    def comparisons(self) -> Iterator["Comparison"]:
        """The comparisons in this condition: itself."""
        yield self

    def _fits(self, value: str, text: str) -> bool:
        if self.open_before and self.open_behind:
            return text in value
        return value.endswith(text) if self.open_before else value.startswith(text)


@dataclass(frozen=True)
class Combined:
    """Several conditions under & (all) or | (any)."""

    combine: Callable[[Iterator[bool]], bool]
    parts: tuple["Condition", ...]

    def holds(self, look: Look) -> bool:
        """Whether a row meets them."""
        return self.combine(part.holds(look) for part in self.parts)

    def comparisons(self) -> Iterator["Comparison"]:
        """The comparisons in this condition."""
        return (compare for part in self.parts for compare in part.comparisons())


Comparison = Compare | Like
Condition = Comparison | Combined


def requirements(where: Condition | None) -> Iterator[Compare]:
    """The comparisons without which the condition cannot be met."""
    if isinstance(where, Compare):
        yield where
    elif isinstance(where, Combined) and where.combine is all:
        for part in where.parts:
            yield from requirements(part)


def _folded(values: Iterable[Any]) -> set[Any]:
    """Values whose case does not matter."""
    return {value.casefold() if isinstance(value, str) else value for value in values}


def _comparable(value: object, limit: object) -> bool:
    return isinstance(value, int | float) and isinstance(limit, int | float)
