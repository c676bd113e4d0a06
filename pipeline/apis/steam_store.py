"""The client of Steam's store: IStoreBrowseService/GetItems, which needs no key (SteamDatabase/Protobufs)."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Self

import httpx

from pipeline.apis.batching import BatchResult, OnBatch, ignore_count, request_in_batches
from pipeline.apis.http import HttpClient, decode_json, retry_after
from pipeline.apis.retry import CircuitBreaker, Retries, RetryPolicy, call_with_retries
from pipeline.errors import Retryable

BATCH_SIZE = 200
"""The number of apps in a request: an address of over 8 KB is refused, which is 250 ids of seven digits."""

MAX_ATTEMPTS = 3
"""The number of attempts for a batch: few, as apps without a store type are classified by their names."""

MAX_OPEN = 4
"""The number of open requests at once."""

MAX_FAILED_BATCHES = 8
"""The number of batches failing in a row, after all their attempts, at which the store is asked no more.

Each may take as long as an answer may, and apps without a store type are classified by their names.
"""

CONTEXT = {"language": "english", "country_code": "US"}
"""The language and country of a request: without a country the answer is empty."""


class SteamStore:
    """The client of Steam's store; `requests` counts the requests sent, `retries` the repeated ones.

    A batch that fails after its retries has the error `steam_unavailable` in its `BatchResult`, and nothing is raised.
    """

    def __init__(self, http: HttpClient, retry_policy: RetryPolicy) -> None:
        self.retries = Retries("steam_store")
        self.requests = 0
        self._http = http
        self._retry_policy = replace(retry_policy, attempts=min(retry_policy.attempts, MAX_ATTEMPTS))
        self._may_open = asyncio.Semaphore(MAX_OPEN)
        self._breaker = CircuitBreaker(MAX_FAILED_BATCHES)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._http.__aexit__(*exc_info)

    async def fetch_items(self, appids: Iterable[int], on_batch: OnBatch = ignore_count) -> list[BatchResult]:
        """Return the `store_items` rows (`id, success, type, name, …`) of apps, in one BatchResult per batch.

        The `success` of a hidden app is not 1.
        """
        return await request_in_batches(sorted(appids), BATCH_SIZE, self._request_with_retries, on_batch)

    async def _request_with_retries(self, appids: Sequence[int]) -> list[Any]:
        async with self._may_open:
            if self._breaker.is_open:
                raise Retryable("steam_unavailable", f"Steam's store failed {MAX_FAILED_BATCHES} times in a row.")
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
        question = {"ids": ids, "context": CONTEXT, "data_request": {"include_basic_info": True}}
        params = {"input_json": json.dumps(question, separators=(",", ":"))}
        request = self._http.build_request("GET", "IStoreBrowseService/GetItems/v1/", params=params)
        self.requests += 1
        return _items(await self._http.send(request, "steam_unavailable"), len(appids))


def _items(answer: httpx.Response, asked: int) -> list[Any]:
    if answer.status_code != HTTPStatus.OK:
        raise Retryable(
            "steam_unavailable",
            f"Steam's store answers {answer.status_code}. Try again later.",
            retry_after=retry_after(answer),
            status=answer.status_code,
        )
    try:
        body = decode_json(answer)
    except ValueError:
        body = None
    match body:
        case {"response": {"store_items": list(items)}} if len(items) <= asked:
            return items
        case _:
            says = f"Steam's store answers without a list of up to {asked} store_items. Try again later."
            raise Retryable("steam_unavailable", says)
