"""The IGDB v4 API (https://api-docs.igdb.com): some of its tables, their counts, and multiquery."""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from pipeline.sandbox.apicalypse import NamedQuery, Query, QuerySyntaxError, parse, parse_multiquery
from pipeline.sandbox.conditions import Path
from pipeline.sandbox.queries import found_rows, page
from pipeline.sandbox.schema import FIELDS, SEARCHED, TEXTS, is_known
from pipeline.sandbox.twitch import Twitch
from pipeline.sandbox.wire import Asked, Row, json_answer
from pipeline.sandbox.world import World

MAX_LIMIT = 500
REQUEST_BYTES = 32_000
REQUEST_BYTES_AT_THE_DOOR = 40_000
RESPONSE_BYTES = 10_000_000
QUERIES_AT_ONCE = 10

UNAUTHORIZED = {
    "message": "Authorization Failure. Have you tried:",
    "Tip 1": "Ensure you are sending Authorization and Client-ID as headers.",
    "Tip 2": "Ensure Authorization value starts with 'Bearer ', including the space",
    "Tip 3": "Ensure Authorization value ends with the App Access Token you generated, NOT your Client Secret.",
    "Docs": "https://api-docs.igdb.com/#authentication",
    "Discord": "https://discord.gg/FrvfwQg",
}
TOO_MUCH_ASKED = {"title": "Content Too Large", "status": 413, "type": "about:blank", "details": {}}
FAR_TOO_MUCH_ASKED = {
    "title": "Request Too Large",
    "status": 413,
    "cause": "Your request body exceeds the maximum allowed size of 32KB.",
    "details": "Send a smaller request",
}
TOO_MUCH_ANSWERED = {
    "title": "Payload Too Large",
    "status": 413,
    "cause": "Response size exceeds maximum allowed",
    "details": "Response exceeds 10MB limit. Reduce limit or select fewer fields",
}
TOO_MANY_QUERIES = {
    "title": "Too Many Concurrent queries",
    "details": f"The maximum amount of concurrent request is at {QUERIES_AT_ONCE} queries",
}
ERRORS: dict[int, object] = {
    400: [{"title": "Syntax Error", "status": 400}],
    401: UNAUTHORIZED,
    403: [{"title": "Forbidden", "status": 403}],
    408: [{"title": "Request Timeout", "status": 408}],
    413: [TOO_MUCH_ANSWERED],
    429: {"message": "Too Many Requests"},
}


class Refusal(Exception):
    """IGDB's answer to a query that cannot be run: a list with one object."""

    def __init__(self, title: str, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status
        self.body: object = [{"title": title, "status": status, "cause": cause}]


class TooManyQueries(Refusal):
    """IGDB's answer to a multiquery of more than ten: a lone object."""

    def __init__(self) -> None:
        super().__init__(TOO_MANY_QUERIES["title"], 400, TOO_MANY_QUERIES["details"])
        self.body = TOO_MANY_QUERIES


@dataclass
class Igdb:
    """Answers queries about `world` for whoever has a token of `twitch`."""

    world: World
    twitch: Twitch

    def answer(self, asked: Asked) -> web.Response:
        """Answer one endpoint, or say what is wrong in IGDB's words."""
        if not self._knows(asked):
            return self.error(401)
        if len(asked.body) > REQUEST_BYTES:
            far = len(asked.body) >= REQUEST_BYTES_AT_THE_DOOR
            return json_answer(FAR_TOO_MUCH_ASKED if far else TOO_MUCH_ASKED, 413)
        endpoint = asked.path.removeprefix("/v4/")
        if asked.method != "POST" or not (is_endpoint(endpoint) or endpoint == "multiquery"):
            return web.Response(text=f"Endpoint {asked.method} {asked.path.removeprefix('/v4')} not found", status=404)
        return self._run(endpoint, asked.body.decode(errors="replace"))

    def queries_in(self, asked: Asked) -> int:
        """How many queries a request holds: a multiquery has up to ten, every other request is one."""
        try:
            queries = parse_multiquery(asked.body.decode(errors="replace")) if asked.path == "/v4/multiquery" else []
        except QuerySyntaxError:
            queries = []
        return min(max(1, len(queries)), QUERIES_AT_ONCE)

    def error(self, status: int) -> web.Response:
        """The body that was seen with a status; gateways answer in plain text."""
        if status in ERRORS:
            return json_answer(ERRORS[status], status)
        return web.Response(text=HTTPStatus(status).phrase, status=status)

    def _knows(self, asked: Asked) -> bool:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        return (
            asked.headers.get("Client-ID") == self.twitch.client_id
            and scheme.casefold() == "bearer"
            and self.twitch.accepts(token)
        )

    def _run(self, endpoint: str, text: str) -> web.Response:
        try:
            found = self._multiquery(text) if endpoint == "multiquery" else self._found(endpoint, read(text))
        except Refusal as refusal:
            return json_answer(refusal.body, refusal.status)
        answer = json_answer(found)
        too_much = isinstance(answer.body, bytes) and len(answer.body) > RESPONSE_BYTES
        return self.error(413) if too_much else answer

    def _multiquery(self, text: str) -> list[Row]:
        """Each result under its name; one bad query and there are none."""
        queries = read_multiquery(text)
        found = [(one.name, self._found(one.endpoint, one.query)) for one in queries]
        return [{"name": name} | (rows if isinstance(rows, dict) else {"result": rows}) for name, rows in found]

    def _found(self, endpoint: str, query: Query) -> list[Row] | dict[str, int]:
        table, _, count = endpoint.partition("/")
        check(table, query)
        if count:
            return {"count": sum(1 for _ in found_rows(self.world, table, query))}
        return page(self.world, table, query)


def is_endpoint(name: str) -> bool:
    """Whether it is a table, or a table with /count."""
    table, slash, count = name.partition("/")
    return table in FIELDS and (not slash or count == "count")


def read(text: str) -> Query:
    """Parse a query.

    Raises:
        Refusal: for a syntax error.
    """
    try:
        return parse(text)
    except QuerySyntaxError as error:
        raise Refusal("Syntax Error", 400, str(error)) from error


def read_multiquery(text: str) -> list[NamedQuery]:
    """Parse a multiquery.

    Raises:
        Refusal: for a syntax error in any of its queries, an unknown endpoint, or more than ten queries.
    """
    try:
        queries = parse_multiquery(text)
    except QuerySyntaxError as error:
        raise Refusal("Syntax Error", 400, str(error)) from error
    if len(queries) > QUERIES_AT_ONCE:
        raise TooManyQueries
    for query in queries:
        if not is_endpoint(query.endpoint):
            raise Refusal("Syntax Error", 400, f"Unknown endpoint: '{query.endpoint}'")
    return queries


def check(table: str, query: Query) -> None:
    """Refuse what IGDB refuses.

    Raises:
        Refusal: for an unknown field, a number where a text is due, a search where there is none, or a limit over 500.
    """
    for path in asked_paths(query):
        if not is_known(table, path):
            raise Refusal("Invalid Field", 400, f"Invalid field name: '{'.'.join(path)}'")
    for compare in query.comparisons():
        if compare.path[-1] in TEXTS and not all(isinstance(wanted, str | None) for wanted in compare.wanted):
            raise Refusal("Syntax Error", 400, "Expecting a STRING as input, surround your input with quotes")
    if query.search and table != SEARCHED:
        raise Refusal("Syntax Error", 400, f"'{table}' cannot be searched")
    if query.limit > MAX_LIMIT:
        cause = f"You typed in {query.limit} as limit but your maximum is {MAX_LIMIT}"
        raise Refusal("Request limit to high", 403, cause)


def asked_paths(query: Query) -> Iterator[Path]:
    """Every path the query names."""
    yield from query.fields
    yield from query.exclude
    yield from (compare.path for compare in query.comparisons())
    if query.sort:
        yield query.sort[0]
