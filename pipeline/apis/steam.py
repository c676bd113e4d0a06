"""Steam's Web API: https://partner.steamgames.com/doc/webapi_overview."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Self

import httpx

from pipeline.apis.batching import batches
from pipeline.apis.http import Network, TooLarge, decode, no_answer, open_client, retry_after, text
from pipeline.apis.rate_limit import Pace, Rhythm
from pipeline.apis.retry import Retries, RetryPolicy
from pipeline.errors import Failed, Refused, Retryable

OWNED_GAMES = {
    "include_appinfo": "1",
    "include_played_free_games": "1",
    "include_free_sub": "1",
    "skip_unvetted_apps": "0",  # the default, 1, hides apps whose "profile features are limited"
}

SUMMARIES_AT_ONCE = 100
"""How many accounts one GetPlayerSummaries takes."""

HARDLY_PACED = 0.001
_NO_MATCH = 42  # EResult


class Steam:
    """Asks on behalf of one Web API key; `requests` counts what was sent, `retries` what of it again.

    Raises:
        Refused: `bad_steam_key`.
        Failed: `steam_blocked`.
        Retryable: `steam_rate_limited`, `steam_unavailable`, `steam_bad_answer`, after `patience` is used up.
    """

    def __init__(
        self,
        key: str,
        base_url: str,
        patience: RetryPolicy,
        transport: httpx.AsyncBaseTransport | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = open_client(base_url, patience, _WithKey(key, transport or Network()))
        self.retries = Retries("steam")
        self._patience = replace(patience, retries=self.retries)
        self._pace = pace or Pace(Rhythm(HARDLY_PACED), SUMMARIES_AT_ONCE)
        self.requests = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def fetch_owned_games(self, steam_id64: str) -> list[Any] | None:
        """The rows of IPlayerService/GetOwnedGames; None when nothing is shown (a private library, or no account).

        A list shorter than its `game_count` is `steam_bad_answer`: it would look like games that were removed.
        """
        return await self._patience.repeat("steam_unavailable", lambda: self._owned_games(steam_id64))

    async def has_account(self, steam_id64: str) -> bool:
        """Whether the account exists."""
        return bool(await self.fetch_existing([steam_id64]))

    async def fetch_existing(self, steam_id64s: Sequence[str]) -> set[str]:
        """Those of the accounts that exist (ISteamUser/GetPlayerSummaries leaves unknown ids out)."""
        existing: set[str] = set()
        for asked in batches(steam_id64s, SUMMARIES_AT_ONCE):
            answer = await self._get("ISteamUser/GetPlayerSummaries/v2/", {"steamids": ",".join(asked)})
            players = answer.get("players")
            if not isinstance(players, list):
                raise Retryable(
                    "steam_bad_answer", "Steam's answer about accounts holds no list of players. Try again later."
                )
            existing |= {str(player.get("steamid")) for player in players if isinstance(player, Mapping)}
        return existing

    async def resolve_vanity(self, name: str) -> str | None:
        """The SteamID64 behind a custom profile URL (ISteamUser/ResolveVanityURL); None if nobody has it."""
        answer = await self._get("ISteamUser/ResolveVanityURL/v1/", {"vanityurl": name})
        if answer.get("success") == _NO_MATCH:
            return None
        steam_id64 = answer.get("steamid")
        if not isinstance(steam_id64, str) or not re.fullmatch(r"\d{17}", steam_id64, re.ASCII):
            raise Retryable(
                "steam_bad_answer", f"Steam's answer about the custom URL {name!r} holds no id. Try again later."
            )
        return steam_id64

    async def _owned_games(self, steam_id64: str) -> list[Any] | None:
        answer = await self._ask("IPlayerService/GetOwnedGames/v1/", {"steamid": steam_id64, **OWNED_GAMES})
        if not answer.keys() & {"game_count", "games"}:
            return None
        # Only a count of 0 says that a library is empty.
        count, games = answer.get("game_count", 1), answer.get("games", [])
        is_count, most = type(count) is int and count >= 0, self._patience.answer_rows
        if not is_count or not isinstance(games, list) or len(games) > most:
            raise Retryable("steam_bad_answer", "Steam's list of games is malformed. Try again later.")
        if count > len(games):
            raise Retryable(
                "steam_bad_answer",
                f"Steam says {count} games and lists {len(games)}; nothing was written. Try again later.",
            )
        return games

    async def _get(self, method: str, params: Mapping[str, str]) -> dict[str, Any]:
        return await self._patience.repeat("steam_unavailable", lambda: self._ask(method, params))

    async def _ask(self, method: str, params: Mapping[str, str]) -> dict[str, Any]:
        async with self._pace.slots():
            self.requests += 1
            try:
                answer = await self._client.get(method, params=params)
            except httpx.RequestError as error:
                says = no_answer(f"Steam ({self._client.base_url.host})", error)
                is_bad = isinstance(error, TooLarge)
                raise Retryable("steam_bad_answer" if is_bad else "steam_unavailable", says) from error
        self._keep_pace(answer)
        _judge(answer)
        return _response(answer)

    def _keep_pace(self, answer: httpx.Response) -> None:
        """A rate limit slows down everyone who shares the pace."""
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._pace.slow_down()
        else:
            self._pace.speed_up()


class _WithKey(httpx.AsyncBaseTransport):
    """Adds the key behind the client's back, so that no log line, exception or repr of httpx can hold it."""

    def __init__(self, key: str, inner: httpx.AsyncBaseTransport) -> None:
        self._key = key
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_merge_params({"key": self._key})
        keyed = httpx.Request(request.method, url, headers=request.headers, extensions=request.extensions)
        return await self._inner.handle_async_request(keyed)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _judge(answer: httpx.Response) -> None:
    """As seen live, a refused key is 401, or 403 with `key=` in the page; any other 403 is a block after many 429s."""
    status = answer.status_code
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and "key=" in text(answer)):
        raise Refused(
            "bad_steam_key",
            "Steam refuses the key in STEAM_API_KEY. Compare it with https://steamcommunity.com/dev/apikey.",
        )
    if status == HTTPStatus.FORBIDDEN:
        raise Failed(
            "steam_blocked", "Steam blocks this address, as it does after too many requests. Wait a day or two."
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Retryable(
            "steam_rate_limited",
            "Steam answers 429, too many requests. Try again later.",
            retry_after=retry_after(answer),
            status=status,
        )
    if answer.is_server_error:
        raise Retryable(
            "steam_unavailable",
            f"Steam answers {status}; it may be down, as on most Tuesdays. Try again later.",
            retry_after=retry_after(answer),
            status=status,
        )
    raise Retryable(
        "steam_bad_answer", f"Steam answers {status}, which no one expects. Try again later.", status=status
    )


def _response(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = decode(answer)
    except ValueError:
        raise Retryable(
            "steam_bad_answer", "Steam's answer is not JSON, as when it is overloaded. Try again later."
        ) from None
    if not isinstance(body, dict) or not isinstance(body.get("response"), dict):
        raise Retryable("steam_bad_answer", "Steam's answer holds no response. Try again later.")
    response: dict[str, Any] = body["response"]
    return response
