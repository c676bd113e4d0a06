"""Loads into a database with millions of rows of other users, beside the same loads into one without them."""

import time
from statistics import median

import polars as pl
from adbc_driver_postgresql import dbapi

from benchmarks.databases import execute, fetch, libraries, new_database, timed
from pipeline.database.database import Database
from pipeline.frames.staging import stage_library
from schemas.staging import DEFAULT_OPTIONS, LoadOptions

IMPORTS, GAMES, OTHERS = 2_000_000, 200_000, 10_000
MOST_OF_EMPTY = 1.3
APPS, KNOWN_GAMES, SHARD_USERS, ROUNDS = 300, 2_000, 200, 5
FIRST_OVERRIDDEN = 900_000
MOST_ROWS = 200
"""By so many rows two loads of a kind may differ: a plan may read a row once more."""

KINDS = ("new_user", "same_again", "new_games", "override", "dry_run", "ensure_users", "shard")
"""The methods of `Loads`."""

FILL = (
    "SET session_replication_role = replica",
    "SELECT setseed(0.5)",
    """INSERT INTO "user" (id, "updatedAt") SELECT 'other-' || n, now() FROM generate_series(0, {others} - 1) n""",
    """INSERT INTO "Game" (id, "igdbId", title, description, slug, "steamAppId", "updatedAt")
    SELECT 'c' || substr(md5('game' || n), 1, 24), n + 1000, 'Game number ' || n,
        'The ' || n || 'th game of this benchmark, told in a sentence of the usual length.', 'game-number-' || n,
        n * 10, now()
    FROM generate_series(1, {games}) n ON CONFLICT DO NOTHING""",
    """INSERT INTO "GameGenre" ("gameId", "genreId") SELECT g.id, o.id
    FROM "Game" g JOIN "Genre" o ON o."igdbId" IN (g."igdbId" % 23 + 1, g."igdbId" % 19 + 1) ON CONFLICT DO NOTHING""",
    """INSERT INTO "GamePlatform" ("gameId", "platformId") SELECT g.id, o.id
    FROM "Game" g JOIN "Platform" o ON o."igdbId" IN (g."igdbId" % 41 + 1, 6) ON CONFLICT DO NOTHING""",
    """CREATE TEMPORARY TABLE owned AS
    SELECT n, n % {others} AS owner, 1 + floor(power(random(), 3) * {games})::int AS game
    FROM generate_series(1, {imports}) n""",
    """INSERT INTO "ImportedGame" (id, name, storefront, "storefrontGameId", "updatedAt", "userId", playtime,
        "igdbMatchStatus")
    SELECT 'c' || substr(md5('import' || n), 1, 24), 'Game number ' || game, 'STEAM', (game * 10)::text, now(),
        'other-' || owner, n % 500,
        (CASE n % 10 WHEN 0 THEN 'UNMATCHED' WHEN 1 THEN 'PENDING' ELSE 'MATCHED' END)::"IgdbMatchStatus"
    FROM owned""",
    """INSERT INTO "LibraryItem" ("updatedAt", "userId", "gameId", platform)
    SELECT now(), 'other-' || owner, g.id, 'PC (Microsoft Windows)'
    FROM owned JOIN "Game" g ON g."igdbId" = owned.game + 1000""",
    "VACUUM ANALYZE",
    "CHECKPOINT",
)
"""SQL that gives a database the games, and thousands of other users their libraries; some games are in many."""


READ = """
SELECT t.relname, (t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0))::bigint AS rows
FROM pg_stat_user_tables t LEFT JOIN pg_stat_user_indexes i USING (relid)
WHERE t.relname IN ('ImportedGame', 'LibraryItem', 'Game') GROUP BY t.relname, t.seq_tup_read
"""
"""The rows that were read of a table so far, by scans and by indices."""


def measure(server: str, imports: int = IMPORTS, games: int = GAMES, rounds: int = ROUNDS) -> bool:
    """Print the time and the rows read of each kind of load in both databases; return whether each met the target."""
    empty_url, large_url = (new_database(server, name, 1) for name in ("without_others", "with_others"))
    empty, large = Loads(empty_url), Loads(large_url)
    with dbapi.connect(large_url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in FILL:
            cursor.executemany(statement.format(imports=imports, games=games, others=OTHERS), None)
    execute(empty_url, "VACUUM ANALYZE")
    print(f"in a database with {imports:,} ImportedGames and {games:,} games of others, beside one without:")
    met = [_compare(kind, empty, large, rounds) for kind in KINDS]
    print(f"  (target: at most {MOST_OF_EMPTY} times; rows read of others, which 20 million would add to: none)")
    return all(met)


def _compare(kind: str, empty: "Loads", large: "Loads", rounds: int) -> bool:
    """Make loads of a kind in turns, and compare the medians; then compare the rows that one more of each reads."""
    times = [(getattr(empty, kind)(), getattr(large, kind)()) for _ in range(rounds)]
    in_empty, in_large = (median(seconds) for seconds in zip(*times, strict=True))
    of_empty, of_large = (_rows_read(loads, kind) for loads in (empty, large))
    others = {name: max(0, of_large[name] - of_empty[name]) for name in of_empty}
    more = ", ".join(f"{rows:,} of {name}" for name, rows in sorted(others.items()) if rows > MOST_ROWS) or "none"
    print(
        f"  {kind.replace('_', ' ')}: {in_large:.2f} s beside {in_empty:.2f} s, {in_large / in_empty:.2f} times; "
        f"rows read of others: {more}"
    )
    is_by_index = max(others["ImportedGame"], others["LibraryItem"]) <= MOST_ROWS
    return in_large / in_empty <= MOST_OF_EMPTY and is_by_index


def _rows_read(loads: "Loads", kind: str) -> dict[str, int]:
    before = _rows_read_so_far(loads.url)
    getattr(loads, kind)()
    return {name: rows - before[name] for name, rows in _rows_read_so_far(loads.url).items()}


def _rows_read_so_far(url: str) -> dict[str, int]:
    time.sleep(1.5)  # for sessions to end, which count what they read then
    return dict(fetch(url, READ).rows())


class Loads:
    """Every kind of load, in one database; each method makes another load of its kind and returns its seconds."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url)
        self._user = 100_000
        self._game = 1_000_000
        self._load(libraries(KNOWN_GAMES, 1, KNOWN_GAMES))

    def new_user(self) -> float:
        """A user without imports, whose games are all known."""
        self._user += 1
        return self._load(_library_of(self._user))

    def same_again(self) -> float:
        """The library that was loaded last, again."""
        return self._load(_library_of(self._user))

    def new_games(self) -> float:
        """A user without imports, whose games are all new."""
        self._user, self._game = self._user + 1, self._game + APPS
        return self._load(libraries(APPS, 1, APPS, self._user, self._game))

    def override(self) -> float:
        """The library of one user, with an override that moves one of its apps to another game each time."""
        self._game += 1
        is_moved, other = pl.int_range(pl.len()) == 7, libraries(1, 1, 1, 0, self._game)  # noqa: PLR2004
        columns = [name for name in other.columns if name.startswith("igdb_")]
        moved = [pl.when(is_moved).then(pl.lit(other[name].item())).otherwise(name).alias(name) for name in columns]
        rows = libraries(APPS, 1, APPS, 0, FIRST_OVERRIDDEN).with_columns(*moved)
        reason = pl.when(is_moved).then(pl.lit("override")).otherwise(pl.col("match_reason").cast(pl.String))
        return self._load(rows.with_columns(match_reason=reason.cast(rows.schema["match_reason"])))

    def dry_run(self) -> float:
        """`--dry-run --details` of a library in which every hundredth app was played since."""
        rows = _library_of(self._user).with_columns(
            playtime_forever=pl.col("playtime_forever") + (pl.int_range(pl.len()) % 100 == 0).cast(pl.Int32) * 1000
        )
        return self._load(rows, LoadOptions(dry_run=True, details=True))

    def ensure_users(self) -> float:
        """One user who is there, and one who is not."""
        self._user += 1
        return timed(lambda: self._database.ensure_users(["user-0", f"user-{self._user}"]))

    def shard(self) -> float:
        """A backfill's shard of users without imports, whose games are all known."""
        first, self._user = self._user + 1, self._user + SHARD_USERS
        return self._load(libraries(SHARD_USERS * APPS, SHARD_USERS, KNOWN_GAMES, first))

    def _load(self, rows: pl.DataFrame, options: LoadOptions = DEFAULT_OPTIONS) -> float:
        users = rows["user_id"].unique()
        self._database.ensure_users(users)
        return timed(lambda: self._database.load(stage_library(rows), users, options))


def _library_of(user: int) -> pl.DataFrame:
    return libraries(APPS, 1, KNOWN_GAMES, user)
