"""IGDB v4 (https://api-docs.igdb.com) and the Twitch token it asks for."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import inf
from typing import Any, Self

import httpx
import structlog
from aiolimiter import AsyncLimiter

from pipeline.edges.http import Patience, decode, open_client, retry_after
from pipeline.errors import Refused, Retryable

STEAM = 1
"""external_game_source of Steam. `category`, its forerunner, silently finds nothing."""

PAGE = 500
"""IGDB's highest `limit`."""

UIDS = 400
"""Steam ids asked for at once: below a page, for a uid may have several rows, and a full page costs one more request."""

SECONDS_PER_REQUEST = 0.27
"""IGDB counts 4 requests in any sliding second. A bucket of four that refills lets seven through at the start; evenly
spaced, a fifth never falls into the same second, with 0.08 s to spare for a slow connection."""

OPEN_REQUESTS = 8
TOKEN_MARGIN_SECONDS = 60.0
MAX_PAGES = 20

GAME_FIELDS = (
    "id,name,slug,summary,first_release_date,cover.image_id,game_type,parent_game,version_parent,"
    "genres.name,genres.slug,genres.checksum,"
    "platforms.name,platforms.slug,platforms.abbreviation,platforms.alternative_name,platforms.generation,"
    "platforms.platform_family,platforms.platform_type,platforms.checksum"
)

OnBatch = Callable[[int], None]
"""Told how many ids were answered, or given up."""

log = structlog.get_logger()


def _ignore(_ids: int) -> None:
    pass


@dataclass
class Token:
    """A Twitch app token, kept by whoever wants to use it for longer than one client lives."""

    value: str = field(default="", repr=False)
    expires_at: float = 0.0

    def is_fresh(self) -> bool:
        """Whether it can be used for another minute."""
        return time.time() < self.expires_at - TOKEN_MARGIN_SECONDS


@dataclass(frozen=True)
class Answer:
    """What became of one batch: rows as IGDB gave them, or the ids without an answer and why."""

    rows: list[Any] = field(default_factory=list)
    unanswered: list[int] = field(default_factory=list)
    error: Retryable | None = None


class Igdb:
    """Asks on behalf of one Twitch application, at IGDB's pace; `requests` counts what was sent.

    Raises:
        Refused: `bad_igdb_credentials`.
        Retryable: `igdb_unavailable`, when no token can be had. A batch of a look-up that fails does not raise.
    """

    def __init__(  # noqa: PLR0913 - two services, their credentials and a seam
        self,
        client_id: str,
        client_secret: str,
        *,
        base_url: str,
        token_url: str,
        patience: Patience,
        token: Token | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = open_client(base_url, patience, transport)
        self._client_id = client_id
        self._client_secret = client_secret
        self._token_url = token_url
        self._patience = patience
        self._token = token or Token()
        self._minting = asyncio.Lock()
        self._pace = AsyncLimiter(1, SECONDS_PER_REQUEST)
        self._open = asyncio.Semaphore(OPEN_REQUESTS)
        self.requests = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def fetch_external_games(self, appids: Iterable[int], on_batch: OnBatch = _ignore) -> list[Answer]:
        """The `external_games` rows of Steam apps: `id, uid, game`; a uid may have several rows, or none."""
        batches = _batches(sorted(appids), UIDS)
        return await _gather([self._answer(batch, self._external_games(batch), on_batch) for batch in batches])

    async def fetch_games(self, ids: Iterable[int], on_batch: OnBatch = _ignore) -> list[Answer]:
        """The `games` rows of IGDB ids, with cover, genres and platforms expanded."""
        batches = _batches(sorted(ids), PAGE)
        return await _gather([self._answer(batch, self._games(batch), on_batch) for batch in batches])

    async def _answer(self, ids: Sequence[int], rows: Awaitable[list[Any]], on_batch: OnBatch) -> Answer:
        try:
            return Answer(await rows)
        except Retryable as error:
            log.warning("igdb batch failed", ids=len(ids), first=ids[0], error=error.message)
            return Answer(unanswered=list(ids), error=error)
        finally:
            on_batch(len(ids))

    async def _external_games(self, appids: Sequence[int]) -> list[Any]:
        """All pages: IGDB cuts an answer off at its limit without a word."""
        uids = ",".join(f'"{appid}"' for appid in appids)
        query = f"fields uid,game; where external_game_source = {STEAM} & uid = ({uids}); sort id asc; limit {PAGE};"
        rows: list[Any] = []
        for number in range(MAX_PAGES):
            page = await self._post("external_games", f"{query} offset {number * PAGE};")
            rows += page
            if len(page) < PAGE:
                return rows
        raise Retryable(
            "igdb_unavailable", f"IGDB's list of {len(appids)} Steam apps does not end after {MAX_PAGES} pages."
        )

    async def _games(self, ids: Sequence[int]) -> list[Any]:
        """One page: an id has one row at most."""
        listed = ",".join(map(str, ids))
        return await self._post("games", f"fields {GAME_FIELDS}; where id = ({listed}); sort id asc; limit {PAGE};")

    async def _post(self, endpoint: str, query: str) -> list[Any]:
        return await self._patience.repeat(lambda: self._ask(endpoint, query))

    async def _ask(self, endpoint: str, query: str) -> list[Any]:
        """One request; a token that is refused is minted anew, once."""
        token = await self._fresh_token()
        answer = await self._send(endpoint, query, token)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            answer = await self._send(endpoint, query, await self._fresh_token(refused=token))
        return _rows(answer)

    async def _send(self, endpoint: str, query: str, token: str) -> httpx.Response:
        headers = {"Client-ID": self._client_id, "Authorization": f"Bearer {token}"}
        async with self._open, self._pace:
            return await self._request(endpoint, headers=headers, content=query)

    async def _request(self, url: str, **request: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own arguments
        self.requests += 1
        try:
            return await self._client.post(url, **request)
        except httpx.RequestError as error:
            where = httpx.URL(url).host or self._client.base_url.host
            raise Retryable(
                "igdb_unavailable", f"{where} did not answer: {type(error).__name__}. Try again later."
            ) from error

    async def _fresh_token(self, refused: str | None = None) -> str:
        """The token in use, minted if there is none, if it is about to expire, or if it is the one that was refused."""
        async with self._minting:
            if not self._token.is_fresh() or self._token.value == refused:
                self._token.value, self._token.expires_at = await self._mint()
            return self._token.value

    async def _mint(self) -> tuple[str, float]:
        form = {
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "grant_type": "client_credentials",
        }
        asked_at = time.time()
        answer = await self._request(self._token_url, data=form)
        if answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Refused(
                "bad_igdb_credentials", f"Twitch refuses IGDB_CLIENT_ID and IGDB_CLIENT_SECRET: {_cause(answer)}."
            )
        match _json(answer):
            case {"access_token": str(token), "expires_in": int(seconds)}:
                return token, asked_at + seconds
            case _:
                raise Retryable("igdb_unavailable", "Twitch's answer holds no token and lifetime. Try again later.")


async def _gather(answers: Sequence[Awaitable[Answer]]) -> list[Answer]:
    """All at once; if one raises, the others are not left running."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _batches(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _rows(answer: httpx.Response) -> list[Any]:
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise Refused("bad_igdb_credentials", f"IGDB refuses a token that was just minted: {_cause(answer)}.")
    rows = _json(answer)
    if not isinstance(rows, list):
        raise Retryable("igdb_unavailable", "IGDB's answer is not a list. Try again later.")
    return rows


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401 - each caller checks the shape it needs
    """The JSON of a good answer. A request that IGDB finds at fault (4xx) is not worth repeating as it is."""
    if answer.is_success:
        try:
            return decode(answer)
        except ValueError:
            raise Retryable("igdb_unavailable", f"{answer.url.host} answers something that is not JSON.") from None
    passing = answer.is_server_error or answer.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)
    raise Retryable(
        "igdb_unavailable",
        f"{answer.url.host} answers {answer.status_code}: {_cause(answer)}. Try again later.",
        retry_after=retry_after(answer) if passing else inf,
    )


def _cause(answer: httpx.Response) -> str:
    """IGDB's errors are a list of `{title, cause}` or an object with `message`; a gateway's are any text."""
    try:
        body = decode(answer)
    except ValueError:
        return answer.text[:80].strip() or answer.reason_phrase
    error = body[0] if isinstance(body, list) and body else body
    if not isinstance(error, Mapping):
        return answer.reason_phrase
    return (
        ", ".join(str(error[key])[:200] for key in ("title", "cause", "message") if error.get(key))
        or answer.reason_phrase
    )
