"""A wire between a client and PostgreSQL that breaks at one message: it counts what the client waits to have answered.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    `meanwhile` is called when the client comes back after that. What they raise is in `error`. Counted by statement, a
    message that only prepares one is none.
    """

    upstream: str
    message: int
    moment: Moment
    fault: Callable[[int], None]
    meanwhile: Callable[[], None] = lambda: None
    is_by_statement: bool = False
    port: int = 0
    seen: int = 0
    error: Exception | None = None
    commits: list[int] = field(default_factory=list, init=False)
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
            with client, self._connected() as server:
                try:
                    if self.is_broken:
                        self.meanwhile()
                    self._relay(_End(client), _End(server))
                except (HungUpError, ConnectionError):
                    continue
                except Exception as error:  # noqa: BLE001 - raised again in the test's own thread
                    self.error = self.error or error

    def _connected(self) -> socket.socket:
        [folder] = parse_qs(urlsplit(self.upstream).query)["host"]
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.5432")
        return server

    def _relay(self, client: "_End", server: "_End") -> None:
        (length,) = struct.unpack("!i", startup := client.read(4))
        server.send(startup + client.read(length - 4))
        client.send(self._answer(server))
        while True:
            asked, is_run = self._question(client, server)
            is_counted = is_run or not self.is_by_statement
            self.seen += is_counted
            if asked[5:].startswith(b"COMMIT"):
                self.commits.append(self.seen)
            is_hit = is_counted and self.seen == self.message
            if is_hit and self.moment == "before":
                self.fault(self._backend)
                server.say_no_more()
                client.send(self._answer(server))
                return
            server.send(asked)
            answer = self._answer(server)
            if is_hit and self.moment == "after":
                self.fault(self._backend)
                return
            client.send(answer)

    def _question(self, client: "_End", server: "_End") -> tuple[bytes, bool]:
        """Pass on what needs no answer; the message that does, and whether a statement is run by then."""
        is_run = False
        while True:
            kind, message = client.message()
            is_run |= kind in b"QEc"
            # Query; Sync; CopyDone, which a Sync follows if the COPY did not begin with a Query.
            if kind in b"QS" or (kind == b"c" and self._is_simple_copy):
                self._is_simple_copy = kind == b"Q"
                return message, is_run
            server.send(message)

    def _answer(self, server: "_End") -> bytes:
        """Everything up to where the server waits for the client: ReadyForQuery, or CopyInResponse."""
        told = bytearray()
        while True:
            try:
                kind, message = server.message()
            except (HungUpError, ConnectionError):
                return bytes(told)
            told += message
            if kind == b"K":
                (self._backend,) = struct.unpack("!i", message[5:9])
            if kind in b"ZG":
                return bytes(told)


class _End:
    """One end of the wire; its messages are read through a buffer, for a catalogue has thousands."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self.send = connection.sendall

    def say_no_more(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def message(self) -> tuple[bytes, bytes]:
        head = self.read(5)
        return head[:1], head + self.read(struct.unpack("!i", head[1:])[0] - 4)

    def read(self, length: int) -> bytes:
        told = self._reader.read(length)
        if len(told) < length:
            raise HungUpError
        return told


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except OSError:
        return None
