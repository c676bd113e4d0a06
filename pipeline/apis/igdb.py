"""The token that IGDB asks for, from Twitch (https://dev.twitch.tv/docs/authentication).

IGDB v4 (https://api-docs.igdb.com).

What IGDB and Twitch answer, and whether asking again helps.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import inf
from typing import Any, Literal, Self, TypeVar

import httpx
import structlog

from pipeline.apis.batching import SMALLEST, BatchResult, OnBatch, ask_in_batches, batches, gather, ignore
from pipeline.apis.http import cause, decode, open_client, retry_after, send
from pipeline.apis.igdb_queries import PAGE, Asked, Query, Search, external_games_of, games_by_id, grouped, named
from pipeline.apis.rate_limit import Pace, Rhythm
from pipeline.apis.retry import Retries, RetryPolicy
from pipeline.errors import PipelineError, Refused, Retryable
from schemas.igdb import INT32_MAX

MARGIN_SECONDS = 60.0
LONGEST_SECONDS = 2**31


@dataclass
class Token:
    """An app token, kept by whoever wants to use it for longer than one client lives."""

    value: str = field(default="", repr=False)
    expires_at: float = 0.0

    def is_fresh(self) -> bool:
        """Whether it can be used for another minute."""
        return time.time() < self.expires_at - MARGIN_SECONDS


class Twitch:
    """Mints tokens on behalf of one application, once, and again when one is refused or about to expire.

    Raises:
        Refused: `bad_igdb_credentials`.
        Retryable: `igdb_unavailable`.
    """

    def __init__(
        self, client: httpx.AsyncClient, token_url: str, client_id: str, client_secret: str, token: Token
    ) -> None:
        self._client = client
        self._token_url = token_url
        self._form = {"client_id": client_id, "client_secret": client_secret, "grant_type": "client_credentials"}
        self._token = token
        self._minting = asyncio.Lock()
        self.requests = 0

    async def token(self, refused: str | None = None) -> str:
        """The token in use, unless it is the one that was refused."""
        async with self._minting:
            if self._token.value == refused:
                self._token.expires_at = 0.0  # also where no new one can be had now
            if not self._token.is_fresh():
                self._token.value, self._token.expires_at = await self._mint()
            return self._token.value

    async def _mint(self) -> tuple[str, float]:
        self.requests += 1
        asked_at = time.time()
        answer = await send(self._client, "igdb_unavailable", "POST", self._token_url, data=self._form)
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(
                "bad_igdb_credentials",
                f"Twitch refuses IGDB_CLIENT_ID and IGDB_CLIENT_SECRET: {cause(answer)}. Compare them with the "
                "application on https://dev.twitch.tv/console/apps.",
            )
        match raise_for_status(answer):
            case {"access_token": str(token), "expires_in": int(seconds)} if _is_usable(token, seconds):
                return token, asked_at + seconds
            case _:
                raise Retryable("igdb_unavailable", "Twitch's answer holds no token and lifetime. Try again later.")


def _is_usable(token: str, seconds: int) -> bool:
    """Whether a header can hold the token, and a clock the time."""
    return token.isascii() and token.isprintable() and seconds < LONGEST_SECONDS


Multiquery = Literal["off", "each", "one"]
"""Whether to ask several queries in one request, and whether IGDB counts each of them or all as one (undocumented)."""

UIDS = 400
"""Steam ids asked for at once: below a page, as a uid may have several rows, and a full page costs one request more."""

SECONDS_PER_REQUEST = 0.28
"""IGDB counts 4 requests in any sliding second. A bucket of four that refills lets seven through at the start; evenly
spaced, a fifth never falls into the same second, with 0.12 s to spare for a slow connection."""

OPEN_REQUESTS = 8
MAX_PAGES = 20

QUERIES = {"each": 4, "one": 10}
"""Queries in a multiquery: IGDB allows ten, and four if each counts towards the second."""

SEARCHES = 10
"""Names searched for in a multiquery: as many as IGDB allows. It waits for the slots of all, if each counts."""

GIVE_UP_AFTER = 20
"""Failures in a row, without an answer between them, after which IGDB counts as down and nothing is tried twice."""

log = structlog.get_logger()
Json = TypeVar("Json", list[Any], dict[str, Any])
MakeQuery = Callable[[Sequence[int]], Query]


class Igdb:
    """Asks on behalf of one Twitch application, at IGDB's pace; `requests` counts what was sent, `retries` what again.

    Raises:
        Refused: `bad_igdb_credentials`. A batch that fails for good is in its `Answer` instead.
    """

    def __init__(  # noqa: PLR0913 - two services, their credentials and a seam
        self,
        client_id: str,
        client_secret: str,
        *,
        base_url: str,
        token_url: str,
        patience: RetryPolicy,
        token: Token | None = None,
        rhythm: Rhythm | None = None,
        multiquery: Multiquery = "off",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = open_client(base_url, patience, transport)
        self._client_id = client_id
        self._twitch = Twitch(self._client, token_url, client_id, client_secret, token or Token())
        self.retries = Retries("igdb")
        self._patience = replace(patience, retries=self.retries)
        self._multiquery = multiquery
        self._pace = Pace(rhythm or Rhythm(SECONDS_PER_REQUEST), OPEN_REQUESTS)
        self._failures = 0
        self._is_welcome = False
        self._sent = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    @property
    def requests(self) -> int:
        """Requests sent to IGDB, and to Twitch for a token."""
        return self._sent + self._twitch.requests

    async def fetch_external_games(self, appids: Iterable[int], on_batch: OnBatch = ignore) -> list[BatchResult]:
        """The `external_games` rows of Steam apps: `id, uid, game`; a uid may have several rows, or none."""
        return await self._fetch(sorted(appids), UIDS, external_games_of, on_batch)

    async def fetch_games(self, ids: Iterable[int], on_batch: OnBatch = ignore) -> list[BatchResult]:
        """The `games` rows of IGDB ids, with cover, genres and platforms expanded."""
        return await self._fetch(sorted(ids), PAGE, games_by_id, on_batch)

    async def search_games(self, names: Iterable[str], on_batch: OnBatch = ignore) -> dict[str, list[Any]]:
        """What IGDB finds for each name, of `games` rows the best; a name without an answer is missing."""
        searches = [Search(name) for name in dict.fromkeys(names)]
        parts = await gather([self._search(group, on_batch) for group in grouped(searches, SEARCHES) if group])
        return {search.name: rows for part in parts for search, rows in part.items()}

    async def count(self, query: Query) -> int:
        """How many rows a query has; raises `igdb_unavailable`."""
        counted = await self._repeat(f"{query.endpoint}/count", f"where {query.where};", dict)
        rows = counted.get("count")
        if type(rows) is not int or not 0 <= rows <= INT32_MAX:
            raise Retryable("igdb_unavailable", "IGDB's count is no number. Try again later.")
        return rows

    async def fetch_after(self, query: Query, after: int) -> list[Any]:
        """The page of a query that follows the row of an id; raises `igdb_unavailable`."""
        text = f"fields {query.fields}; where {query.where} & id > {after}; sort id asc; limit {PAGE};"
        return await self._repeat(query.endpoint, text, list)

    async def _repeat(
        self, endpoint: str, text: str, kind: type[Json], slots: int = 1, patience: RetryPolicy | None = None
    ) -> Json:
        return await (patience or self._patience).repeat(
            "igdb_unavailable", lambda: self._ask(endpoint, text, slots, kind)
        )

    async def _fetch(self, ids: Sequence[int], size: int, query: MakeQuery, on_batch: OnBatch) -> list[BatchResult]:
        first_pages = await self._first_pages([query(batch) for batch in batches(ids, size)])

        async def ask(batch: Sequence[int]) -> list[Any]:
            asked = query(batch)
            patience = self._patience if len(batch) <= SMALLEST else replace(self._patience, attempts_of_too_much=2)
            return await self._pages(asked, first_pages.pop(asked, None), patience)

        return await ask_in_batches(ids, size, ask, on_batch)

    async def _first_pages(self, queries: Sequence[Query]) -> dict[Query, list[Any]]:
        """The first page of each query, several in a request; none of those whose request fails."""
        if self._multiquery == "off" or len(queries) <= 1:
            return {}
        parts = await gather([self._multi(group) for group in grouped(queries, QUERIES[self._multiquery])])
        return {query: rows for part in parts for query, rows in part.items()}

    async def _multi(self, queries: Sequence[Query]) -> dict[Query, list[Any]]:
        try:
            return await self._at_once(queries, self._patience)
        except Retryable as error:
            log.warning("multiquery failed", queries=len(queries), error=error.message)
            return {}

    async def _search(self, searches: Sequence[Search], on_batch: OnBatch) -> dict[Search, list[Any]]:
        """Several are asked for once, and in halves if that fails; a single one is worth all patience."""
        is_single, found = len(searches) == 1, dict[Search, list[Any]]()
        try:
            found = await self._at_once(searches, self._patience if is_single else replace(self._patience, attempts=1))
        except Retryable as error:
            if not is_single and self._failures < GIVE_UP_AFTER:
                middle = len(searches) // 2
                first = await self._search(searches[:middle], on_batch)
                return first | await self._search(searches[middle:], on_batch)
            log.warning("search failed", names=len(searches), first=searches[0].name, error=error.message)
        on_batch(len(searches))
        return found

    async def _at_once(self, queries: Sequence[Asked], patience: RetryPolicy) -> dict[Asked, list[Any]]:
        """The rows of several queries by one request; raises `igdb_unavailable`."""
        text = "".join(named(number, query) for number, query in enumerate(queries))
        slots = 1 if self._multiquery == "one" else len(queries)
        results = await self._repeat("multiquery", text, list, slots, patience)
        rows = {str(result.get("name")): result.get("result") for result in results if isinstance(result, dict)}
        answered = ((query, rows.get(str(number))) for number, query in enumerate(queries))
        return {query: page for query, page in answered if isinstance(page, list) and len(page) <= PAGE}

    async def _pages(self, query: Query, first: list[Any] | None, patience: RetryPolicy) -> list[Any]:
        """All pages: IGDB cuts an answer off at its limit without a word."""
        rows: list[Any] = []
        for number in range(MAX_PAGES):
            page = first if first is not None and number == 0 else await self._page(query, number, patience)
            rows += page
            if len(page) < PAGE or not query.has_pages:
                return rows
        raise Retryable(
            "igdb_unavailable", f"IGDB's list of {query.endpoint} does not end after {MAX_PAGES} pages. Try later."
        )

    async def _page(self, query: Query, number: int, patience: RetryPolicy) -> list[Any]:
        return await self._repeat(query.endpoint, query.text(number), list, patience=patience)

    async def _ask(self, endpoint: str, text: str, slots: int, kind: type[Json]) -> Json:
        """One request; a token that is refused is minted anew, once."""
        try:
            answer, token = await self._send(endpoint, text, slots)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                answer, _ = await self._send(endpoint, text, slots, refused=token)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                raise self._unwelcome(answer)
            answered = _answered(answer, kind)
        except Retryable as error:
            self._note(error)
            raise
        self._failures, self._is_welcome = 0, True
        self._pace.speed_up()
        return answered

    async def _send(
        self, endpoint: str, text: str, slots: int, refused: str | None = None
    ) -> tuple[httpx.Response, str]:
        """The answer, and the token that was sent: the one in use when the request's turn comes, never the refused."""
        async with self._pace.slots(slots):
            token = await self._twitch.token(refused)
            headers = {"Client-ID": self._client_id, "Authorization": f"Bearer {token}"}
            self._sent += 1
            answer = await send(self._client, "igdb_unavailable", "POST", endpoint, headers=headers, content=text)
            if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                self._pace.slow_down()
            return answer, token

    def _unwelcome(self, answer: httpx.Response) -> PipelineError:
        """Two tokens in a row were refused: the application is not welcome, or, if it was before, both were revoked."""
        says = (
            f"IGDB refuses a token that was just minted: {cause(answer)}. Try again; if it stays so, look at the "
            "application of IGDB_CLIENT_ID on https://dev.twitch.tv/console/apps."
        )
        return Retryable("igdb_unavailable", says) if self._is_welcome else Refused("bad_igdb_credentials", says)

    def _note(self, error: Retryable) -> None:
        """Stop trying where IGDB says nothing any more; a rate limit is not nothing."""
        if error.is_too_often:
            return
        self._failures += 1
        if self._failures >= GIVE_UP_AFTER:
            error.retry_after, error.is_too_much = inf, False


def _answered(answer: httpx.Response, kind: type[Json]) -> Json:
    answered = raise_for_status(answer)
    if not isinstance(answered, kind) or len(answered) > PAGE:
        raise Retryable(
            "igdb_unavailable", f"IGDB's answer is no {kind.__name__} of up to {PAGE} parts. Try again later."
        )
    return answered


PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
TOO_MUCH = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}


def raise_for_status(answer: httpx.Response) -> Any:  # noqa: ANN401 - each caller checks the shape it needs
    """The JSON of a good answer.

    A request that is at fault itself (4xx) is not worth repeating as it is; one that is too much (413 by its size, 408
    by its time, perhaps 5xx) is worth repeating in halves.
    """
    if answer.is_success:
        try:
            return decode(answer)
        except ValueError:
            raise Retryable(
                "igdb_unavailable", f"{answer.url.host} answers something that is not JSON. Try again later."
            ) from None
    is_passing = answer.is_server_error or answer.status_code in PASSING
    is_too_often = answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    raise Retryable(
        "igdb_unavailable",
        f"{answer.url.host} answers {answer.status_code}: {cause(answer)}. Try again later.",
        retry_after=retry_after(answer) if is_passing else inf,
        is_too_much=answer.is_server_error or answer.status_code in TOO_MUCH,
        is_too_often=is_too_often,
        status=answer.status_code,
    )
