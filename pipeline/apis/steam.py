"""The clients of Steam's Web API (https://partner.steamgames.com/doc/webapi_overview) and of Steam's store.

The store's IStoreBrowseService/GetItems needs no key (SteamDatabase/Protobufs); both are at api.steampowered.com.
"""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import httpx

from pipeline.apis.batching import BatchResult, OnBatch, ignore_count, request_in_batches, split
from pipeline.apis.http import ApiClient, HttpClient, decode_json, read_text, retry_after
from pipeline.apis.rate_limit import RateLimiter
from pipeline.apis.retry import CircuitBreaker, RetryPolicy, call_with_retries
from pipeline.errors import Failed, Refused, Retryable, count_of

KEY_HEADER = "x-webapi-key"
"""The header for the key (Steamworks, "Authentication using Web API Keys"); as a parameter it would be in addresses."""

OWNED_GAMES = {
    "include_appinfo": "1",
    "include_played_free_games": "1",
    "include_free_sub": "1",
    "skip_unvetted_apps": "0",  # the default, 1, hides apps whose "profile features are limited"
}
"""The parameters of GetOwnedGames besides the account: all of its apps, with their names."""

PRIVACY_PAGE = "https://steamcommunity.com/my/edit/settings"
"""The page on which the owner of an account makes its games public."""

MAX_SUMMARIES = 100
"""The number of accounts that one request to GetPlayerSummaries takes."""

_NO_MATCH = 42  # EResult

_KEY = re.compile(r"\bkey\b")
"""The words by which a page of status 400 blames the key: "Required parameter 'key' is missing"."""


class Steam(ApiClient):
    """The client of Steam's Web API, with one key; `requests` counts the requests sent, `retries` the repeated ones.

    Raises:
        Refused: `bad_steam_key`, `bad_steam_id`, or `configuration` for an address without Steam's methods.
        Failed: `steam_blocked`.
        Retryable: `steam_rate_limited`, `steam_unavailable` or `steam_bad_answer`, after the retries.
    """

    def __init__(self, http: HttpClient, key: str, retry_policy: RetryPolicy, rate_limiter: RateLimiter) -> None:
        super().__init__(http, "steam")
        self.requests = 0
        self._headers = {KEY_HEADER: key}
        self._retry_policy = retry_policy
        self._rate_limiter = rate_limiter

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

    @staticmethod
    def hidden_library_error(steam_id64: str, *, has_account: bool) -> Failed:
        """Return the error for a SteamID64 whose library Steam does not show.

        It is `private_library` if Steam has the account, else `account_not_found`: GetOwnedGames answers both alike.
        """
        if has_account:
            return Failed(
                "private_library",
                f"The games of {steam_id64} are private, and nothing was changed. Its owner can open {PRIVACY_PAGE}, "
                'set "My profile" and "Game details" to Public, and try again.',
            )
        return Failed("account_not_found", f"Steam knows no account {steam_id64}. Check the id, digit by digit.")

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
            raise _bad_answer("Steam's answer about the custom URL holds no id.")
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
            raise _bad_answer(f"Steam counts {count_of(count, 'game')} and lists {len(games)}; nothing was written.")
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

    As seen live, a refused key is 401, or 403 with `key=` in the page; any other 403 is a block after many 429s. A 400
    is a malformed Steam id, unless its page says that the key is missing, as where something drops the header.
    """
    status, page = answer.status_code, read_text(answer)
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.BAD_REQUEST and _KEY.search(page):
        says = f"Steam sees no key: the header {KEY_HEADER} did not arrive. Check STEAM_API_KEY, and any proxy between."
        raise Refused("bad_steam_key", says)
    if status == HTTPStatus.BAD_REQUEST:
        raise Refused("bad_steam_id", "Steam answers 400, Bad Request: it knows no such Steam id. Check its digits.")
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and "key=" in page):
        raise Refused(
            "bad_steam_key",
            "Steam refuses the key in STEAM_API_KEY. Compare it with https://steamcommunity.com/dev/apikey.",
        )
    if status == HTTPStatus.NOT_FOUND:
        says = "Steam answers 404: there is no such method. Check STEAM_API_URL, or install a newer version."
        raise Refused("configuration", says)
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
    body = decode_json(answer)
    if body is None:
        raise _bad_answer("Steam's answer is not JSON, as when it is overloaded.")
    response = body.get("response") if isinstance(body, dict) else None
    if not isinstance(response, dict):
        raise _bad_answer("Steam's answer holds no response.")
    return response


def _bad_answer(says: str, status: int | None = None) -> Retryable:
    return Retryable("steam_bad_answer", f"{says} Try again later.", status=status)


STORE_BATCH_SIZE = 200
"""The number of apps in a request: an address of over 8 KB is refused, which is 250 ids of seven digits."""

MAX_STORE_ATTEMPTS = 3
"""The number of attempts for a batch: few, as apps without a store type are classified by their names."""

MAX_OPEN_STORE_REQUESTS = 4
"""The number of open requests at once."""

MAX_FAILED_STORE_BATCHES = 8
"""The number of batches failing in a row, after all their attempts, at which the store is asked no more.

Each may take as long as an answer may, and apps without a store type are classified by their names.
"""

STORE_CONTEXT = {"language": "english", "country_code": "US"}
"""The language and country of a request: without a country the answer is empty."""


class SteamStore(ApiClient):
    """The client of Steam's store; `requests` counts the requests sent, `retries` the repeated ones.

    A batch that fails after its retries has the error `steam_unavailable` in its `BatchResult`, and nothing is raised.
    """

    def __init__(self, http: HttpClient, retry_policy: RetryPolicy) -> None:
        super().__init__(http, "steam_store")
        self.requests = 0
        self._retry_policy = replace(retry_policy, attempts=min(retry_policy.attempts, MAX_STORE_ATTEMPTS))
        self._may_open = asyncio.Semaphore(MAX_OPEN_STORE_REQUESTS)
        self._breaker = CircuitBreaker(MAX_FAILED_STORE_BATCHES)

    async def fetch_items(self, appids: Iterable[int], on_batch: OnBatch = ignore_count) -> list[BatchResult]:
        """Return the `store_items` rows (`id, success, type, name, …`) of apps, in one BatchResult per batch.

        The `success` of a hidden app is not 1.
        """
        return await request_in_batches(sorted(appids), STORE_BATCH_SIZE, self._request_with_retries, on_batch)

    async def _request_with_retries(self, appids: Sequence[int]) -> list[Any]:
        async with self._may_open:
            if self._breaker.is_open:
                raise Retryable("steam_unavailable", f"Steam's store failed {MAX_FAILED_STORE_BATCHES} times in a row.")
            try:
                items = await call_with_retries(
                    lambda: self._request(appids), self._retry_policy, "steam_unavailable", self.retries
                )
            except Retryable:
                self._breaker.note_failure()
                raise
            self._breaker.note_success()
            return items

    async def _request(self, appids: Sequence[int]) -> list[Any]:
        ids = [{"appid": appid} for appid in appids]
        question = {"ids": ids, "context": STORE_CONTEXT, "data_request": {"include_basic_info": True}}
        params = {"input_json": json.dumps(question, separators=(",", ":"))}
        request = self._http.build_request("GET", "IStoreBrowseService/GetItems/v1/", params=params)
        self.requests += 1
        return _store_items(await self._http.send(request, "steam_unavailable"), len(appids))


def _store_items(answer: httpx.Response, asked: int) -> list[Any]:
    if answer.status_code != HTTPStatus.OK:
        raise Retryable(
            "steam_unavailable",
            f"Steam's store answers {answer.status_code}. Try again later.",
            retry_after=retry_after(answer),
            status=answer.status_code,
        )
    match decode_json(answer):
        case {"response": {"store_items": list(items)}} if len(items) <= asked:
            return items
        case _:
            says = f"Steam's store answers without a list of up to {asked} store_items. Try again later."
            raise Retryable("steam_unavailable", says)
