"""A wire between a client and PostgreSQL that breaks at one message: it counts what the client waits to have answered.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Literal
from urllib.parse import parse_qs, urlsplit

Moment = Literal["before", "after"]
"""Whether the wire breaks before the server hears of the message, or before the client hears what came of it."""

MOMENTS: tuple[Moment, ...] = ("before", "after")


class HungUpError(Exception):
    """One of the two ends is gone."""


@dataclass
class Wire:
    """Connections to the server, one at a time; at the given message of all it calls `fault` with the backend's pid.

    `meanwhile` is called when the client comes back after that. What they raise is in `error`.
    """

    upstream: str
    message: int
    moment: Moment
    fault: Callable[[int], None]
    meanwhile: Callable[[], None] = lambda: None
    port: int = 0
    seen: int = 0
    error: Exception | None = None
    _backend: int = field(default=0, init=False)
    _is_simple_copy: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        """Where the client connects to, as whom and to which database the server's URL says."""
        server = urlsplit(self.upstream)
        return f"postgresql://{server.username}@127.0.0.1:{self.port}{server.path}?sslmode=disable&gssencmode=disable"

    @property
    def is_broken(self) -> bool:
        return self.seen >= self.message

    @contextmanager
    def listening(self) -> Iterator["Wire"]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            thread = Thread(target=self._accept, args=(listener,))
            thread.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()
        if self.error:
            raise self.error

    def _accept(self, listener: socket.socket) -> None:
        while client := _accepted(listener):
            with client, closing(self._connected()) as server:
                try:
                    if self.is_broken:
                        self.meanwhile()
                    self._relay(client, server)
                except (HungUpError, ConnectionError):
                    continue
                except Exception as error:  # noqa: BLE001 - raised again in the test's own thread
                    self.error = self.error or error

    def _connected(self) -> socket.socket:
        [folder] = parse_qs(urlsplit(self.upstream).query)["host"]
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.5432")
        return server

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        (length,) = struct.unpack("!i", startup := _exactly(client, 4))
        server.sendall(startup + _exactly(client, length - 4))
        client.sendall(self._answer(server))
        while True:
            asked = self._question(client, server)
            self.seen += 1
            if self.seen == self.message and self.moment == "before":
                self.fault(self._backend)
                server.shutdown(socket.SHUT_WR)
                client.sendall(self._answer(server))
                return
            server.sendall(asked)
            answer = self._answer(server)
            if self.seen == self.message and self.moment == "after":
                self.fault(self._backend)
                return
            client.sendall(answer)

    def _question(self, client: socket.socket, server: socket.socket) -> bytes:
        """Pass on what needs no answer; the message that does."""
        while True:
            kind, message = _message(client)
            # Query; Sync; CopyDone, which a Sync follows if the COPY did not begin with a Query.
            if kind in b"QS" or (kind == b"c" and self._is_simple_copy):
                self._is_simple_copy = kind == b"Q"
                return message
            server.sendall(message)

    def _answer(self, server: socket.socket) -> bytes:
        """Everything up to where the server waits for the client: ReadyForQuery, or CopyInResponse."""
        told = b""
        while True:
            try:
                kind, message = _message(server)
            except (HungUpError, ConnectionError):
                return told
            told += message
            if kind == b"K":
                (self._backend,) = struct.unpack("!i", message[5:9])
            if kind in b"ZG":
                return told


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except OSError:
        return None


def _message(sender: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(sender, 5)
    return head[:1], head + _exactly(sender, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(sender: socket.socket, length: int) -> bytes:
    told = b""
    while len(told) < length:
        part = sender.recv(length - len(told))
        if not part:
            raise HungUpError
        told += part
    return told
