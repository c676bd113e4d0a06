"""A load with something of everything in it, broken off at one message between it and the server."""

import multiprocessing

from pipeline.database.database import Database
from pipeline.frames.staging import stage_library
from tests.database.rows import insert_game, insert_import, insert_item, load_library
from tests.database.wire import Moment, Wire
from tests.support.databases import EMPTY, as_role, execute, fetch
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

EXACTLY = " UNION ALL ".join(
    f"""SELECT '{table}' AS in_table, to_jsonb(t)::text AS content FROM "{table}" t"""  # noqa: S608 - our own names
    for table in ("Genre", "Platform", "Game", "GameGenre", "GamePlatform", "ImportedGame", "LibraryItem")
)
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
"""The rows less what no two loads have in common: ids and times."""


def rows(url: str, query: str) -> list[tuple[str, str]]:
    return sorted(fetch(url, query).rows())


def begin(url: str) -> list[tuple[str, str]]:
    """What an earlier load and the user have written."""
    execute(url, EMPTY)
    load_library(url, library(*BEFORE))
    execute(url, """UPDATE "ImportedGame" SET "deletedAt" = '2026-01-01' WHERE "storefrontGameId" = '16'""")
    execute(url, """UPDATE "LibraryItem" SET status = 'WISHLIST' WHERE id = 1""")
    insert_game(url, 900, slug="held")
    insert_game(url, 901, slug="game-108", steamAppId="18")
    insert_item(url, 900)
    insert_import(url, 19, igdbMatchStatus="IGNORED")
    return rows(url, EXACTLY)


def load(url: str, attempts: int = 1) -> None:
    Database(url, attempts=attempts, retry_base_seconds=0).load(stage_library(library(*AFTER)), ["user-1"])


class Interruptions:
    """What a load does that nothing breaks off, and how many messages of it wait for an answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        begin(url)
        wire = Wire(as_role(url), 0, "before", _nothing)
        with wire.listening():
            load(wire.url)
        self.messages = wire.seen
        self._done = rows(url, CONTENT)

    def lose_the_backend(self, message: int, moment: Moment) -> None:
        """The server ends the connection's process, and the load itself tries again."""
        before = begin(self._url)

        def end(backend: int) -> None:
            execute(self._url, f"SELECT pg_terminate_backend({backend}, 5000)")

        met: list[bool] = []
        wire = Wire(
            as_role(self._url), message, moment, end, lambda: met.append(self._is_whole(before, message, moment))
        )
        with wire.listening():
            load(wire.url, attempts=2)

        # The driver opens two connections, one of them to ask for the types.
        assert met == [True, True], (message, moment)
        assert rows(self._url, CONTENT) == self._done, (message, moment)

    def kill_the_load(self, message: int, moment: Moment) -> None:
        """The loading process is killed, and another one loads the same again."""
        before = begin(self._url)
        wire = Wire(as_role(self._url), message, moment, lambda _: process.kill())
        with wire.listening():
            process = FORKS.Process(target=load, args=(wire.url,))
            process.start()
            process.join()

        assert process.exitcode == -9, (message, moment)
        assert self._is_whole(before, message, moment), (message, moment)
        load(as_role(self._url))
        assert rows(self._url, CONTENT) == self._done, (message, moment)

    def _is_whole(self, before: list[tuple[str, str]], message: int, moment: Moment) -> bool:
        """Nothing of the load is to be seen, or, once the server has heard of the commit, all of it."""
        if (message, moment) == (self.messages, "after"):
            return rows(self._url, CONTENT) == self._done
        return rows(self._url, EXACTLY) == before


def _nothing(_: int) -> None:
    pass
