"""What is known of a library's apps: the catalogue, and the network for what it does not know."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import structlog

from pipeline.catalogue_files import CatalogueFiles
from pipeline.contract import Store
from pipeline.edges.retries import Retries
from pipeline.frames.catalogue import Lifetimes, merge, unmatched, untyped
from pipeline.frames.classify import classify
from pipeline.frames.overrides import overrides
from pipeline.lookup import Progress, ask_igdb, ask_store

if TYPE_CHECKING:
    from pipeline.edges.igdb import Igdb
    from pipeline.edges.steam_store import SteamStore

OVERRIDES = "overrides.csv"
FAULTS_TOLD = 20

log = structlog.get_logger()


def read_overrides(store: Store) -> pl.DataFrame:
    """The humans' word, as Overrides; a line that cannot be used is left out, and the first of these are reported."""
    rows, faults = overrides(store.read(OVERRIDES))
    for fault in faults[:FAULTS_TOLD]:
        log.warning("override skipped", key=OVERRIDES, fault=fault)
    if len(faults) > FAULTS_TOLD:
        log.warning("more overrides skipped", key=OVERRIDES, faults=len(faults) - FAULTS_TOLD)
    return rows


@dataclass(frozen=True)
class Knowledge:
    """The catalogue, whom to ask for what it lacks, and how long to believe it."""

    catalogue: CatalogueFiles
    igdb: "Igdb"
    steam_store: "SteamStore"
    lifetimes: Lifetimes
    follows_editions: bool = False

    @property
    def requests(self) -> int:
        """Requests sent to Steam's store, IGDB and Twitch."""
        return self.igdb.requests + self.steam_store.requests

    @property
    def retries(self) -> Retries:
        """How many of them repeated another."""
        return self.igdb.retries + self.steam_store.retries

    async def of(
        self, library: pl.DataFrame, overrides: pl.DataFrame, progress: Progress
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """A RawLibrary as ClassifiedLibrary, and the Catalogue of its apps; what was learnt is remembered.

        Raises:
            Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups; what the store said is remembered.
        """
        now = datetime.now(UTC)
        known = self.catalogue.read().join(library, on="appid", how="semi")
        asked = untyped(library, known, now, self.lifetimes)
        learnt = await ask_store(self.steam_store, asked, now, progress)
        apps = classify(library, merge([known, learnt]), overrides)
        try:
            learnt = merge([learnt, await self._matches(apps, known, overrides, now, progress)])
        finally:
            self.catalogue.remember(learnt)
        return apps, merge([known, learnt])

    async def _matches(
        self, apps: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame, now: datetime, progress: Progress
    ) -> pl.DataFrame:
        asked = unmatched(apps, known, overrides, now, self.lifetimes)
        return await ask_igdb(
            self.igdb, asked, overrides, now, follows_editions=self.follows_editions, progress=progress
        )
