"""Look up what the catalogue lacks about a library's apps: their types in Steam's store and their games on IGDB."""

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
    apps_to_look_up,
    apps_without_store_type,
    classify_looked_up,
    matches_as_catalogue,
    merge_catalogues,
    store_types_as_catalogue,
)
from pipeline.frames.classify import parse_store_items
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
    from pipeline.apis.steam import SteamStore

OVERRIDES = "overrides.csv"
"""The key of the CSV with the decisions that people made about apps."""

MAX_LOGGED_FAULTS = 20
"""How many invalid lines of overrides.csv are logged one by one; further ones are counted."""

Progress = Callable[[str, int, int], None]
"""A callback that reports progress: the task in words, how many of its items are done, and how many there are."""

log = structlog.get_logger()


@dataclass(frozen=True)
class CatalogueLookup:
    """Looks up a library's apps in the catalogue, and asks Steam's store and IGDB about those that it lacks."""

    catalogue: CatalogueFiles
    igdb: "Igdb"
    steam_store: "SteamStore"
    lifetimes: Lifetimes

    @property
    def requests(self) -> int:
        """The number of requests sent to Steam's store, IGDB and Twitch."""
        return self.igdb.requests + self.steam_store.requests

    @property
    def retries(self) -> Retries:
        """The retries among the requests to Steam's store, IGDB and Twitch."""
        return self.igdb.retries + self.steam_store.retries

    async def look_up(
        self, library: DataFrame[RawLibrary], overrides: DataFrame[Overrides], progress: Progress
    ) -> tuple[DataFrame[ClassifiedLibrary], DataFrame[Catalogue]]:
        """Return the library with the kind of each app, and the catalogue's rows about its apps.

        The APIs are asked for what the catalogue lacks, and their answers are added to it.

        Raises:
            Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups; what the store answered is kept.
        """
        now = datetime.now(UTC)
        known = self.catalogue.read_about(library)
        without_type = apps_without_store_type(library, known, now, self.lifetimes)
        learnt = await look_up_store_types(self.steam_store, without_type, now, progress)
        known = merge_catalogues([known, learnt])
        without_match = apps_to_look_up(library, known, overrides, now, self.lifetimes)
        try:
            matches = await look_up_matches(self.igdb, without_match, overrides, now, progress)
            learnt = merge_catalogues([learnt, matches])
        finally:
            self.catalogue.remember(learnt)
        known = merge_catalogues([known, learnt])
        return classify_looked_up(library, known, overrides, without_match), known


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Do nothing: the `Progress` of callers without a progress bar."""


async def look_up_store_types(
    steam_store: "SteamStore", appids: pl.Series, now: datetime, progress: Progress = no_progress
) -> DataFrame[Catalogue]:
    """Return catalogue rows with the type of each app in Steam's store (game, dlc, …), as the store answers now.

    Apps that the store gives no answer for have no row.
    """
    on_batch = add_up(progress, "Types asked of Steam's store", appids.len())
    results = await steam_store.fetch_items(appids, on_batch)
    return store_types_as_catalogue(parse_store_items(all_rows(results)), now)


async def look_up_matches(
    igdb: "Igdb",
    appids: pl.Series,
    overrides: DataFrame[Overrides],
    now: datetime,
    progress: Progress = no_progress,
) -> DataFrame[Catalogue]:
    """Return catalogue rows with the IGDB game that each app is matched to, if any, as IGDB answers now.

    Apps that IGDB gives no answer for have no row.

    IGDB is asked for the ids of the games of all apps that no override matches, and then once for each game.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    forced = conform(override_pairs(overrides).filter(pl.col("appid").is_in(appids.implode())), ExternalGames)
    asked = appids.filter(~appids.is_in(forced["appid"].implode()))
    by_app = await igdb.fetch_external_games(asked, add_up(progress, "Apps looked up on IGDB", asked.len()))
    unusable_appids, faults = unusable_external_games(all_rows(by_app))
    _log_faults(faults)
    pairs = conform(pl.concat([parse_external_games(all_rows(by_app)), forced]), ExternalGames)
    ids = pairs["igdb_id"].unique()
    by_game = await igdb.fetch_games(ids, add_up(progress, "Games read from IGDB", ids.len()))
    raise_if_all_failed(by_app + by_game)
    games = parse_fetched_games(by_game)
    matches = resolve_matches(
        appids,
        pairs,
        games,
        unanswered_appids=all_unanswered(by_app),
        unanswered_games=all_unanswered(by_game),
        unusable_appids=unusable_appids,
    )
    return matches_as_catalogue(mark_overrides(matches, forced), games, now)


def parse_fetched_games(results: list[BatchResult]) -> DataFrame[Games]:
    """Return the games in answers of IGDB as a frame with a row per game; invalid rows are logged and left out."""
    games, faults = parse_games(all_rows(results))
    _log_faults(faults)
    return games


def read_overrides(store: Store) -> DataFrame[Overrides]:
    """Return the overrides in a store's overrides.csv, a row per app; invalid lines are skipped and logged."""
    overrides, faults = parse_overrides(store.read(OVERRIDES))
    for fault in faults[:MAX_LOGGED_FAULTS]:
        log.warning("override skipped", key=OVERRIDES, fault=fault)
    if len(faults) > MAX_LOGGED_FAULTS:
        log.warning("more overrides skipped", key=OVERRIDES, faults=len(faults) - MAX_LOGGED_FAULTS)
    return overrides


def add_up(progress: Progress, what: str, total: int) -> OnBatch:
    """Return a callback for batches that adds up their sizes and reports the sum to a `Progress`, out of a total."""
    done = 0

    def on_batch(ids: int) -> None:
        nonlocal done
        done += ids
        progress(what, done, total)

    if total:
        progress(what, 0, total)
    return on_batch


def _log_faults(faults: list[str]) -> None:
    if faults:
        log.warning("igdb rows set aside", rows=len(faults), first=faults[:5])
