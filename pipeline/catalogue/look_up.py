"""What the store and IGDB are asked about apps, and their answers as rows of the catalogue.

What is known of a library's apps: the catalogue, and the network for what it does not know.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import BatchResult, OnBatch, all_rows, all_unanswered, raise_if_all_failed
from pipeline.apis.retry import Retries
from pipeline.catalogue.files import CatalogueFiles
from pipeline.frames.catalogue import (
    Lifetimes,
    matches_as_catalogue,
    merge_catalogues,
    needs_igdb_lookup,
    needs_store_type,
    rows_about_apps,
    store_types_as_catalogue,
)
from pipeline.frames.classify import classify, parse_store_items
from pipeline.frames.match import (
    mark_overrides,
    parse_external_games,
    parse_games,
    resolve_matches,
    unusable_external_games,
)
from pipeline.frames.overrides import override_pairs, parse_overrides
from pipeline.storage.store import Store
from schemas.catalogue import Catalogue, ExternalGames, Games, Overrides
from schemas.frames import conform
from schemas.library import ClassifiedLibrary, RawLibrary

if TYPE_CHECKING:
    from pipeline.apis.igdb import Igdb
    from pipeline.apis.steam_store import SteamStore

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""

log = structlog.get_logger()


def no_progress(_what: str, _done: int, _total: int) -> None:
    """For where nobody watches."""


async def ask_store(
    store: "SteamStore", appids: pl.Series, at: datetime, progress: Progress = no_progress
) -> DataFrame[Catalogue]:
    """The types of apps, as Catalogue rows; apps the store gives no answer for are missing, and names decide."""
    answers = await store.fetch_items(appids, counting(progress, "Types asked of Steam's store", appids.len()))
    return store_types_as_catalogue(parse_store_items(all_rows(answers)), at)


async def ask_igdb(
    igdb: "Igdb",
    appids: pl.Series,
    overrides: DataFrame[Overrides],
    at: datetime,
    progress: Progress = no_progress,
) -> DataFrame[Catalogue]:
    """The matches of apps, as Catalogue rows: ids by app first, then each game once; what is unanswered is missing.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    forced = conform(override_pairs(overrides).filter(pl.col("appid").is_in(appids.implode())), ExternalGames)
    asked = appids.filter(~appids.is_in(forced["appid"].implode()))
    by_app = await igdb.fetch_external_games(asked, counting(progress, "Apps looked up on IGDB", asked.len()))
    unusable_appids, faults = unusable_external_games(all_rows(by_app))
    _report(faults)
    pairs = conform(pl.concat([parse_external_games(all_rows(by_app)), forced]), ExternalGames)
    known, by_id = await _games(igdb, pairs["igdb_id"].unique(), progress)
    raise_if_all_failed(by_app + by_id)
    matches = resolve_matches(
        appids,
        pairs,
        known,
        unanswered_appids=all_unanswered(by_app),
        unanswered_games=all_unanswered(by_id),
        unusable_appids=unusable_appids,
    )
    return matches_as_catalogue(mark_overrides(matches, forced), known, at)


async def _games(igdb: "Igdb", ids: pl.Series, progress: Progress) -> tuple[DataFrame[Games], list[BatchResult]]:
    answers = await igdb.fetch_games(ids, counting(progress, "Games read from IGDB", ids.len()))
    known, faults = parse_games(all_rows(answers))
    _report(faults)
    return known, answers


def _report(faults: list[str]) -> None:
    if faults:
        log.warning("igdb rows set aside", rows=len(faults), first=faults[:5])


def counting(progress: Progress, what: str, total: int) -> OnBatch:
    """Progress of a total, told batch by batch."""
    done = 0

    def on_batch(ids: int) -> None:
        nonlocal done
        done += ids
        progress(what, done, total)

    if total:
        progress(what, 0, total)
    return on_batch


OVERRIDES = "overrides.csv"
FAULTS_TOLD = 20


def read_overrides(store: Store) -> DataFrame[Overrides]:
    """The humans' word, as Overrides; a line that cannot be used is left out, and the first of these are reported."""
    rows, faults = parse_overrides(store.read(OVERRIDES, max_bytes=store.file_max_bytes))
    for fault in faults[:FAULTS_TOLD]:
        log.warning("override skipped", key=OVERRIDES, fault=fault)
    if len(faults) > FAULTS_TOLD:
        log.warning("more overrides skipped", key=OVERRIDES, faults=len(faults) - FAULTS_TOLD)
    return rows


@dataclass(frozen=True)
class CatalogueLookup:
    """The catalogue, whom to ask for what it lacks, and how long to believe it."""

    catalogue: CatalogueFiles
    igdb: "Igdb"
    steam_store: "SteamStore"
    lifetimes: Lifetimes

    @property
    def requests(self) -> int:
        """Requests sent to Steam's store, IGDB and Twitch."""
        return self.igdb.requests + self.steam_store.requests

    @property
    def retries(self) -> Retries:
        """How many of them repeated another."""
        return self.igdb.retries + self.steam_store.retries

    async def of(
        self, library: DataFrame[RawLibrary], overrides: DataFrame[Overrides], progress: Progress
    ) -> tuple[DataFrame[ClassifiedLibrary], DataFrame[Catalogue]]:
        """A RawLibrary as ClassifiedLibrary, and the Catalogue of its apps; what was learnt is remembered.

        Raises:
            Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups; what the store said is remembered.
        """
        now = datetime.now(UTC)
        known = rows_about_apps(self.catalogue.read(), library)
        asked = needs_store_type(library, known, now, self.lifetimes)
        learnt = await ask_store(self.steam_store, asked, now, progress)
        apps = classify(library, merge_catalogues([known, learnt]), overrides)
        try:
            learnt = merge_catalogues([learnt, await self._matches(apps, known, overrides, now, progress)])
        finally:
            self.catalogue.remember(learnt)
        return apps, merge_catalogues([known, learnt])

    async def _matches(
        self,
        apps: DataFrame[ClassifiedLibrary],
        known: DataFrame[Catalogue],
        overrides: DataFrame[Overrides],
        now: datetime,
        progress: Progress,
    ) -> DataFrame[Catalogue]:
        asked = needs_igdb_lookup(apps, known, overrides, now, self.lifetimes)
        return await ask_igdb(self.igdb, asked, overrides, now, progress)
