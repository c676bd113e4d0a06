"""HTTP requests as the local services and the tests see them, and helpers that make their answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

from aiohttp import web

Service = Literal["steam", "store", "twitch", "igdb"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One HTTP request; `path` is what follows the service's base URL, `target` is the path with its query string."""

    method: str
    path: str
    target: str
    params: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Record:
    """One request as tests see it, without secrets; `status` is None until it is answered.

    `at` is the arrival in seconds of `time.monotonic()`.
    """

    at: float
    service: Service
    method: str
    path: str
    params: dict[str, str]
    body: str
    status: int | None = None

    @property
    def text(self) -> str:
        """The body, or the query string of a request without a body."""
        return self.body or urlencode(self.params)


class Answers(Protocol):
    """A local service: Steam, Steam's store, Twitch or IGDB."""

    def answer(self, asked: Asked) -> web.Response:
        """Answer as the real service would."""
        ...

    def error(self, status: int) -> web.Response:
        """Return the answer that the real service sends with this status."""
        ...


def json_answer(value: object, status: int = 200) -> web.Response:
    """Return an answer in compact JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def html_answer(title: str, says: str = "", status: int = 200) -> web.Response:
    """Return an HTML page with a title, the title as its heading, and a sentence."""
    text = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{says}</body></html>"
    return web.Response(text=text, status=status, content_type="text/html")


def phrase(status: int) -> str:
    """Return a status with its standard reason phrase, such as "502 Bad Gateway"."""
    return f"{status} {HTTPStatus(status).phrase}"
