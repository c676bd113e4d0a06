"""A local Steam, Twitch and IGDB: one HTTP server on 127.0.0.1, in a thread of this process."""

import asyncio
import secrets
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Self, cast
from urllib.parse import parse_qsl

from aiohttp import web

from pipeline.sandbox.faults import Faults, suffer
from pipeline.sandbox.igdb import Igdb
from pipeline.sandbox.limits import Gate, busiest_second
from pipeline.sandbox.steam import Steam
from pipeline.sandbox.twitch import Twitch
from pipeline.sandbox.wire import Answers, Asked, Record, Service
from pipeline.sandbox.world import World

TWITCH_TOKEN_SECONDS = 5_587_808
"""The lifetime in Twitch's documentation: 65 days."""

ACCEPTING_SECONDS = 0.001
"""The time in which a client's connection is accepted: asyncio leaves one open that is under way when a server ends."""

SECRET_PARAMS = frozenset({"key", "access_token", "client_secret"})
"""Query parameters that are left out of the recorded requests."""

LONGEST_LINE = 65_536
"""aiohttp's limit of a request line in bytes, set far above Steam's own so that Steam's applies."""


class Sandbox:
    """A local HTTP server for Steam, Twitch and IGDB that runs inside a `with` block.

    `environment` holds the settings that make our clients talk to it. `port`, set before the block, is where it
    listens; 0 is a free port.

    Args:
        world: the data it serves; may be changed while it runs.
        latency_seconds: delay of each answer.
        limits: whether IGDB's limits hold: 4 requests in any second, 8 open at once.
        bad_key_status: the status of a wrong Steam key: 403 or 401, both were seen.
        token_seconds: how long an IGDB token is valid.
        store_per_second: how many requests to the store may come in any second.
    """

    def __init__(
        self,
        world: World,
        *,
        latency_seconds: float = 0.0,
        limits: bool = True,
        bad_key_status: int = 403,
        token_seconds: int = TWITCH_TOKEN_SECONDS,
        store_per_second: int = sys.maxsize,
    ) -> None:
        self.world = world
        self.latency_seconds = latency_seconds
        self.limits = limits
        self.faults = Faults()
        self.requests: list[Record] = []
        self.port = 0
        self.url = ""
        self.twitch = Twitch(secrets.token_hex(15), secrets.token_hex(15), token_seconds)
        self.steam = Steam(world, secrets.token_hex(16), bad_key_status)
        self._igdb = Igdb(world, self.twitch)
        self._services: dict[str, Answers] = {
            "steam": self.steam,
            "store": self.steam,
            "twitch": self.twitch,
            "igdb": self._igdb,
        }
        self.gate = Gate()
        self.store_gate = Gate(store_per_second, open_at_once=sys.maxsize)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)
        self._thread.start()
        try:
            self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except OSError:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which our clients talk to this sandbox."""
        return {
            "STEAM_API_KEY": self.steam.key,
            "STEAM_API_URL": f"{self.url}/steam",
            "STEAM_STORE_API_URL": f"{self.url}/store",
            "IGDB_CLIENT_ID": self.twitch.client_id,
            "IGDB_CLIENT_SECRET": self.twitch.client_secret,
            "IGDB_API_URL": f"{self.url}/igdb/v4",
            "TWITCH_TOKEN_URL": f"{self.url}/twitch/oauth2/token",
        }

    @property
    def tokens_minted(self) -> int:
        """The number of IGDB tokens minted so far."""
        return self.twitch.minted

    def revoke_tokens(self) -> None:
        """Make IGDB refuse every token minted so far."""
        self.twitch.revoke()

    def asked(self, service: Service) -> list[Record]:
        """Return the requests to one service, in the order of their arrival."""
        return [record for record in self.requests if record.service == service]

    def busiest_second(self, service: Service) -> int:
        """Return the largest number of requests that arrived at a service in any sliding second, refused or not."""
        return busiest_second([record.at for record in self.asked(service)])

    async def _start(self) -> str:
        server = web.Server(self._handle, access_log=None, handler_cancellation=True, max_line_size=LONGEST_LINE)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        host, port = self._runner.addresses[0]
        return f"http://{host}:{port}"

    async def _end(self) -> None:
        await asyncio.sleep(ACCEPTING_SECONDS)
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        at = time.monotonic()
        name, _, path = request.path.removeprefix("/").partition("/")
        if name not in self._services:
            return web.Response(text="The sandbox has /steam, /store, /twitch and /igdb", status=404)
        body, service = await request.read(), self._services[name]
        params = dict(request.query)
        if request.content_type.endswith("form-urlencoded"):
            params |= parse_qsl(body.decode(errors="replace"))
        asked = Asked(
            request.method, f"/{path}", request.raw_path.removeprefix(f"/{name}"), params, request.headers, body
        )
        record = self._record(at, cast("Service", name), asked)
        with self._passing(record) as admitted:
            answer = await self._answer(request, asked, record) if admitted else service.error(429)
        unheard = request.transport is None or request.transport.is_closing()
        record.status = None if unheard else answer.status
        return answer

    def _record(self, at: float, service: Service, asked: Asked) -> Record:
        params = {name: value for name, value in asked.params.items() if name not in SECRET_PARAMS}
        body = asked.body.decode(errors="replace") if service == "igdb" else ""
        record = Record(at, service, asked.method, asked.path, params, body)
        self.requests.append(record)
        return record

    def _passing(self, record: Record) -> AbstractContextManager[bool]:
        if record.service == "store":
            return self.store_gate.passing(record.at)
        limited = self.limits and record.service == "igdb"
        return self.gate.passing(record.at) if limited else nullcontext(enter_result=True)

    async def _answer(self, request: web.BaseRequest, asked: Asked, record: Record) -> web.StreamResponse:
        await asyncio.sleep(self.latency_seconds)
        service, fault = self._services[record.service], self.faults.take(record)
        if fault is None:
            return service.answer(asked)
        return await suffer(fault, request, partial(service.answer, asked), service.error)
