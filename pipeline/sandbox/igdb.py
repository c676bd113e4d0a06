"""The IGDB v4 API (https://api-docs.igdb.com): some of its tables, their counts, and multiquery."""

from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from pipeline.sandbox.apicalypse import NamedQuery, Query, QuerySyntaxError, parse_multiquery, parse_query
from pipeline.sandbox.queries import FIELDS, find_rows, is_known, page
from pipeline.sandbox.twitch import Twitch
from pipeline.sandbox.wire import Asked, Row, json_answer
from pipeline.sandbox.world import World

MAX_LIMIT = 500
REQUEST_BYTES = 32_000
REQUEST_BYTES_AT_THE_DOOR = 40_000
RESPONSE_BYTES = 10_000_000
QUERIES_AT_ONCE = 10
TEXTS = frozenset({"uid", "name", "slug", "url", "checksum", "image_id", "abbreviation", "alternative_name", "comment"})

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
    """The answer to a query that cannot be run."""

    def __init__(self, title: str, status: int, cause: str, body: object = None) -> None:
        super().__init__(cause)
        self.status = status
        self.body = body or [{"title": title, "status": status, "cause": cause}]


@dataclass
class Igdb:
    """Answers queries about `world` for whoever has a token of `twitch`."""

    world: World
    twitch: Twitch

    def answer(self, asked: Asked) -> web.Response:
        """Answer one endpoint, or say what is wrong in IGDB's words."""
        if not self._is_authorized(asked):
            return self.error(401)
        if len(asked.body) > REQUEST_BYTES:
            far = len(asked.body) >= REQUEST_BYTES_AT_THE_DOOR
            return json_answer(FAR_TOO_MUCH_ASKED if far else TOO_MUCH_ASKED, 413)
        endpoint, text = asked.path.removeprefix("/v4/"), asked.body.decode(errors="replace")
        if asked.method != "POST" or not (_is_endpoint(endpoint) or endpoint == "multiquery"):
            return web.Response(text=f"Endpoint {asked.method} {asked.path.removeprefix('/v4')} not found", status=404)
        try:
            found = self._multiquery(text) if endpoint == "multiquery" else self._found(endpoint, parse_query(text))
        except QuerySyntaxError as error:
            return json_answer([{"title": "Syntax Error", "status": 400, "cause": str(error)}], 400)
        except Refusal as refusal:
            return json_answer(refusal.body, refusal.status)
        answer = json_answer(found)
        return self.error(413) if len((answer.text or "").encode()) > RESPONSE_BYTES else answer

    def error(self, status: int) -> web.Response:
        """Return the answer that was seen with a status; gateways answer in plain text."""
        if status in ERRORS:
            return json_answer(ERRORS[status], status)
        return web.Response(text=HTTPStatus(status).phrase, status=status)

    def _is_authorized(self, asked: Asked) -> bool:
        scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
        is_client = asked.headers.get("Client-ID") == self.twitch.client_id
        return is_client and scheme.casefold() == "bearer" and self.twitch.accepts(token)

    def _multiquery(self, text: str) -> list[Row]:
        """Return each result under its name; one bad query and there are none. A search finds nothing."""
        queries = parse_multiquery(text)
        if len(queries) > QUERIES_AT_ONCE:
            raise Refusal(TOO_MANY_QUERIES["title"], 400, TOO_MANY_QUERIES["details"], TOO_MANY_QUERIES)
        return [{"name": one.name} | self._named_result(one) for one in queries]

    def _named_result(self, named: NamedQuery) -> Row:
        if not _is_endpoint(named.endpoint):
            raise Refusal("Syntax Error", 400, f"Unknown endpoint: '{named.endpoint}'")
        found = self._found(named.endpoint, named.query)
        if isinstance(found, dict):
            return found
        return {"result": [] if named.query.search else found}

    def _found(self, endpoint: str, query: Query) -> list[Row] | Row:
        table, _, count = endpoint.partition("/")
        _check(table, query)
        return {"count": len(list(find_rows(self.world, table, query)))} if count else page(self.world, table, query)


def _is_endpoint(name: str) -> bool:
    """Return whether it is a table, or a table with /count."""
    table, slash, count = name.partition("/")
    return table in FIELDS and (not slash or count == "count")


def _check(table: str, query: Query) -> None:
    """Refuse an unknown field, a number where a text is due, a search where there is none, or a limit over 500."""
    comparisons = [comparison for alternative in query.where for comparison in alternative]
    for path in (*query.fields, *(comparison.path for comparison in comparisons), query.sort):
        if not is_known(table, path):
            raise Refusal("Invalid Field", 400, f"Invalid field name: '{'.'.join(path)}'")
    for comparison in comparisons:
        if comparison.path[-1] in TEXTS and not all(isinstance(value, str) for value in comparison.values):
            raise Refusal("Syntax Error", 400, "Expecting a STRING as input, surround your input with quotes")
    if query.search and table != "games":
        raise Refusal("Syntax Error", 400, f"'{table}' cannot be searched")
    if query.limit > MAX_LIMIT:
        cause = f"You typed in {query.limit} as limit but your maximum is {MAX_LIMIT}"
        raise Refusal("Request limit to high", 403, cause)
