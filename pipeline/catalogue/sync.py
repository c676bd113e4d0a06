"""Fill the catalogue with all that IGDB has for Steam: everything the first time, what has changed from then on.

A first sync takes minutes, so what it has read is kept in the store, part by part. A sync that was interrupted is
continued by the next one.

All rows of a query are read in the order of their ids, from several ranges of ids at once. IGDB answers a query with up
to 500 rows, and a multiquery holds ten queries. Which ids a query finds is not known before: they are sparse, and
unevenly so. Therefore ranges are guessed from how dense the ids were just before them, and what a full page leaves of
a range is asked for next.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import OnBatch, ignore_count, split
from pipeline.apis.igdb_queries import PAGE_SIZE, Query, all_external_games_query, changed_games_query
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import Progress, add_up, look_up_matches, no_progress, parse_fetched_games
from pipeline.errors import Retryable, count_of
from pipeline.frames.catalogue import drop_overridden, matches_as_catalogue, rows_about_games
from pipeline.frames.match import parse_external_games, resolve_matches
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, parse_json, read_parquet, to_parquet
from schemas.apis import RowId, parse_rows
from schemas.catalogue import Catalogue, ExternalGames, Games, Overrides, SyncState
from schemas.frames import Model, conform, empty_frame

if TYPE_CHECKING:
    from pipeline.apis.igdb import Igdb

STATE = "catalogue/sync.json"
"""The key of the JSON file with the start of the unfinished sync, if there is one, and of the last finished one."""

PAIRS, GAMES = "catalogue/sync/pairs/", "catalogue/sync/games/"
"""The folders of what an unfinished sync has read: pairs of a Steam app and an IGDB game, and the games."""

PAIRS_PER_PART, GAMES_PER_PART = 10_000, 20_000
"""The rows after which a file is written into each folder: a sync that is killed reads no more again."""

MAX_ROWS = 1_000_000
"""The number of rows after which a list of IGDB counts as endless: it has some 400,000 games."""

OVERLAP_SECONDS = 3_600
"""The seconds before the last sync from which the next asks for changes: IGDB's clock is not ours."""

AIMED_ROWS = 430
"""The rows that a range is to have: below a full page, as one that overflows takes another query."""

REMEDY = "Use the version of the program that wrote it, or delete it: the next sync reads everything."

log = structlog.get_logger()


@dataclass(frozen=True)
class SyncResult:
    """The result of a sync: whether it was full, and the numbers of apps looked up, apps now known, and requests."""

    is_full: bool
    apps: int
    known: int
    requests: int


async def sync_catalogue(
    store: Store,
    catalogue: CatalogueFiles,
    igdb: "Igdb",
    progress: Progress = no_progress,
) -> SyncResult:
    """Add IGDB's games for all Steam apps to the catalogue, or those changed since the last sync; return the counts.

    The catalogue is compacted after that.

    Raises:
        Failed: `checkpoint_invalid`, if an earlier sync left a file of a version that this program does not read.
        Retryable: `igdb_unavailable`; the next sync continues where this one stopped.
    """
    state = _read_state(store)
    started_at = state.started_at or int(datetime.now(UTC).timestamp())
    _write_state(store, SyncState(started_at=started_at, synced_at=state.synced_at))
    pairs, games = _Parts(store, PAIRS, ExternalGames), _Parts(store, GAMES, Games)
    if state.synced_at is None:
        known = await _read_pairs(pairs, igdb, progress)
        matched = await _read_games(games, igdb, known["igdb_id"].unique().sort(), progress)
        matches = resolve_matches(known["appid"].unique(), known, matched)
        rows = matches_as_catalogue(matches, matched, datetime.fromtimestamp(started_at, UTC))
    else:
        since = state.synced_at - OVERLAP_SECONDS
        rows = await _read_changes(catalogue.read(), igdb, since, progress)
    catalogue.remember(drop_overridden(rows, catalogue.read()))
    compaction = catalogue.compact()
    _write_state(store, SyncState(synced_at=started_at))
    pairs.clear()
    games.clear()
    return SyncResult(state.synced_at is None, rows.height, compaction.apps, igdb.requests)


async def _read_pairs(parts: "_Parts[ExternalGames]", igdb: "Igdb", progress: Progress) -> DataFrame[ExternalGames]:
    """Return the pairs of Steam app and IGDB game that IGDB lists; pairs that the parts hold are not read again."""
    query = all_external_games_query()
    on_page = add_up(progress, "Steam apps on IGDB", await igdb.count(query))
    last_id, is_complete = parts.position()
    on_page(len(parts.keys()) * PAIRS_PER_PART)
    rows: list[Any] = []
    if not is_complete:
        async for read in read_in_order(igdb, query, last_id, on_page):
            rows += read.rows
            if len(rows) >= PAIRS_PER_PART or read.is_complete:
                parts.write(parse_external_games(rows), read.last_id, is_last=read.is_complete)
                rows = []
    return conform(parts.read().unique().sort("appid", "igdb_id"), ExternalGames)


async def _read_games(parts: "_Parts[Games]", igdb: "Igdb", ids: pl.Series, progress: Progress) -> DataFrame[Games]:
    """Return the IGDB games with the given sorted ids; games that the parts hold are not read again."""
    last_id, _ = parts.position()
    on_batch = add_up(progress, "Games on IGDB", ids.len())
    on_batch(ids.filter(ids <= last_id).len())
    for some in split(ids.filter(ids > last_id).to_list(), GAMES_PER_PART):
        results = await igdb.fetch_games(some, on_batch)
        for result in results:
            if result.error:
                raise result.error
        parts.write(parse_fetched_games(results), some[-1])
    return conform(parts.read().unique("igdb_id", maintain_order=True), Games)


async def _read_changes(
    known: DataFrame[Catalogue], igdb: "Igdb", since: int, progress: Progress
) -> DataFrame[Catalogue]:
    """Return new catalogue rows for the apps whose ids, or whose games, IGDB changed since a Unix time."""
    pairs = await _read_all(igdb, all_external_games_query(since))
    changed = await _read_all(igdb, changed_games_query(since))
    about_games = rows_about_games(known, [row.id for row in parse_rows(changed, RowId)[0]])
    appids = pl.concat([parse_external_games(pairs)["appid"], about_games["appid"]]).unique().sort()
    rows = await look_up_matches(igdb, appids, empty_frame(Overrides), datetime.now(UTC), progress)
    unanswered = appids.len() - rows.height
    if unanswered:
        raise Retryable("igdb_unavailable", f"IGDB did not answer for {count_of(unanswered, 'app')}. Sync again later.")
    return rows


async def _read_all(igdb: "Igdb", query: Query) -> list[Any]:
    rows: list[Any] = []
    async for read in read_in_order(igdb, query, after=0):
        rows += read.rows
    return rows


class _IdRange(NamedTuple):
    """The ids above `after`, up to `last` (None: without an end), and how many rows are expected for each id.

    `rows_per_id` is 0.0 where nothing is known.
    """

    after: int
    last: int | None = None
    rows_per_id: float = 0.0


class RowsInOrder(NamedTuple):
    """Rows of a query, all of those with ids up to `last_id` that were not returned before."""

    rows: list[Any]
    last_id: int
    is_complete: bool


async def read_in_order(
    igdb: "Igdb", query: Query, after: int, on_page: OnBatch = ignore_count
) -> AsyncIterator[RowsInOrder]:
    """Yield a query's rows with ids above `after`, in the order of their ids, until there are no more.

    Raises:
        Retryable: `igdb_unavailable`.
    """
    pending, ahead, last_id, row_count = [_IdRange(after)], dict[int, list[Any]](), after, 0
    while pending:
        asked, pending = _next_ranges(pending, igdb.queries_at_once(query.endpoint))
        pages = await igdb.fetch_pages([query.within(each.after, each.last) for each in asked])
        row_count += sum(map(len, pages))
        on_page(sum(map(len, pages)))
        if row_count > MAX_ROWS:
            raise Retryable("igdb_unavailable", f"IGDB's pages of {query.endpoint} do not end. Try again later.")
        ahead |= {each.after: page for each, page in zip(asked, pages, strict=True)}
        rests = [_rest_of(each, page, query.endpoint) for each, page in zip(asked, pages, strict=True)]
        pending = [rest for rest in rests if rest] + pending
        last_id = pending[0].after if pending else max(last_id, asked[-1].after)
        ready = sorted(start for start in ahead if start < last_id or not pending)
        yield RowsInOrder([row for start in ready for row in ahead.pop(start)], last_id, not pending)


def _next_ranges(pending: Sequence[_IdRange], most: int) -> tuple[list[_IdRange], list[_IdRange]]:
    """Return up to `most` ranges to ask for, the lowest ids of the pending ones, and what is pending after them."""
    if most == 1:
        return [pending[0]], list(pending[1:])
    asked, rest = list[_IdRange](), list[_IdRange]()
    for each in pending:
        if len(asked) == most:
            rest.append(each)
            continue
        pieces = _split(each, most - len(asked))
        asked += pieces
        if pieces[-1].last != each.last:
            rest.append(each._replace(after=pieces[-1].last or 0))
    return asked, rest


def _split(ids: _IdRange, most: int) -> list[_IdRange]:
    """Return up to `most` consecutive ranges of about AIMED_ROWS rows each, from the beginning of a range.

    Of a range without an end the last piece has none either: it holds a full page wherever the next ids are.
    """
    if not ids.rows_per_id:
        return [ids]
    if ids.last is None:
        width, pieces = ceil(AIMED_ROWS / ids.rows_per_id), most
    else:
        pieces = ceil((ids.last - ids.after) * ids.rows_per_id / AIMED_ROWS)
        width, pieces = ceil((ids.last - ids.after) / max(pieces, 1)), max(pieces, 1)
    starts = [ids.after + number * width for number in range(min(pieces, most))]
    ends: list[int | None] = [*starts[1:], ids.last if pieces <= most else starts[-1] + width]
    return [_IdRange(start, end, ids.rows_per_id) for start, end in zip(starts, ends, strict=True)]


def _rest_of(asked: _IdRange, page: Sequence[Any], endpoint: str) -> _IdRange | None:
    """Return the ids of a range that are above those of its page, or None if the page holds all rows of the range."""
    if len(page) < PAGE_SIZE:
        return None
    ids = sorted(row.id for row in parse_rows(page, RowId)[0])
    highest = ids[-1] if ids else 0
    if highest <= asked.after or (asked.last is not None and highest > asked.last):
        says = f"IGDB's pages of {endpoint} repeat the same ids. Try again later."
        raise Retryable("igdb_unavailable", says)
    if highest == asked.last:
        return None
    # Behind a page without an end, the ids are as dense as at its own end: it may have begun in a gap.
    low, rows = (ids[len(ids) // 2], len(ids) // 2) if asked.last is None else (asked.after, len(ids))
    return _IdRange(highest, asked.last, max(rows, 1) / max(highest - low, 1))


class _Parts(Generic[Model]):
    """The rows that an unfinished sync has read, as Parquet files whose names say up to which id they reach."""

    def __init__(self, store: Store, folder: str, model: type[Model]) -> None:
        self._store = store
        self._folder = folder
        self._model = model

    def keys(self) -> list[str]:
        """Return the keys of the files, in the order of their ids."""
        return sorted(self._store.list(self._folder))

    def position(self) -> tuple[int, bool]:
        """Return the last id that the files reach, and whether there are no rows above it."""
        last = max(self.keys(), default="").removeprefix(self._folder).removesuffix(".parquet")
        return int(last.removesuffix("-last") or 0), last.endswith("-last")

    def write(self, rows: DataFrame[Model], last_id: int, *, is_last: bool = False) -> None:
        """Write a file of rows up to an id."""
        name = f"{last_id:012}{'-last' if is_last else ''}.parquet"
        self._store.write(f"{self._folder}{name}", to_parquet(rows, "sync"))

    def read(self) -> DataFrame[Model]:
        """Return the rows of all files; if one is corrupt, all are deleted."""
        try:
            bodies = {key: self._store.read(key) or b"" for key in self.keys()}
            parts = [read_parquet(body, "sync", self._model, key, REMEDY) for key, body in bodies.items()]
            return conform(pl.concat([empty_frame(self._model), *parts]), self._model)
        except CorruptFile:
            self.clear()
            says = f"A file that an interrupted sync left in {self._folder} is corrupt. All of them were deleted."
            raise Retryable("store_unavailable", f"{says} Sync again.") from None

    def clear(self) -> None:
        """Delete the files."""
        for key in self.keys():
            self._store.delete(key)


def _read_state(store: Store) -> SyncState:
    try:
        return parse_json(store.read(STATE) or b"{}", "sync", SyncState, STATE, REMEDY)
    except CorruptFile:
        log.warning("sync state is corrupt, and everything is read again", key=STATE)
        return SyncState()


def _write_state(store: Store, state: SyncState) -> None:
    store.write(STATE, state.model_dump_json().encode())
