"""What goes over the wire: a request as the services see it, as tests see it, and answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

Service = Literal["steam", "store", "twitch", "igdb"]
Row = dict[str, Any]

SECRET_PARAMS = frozenset({"key", "access_token", "client_secret"})


@dataclass(frozen=True)
class Asked:
    """One request, whole; `path` is what follows the service's base URL, `target` the same with its query string."""

    method: str
    path: str
    target: str
    params: dict[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Record:
    """One request as tests may look at it: no secrets; `status` is None until answered, and if it never was.

    `at` is the arrival in seconds of `time.monotonic()`, `slots` how many requests it counts as where there is a limit.
    """

    at: float
    service: Service
    method: str
    path: str
    params: dict[str, str]
    body: str
    slots: int = 1
    status: int | None = None

    @property
    def text(self) -> str:
        """What was asked: the body, or the query string where there is none."""
        return self.body or urlencode(self.params)


class Answers(Protocol):
    """One of the services."""

    def answer(self, asked: Asked) -> web.Response:
        """Answer as the real service would."""
        ...

    def error(self, status: int) -> web.Response:
        """Give the body that the real service sends with this status."""
        ...


def params_of(request: web.BaseRequest, body: bytes) -> dict[str, str]:
    """The query string's parameters and a form body's; of a repeated one, the last."""
    form = parse_qsl(body.decode(errors="replace")) if request.content_type.endswith("form-urlencoded") else []
    return dict(request.query) | dict(form)


def without_secrets(params: dict[str, str]) -> dict[str, str]:
    """Parameters as a record may keep them."""
    return {name: value for name, value in params.items() if name not in SECRET_PARAMS}


def json_answer(value: object, status: int = 200) -> web.Response:
    """An answer in compact JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def html_answer(title: str, says: str = "", status: int = 200) -> web.Response:
    """A page with a title, the same as its heading, and a sentence."""
    text = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{says}</body></html>"
    return web.Response(text=text, status=status, content_type="text/html")


def phrase(status: int) -> str:
    """The standard reason of a status, with its number, as gateways title their pages."""
    return f"{status} {HTTPStatus(status).phrase}"
