"""A load that is interrupted at one message between it and PostgreSQL, and the proxy in between that interrupts it.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import multiprocessing
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pipeline.database.database import Database
from pipeline.frames.staging import stage_library
from tests.support.databases import (
    EMPTY,
    TABLES,
    as_role,
    execute,
    fetch,
    insert_game,
    insert_import,
    insert_item,
    load,
)
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])

BEFORE = (
    matched(10, 100, igdb_slug="a", igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS], playtime_forever=5),
    matched(11, 101, igdb_slug="b", igdb_genres=[SHOOTER]),
    matched(12, 102),
    matched(13, 103),
    app(14),
    app(15, match_status="PENDING", match_reason="igdb_unavailable"),
    matched(16, 106),
)
RENAMED = [{**FIGHTING, "name": "Shooter", "slug": "shooter"}, {**SHOOTER, "name": "Fighting", "slug": "fighting"}]
AFTER = (
    matched(10, 100, igdb_slug="b", igdb_genres=RENAMED, igdb_platforms=[{**WINDOWS, "abbreviation": "Windows"}]),
    matched(11, 101, igdb_slug="a", igdb_genres=[RENAMED[1]], playtime_forever=7),
    matched(12, 202, match_reason="override"),
    matched(13, 103, igdb_name="Renamed"),
    matched(14, 104, igdb_genres=[{"id": 7, "name": "Music", "slug": "music", "checksum": "m"}], playtime_forever=1),
    app(15),
    matched(17, 107, igdb_slug="held"),
    matched(18, 108, igdb_platforms=[{**WINDOWS, "id": 7, "name": "Mac", "slug": "mac"}]),
)
"""A second library of the same user, with something in it of everything that a load does."""

EXACTLY = " UNION ALL ".join(
    f"""SELECT '{table}' AS in_table, to_jsonb(t)::text AS content FROM "{table}" t"""  # noqa: S608 - our own names
    for table in TABLES
)
"""Every row as it is."""

CONTENT = """
WITH row AS (
    SELECT 'Genre' AS in_table, to_jsonb(t) AS own FROM "Genre" t
    UNION ALL SELECT 'Platform', to_jsonb(t) FROM "Platform" t
    UNION ALL SELECT 'Game', to_jsonb(t) FROM "Game" t
    UNION ALL SELECT 'ImportedGame', to_jsonb(t) FROM "ImportedGame" t
    UNION ALL SELECT 'LibraryItem', to_jsonb(t) - 'gameId' - 'statusChangedAt' || jsonb_build_object('game', g."igdbId")
        FROM "LibraryItem" t JOIN "Game" g ON g.id = t."gameId"
)
SELECT in_table, (
    own - 'id' - 'createdAt' - 'updatedAt' || jsonb_build_object('isUpdated', own->'createdAt' <> own->'updatedAt')
)::text AS content FROM row
UNION ALL SELECT 'GameGenre', g."igdbId" || ' ' || o."igdbId"
    FROM "GameGenre" JOIN "Game" g ON g.id = "gameId" JOIN "Genre" o ON o.id = "genreId"
UNION ALL SELECT 'GamePlatform', g."igdbId" || ' ' || o."igdbId"
    FROM "GamePlatform" JOIN "Game" g ON g.id = "gameId" JOIN "Platform" o ON o.id = "platformId"
"""
"""Every row without ids and times, which differ between any two loads."""


def rows(url: str, query: str) -> list[tuple[str, str]]:
    return sorted(fetch(url, query).rows())


def load_after(url: str, attempts: int = 1) -> None:
    Database(url, attempts=attempts, retry_base_seconds=0).load(stage_library(library(*AFTER)), ["user-1"])


class Interruptions:
    """A load on top of an earlier one, and what it writes when nothing interrupts it, in `messages` messages."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._begin()
        proxy = Proxy(as_role(url), 0, "before", lambda _: None)
        with proxy.listening():
            load_after(proxy.url)
        self.messages = proxy.seen
        self._done = rows(url, CONTENT)

    def lose_the_backend(self, message: int, moment: "Moment") -> None:
        """End the server's process of the connection at this message; the load itself tries again."""
        before = self._begin()
        is_whole: list[bool] = []

        def end(backend: int) -> None:
            execute(self._url, f"SELECT pg_terminate_backend({backend}, 5000)")

        def look() -> None:
            is_whole.append(self._is_whole(before, message, moment))

        proxy = Proxy(as_role(self._url), message, moment, end, look)
        with proxy.listening():
            load_after(proxy.url, attempts=2)
        # The driver connects again once, or twice if it had not asked for the database's types by then.
        assert is_whole in ([True], [True, True]), (message, moment)
        assert rows(self._url, CONTENT) == self._done, (message, moment)

    def kill_the_load(self, message: int, moment: "Moment") -> None:
        """Kill the loading process at this message; another process loads the same again."""
        before = self._begin()
        proxy = Proxy(as_role(self._url), message, moment, lambda _: process.kill())
        with proxy.listening():
            process = FORKS.Process(target=load_after, args=(proxy.url,))
            process.start()
            process.join()
        assert process.exitcode == -9, (message, moment)
        assert self._is_whole(before, message, moment), (message, moment)
        load_after(as_role(self._url))
        assert rows(self._url, CONTENT) == self._done, (message, moment)

    def _begin(self) -> list[tuple[str, str]]:
        """Write what an earlier load and the user have written, and return it."""
        execute(self._url, EMPTY)
        load(self._url, *BEFORE)
        execute(self._url, """UPDATE "ImportedGame" SET "deletedAt" = '2026-01-01' WHERE "storefrontGameId" = '16'""")
        wish = """UPDATE "LibraryItem" SET status = 'WISHLIST' WHERE id = (SELECT min(id) FROM "LibraryItem")"""
        execute(self._url, wish)
        insert_game(self._url, 900, slug="held")
        insert_game(self._url, 901, slug="game-108", steamAppId="18")
        insert_item(self._url, 900)
        insert_import(self._url, 19, igdbMatchStatus="IGNORED")
        return rows(self._url, EXACTLY)

    def _is_whole(self, before: list[tuple[str, str]], message: int, moment: "Moment") -> bool:
        """Return whether nothing of the load is visible, or, after the server got the commit, all of it."""
        if (message, moment) == (self.messages, "after"):
            return rows(self._url, CONTENT) == self._done
        return rows(self._url, EXACTLY) == before


Moment = Literal["before", "after"]
"""Whether the connection breaks before the server gets the message, or before the client gets the answer."""

MOMENTS: tuple[Moment, ...] = ("before", "after")


class HungUpError(Exception):
    """One of the two ends has closed the connection."""


@dataclass
class Proxy:
    """A proxy before the server, one connection at a time, that calls `fault` at one message of the client's.

    It counts the messages that the client awaits an answer to, in `seen`; by statement, one that only prepares a
    statement does not count. `fault` gets the process id of the backend. `meanwhile` is called when the client connects
    again after that.
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
        """The URL of the proxy, with the user and the database of the server's URL."""
        server = urlsplit(self.upstream)
        # A name of its own, as a process keeps the driver of a URL, and a port may come again.
        parameters = f"sslmode=disable&gssencmode=disable&application_name={self.message}-{self.moment}"
        return f"postgresql://{server.username}@127.0.0.1:{self.port}{server.path}?{parameters}"

    @contextmanager
    def listening(self) -> Iterator["Proxy"]:
        """Accept connections in a thread; in the end raise what went wrong there."""
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
                    if self.seen >= self.message:
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
            question, is_run = self._question(client, server)
            is_counted = is_run or not self.is_by_statement
            self.seen += is_counted
            if question[5:].startswith(b"COMMIT"):
                self.commits.append(self.seen)
            is_hit = is_counted and self.seen == self.message
            if is_hit and self.moment == "before":
                self.fault(self._backend)
                server.stop_sending()
                client.send(self._answer(server))
                return
            server.send(question)
            answer = self._answer(server)
            if is_hit and self.moment == "after":
                self.fault(self._backend)
                return
            client.send(answer)

    def _question(self, client: "_End", server: "_End") -> tuple[bytes, bool]:
        """Pass on messages up to one that gets an answer; return it, and whether a statement is run by then."""
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
        """Return everything up to where the server waits for the client: ReadyForQuery, or CopyInResponse."""
        received = bytearray()
        while True:
            try:
                kind, message = server.message()
            except (HungUpError, ConnectionError):
                return bytes(received)
            received += message
            if kind == b"K":
                (self._backend,) = struct.unpack("!i", message[5:9])
            if kind in b"ZG":
                return bytes(received)


class _End:
    """One end of the connection; its messages are read through a buffer, as a catalogue has thousands."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self.send = connection.sendall

    def stop_sending(self) -> None:
        self._connection.shutdown(socket.SHUT_WR)

    def message(self) -> tuple[bytes, bytes]:
        head = self.read(5)
        return head[:1], head + self.read(struct.unpack("!i", head[1:])[0] - 4)

    def read(self, length: int) -> bytes:
        received = self._reader.read(length)
        if len(received) < length:
            raise HungUpError
        return received


def _accepted(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except OSError:
        return None
