"""Apicalypse, IGDB's query language (https://api-docs.igdb.com/#apicalypse-1)."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from pipeline.sandbox.conditions import Combined, Compare, Comparison, Condition, Like, Path, Scalar

_STRING = r'"(?:\\.|[^"\\])*"'
_SCALAR = rf"(?:{_STRING}|-?\d+(?:\.\d+)?|t(?:rue)?\b|f(?:alse)?\b|n(?:ull)?\b)"
_LISTED = rf"\s*{_SCALAR}(?:\s*,\s*{_SCALAR})*\s*"
_VALUE = rf"\*{_STRING}\*?|{_STRING}\*|{_SCALAR}|!?(?:\({_LISTED}\)|\[{_LISTED}\]|\{{{_LISTED}\}})"
"""What may follow an operator: a wildcard, a scalar or a list, one token however long: 500 ids are read in no time."""

GRAMMAR = rf"""
    multiquery: subquery*
    subquery: _QUERY ENDPOINT STRING "{{" clause* "}}" ";"
    query: clause*
    ?clause: _FIELDS path ("," path)* ";"    -> fields
           | _EXCLUDE path ("," path)* ";"   -> exclude
           | _WHERE condition ";"            -> where
           | _SORT path DIRECTION? ";"       -> sort
           | _LIMIT INTEGER ";"              -> limit
           | _OFFSET INTEGER ";"             -> offset
           | _SEARCH STRING ";"              -> search
    ?condition: conjunction | conjunction ("|" conjunction)+ -> any_of
    ?conjunction: test | test ("&" test)+                    -> all_of
    ?test: "(" condition ")"
         | path OPERATOR VALUE -> compare
    path: PATH
    _QUERY: /query\b/
    _FIELDS: /f(ields)?\b/
    _EXCLUDE: /(x|exclude)\b/
    _WHERE: /w(here)?\b/
    _SORT: /s(ort)?\b/
    _LIMIT: /l(imit)?\b/
    _OFFSET: /o(ffset)?\b/
    _SEARCH: /search\b/
    DIRECTION.2: /(asc|desc)\b/
    ENDPOINT: /\w+(\/count)?/
    PATH: /[a-z_0-9]+(\.[a-z_0-9]+)*(\.\*)?|\*/
    OPERATOR: "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
    STRING: /{_STRING}/s
    VALUE: /{_VALUE}/s
    INTEGER: /\d+/
    COMMENT: /\/\/[^\n]*/
    %ignore COMMENT
    %ignore /\s+/
"""


class QuerySyntaxError(ValueError):
    """The text is not Apicalypse; the message says where it stops being so."""


@dataclass(frozen=True)
class Query:
    """A whole query; without `fields` IGDB gives ids only, without `limit` ten rows."""

    fields: tuple[Path, ...] = (("id",),)
    exclude: tuple[Path, ...] = ()
    where: Condition | None = None
    sort: tuple[Path, bool] | None = None
    limit: int = 10
    offset: int = 0
    search: str = ""

    def comparisons(self) -> list[Comparison]:
        """All comparisons of its condition, in the order of the text."""
        return list(self.where.comparisons()) if self.where else []


@dataclass(frozen=True)
class NamedQuery:
    """One query of a multiquery; `endpoint` is a table, or a table with /count."""

    endpoint: str
    name: str
    query: Query


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        QuerySyntaxError: with the place and the text that cannot stand there.
    """
    query: Query = _read(text, "query")
    return query


def parse_multiquery(text: str) -> list[NamedQuery]:
    """Read a multiquery (https://api-docs.igdb.com/#multi-query).

    Raises:
        QuerySyntaxError: with the place and the text that cannot stand there.
    """
    queries: list[NamedQuery] = _read(text, "multiquery")
    return queries


def _read(text: str, what: str) -> Any:  # noqa: ANN401 - what was asked for
    try:
        return _Reader().transform(_parser().parse(text, start=what))
    except UnexpectedInput as error:
        raise QuerySyntaxError(f"Unexpected input at line {error.line} column {error.column}") from error


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, start=["query", "multiquery"], parser="lalr")


@v_args(inline=True)
class _Reader(Transformer[Token, Any]):
    """Turns the syntax tree into queries; of a repeated clause the last one counts."""

    def multiquery(self, *queries: NamedQuery) -> list[NamedQuery]:
        return list(queries)

    def subquery(self, endpoint: str, name: str, *clauses: dict[str, Any]) -> NamedQuery:
        return NamedQuery(str(endpoint), _string(name), self.query(*clauses))

    def query(self, *clauses: dict[str, Any]) -> Query:
        return Query(**{name: value for clause in clauses for name, value in clause.items()})

    def fields(self, *paths: Path) -> dict[str, Any]:
        return {"fields": paths}

    def exclude(self, *paths: Path) -> dict[str, Any]:
        return {"exclude": paths}

    def where(self, condition: Condition) -> dict[str, Any]:
        return {"where": condition}

    def sort(self, path: Path, direction: str = "asc") -> dict[str, Any]:
        return {"sort": (path, direction == "desc")}

    def limit(self, number: str) -> dict[str, Any]:
        return {"limit": int(number)}

    def offset(self, number: str) -> dict[str, Any]:
        return {"offset": int(number)}

    def search(self, text: str) -> dict[str, Any]:
        return {"search": _string(text)}

    def any_of(self, *parts: Condition) -> Condition:
        return Combined(any, parts)

    def all_of(self, *parts: Condition) -> Condition:
        return Combined(all, parts)

    def compare(self, path: Path, sign: str, value: str) -> Condition:
        if value[0] == "*" or value[-1] == "*":
            return Like(path, str(sign), _string(value.strip("*")), value[0] == "*", value[-1] == "*")
        wanted = frozenset(_scalar(text) for text in re.findall(_SCALAR, value, flags=re.DOTALL))
        bracket = value.lstrip("!")[0]
        return Compare(path, str(sign), wanted, bracket if bracket in "([{" else "(", value[0] == "!")

    def path(self, text: str) -> Path:
        return tuple(text.split("."))


def _scalar(text: str) -> Scalar:
    if text[0] == '"':
        return _string(text)
    if text[0] in "tfn":
        return {"t": True, "f": False, "n": None}[text[0]]
    return float(text) if "." in text else int(text)


def _string(text: str) -> str:
    inner = text[1:-1]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if "\\" in inner else inner
