"""Make the review sheet: the apps of a run about which a person has to decide, with candidates from IGDB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import all_rows, all_unanswered
from pipeline.apis.igdb import Igdb
from pipeline.catalogue.look_up import Progress, add_up, read_overrides
from pipeline.frames.catalogue import decode_column
from pipeline.frames.classify import classify, is_game
from pipeline.review.candidates import parse_found_games, rank_candidates
from pipeline.review.look_up import NameLookup
from pipeline.review.spellings import search_terms
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import to_spreadsheet
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import Store
from schemas.apis import parse_rows
from schemas.catalogue import ACTIONS, Catalogue, Overrides
from schemas.frames import conform, dtypes
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import MOST_CANDIDATES, Candidates, FoundGame, ReviewSheet, SearchTerms


@dataclass(frozen=True)
class ReviewExport:
    """The bytes of a review sheet as CSV, the numbers of its apps, and the requests that it took.

    `unanswered` counts the apps that IGDB gave no answer for.
    """

    body: bytes
    unmatched: int
    no_longer_filtered: int
    with_candidates: int
    unanswered: int
    requests: int


async def export_review(
    store: Store,
    known: DataFrame[Catalogue],
    names: NameLookup,
    location: str,
    *,
    trust: bool = False,
) -> ReviewExport:
    """Return the review sheet of the enriched CSV at a location, as the bytes of a CSV, with candidates from IGDB.

    The sheet has the unmatched games, and the filtered apps that would not be filtered today. An app that IGDB gives no
    answer for has no candidates, and is counted.

    Raises:
        Failed: `location_refused`, `checkpoint_invalid`, if there is no such CSV or it cannot be read.
    """
    source = parse_checkpoint_key(store.key_of(location), "enriched")
    enriched = read_checkpoint(store, source, EnrichedLibrary, trust=trust).rows
    overrides = read_overrides(store)
    unmatched = unmatched_games(enriched)
    unfiltered = no_longer_filtered(enriched, known, overrides)
    candidates, unanswered_apps = await _find_candidates(names, unmatched)
    return ReviewExport(
        body=to_spreadsheet(build_review_sheet(unmatched, unfiltered, candidates, overrides, source.key)),
        unmatched=unmatched.height,
        no_longer_filtered=unfiltered.height,
        with_candidates=candidates["appid"].n_unique(),
        unanswered=len(unanswered_apps),
        requests=names.igdb.requests,
    )


def unmatched_games(enriched: DataFrame[EnrichedLibrary]) -> DataFrame[EnrichedLibrary]:
    """Return the rows of the UNMATCHED apps of a library, each app once, the most played first."""
    return _by_playtime(enriched.filter(pl.col("match_status") == "UNMATCHED"))


def no_longer_filtered(
    enriched: DataFrame[EnrichedLibrary], known: DataFrame[Catalogue], overrides: DataFrame[Overrides]
) -> DataFrame[EnrichedLibrary]:
    """Return the rows of filtered apps that are games by today's rules and overrides, the most played first."""
    filtered = _by_playtime(enriched.filter(pl.col("match_reason") == "filtered"))
    today = classify(conform(filtered.select(dtypes(RawLibrary).keys()), RawLibrary), known, overrides)
    rows = filtered.join(today.filter(is_game()), on="appid", how="semi", maintain_order="left")
    return conform(rows, EnrichedLibrary)


def _by_playtime(apps: pl.DataFrame) -> DataFrame[EnrichedLibrary]:
    distinct = apps.unique("appid", keep="first", maintain_order=True)
    return conform(distinct.sort("playtime_forever", "appid", descending=[True, False]), EnrichedLibrary)


def build_review_sheet(
    unmatched: DataFrame[EnrichedLibrary],
    unfiltered: DataFrame[EnrichedLibrary],
    candidates: DataFrame[Candidates],
    overrides: DataFrame[Overrides],
    key: str,
) -> DataFrame[ReviewSheet]:
    """Return a review sheet, a row per app to decide about; the columns that a person fills in are blank.

    Each unmatched app has its candidates side by side; each app that is no longer filtered is proposed as a game. `key`
    is that of the enriched CSV.
    """
    nothing, game = (pl.lit(action, pl.Enum(ACTIONS)) for action in (None, "game"))
    apps = pl.concat([unmatched.with_columns(proposed=nothing), unfiltered.with_columns(proposed=game)])
    decided = pl.concat_str(pl.col("action").cast(pl.String), "override_igdb_id", separator=" ", ignore_nulls=True)
    blank = dict.fromkeys(("action", "igdb_id", "note"), pl.lit(None))
    rows = (
        apps.drop("igdb_id")
        .join(overrides.select("appid", decided=decided), on="appid", how="left", validate="1:1", maintain_order="left")
        .join(_side_by_side(candidates), on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(**blank, checkpoint=pl.lit(key))
    )
    return conform(rows.select(pl.col(name).cast(dtype) for name, dtype in dtypes(ReviewSheet).items()), ReviewSheet)


def _side_by_side(candidates: DataFrame[Candidates]) -> pl.DataFrame:
    by_app = candidates.group_by("appid").agg("igdb_id", "label", "score")
    columns = {"igdb_id": "candidate_{}_id", "label": "candidate_{}", "score": "candidate_{}_score"}
    return by_app.select(
        "appid",
        *(
            pl.col(column).list.get(number, null_on_oob=True).alias(name.format(number + 1))
            for number in range(MOST_CANDIDATES)
            for column, name in columns.items()
        ),
    )


async def _find_candidates(
    names: NameLookup, unmatched: DataFrame[EnrichedLibrary]
) -> tuple[DataFrame[Candidates], set[int]]:
    """Return the candidates of unmatched apps, and the appids that IGDB gave no answer for.

    The name of an ambiguous app is not looked up: IGDB's list of Steam ids names its games.
    """
    terms, listed_ids = search_terms(unmatched), _ambiguous_games(unmatched)
    listed = await _read_games(names.igdb, listed_ids, names.progress)
    unlisted = terms.filter(~pl.col("appid").is_in(list(listed_ids)))
    found, unanswered = await names.look_up(conform(unlisted, SearchTerms))
    candidates = pl.concat([rank_candidates(terms, parse_found_games(listed.rows), least_score=0), found])
    return conform(candidates, Candidates), listed.unanswered | unanswered


def _ambiguous_games(unmatched: DataFrame[EnrichedLibrary]) -> dict[int, list[int]]:
    """Return a mapping of appid to the ids of the IGDB games that the app may be, of ambiguous apps."""
    ambiguous = decode_column(unmatched.filter(pl.col("match_reason") == "ambiguous"), "igdb_candidates")
    return dict(ambiguous.select("appid", "igdb_candidates").drop_nulls().rows())


class _Answers(NamedTuple):
    """Rows of IGDB's `games` by appid, and the appids that IGDB gave no answer for."""

    rows: dict[int, list[Any]]
    unanswered: set[int]


async def _read_games(igdb: Igdb, listed: Mapping[int, Sequence[int]], progress: Progress) -> _Answers:
    ids = {igdb_id for igdb_ids in listed.values() for igdb_id in igdb_ids}
    answers = await igdb.fetch_games(ids, add_up(progress, "Games read from IGDB", len(ids)))
    lost = set(all_unanswered(answers))
    games = {game.id: game.model_dump() for game in parse_rows(all_rows(answers), FoundGame)[0]}
    rows = {appid: [games[igdb_id] for igdb_id in igdb_ids if igdb_id in games] for appid, igdb_ids in listed.items()}
    return _Answers(rows, {appid for appid, igdb_ids in listed.items() if not lost.isdisjoint(igdb_ids)})
