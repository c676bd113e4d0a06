"""The clients of IGDB v4 (https://api-docs.igdb.com) and of Twitch's tokens for it (https://dev.twitch.tv/docs/authentication)."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
import structlog

from pipeline.apis.batching import (
    SMALLEST_BATCH,
    BatchResult,
    OnBatch,
    gather_or_cancel,
    ignore_count,
    request_in_batches,
    split,
)
from pipeline.apis.http import ApiClient, HttpClient, decode_json, describe_refusal, retry_after
from pipeline.apis.igdb_queries import (
    APPS_PER_REQUEST,
    PAGE_SIZE,
    Query,
    external_games_query,
    games_query,
    group_for_multiquery,
    group_names,
    multiquery_part,
    named_games_query,
    search_text,
)
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import CircuitBreaker, RetryPolicy, ShouldRetry, call_with_retries
from pipeline.errors import PipelineError, Refused, Retryable
from schemas.apis import INT32_MAX

MAX_OPEN = 8
"""The number of open requests that IGDB allows at once."""

MULTIQUERY = "multiquery"
"""The endpoint that takes several queries in one request, which counts once towards the four a second."""

MAX_QUERIES = 10
"""The number of queries that IGDB allows in a multiquery."""

MAX_LIMITED = 2
"""The number of 429s in a run after which IGDB seems to count each query of a multiquery: no more are sent."""

MAX_REFUSED_MULTIQUERIES = 2
"""The number of refused multiqueries in a row after which a process sends no more: one may have been by chance."""

SINGLE_AFTER_REFUSAL = 20
"""The number of single queries that follow a refused multiquery before another one is sent."""

MAX_REFUSED_NAMES = 8
"""The number of refusals after which names that IGDB has never answered are given up: whole, halves and quarters."""

MAX_PAGES = 20
"""The number of pages of one query after which IGDB's list counts as endless."""

ATTEMPTS_BEFORE_SPLIT = 2
"""The number of times that a request which may be too large is sent, before its ids are requested in halves."""

RATE_LIMIT_FACTOR = 4
"""The RetryPolicy's `rate_limit_factor` at IGDB: a rate limit always ends, and other processes may share it."""

MAX_FAILURES = 20
"""The number of failed requests in a row after which IGDB counts as down: none is repeated or split any more."""

TOKEN_MARGIN_SECONDS = 60.0
"""The remaining lifetime, in seconds, below which a token is not used any more."""

MAX_TOKEN_SECONDS = 2**31
"""The lifetime, in seconds, from which on Twitch's answer about a token counts as malformed: 68 years."""

_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Of the statuses below 500, those that the same request may not get a second time."""

_TOO_LARGE = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}
"""Of the statuses below 500, those that a smaller request may not get: too many bytes, or too slow."""

_TOO_SLOW = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT}
"""The statuses of a query that took too long."""

_TWITCH_REASONS = {"invalid client", "invalid client secret", "invalid grant type"}

log = structlog.get_logger()
Json = TypeVar("Json", list[Any], dict[str, Any])


@dataclass
class Token:
    """An access token of Twitch and its expiry (Unix time); one Token can be shared by several clients in turn."""

    value: str = field(default="", repr=False)
    expires_at: float = 0.0
    refused_multiqueries: int = 0
    """How many multiqueries in a row IGDB has refused to the clients that share this token."""

    def is_fresh(self) -> bool:
        """Return True if the token does not expire within the next minute."""
        return time.time() < self.expires_at - TOKEN_MARGIN_SECONDS


@dataclass(frozen=True)
class TwitchApplication:
    """The id and secret of a Twitch application, and the URL that issues access tokens for it."""

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str


class RefusedQuery(Refused):
    """IGDB's final answer to a request: it would refuse the same request again."""


class Twitch:
    """The Twitch client of one application: fetches access tokens, and keeps each until it is refused or expires.

    Raises:
        Refused: `bad_igdb_credentials`.
        Retryable: `igdb_unavailable`.
    """

    def __init__(self, http: HttpClient, application: TwitchApplication, token: Token) -> None:
        self.requests = 0
        self._http = http
        self._application = application
        self._token = token
        self._minting = asyncio.Lock()

    async def fetch_token(self, refused: str | None = None) -> str:
        """Return the current access token as text; fetch a new one if there is none, it expires, or it is `refused`.

        `refused` is the token that IGDB has just refused, None if it has refused none.
        """
        async with self._minting:
            if self._token.value == refused:
                self._token.expires_at = 0.0  # it must not be used again, even if no new one can be had now
            if not self._token.is_fresh():
                self._token.value, self._token.expires_at = await self._mint()
            return self._token.value

    async def _mint(self) -> tuple[str, float]:
        form = {
            "client_id": self._application.client_id,
            "client_secret": self._application.client_secret,
            "grant_type": "client_credentials",
        }
        self.requests += 1
        asked_at = time.time()
        request = self._http.build_request("POST", self._application.token_url, data=form)
        answer = await self._http.send(request, "igdb_unavailable")
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(
                "bad_igdb_credentials",
                f"Twitch refuses IGDB_CLIENT_ID and IGDB_CLIENT_SECRET: {_twitch_reason(answer)}. Compare them with "
                "the application on https://dev.twitch.tv/console/apps.",
            )
        raise_for_status(answer, "TWITCH_TOKEN_URL")
        match _decode(answer, dict):
            case {"access_token": str(token), "expires_in": int(seconds)} if (
                token.isascii() and token.isprintable() and seconds < MAX_TOKEN_SECONDS
            ):
                return token, asked_at + seconds
            case _:
                raise Retryable("igdb_unavailable", "Twitch's answer holds no token and lifetime. Try again later.")


class Igdb(ApiClient):
    """The IGDB client of one Twitch application; `retries` counts the requests that repeated another.

    Where there are several queries, they are sent as one multiquery. What a multiquery does not answer is asked for in
    single queries. If IGDB refuses a multiquery, the next SINGLE_AFTER_REFUSAL queries are single; if it then refuses
    another, this process sends no more multiqueries. If IGDB answers none of a multiquery's queries, or limits the rate
    of multiqueries, this client sends no more of them. If a multiquery is too large or too slow, later multiqueries to
    the same endpoint hold fewer queries.
    A batch of ids that still fails after the retries is `igdb_unavailable` in its `BatchResult`, and not raised.

    Raises:
        Refused: `bad_igdb_credentials`, or `configuration` for a query that IGDB does not know.
    """

    def __init__(
        self,
        http: HttpClient,
        application: TwitchApplication,
        retry_policy: RetryPolicy,
        rate_limiter: RateLimiter,
        *,
        token: Token | None = None,
        multiquery: bool = True,
    ) -> None:
        super().__init__(http, "igdb")
        self._client_id = application.client_id
        self._token = token or Token()
        self._twitch = Twitch(http, application, self._token)
        self._retry_policy = replace(retry_policy, rate_limit_factor=RATE_LIMIT_FACTOR)
        self._rate_limiter = rate_limiter
        self._may_send_multiqueries = multiquery
        self._single_queries_left = 0
        self._most_queries = dict[str, int]()
        self._limited = 0
        self._breaker = CircuitBreaker(MAX_FAILURES)
        self._has_answered = False
        self._sent = 0

    @property
    def requests(self) -> int:
        """The number of requests sent, to IGDB and to Twitch."""
        return self._sent + self._twitch.requests

    def queries_at_once(self, endpoint: str) -> int:
        """Return how many queries of an endpoint may go out in one request; 1 if no multiqueries are sent."""
        return self._most_queries.get(endpoint, MAX_QUERIES) if self._sends_multiqueries else 1

    @property
    def _sends_multiqueries(self) -> bool:
        is_refused = self._token.refused_multiqueries >= MAX_REFUSED_MULTIQUERIES
        return self._may_send_multiqueries and not is_refused and self._single_queries_left <= 0

    async def fetch_external_games(self, appids: Iterable[int], on_batch: OnBatch = ignore_count) -> list[BatchResult]:
        """Return the `external_games` rows (`id, uid, game`) of Steam apps, in one BatchResult per batch.

        An app may have several rows, or none.
        """
        return await self._fetch(sorted(appids), APPS_PER_REQUEST, external_games_query, on_batch)

    async def fetch_games(self, ids: Iterable[int], on_batch: OnBatch = ignore_count) -> list[BatchResult]:
        """Return the `games` rows of IGDB ids, with cover, genres and platforms, in one BatchResult per batch."""
        return await self._fetch(sorted(ids), PAGE_SIZE, games_query, on_batch)

    async def fetch_games_named(self, names: Iterable[str]) -> tuple[list[Any], set[str]]:
        """Return the `games` rows that have one of the names or an alternative name, but for case.

        Several hundred names are in a request. The names whose request failed for good are returned as well.
        """
        unanswered: set[str] = set()
        groups = group_names(dict.fromkeys(names))
        parts = await gather_or_cancel([self._fetch_named(group, unanswered) for group in groups])
        return [row for rows in parts for row in rows], unanswered

    async def search_games(self, name: str) -> list[Any]:
        """Return the `games` rows that IGDB's search finds for a name.

        Raises:
            Retryable: `igdb_unavailable`; at once, and without a request, if IGDB counts as down.
        """
        if self._breaker.is_open:
            raise Retryable("igdb_unavailable", f"IGDB has failed {MAX_FAILURES} times in a row. Try again later.")
        return await self._request("games", search_text(name), list)

    async def count(self, query: Query) -> int:
        """Return the number of rows that a query has at IGDB; raises `Retryable` (`igdb_unavailable`)."""
        answered = await self._request(f"{query.endpoint}/count", f"where {query.where};", dict)
        rows = answered.get("count")
        if type(rows) is not int or not 0 <= rows <= INT32_MAX:
            raise Retryable("igdb_unavailable", "IGDB's count is no number. Try again later.")
        return rows

    async def fetch_pages(self, queries: Sequence[Query]) -> list[list[Any]]:
        """Return the first page of each query, in their order: up to 500 rows, sorted by id.

        Raises:
            Retryable: `igdb_unavailable`, if one of them has no answer.
        """
        first_pages = await self._fetch_first_pages(queries)
        single = [query for query in queries if query not in first_pages]
        pages = await gather_or_cancel([self._request(query.endpoint, query.text(), list) for query in single])
        first_pages.update(zip(single, pages, strict=True))
        return [first_pages[query] for query in queries]

    async def _fetch(
        self, ids: Sequence[int], size: int, query_of: Callable[[Sequence[int]], Query], on_batch: OnBatch
    ) -> list[BatchResult]:
        first_pages = await self._fetch_first_pages([query_of(batch) for batch in split(ids, size)])

        async def request(batch: Sequence[int]) -> list[Any]:
            query = query_of(batch)
            return await self._fetch_pages(query, first_pages.pop(query, None), may_split=len(batch) > SMALLEST_BATCH)

        return await request_in_batches(ids, size, request, on_batch, self._breaker)

    async def _fetch_first_pages(self, queries: Sequence[Query]) -> dict[Query, list[Any]]:
        """Return the first page of each query, by multiqueries; queries that these do not answer are missing."""
        most = self.queries_at_once(queries[0].endpoint) if queries else 1
        if most == 1 or len(queries) == 1:
            return {}
        groups = group_for_multiquery(queries, most)
        parts = await gather_or_cancel([self._fetch_group(group) for group in groups])
        return {query: rows for part in parts for query, rows in part.items()}

    async def _fetch_group(self, queries: Sequence[Query]) -> dict[Query, list[Any]]:
        try:
            first_pages = await self._request_multiquery(queries)
        except RefusedQuery as error:
            self._note_refused_multiquery(error)
            return {}
        except Retryable as error:
            endpoint = queries[0].endpoint
            if _may_pass_with_fewer_queries(error):
                self._most_queries[endpoint] = min(self.queries_at_once(endpoint), max(1, len(queries) // 2))
            log.warning("multiquery failed", endpoint=endpoint, queries=len(queries), error=error.message)
            return {}
        self._token.refused_multiqueries = 0
        if not first_pages:
            self._end_multiqueries("IGDB answers none of the queries of one.")
        return first_pages

    def _should_repeat_multiquery(self, error: Retryable, failures: int) -> bool:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._sends_multiqueries
        return _is_transient(error) and not _may_pass_with_fewer_queries(error) and failures < ATTEMPTS_BEFORE_SPLIT

    def _note_refused_multiquery(self, error: RefusedQuery) -> None:
        if not self._sends_multiqueries:
            return  # it was open together with one whose refusal was noted
        self._token.refused_multiqueries += 1
        self._single_queries_left = SINGLE_AFTER_REFUSAL
        says = "Its queries are sent one by one, and nothing is lost. If this goes on, set IGDB_MULTIQUERY=off."
        log.warning("multiquery refused", error=f"{error.message} {says}")

    def _end_multiqueries(self, why: str) -> None:
        if self._may_send_multiqueries:
            self._may_send_multiqueries = False
            log.warning("no more multiqueries", why=why)

    async def _fetch_pages(self, query: Query, first: list[Any] | None, *, may_split: bool) -> list[Any]:
        """Return the rows of all pages: IGDB cuts an answer off at its limit without a word."""
        rows: list[Any] = []
        page = first
        for number in range(MAX_PAGES):
            if page is None:
                should_repeat = _should_repeat_before_split if may_split else None
                page = await self._request(query.endpoint, query.text(number), list, should_repeat)
            rows += page
            if len(page) < PAGE_SIZE or not query.has_pages:
                return rows
            page = None
        raise Retryable(
            "igdb_unavailable",
            f"IGDB's list of {query.endpoint} does not end after {MAX_PAGES} pages. Try again later.",
        )

    async def _fetch_named(self, group: Sequence[str], unanswered: set[str]) -> list[Any]:
        """Return the rows of a group of names; those of requests that fail have none, and are added to `unanswered`.

        A request that is refused, or may be too large, is sent again in halves, so that one name spoils no other. A
        name that is refused alone has no rows, for IGDB would refuse it again.
        """
        rows = list[Any]()
        pending, by_other_names, refusals, has_answered = deque([group]), True, 0, False
        while pending:
            names = pending.popleft()
            query = named_games_query(names, by_other_names=by_other_names)
            may_split = len(names) > SMALLEST_BATCH
            try:
                rows += await self._fetch_pages(query, None, may_split=may_split)
                has_answered = True
            except Retryable as error:
                if may_split and error.is_too_large and not self._breaker.is_open:
                    pending += _halves(names)
                    continue
                log.warning("names failed", names=len(names), first=names[0], error=error.message)
                unanswered.update(names)
            except RefusedQuery as error:
                refusals += 1
                if by_other_names:  # nobody has shown that IGDB takes hundreds of alternative names
                    by_other_names = False
                    pending.appendleft(names)
                elif not has_answered and refusals >= MAX_REFUSED_NAMES:
                    unanswered.update(names, *pending)
                    return rows
                elif len(names) > 1:
                    pending += _halves(names)
                else:
                    log.warning("name refused", name=names[0], error=error.message)
        return rows

    async def _request_multiquery(self, queries: Sequence[Query]) -> dict[Query, list[Any]]:
        """Return the rows of several queries, asked by one request; queries without one clear answer are missing."""
        text = "".join(multiquery_part(number, query) for number, query in enumerate(queries))
        results = await self._request(MULTIQUERY, text, list, self._should_repeat_multiquery)
        parts = [(str(part.get("name")), part.get("result")) for part in results if isinstance(part, dict)]
        times, rows = Counter(name for name, _ in parts), dict(parts)
        names = ((query, str(number)) for number, query in enumerate(queries))
        answered = ((query, rows[name]) for query, name in names if times[name] == 1)
        return {query: page for query, page in answered if isinstance(page, list) and len(page) <= PAGE_SIZE}

    async def _request(
        self, endpoint: str, text: str, kind: type[Json], should_repeat: ShouldRetry | None = None
    ) -> Json:
        """Return the JSON that IGDB answers, after retries, by default of all errors that may pass."""

        def should_retry(error: Retryable, failures: int) -> bool:
            may_pass = should_repeat(error, failures) if should_repeat else _is_transient(error)
            return may_pass and not self._breaker.is_open

        return await call_with_retries(
            lambda: self._request_once(endpoint, text, kind),
            self._retry_policy,
            "igdb_unavailable",
            self.retries,
            should_retry,
        )

    async def _request_once(self, endpoint: str, text: str, kind: type[Json]) -> Json:
        """Return the JSON of one request, which is sent again with a new token if IGDB refuses the token."""
        try:
            answer, token = await self._send(endpoint, text)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                answer, _ = await self._send(endpoint, text, refused=token)
            if answer.status_code == HTTPStatus.UNAUTHORIZED:
                raise self._refused_twice()
            raise_for_status(answer, "IGDB_API_URL")
            decoded = _decode(answer, kind)
        except Retryable as error:
            if error.status != HTTPStatus.TOO_MANY_REQUESTS:
                self._breaker.note_failure()
            raise
        self._breaker.note_success()
        if endpoint != MULTIQUERY:
            self._single_queries_left -= 1
        self._has_answered = True
        self._rate_limiter.speed_up()
        return decoded

    async def _send(self, endpoint: str, text: str, refused: str | None = None) -> tuple[httpx.Response, str]:
        """Return the answer, and the token that was sent: the one in use when the request's turn came."""
        token = ""

        async def prepare() -> None:
            # Within the turn: requests that wait for a token must not leave together when it is there.
            nonlocal token
            token = await self._twitch.fetch_token(refused)

        async with self._rate_limiter.acquire(prepare):
            if endpoint == MULTIQUERY and not self._sends_multiqueries:
                says = "IGDB refused multiqueries, or limited their rate, while this one waited."
                raise Retryable("igdb_unavailable", says, status=HTTPStatus.TOO_MANY_REQUESTS)
            headers = {"Client-ID": self._client_id, "Authorization": f"Bearer {token}"}
            self._sent += 1
            request = self._http.build_request("POST", endpoint, headers=headers, content=text)
            answer = await self._http.send(request, "igdb_unavailable")
            if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                self._note_rate_limit(endpoint)
            return answer, token

    def _note_rate_limit(self, endpoint: str) -> None:
        self._rate_limiter.slow_down()
        # One of a single query says nothing about multiqueries: others may use the account too.
        self._limited += endpoint == MULTIQUERY
        if self._limited >= MAX_LIMITED:
            self._end_multiqueries("IGDB answers 429, as if it counted each query.")

    def _refused_twice(self) -> PipelineError:
        """Return the error for two refused tokens in a row.

        The application is not allowed to use IGDB; or, if IGDB answered it before, both tokens were revoked.
        """
        says = (
            "IGDB refuses a token that Twitch just minted. Try again; if it stays so, look at the application of "
            "IGDB_CLIENT_ID on https://dev.twitch.tv/console/apps."
        )
        return Retryable("igdb_unavailable", says) if self._has_answered else Refused("bad_igdb_credentials", says)


def raise_for_status(answer: httpx.Response, url_setting: str) -> None:
    """Raise our error unless an answer of IGDB or Twitch has a status of success (2xx).

    `url_setting` is the setting that holds the address of the service.

    Raises:
        RefusedQuery: `configuration` or `bad_igdb_credentials`, for a status that the same request would meet again.
        Retryable: `igdb_unavailable`.
    """
    status, said = answer.status_code, describe_refusal(answer)
    if answer.is_success:
        return
    says = f"{answer.url.host} answers {status}: {said}."
    if answer.is_server_error or status in _TRANSIENT | _TOO_LARGE | {HTTPStatus.UNAUTHORIZED}:
        raise Retryable(
            "igdb_unavailable",
            f"{says} Try again later.",
            retry_after=retry_after(answer),
            is_too_large=answer.is_server_error or status in _TOO_LARGE,
            status=status,
        )
    if status == HTTPStatus.FORBIDDEN and "limit" not in said.casefold():
        where = "on https://dev.twitch.tv/console/apps, or use another"
        raise RefusedQuery("bad_igdb_credentials", f"{says} Look at the application of IGDB_CLIENT_ID {where}.")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN):
        ours = f"This version of the program, {version('steam-library-import')}, asks what IGDB does not answer"
        raise RefusedQuery("configuration", f"{says} {ours}: install a newer one.")
    raise RefusedQuery("configuration", f"{says} Check {url_setting}: it may not be the address of this API.")


def _halves(names: Sequence[str]) -> list[Sequence[str]]:
    return split(names, -(-len(names) // 2))


def _is_transient(error: Retryable) -> bool:
    """Return whether the same request may succeed: IGDB refused it by a passing status, or did not answer."""
    return error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR or error.status in _TRANSIENT


def _should_repeat_before_split(error: Retryable, failures: int) -> bool:
    """Return whether a request about many ids is to be repeated, rather than its ids requested in halves."""
    return _is_transient(error) and not (error.is_too_large and failures >= ATTEMPTS_BEFORE_SPLIT)


def _may_pass_with_fewer_queries(error: Retryable) -> bool:
    """Return whether a multiquery failed by its size or its time; `is_too_large` is true of every failed server."""
    is_timeout = isinstance(error.__cause__, httpx.TimeoutException | TimeoutError)
    return is_timeout or error.status in _TOO_LARGE | _TOO_SLOW


def _decode(answer: httpx.Response, kind: type[Json]) -> Json:
    """Return the JSON of an answer, which is a list of up to a page, or an object."""
    host, decoded = answer.url.host, decode_json(answer)
    if not isinstance(decoded, kind):
        name = "list" if kind is list else "object"
        raise Retryable("igdb_unavailable", f"{host} does not answer with a JSON {name}. Try again later.")
    if kind is list and len(decoded) > PAGE_SIZE:
        raise Retryable("igdb_unavailable", f"{host} answers with more than {PAGE_SIZE} rows. Try again later.")
    return decoded


def _twitch_reason(answer: httpx.Response) -> str:
    """Return Twitch's message if it is one that is known: another may repeat what was sent."""
    body = decode_json(answer)
    message = body.get("message") if isinstance(body, dict) else None
    return message if isinstance(message, str) and message in _TWITCH_REASONS else f"status {answer.status_code}"
