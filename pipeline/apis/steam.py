"""Steam's Web API: https://partner.steamgames.com/doc/webapi_overview."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self

import httpx

from pipeline.apis.batching import split
from pipeline.apis.http import HttpClient, decode_json, read_text, retry_after
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import Retries, RetryPolicy, call_with_retries
from pipeline.errors import Failed, Refused, Retryable

KEY_HEADER = "x-webapi-key"
"""The header for the key (Steamworks, "Authentication using Web API Keys"); as a parameter it would be in addresses."""

OWNED_GAMES = {
    "include_appinfo": "1",
    "include_played_free_games": "1",
    "include_free_sub": "1",
    "skip_unvetted_apps": "0",  # the default, 1, hides apps whose "profile features are limited"
}

MAX_SUMMARIES = 100
"""The number of accounts that one request to GetPlayerSummaries takes."""

_NO_MATCH = 42  # EResult


class Steam:
    """The client of Steam's Web API, with one key; `requests` counts the requests sent, `retries` the repeated ones.

    Raises:
        Refused: `bad_steam_key`.
        Failed: `steam_blocked`.
        Retryable: `steam_rate_limited`, `steam_unavailable` or `steam_bad_answer`, after the retries.
    """

    def __init__(self, http: HttpClient, key: str, retry_policy: RetryPolicy, rate_limiter: RateLimiter) -> None:
        self.retries = Retries("steam")
        self.requests = 0
        self._http = http
        self._headers = {KEY_HEADER: key}
        self._retry_policy = retry_policy
        self._rate_limiter = rate_limiter

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.__aexit__(*exc_info)

    async def fetch_owned_games(self, steam_id64: str) -> list[Any] | None:
        """Return the list of an account's games (IPlayerService/GetOwnedGames), None if private or unknown to Steam.

        A list shorter than its `game_count` is `steam_bad_answer`: it would look like games that were removed.
        """
        return await call_with_retries(
            lambda: self._request_owned_games(steam_id64), self._retry_policy, "steam_unavailable", self.retries
        )

    async def has_account(self, steam_id64: str) -> bool:
        """Return True if Steam has an account with a SteamID64."""
        return bool(await self.fetch_existing_accounts([steam_id64]))

    async def fetch_existing_accounts(self, steam_id64s: Sequence[str]) -> set[str]:
        """Return the SteamID64s that have an account: ISteamUser/GetPlayerSummaries leaves unknown ids out."""
        existing: set[str] = set()
        for asked in split(steam_id64s, MAX_SUMMARIES):
            response = await self._fetch("ISteamUser/GetPlayerSummaries/v2/", {"steamids": ",".join(asked)})
            players = response.get("players")
            if not isinstance(players, list):
                raise _bad_answer("Steam's answer about accounts holds no list of players.")
            existing |= {str(player.get("steamid")) for player in players if isinstance(player, Mapping)}
        return existing

    async def resolve_vanity(self, name: str) -> str | None:
        """Return the SteamID64 behind a custom profile URL (ISteamUser/ResolveVanityURL), or None if nobody has it."""
        response = await self._fetch("ISteamUser/ResolveVanityURL/v1/", {"vanityurl": name})
        if response.get("success") == _NO_MATCH:
            return None
        steam_id64 = response.get("steamid")
        if not isinstance(steam_id64, str) or not re.fullmatch(r"\d{17}", steam_id64, re.ASCII):
            raise _bad_answer(f"Steam's answer about the custom URL {name!r} holds no id.")
        return steam_id64

    async def _request_owned_games(self, steam_id64: str) -> list[Any] | None:
        response = await self._request("IPlayerService/GetOwnedGames/v1/", {"steamid": steam_id64, **OWNED_GAMES})
        if not response.keys() & {"game_count", "games"}:
            return None
        # Only a count of 0 says that a library is empty.
        count, games = response.get("game_count", 1), response.get("games", [])
        if type(count) is not int or count < 0 or not isinstance(games, list):
            raise _bad_answer("Steam's list of games is malformed.")
        if count > len(games):
            raise _bad_answer(f"Steam counts {count} games and lists {len(games)}; nothing was written.")
        return games

    async def _fetch(self, method: str, params: Mapping[str, str]) -> dict[str, Any]:
        return await call_with_retries(
            lambda: self._request(method, params), self._retry_policy, "steam_unavailable", self.retries
        )

    async def _request(self, method: str, params: Mapping[str, str]) -> dict[str, Any]:
        """Return the `response` object of one request."""
        request = self._http.build_request("GET", method, params=params, headers=self._headers)
        async with self._rate_limiter.acquire():
            self.requests += 1
            answer = await self._http.send(request, "steam_unavailable", code_if_too_large="steam_bad_answer")
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._rate_limiter.slow_down()
        else:
            self._rate_limiter.speed_up()
        _raise_for_status(answer)
        return _decode_response(answer)


def _raise_for_status(answer: httpx.Response) -> None:
    """Raise our error for any status but 200.

    As seen live, a refused key is 401, or 403 with `key=` in the page; any other 403 is a block after many 429s.
    """
    status = answer.status_code
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and "key=" in read_text(answer)):
        raise Refused(
            "bad_steam_key",
            "Steam refuses the key in STEAM_API_KEY. Compare it with https://steamcommunity.com/dev/apikey.",
        )
    if status == HTTPStatus.FORBIDDEN:
        raise Failed(
            "steam_blocked", "Steam blocks this address, as it does after too many requests. Wait a day or two."
        )
    wait = retry_after(answer)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        says = "Steam answers 429, too many requests. Try again later."
        raise Retryable("steam_rate_limited", says, retry_after=wait, status=status)
    if answer.is_server_error:
        says = f"Steam answers {status}; it may be down, as on most Tuesdays. Try again later."
        raise Retryable("steam_unavailable", says, retry_after=wait, status=status)
    raise _bad_answer(f"Steam answers with the unexpected status {status}.", status)


def _decode_response(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = decode_json(answer)
    except ValueError:
        raise _bad_answer("Steam's answer is not JSON, as when it is overloaded.") from None
    response = body.get("response") if isinstance(body, dict) else None
    if not isinstance(response, dict):
        raise _bad_answer("Steam's answer holds no response.")
    return response


def _bad_answer(says: str, status: int | None = None) -> Retryable:
    return Retryable("steam_bad_answer", f"{says} Try again later.", status=status)
