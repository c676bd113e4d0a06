"""The catalogue brought up to all that IGDB has for Steam."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import pandera.polars as pa
import polars as pl
import structlog
from pandera.typing.polars import DataFrame
from pydantic import BaseModel, Field

from pipeline.apis.batching import BatchResult, OnBatch, all_rows, ignore_count, split
from pipeline.apis.igdb_queries import PAGE_SIZE, Query, all_external_games, changed_games
from pipeline.catalogue.files import CatalogueFiles
from pipeline.catalogue.look_up import Progress, ask_igdb, counting, no_progress
from pipeline.errors import Retryable
from pipeline.frames.catalogue import drop_overridden, matches_as_catalogue, rows_about_games
from pipeline.frames.match import parse_external_games, parse_games, resolve_matches
from pipeline.storage.store import Store
from pipeline.storage.versioned import CorruptFile, parse_json, read_parquet, to_parquet
from schemas.apis import INT32_MAX, YEAR_9999, RowId, parse_rows
from schemas.catalogue import Catalogue, ExternalGames, Games, Overrides
from schemas.frames import conform, empty_frame
from schemas.manifest import VERSIONS

if TYPE_CHECKING:
    from pipeline.apis.igdb import Igdb

STATE = "catalogue/sync.json"
PAIRS, GAMES = "catalogue/sync/pairs/", "catalogue/sync/games/"
PAGES_A_PART = 10
GAMES_A_PART = 5_000
PART = re.compile(r"([0-9]{12})(-last)?\.parquet")

MOST_ROWS = 1_000_000
"""IGDB has some 400,000 games, and fewer rows for Steam; pages that go on after so many are no pages."""

OVERLAP_SECONDS = 3_600
"""An incremental sync begins so long before the last one: IGDB's clock is not ours."""

REMEDY = "Use the version of the program that wrote it, or delete it: the next sync reads everything."

Seconds = Annotated[int, Field(ge=0, le=YEAR_9999)]
log = structlog.get_logger()


class State(BaseModel):
    """When the sync that is under way began, and the last whole one; Unix seconds."""

    schema_version: int = Field(default_factory=lambda: VERSIONS["sync"])
    started_at: Seconds | None = None
    synced_at: Seconds | None = None


@dataclass(frozen=True)
class Synced:
    """What a sync did: apps it looked up, apps in the catalogue after it, requests."""

    is_full: bool
    apps: int
    known: int
    requests: int


async def sync(
    store: Store,
    catalogue: CatalogueFiles,
    igdb: "Igdb",
    progress: Progress = no_progress,
    most_rows: int = MOST_ROWS,
) -> Synced:
    """Read all that IGDB has for Steam, or what changed since the last time; killed, the next one goes on from there.

    Raises:
        Failed: `checkpoint_invalid`, for a state of another schema version.
        Retryable: `igdb_unavailable`; what was read is kept.
    """
    state = _state(store)
    began = state.started_at or int(datetime.now(UTC).timestamp())
    _write_state(store, State(started_at=began, synced_at=state.synced_at))
    if state.synced_at is None:
        rows = await _everything(store, igdb, began, progress, most_rows)
    else:
        since = state.synced_at - OVERLAP_SECONDS
        rows = await _changes(catalogue.read(), igdb, since, progress, most_rows // PAGE_SIZE)
    catalogue.remember(drop_overridden(rows, catalogue.read()))
    compaction = catalogue.compact()
    _write_state(store, State(synced_at=began))
    for parts in (_pairs(store), _games(store)):
        parts.clear()
    return Synced(state.synced_at is None, rows.height, compaction.apps, igdb.requests)


async def _everything(
    store: Store, igdb: "Igdb", began: int, progress: Progress, most_rows: int
) -> DataFrame[Catalogue]:
    pairs = await _all_pairs(_pairs(store), igdb, progress, most_rows // PAGE_SIZE)
    known = await _all_games(_games(store), igdb, pairs["igdb_id"].unique().sort(), progress)
    matches = resolve_matches(pairs["appid"].unique(), pairs, known)
    return matches_as_catalogue(matches, known, datetime.fromtimestamp(began, UTC))


async def _all_pairs(parts: "_Parts", igdb: "Igdb", progress: Progress, most_pages: int) -> DataFrame[ExternalGames]:
    """Page by page; every ten pages are kept as a part."""
    query = all_external_games()
    on_page = counting(progress, "Steam apps on IGDB", await igdb.count(query))
    after, is_whole = parts.reached()
    on_page(len(parts.keys()) * PAGES_A_PART * PAGE_SIZE)
    while not is_whole:
        if len(parts.keys()) * PAGES_A_PART >= most_pages:
            parts.clear()
            raise _endless(query)
        rows, after, is_whole = await _pages(igdb, query, after, PAGES_A_PART, on_page)
        parts.write(parse_external_games(rows), after, is_last=is_whole)
    return conform(parts.read().unique().sort("appid", "igdb_id"), ExternalGames)


async def _all_games(parts: "_Parts", igdb: "Igdb", ids: pl.Series, progress: Progress) -> DataFrame[Games]:
    after, _ = parts.reached()
    on_batch = counting(progress, "Games on IGDB", ids.len())
    on_batch(ids.filter(ids <= after).len())
    for part in split(ids.filter(ids > after).to_list(), GAMES_A_PART):
        answers = await igdb.fetch_games(part, on_batch)
        _insist_on_all(answers)
        known, faults = parse_games(all_rows(answers))
        if faults:
            log.warning("igdb rows set aside", rows=len(faults), first=faults[:5])
        parts.write(known, part[-1])
    return conform(parts.read().unique("igdb_id", maintain_order=True), Games)


async def _changes(
    known: DataFrame[Catalogue], igdb: "Igdb", since: int, progress: Progress, most_pages: int
) -> DataFrame[Catalogue]:
    """Apps whose ids IGDB changed, and apps of games it changed, looked up anew."""
    pairs = await _all_pages(igdb, all_external_games(since), most_pages)
    changed = await _all_pages(igdb, changed_games(since), most_pages)
    ids = [row.id for row in parse_rows(changed, RowId)[0]]
    appids = pl.concat([parse_external_games(pairs)["appid"], rows_about_games(known, ids)["appid"]]).unique().sort()
    rows = await ask_igdb(igdb, appids, empty_frame(Overrides), datetime.now(UTC), progress=progress)
    if rows.height < appids.len():
        raise Retryable(
            "igdb_unavailable", f"IGDB did not answer for {appids.len() - rows.height} apps. Sync again later."
        )
    return rows


async def _all_pages(igdb: "Igdb", query: Query, most: int) -> list[Any]:
    rows, _, is_whole = await _pages(igdb, query, 0, most)
    if not is_whole:
        raise _endless(query)
    return rows


async def _pages(
    igdb: "Igdb", query: Query, after: int, most: int, on_page: OnBatch = ignore_count
) -> tuple[list[Any], int, bool]:
    """Rows after an id: `(rows, the last one's id, whether there are no more)`."""
    rows: list[Any] = []
    for _ in range(most):
        page = await igdb.fetch_after(query, after)
        on_page(len(page))
        rows += page
        if len(page) < PAGE_SIZE:
            return rows, after, True
        last = max((row.id for row in parse_rows(page, RowId)[0]), default=0)
        if last <= after:
            raise Retryable("igdb_unavailable", f"IGDB's pages of {query.endpoint} do not go on. Try again later.")
        after = last
    return rows, after, False


def _endless(query: Query) -> Retryable:
    return Retryable(
        "igdb_unavailable",
        f"IGDB's pages of {query.endpoint} do not end. Try again later; if that is right, set SYNC_MAX_ROWS higher.",
    )


def _insist_on_all(answers: list[BatchResult]) -> None:
    for answer in answers:
        if answer.error:
            raise answer.error


class _Parts:
    """Frames kept while a sync is under way; a key says how far its part comes, and whether it is the last."""

    def __init__(self, store: Store, folder: str, model: type[pa.DataFrameModel], empty: pl.DataFrame) -> None:
        self._store = store
        self._folder = folder
        self._model = model
        self._empty = empty

    def keys(self) -> list[str]:
        named = ((key, PART.fullmatch(key.removeprefix(self._folder))) for key in self._store.list(self._folder))
        return [key for key, name in named if name and int(name[1]) <= INT32_MAX]

    def reached(self) -> tuple[int, bool]:
        last = max(self.keys(), default="").removeprefix(self._folder).removesuffix(".parquet")
        return int(last.split("-")[0] or 0), last.endswith("-last")

    def write(self, rows: pl.DataFrame, reached: int, *, is_last: bool = False) -> None:
        self._store.write(f"{self._folder}{reached:012}{'-last' if is_last else ''}.parquet", to_parquet(rows, "sync"))

    def read(self) -> pl.DataFrame:
        try:
            bodies = {key: self._store.read(key) or b"" for key in self.keys()}
            parts = [read_parquet(body, "sync", self._model, key, REMEDY) for key, body in bodies.items()]
            return pl.concat([self._empty, *parts])
        except CorruptFile:
            self.clear()
            raise Retryable("store_unavailable", f"{self._folder} was spoilt, and is gone now. Sync again.") from None

    def clear(self) -> None:
        for key in self.keys():
            self._store.delete(key)


def _pairs(store: Store) -> _Parts:
    return _Parts(store, PAIRS, ExternalGames, parse_external_games([]))


def _games(store: Store) -> _Parts:
    return _Parts(store, GAMES, Games, parse_games([])[0])


def _state(store: Store) -> State:
    try:
        return parse_json(store.read(STATE) or b"{}", "sync", State, STATE, REMEDY)
    except CorruptFile:
        log.warning("sync state set aside", key=STATE)
        return State()


def _write_state(store: Store, state: State) -> None:
    store.write(STATE, state.model_dump_json().encode())
