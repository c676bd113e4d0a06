"""What Steam's store says of apps: IStoreBrowseService/GetItems, which needs no key (SteamDatabase/Protobufs)."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Self

import httpx

from pipeline.apis.batching import BatchResult, OnBatch, ask_in_batches, ignore
from pipeline.apis.http import decode, open_client, retry_after, send
from pipeline.apis.retry import Retries, RetryPolicy
from pipeline.errors import Retryable

ITEMS = 200
"""Apps in a request: an address of over 8 KB is refused, which is 250 ids of seven digits."""

OPEN_REQUESTS = 4

GIVE_UP_AFTER = 8
"""Batches that failed for good in a row, after which the store is not asked any more: an answer that drips takes as
long as it may, each time, and where types are missing, names decide."""

CONTEXT = {"language": "english", "country_code": "US"}
"""Without a country the answer is empty."""


class SteamStore:
    """Asks the store of any country's visitors; `requests` counts what was sent, `retries` what of it again.

    A batch that fails for good is in its `Answer`, as `steam_unavailable`: nothing depends on it.
    """

    def __init__(self, base_url: str, patience: RetryPolicy, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = open_client(base_url, patience, transport)
        self.retries = Retries("steam_store")
        self._patience = replace(patience, retries=self.retries)
        self._open = asyncio.Semaphore(OPEN_REQUESTS)
        self._failures = 0
        self.requests = 0

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def fetch_items(self, appids: Iterable[int], on_batch: OnBatch = ignore) -> list[BatchResult]:
        """The `store_items` rows of apps: `id, success, type, name, …`; a hidden app's `success` is not 1."""
        return await ask_in_batches(sorted(appids), ITEMS, self._ask_patiently, on_batch)

    async def _ask_patiently(self, appids: Sequence[int]) -> list[Any]:
        async with self._open:
            if self._failures >= GIVE_UP_AFTER:
                raise Retryable("steam_unavailable", f"Steam's store failed {GIVE_UP_AFTER} times in a row.")
            try:
                items = await self._patience.repeat("steam_unavailable", lambda: self._ask(appids))
            except Retryable:
                self._failures += 1
                raise
            self._failures = 0
            return items

    async def _ask(self, appids: Sequence[int]) -> list[Any]:
        ids = [{"appid": appid} for appid in appids]
        question = {"ids": ids, "context": CONTEXT, "data_request": {"include_basic_info": True}}
        params = {"input_json": json.dumps(question, separators=(",", ":"))}
        self.requests += 1
        answer = await send(self._client, "steam_unavailable", "GET", "IStoreBrowseService/GetItems/v1/", params=params)
        return _items(answer, len(appids))


def _items(answer: httpx.Response, most: int) -> list[Any]:
    if answer.status_code != HTTPStatus.OK:
        raise Retryable(
            "steam_unavailable",
            f"Steam's store answers {answer.status_code}. Try again later.",
            retry_after=retry_after(answer),
            status=answer.status_code,
        )
    try:
        items = decode(answer)["response"]["store_items"]
    except (ValueError, KeyError, TypeError):
        raise Retryable(
            "steam_unavailable", "Steam's store answers something else than store_items. Try later."
        ) from None
    if not isinstance(items, list) or len(items) > most:
        raise Retryable("steam_unavailable", "Steam's store_items are no list of the apps. Try again later.")
    return items
