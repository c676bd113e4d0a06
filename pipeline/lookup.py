"""What the store and IGDB are asked about apps, and their answers as rows of the catalogue."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import structlog

from pipeline.edges.batches import Answer, OnBatch
from pipeline.frames.catalogue import matched, typed
from pipeline.frames.classify import store_types
from pipeline.frames.match import external_games, follow_editions, games, mark_overrides, resolve, unusable
from pipeline.frames.overrides import forced_pairs

if TYPE_CHECKING:
    from pipeline.edges.igdb import Igdb
    from pipeline.edges.steam_store import SteamStore

Progress = Callable[[str, int, int], None]
"""Told what is done, how much of it, and of how much."""

log = structlog.get_logger()


def no_progress(_what: str, _done: int, _total: int) -> None:
    """For where nobody watches."""


async def ask_store(
    store: "SteamStore", appids: pl.Series, at: datetime, progress: Progress = no_progress
) -> pl.DataFrame:
    """The types of apps, as Catalogue rows; apps the store gives no answer for are missing, and names decide."""
    answers = await store.fetch_items(appids, counting(progress, "Types asked of Steam's store", appids.len()))
    return typed(store_types(rows_of(answers)), at)


async def ask_igdb(
    igdb: "Igdb",
    appids: pl.Series,
    overrides: pl.DataFrame,
    at: datetime,
    *,
    follows_editions: bool = False,
    progress: Progress = no_progress,
) -> pl.DataFrame:
    """The matches of apps, as Catalogue rows: ids by app first, then each game once; what is unanswered is missing.

    Raises:
        Retryable: `igdb_unavailable`, if IGDB answered none of the look-ups.
    """
    forced = forced_pairs(overrides).filter(pl.col("appid").is_in(appids.implode()))
    asked = appids.filter(~appids.is_in(forced["appid"].implode()))
    by_app = await igdb.fetch_external_games(asked, counting(progress, "Apps looked up on IGDB", asked.len()))
    unusable_appids, faults = unusable(rows_of(by_app))
    _report(faults)
    pairs = pl.concat([external_games(rows_of(by_app)), forced])
    known, by_id = await _games(igdb, pairs["igdb_id"].unique(), progress)
    if follows_editions:
        parents = known["version_parent"].drop_nulls().unique()
        more, by_parent = await _games(igdb, parents.filter(~parents.is_in(known["igdb_id"].implode())), progress)
        known, by_id = pl.concat([known, more]).unique("igdb_id", keep="first", maintain_order=True), by_id + by_parent
    insist(by_app + by_id)
    matches = resolve(
        appids,
        pairs,
        known,
        unanswered_appids=unanswered(by_app),
        unanswered_games=unanswered(by_id),
        unusable_appids=unusable_appids,
    )
    if follows_editions:
        matches = follow_editions(matches, known)
    return matched(mark_overrides(matches, forced), known, at)


async def _games(igdb: "Igdb", ids: pl.Series, progress: Progress) -> tuple[pl.DataFrame, list[Answer]]:
    answers = await igdb.fetch_games(ids, counting(progress, "Games read from IGDB", ids.len()))
    known, faults = games(rows_of(answers))
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


def insist(answers: list[Answer]) -> None:
    """Some batches may fail; if all do, raise what the first one met."""
    errors = [answer.error for answer in answers if answer.error]
    if errors and len(errors) == len(answers):
        raise errors[0]


def rows_of(answers: list[Answer]) -> list[object]:
    """All rows that were answered."""
    return [row for answer in answers for row in answer.rows]


def unanswered(answers: list[Answer]) -> list[int]:
    """All ids that were not."""
    return [number for answer in answers for number in answer.unanswered]
