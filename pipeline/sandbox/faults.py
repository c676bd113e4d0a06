"""Faults that a test switches on: error statuses, resets, cut bodies, stalls and answers that are not JSON."""

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, cast, get_args

from aiohttp import web

from pipeline.sandbox.wire import Record, Service, html_answer

Kind = Literal["status", "reset", "cut", "stall", "html", "not_json", "lost"]

ERROR_STATUSES = frozenset(str(int(status)) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)


def _any_text(_text: str) -> bool:
    return True


@dataclass(kw_only=True)
class Fault:
    """One kind of failure, the requests it applies to, and how often it happens.

    status: answers `status` with `headers` and `body`, by default the body that the service documents.
    reset: resets the connection, unanswered. lost: the same after the request was carried out.
    cut: closes in the middle of the body. stall: says nothing for `seconds`, then answers.
    html: 200 with a page. not_json: 200 with half a JSON text.

    Args:
        service: one service; None is all of them.
        path: only paths that contain this.
        when: only requests whose text (body, or query string without secrets) it accepts.
        times: number of requests that fail before the fault switches itself off; None means no end.
        probability: chance that a request it applies to fails.
        kind: see above.
        status: for kind status.
        body: for kind status.
        headers: for kind status.
        seconds: for kind stall.
    """

    kind: Kind = "status"
    service: Service | None = None
    path: str = ""
    when: Callable[[str], bool] = _any_text
    times: int | None = None
    probability: float = 1.0
    status: int = 500
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60.0

    def concerns(self, record: Record) -> bool:
        """Return whether the fault applies to this request."""
        return (
            self.times != 0
            and self.service in {None, record.service}
            and self.path in record.path
            and self.when(record.text)
        )

    def answer(self, error: Callable[[int], web.Response]) -> web.Response:
        """Return the HTTP answer of the kinds status, html and not_json."""
        if self.kind == "html":
            return html_answer("Please come back later")
        if self.kind == "not_json":
            return web.Response(text='{"response":', content_type="application/json")
        answer = error(self.status) if self.body is None else _sniffed(self.status, self.body)
        answer.headers.update(self.headers)
        return answer


_PRIVATE = {"status": HTTPStatus.OK, "body": '{"response":{}}', "path": "GetOwnedGames"}
"""Steam's answer about a library that its owner keeps private."""


def parse_fault(text: str) -> Fault:
    """Return the fault that a text names: `SERVICE:KIND`, or `SERVICE:KIND:SHARE` for that share of the requests.

    SERVICE is steam, store, twitch or igdb. KIND is an error status, a kind of fault, or `private` for Steam.

    Raises:
        ValueError: The text names no fault; the message says what is wrong.
    """
    service, kind, share = (*text.split(":"), "1")[:3] if text.count(":") in {1, 2} else ("", "", "")
    if service not in get_args(Service):
        raise ValueError(f"write SERVICE:KIND or SERVICE:KIND:SHARE; SERVICE is {', '.join(get_args(Service))}")
    try:
        probability = float(share)
    except ValueError:
        probability = 0
    if not 0 < probability <= 1:
        raise ValueError(f"{share!r} is no share of the requests; give a number above 0, up to 1")
    found: dict[str, Any]
    if kind in ERROR_STATUSES:
        found = {"status": int(kind)}
    elif kind in get_args(Kind) and kind != "status":
        found = {"kind": kind}
    elif (service, kind) == ("steam", "private"):
        found = _PRIVATE
    else:
        raise ValueError(f"there is no fault {kind!r} of {service}")
    return Fault(service=cast("Service", service), probability=probability, **found)


class Faults:
    """The faults that are switched on, tried in order; `seed` makes their probabilities repeatable."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._random = random.Random(seed)

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on and return it, so that a test can remove it later."""
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch one fault off."""
        self._faults.remove(fault)

    def clear(self) -> None:
        """Switch all faults off."""
        self._faults.clear()

    def take(self, record: Record) -> Fault | None:
        """Return the first fault that applies to this request and count it down, or None."""
        for fault in list(self._faults):
            if fault.concerns(record) and self._random.random() < fault.probability:
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


async def suffer(
    fault: Fault,
    request: web.BaseRequest,
    answer: Callable[[], web.Response],
    error: Callable[[int], web.Response],
) -> web.StreamResponse:
    """Let a request fail in the way of `fault` and return what the client receives instead of `answer`."""
    match fault.kind:
        case "stall":
            await asyncio.sleep(fault.seconds)
            return answer()
        case "cut":
            return await _cut(request, answer())
        case "lost":
            return _reset(request, answer())
        case "reset":
            return _reset(request, web.Response())
        case _:
            return fault.answer(error)


def _reset(request: web.BaseRequest, unheard: web.Response) -> web.Response:
    """Close the connection with RST instead of FIN, by a linger time of zero seconds."""
    if request.transport is not None:
        request.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        request.transport.abort()
    return unheard


async def _cut(request: web.BaseRequest, whole: web.Response) -> web.StreamResponse:
    """Announce the length of the whole body, send half of it and close the connection."""
    body = (whole.text or "").encode()
    half = web.StreamResponse(status=whole.status, headers={"Content-Type": whole.headers["Content-Type"]})
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return half


def _sniffed(status: int, body: str) -> web.Response:
    """Return an answer whose content type is guessed from the first character of its body."""
    kinds = {"<": "text/html", "{": "application/json", "[": "application/json"}
    return web.Response(text=body, status=status, content_type=kinds.get(body[:1], "text/plain"))
