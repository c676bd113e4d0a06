"""What was asked and answered, without secrets, for facts to be judged by."""

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

TOKEN = re.compile(r'("access_token"\s*:\s*)"[^"]*"')
SHOWN = 100


@dataclass(frozen=True)
class Exchange:
    """One request and its answer; `status` is None where none came, and `text` says why. `at` is monotonic."""

    label: str
    host: str
    path: str
    asked: str
    at: float
    seconds: float
    status: int | None
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        """The answer's JSON; None if it is none."""
        with suppress(ValueError):
            return json.loads(self.text)
        return None

    def __str__(self) -> str:
        """Status and beginning of the answer."""
        text = " ".join(self.text.split())
        return f"status {self.status}: {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}"


@dataclass
class Recording:
    """The exchanges of all clients that use its transports; each is labelled with what is being done meanwhile."""

    secrets: Sequence[str] = field(default=(), repr=False)
    label: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport that records."""
        return _Transport(self)

    def labelled(self, label: str) -> list[Exchange]:
        """What was asked under a label."""
        return [exchange for exchange in self.exchanges if exchange.label == label]

    def to(self, path: str) -> list[Exchange]:
        """What was asked of addresses that contain this."""
        return [exchange for exchange in self.exchanges if path in exchange.path]

    def redact(self, text: str) -> str:
        """The text without secrets, however they are written."""
        written = [form(secret) for secret in self.secrets if secret for form in (str, quote, quote_plus)]
        for secret in sorted(written, key=len, reverse=True):
            text = text.replace(secret, "***")
        return TOKEN.sub(r'\1"***"', text)

    def add(self, request: httpx.Request, at: float, answer: httpx.Response | None, text: str) -> None:
        """Keep an exchange that began `at`."""
        headers = answer.headers if answer else {}
        self.exchanges.append(
            Exchange(
                label=self.label,
                host=request.url.host,
                path=request.url.path,
                asked=self.redact(request.content.decode() or request.url.query.decode()),
                at=at,
                seconds=time.monotonic() - at,
                status=answer.status_code if answer else None,
                headers={name: headers[name] for name in ("Content-Type", "Retry-After") if name in headers},
                text=self.redact(text),
            )
        )


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        at = time.monotonic()
        await request.aread()
        try:
            answer = await self._inner.handle_async_request(request)
            await answer.aread()
        except httpx.RequestError as error:
            self._recording.add(request, at, None, type(error).__name__)
            raise
        self._recording.add(request, at, answer, answer.text)
        # Another one, for the stream of this is read.
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=answer.content)

    async def aclose(self) -> None:
        await self._inner.aclose()
