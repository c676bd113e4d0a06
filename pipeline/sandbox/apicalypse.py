"""Apicalypse, IGDB's query language (https://api-docs.igdb.com/#apicalypse-1), as far as our clients write it."""

import re
from dataclasses import dataclass, replace

Path = tuple[str, ...]
"""The names that lead to a field: `("cover", "image_id")` is `cover.image_id`."""

_TEXT = r'"(?:\\.|[^"\\])*"'
_VALUE = rf"(?:{_TEXT}|-?\d+)"
_PATH = r"[a-z_]+(?:\.[a-z_]+)*"
_FIELDS = re.compile(rf"{_PATH}(?:\s*,\s*{_PATH})*")
_SORT = re.compile(rf"({_PATH})(?:\s+(asc|desc))?")
_COMPARISON = re.compile(
    rf"\s*({_PATH})\s*(!=|<=|>=|[=<>~])\s*({_VALUE}|\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\))\s*", re.DOTALL
)
_CLAUSE = re.compile(rf"\s*(?:(fields|where|sort|limit|offset|search)\s+((?:{_TEXT}|[^\";])*?)\s*;|$)", re.DOTALL)
_SUBQUERY = re.compile(rf"\s*(?:query\s+([\w/]+)\s+({_TEXT})\s*\{{((?:{_TEXT}|[^\"}}])*)\}}\s*;|$)", re.DOTALL)


class QuerySyntaxError(ValueError):
    """The text is not Apicalypse, or none that our clients would write."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of a field with one value, or with several, any of which may be equal.

    The operator ~ ignores case, and its values have none.
    """

    path: Path
    operator: str
    values: frozenset[int | str]


@dataclass(frozen=True)
class Query:
    """A query of one table; without `fields` IGDB gives ids only, without `limit` ten rows.

    Of `where`, all comparisons of one of its alternatives have to hold: & binds tighter than |.
    """

    fields: tuple[Path, ...] = (("id",),)
    where: tuple[tuple[Comparison, ...], ...] = ((),)
    sort: Path = ("id",)
    is_descending: bool = False
    limit: int = 10
    offset: int = 0
    search: str = ""


@dataclass(frozen=True)
class NamedQuery:
    """One query of a multiquery; `endpoint` is a table, or a table with /count."""

    endpoint: str
    name: str
    query: Query


def parse_query(text: str) -> Query:
    """Parse a query: clauses in any order, of which the last counts if one is repeated.

    Raises:
        QuerySyntaxError: with the beginning of what cannot be read.
    """
    query = Query()
    for clause in _matches(_CLAUSE, text):
        query = _with_clause(query, clause[1], clause[2])
    return query


def parse_multiquery(text: str) -> list[NamedQuery]:
    """Parse a multiquery (https://api-docs.igdb.com/#multi-query).

    Raises:
        QuerySyntaxError: with the beginning of what cannot be read.
    """
    return [NamedQuery(one[1], _unquoted(one[2]), parse_query(one[3])) for one in _matches(_SUBQUERY, text)]


def _matches(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Return the matches that the text consists of, without the empty one at its end."""
    found, end = list[re.Match[str]](), 0
    while match := pattern.match(text, end):
        if match[1] is None:
            return found
        found.append(match)
        end = match.end()
    raise _unexpected(text[end:])


def _with_clause(query: Query, name: str, text: str) -> Query:
    match name:
        case "fields" if _FIELDS.fullmatch(text):
            return replace(query, fields=tuple(_path(path) for path in text.split(",")))
        case "where":
            return replace(query, where=_alternatives(text))
        case "sort" if sort := _SORT.fullmatch(text):
            return replace(query, sort=_path(sort[1]), is_descending=sort[2] == "desc")
        case "search" if re.fullmatch(_TEXT, text, re.DOTALL):
            return replace(query, search=_unquoted(text))
        case "limit" if text.isdecimal():
            return replace(query, limit=int(text))
        case "offset" if text.isdecimal():
            return replace(query, offset=int(text))
    raise _unexpected(f"{name} {text}")


def _alternatives(text: str) -> tuple[tuple[Comparison, ...], ...]:
    alternatives, end = [list[Comparison]()], 0
    while found := _COMPARISON.match(text, end):
        values = re.findall(_VALUE, found[3], re.DOTALL)
        wanted = frozenset(_unquoted(value) if value.startswith('"') else int(value) for value in values)
        if found[2] == "~":
            wanted = frozenset(value.casefold() if isinstance(value, str) else value for value in wanted)
        alternatives[-1].append(Comparison(_path(found[1]), found[2], wanted))
        if found.end() == len(text):
            return tuple(map(tuple, alternatives))
        if text[found.end()] == "|":
            alternatives.append([])
        elif text[found.end()] != "&":
            break
        end = found.end() + 1
    raise _unexpected(text[end:])


def _path(text: str) -> Path:
    return tuple(text.strip().split("."))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _unexpected(text: str) -> QuerySyntaxError:
    return QuerySyntaxError(f"Unexpected input at '{text.strip()[:40]}'")
