"""What of a run is worth a person's look, as rows of a file to fill in.

Export, decide: what a run could not match goes out to people, and comes back as lines of overrides.csv.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from pipeline.apis.igdb import Igdb
from pipeline.catalogue.look_up import Progress, counting, no_progress, read_overrides, rows_of, unanswered
from pipeline.frames.classify import classify, is_looked_up
from pipeline.review.candidates import parse_found_games, rank_candidates, search_terms
from pipeline.storage.checkpoints import read_checkpoint
from pipeline.storage.csv import to_spreadsheet
from pipeline.storage.keys import parse_checkpoint_key
from pipeline.storage.store import Store
from schemas.catalogue import ACTIONS
from schemas.frames import dtypes
from schemas.igdb import valid
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import MOST_CANDIDATES, FoundGame, ReviewSheet

RAW = tuple(RawLibrary.to_schema().columns)
SHEET = dtypes(ReviewSheet)


def unmatched_games(enriched: pl.DataFrame) -> pl.DataFrame:
    """The games of an EnrichedLibrary that IGDB has not at all, in pieces or more than once, the most played first."""
    return _by_playtime(enriched.filter(pl.col("match_status") == "UNMATCHED"))


def no_longer_filtered(enriched: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """The apps of an EnrichedLibrary that were filtered, and are games by today's rules, types and overrides."""
    filtered = _by_playtime(enriched.filter(pl.col("match_reason") == "filtered"))
    today = classify(filtered.select(RAW), known, overrides)
    return filtered.join(today.filter(is_looked_up()), on="appid", how="semi", maintain_order="left")


def ambiguous_games(enriched: pl.DataFrame) -> dict[int, list[int]]:
    """The IGDB games of each app of an EnrichedLibrary that may be several."""
    listed = pl.col("igdb_candidates").str.json_decode(pl.List(pl.Int32))
    apps = enriched.filter(pl.col("match_reason") == "ambiguous").unique("appid").select("appid", games=listed)
    return dict(apps.rows())


def build_review_sheet(
    unmatched: pl.DataFrame,
    no_longer_filtered: pl.DataFrame,
    candidates: pl.DataFrame,
    overrides: pl.DataFrame,
    key: str,
) -> pl.DataFrame:
    """Rows of EnrichedLibrary and their Candidates as a ReviewSheet of the enriched CSV of that key."""
    nothing, game = (pl.lit(action, pl.Enum(ACTIONS)) for action in (None, "game"))
    apps = pl.concat([unmatched.with_columns(proposed=nothing), no_longer_filtered.with_columns(proposed=game)])
    decided = pl.concat_str(pl.col("action").cast(pl.String), "override_igdb_id", separator=" ", ignore_nulls=True)
    blank = dict.fromkeys(("action", "igdb_id", "note"), pl.lit(None))
    return (
        apps.drop("igdb_id")
        .join(overrides.select("appid", decided=decided), on="appid", how="left", validate="1:1", maintain_order="left")
        .join(_across(candidates), on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(**blank, checkpoint=pl.lit(key))
        .select(pl.col(name).cast(dtype) for name, dtype in SHEET.items())
    )


def _by_playtime(apps: pl.DataFrame) -> pl.DataFrame:
    return apps.unique("appid", keep="first", maintain_order=True).sort(
        "playtime_forever", "appid", descending=[True, False]
    )


def _across(candidates: pl.DataFrame) -> pl.DataFrame:
    """The Candidates of an app side by side."""
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


TRIES = 10


@dataclass(frozen=True)
class ReviewExport:
    """A file to fill in, and what it holds; `unanswered` apps are those that IGDB gave no answer for."""

    body: bytes
    unmatched: int
    no_longer_filtered: int
    with_candidates: int
    unanswered: int
    requests: int


async def export_review(
    store: Store,
    known: pl.DataFrame,
    igdb: Igdb,
    location: str,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
) -> ReviewExport:
    """The unmatched games of an enriched CSV with candidates, and the apps that today's rules would free.

    What IGDB does not answer has no candidates, and is counted.

    Raises:
        Failed: `location_refused`, `checkpoint_invalid`.
    """
    source = parse_checkpoint_key(store.key_of(location), "enriched")
    enriched = read_checkpoint(store, source, EnrichedLibrary, trust=trust).rows
    overrides = read_overrides(store)
    games = unmatched_games(enriched)
    released = no_longer_filtered(enriched, known.join(enriched, on="appid", how="semi"), overrides)
    asked = search_terms(games)
    listed = await _look_up(igdb, ambiguous_games(games), progress)
    searched = await _search(igdb, asked.filter(~pl.col("appid").is_in(list(listed.rows))), progress)
    likely = pl.concat(
        [
            rank_candidates(asked, parse_found_games(listed.rows), least=0),
            rank_candidates(asked, parse_found_games(searched.rows)),
        ]
    )
    return ReviewExport(
        body=to_spreadsheet(build_review_sheet(games, released, likely, overrides, source.key)),
        unmatched=games.height,
        no_longer_filtered=released.height,
        with_candidates=likely["appid"].n_unique(),
        unanswered=len(listed.lost | searched.lost),
        requests=igdb.requests,
    )


class _Answers(NamedTuple):
    """Rows of `games` by app, and the apps without an answer."""

    rows: dict[int, list[Any]]
    lost: set[int]


async def _look_up(igdb: Igdb, listed: Mapping[int, Sequence[int]], progress: Progress) -> _Answers:
    """The games that are known to be candidates."""
    ids = {number for numbers in listed.values() for number in numbers}
    answers = await igdb.fetch_games(ids, counting(progress, "Games read from IGDB", len(ids)))
    lost = set(unanswered(answers))
    games = {game.id: game.model_dump() for game in valid(rows_of(answers), FoundGame)[0]}
    rows = {appid: [games[number] for number in numbers if number in games] for appid, numbers in listed.items()}
    return _Answers(rows, {appid for appid, numbers in listed.items() if not lost.isdisjoint(numbers)})


async def _search(igdb: Igdb, asked: pl.DataFrame, progress: Progress) -> _Answers:
    """The games whose names are like those of Wanted apps."""
    names = dict(asked.filter(pl.col("search").is_not_null()).select("appid", "search").rows())
    on_batch = counting(progress, "Names searched for on IGDB", len(set(names.values())))
    answered = await igdb.search_games(names.values(), on_batch)
    rows = {appid: answered[name] for appid, name in names.items() if name in answered}
    return _Answers(rows, names.keys() - rows.keys())
