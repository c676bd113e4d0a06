"""Export, decide: what a run could not match goes out to people, and comes back as lines of overrides.csv."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from pipeline.checkpoints import read_checkpoint
from pipeline.contract import Store
from pipeline.edges.igdb import Igdb
from pipeline.errors import Failed, Retryable
from pipeline.frames.candidates import candidates, found, wanted
from pipeline.frames.decisions import Fault, decisions, lacking, merged
from pipeline.frames.review_sheet import ambiguous, freed, review_sheet, unmatched
from pipeline.frames.spreadsheet import spreadsheet
from pipeline.knowledge import OVERRIDES, read_overrides
from pipeline.layout import Checkpoint, checkpoint
from pipeline.lookup import Progress, counting, no_progress, rows_of, unanswered
from schemas.frames import EnrichedLibrary, RawLibrary
from schemas.igdb import valid
from schemas.review import Decision, FoundGame

TRIES = 10


@dataclass(frozen=True)
class Export:
    """A file to fill in, and what it holds; `unanswered` apps are those that IGDB gave no answer for."""

    body: bytes
    unmatched: int
    freed: int
    with_candidates: int
    unanswered: int
    requests: int


@dataclass(frozen=True)
class Decided:
    """What became of an edited file: decisions taken, lines skipped, and the raw CSVs of the runs to do again."""

    taken: int
    faults: Sequence[Fault]
    raws: Sequence[Checkpoint]


async def export(
    store: Store,
    known: pl.DataFrame,
    igdb: Igdb,
    location: str,
    progress: Progress = no_progress,
    *,
    trust: bool = False,
) -> Export:
    """The unmatched games of an enriched CSV with candidates, and the apps that today's rules would free.

    What IGDB does not answer has no candidates, and is counted.

    Raises:
        Failed: `location_refused`, `checkpoint_invalid`.
    """
    source = checkpoint(store.key_of(location), "enriched")
    enriched = read_checkpoint(store, source, EnrichedLibrary, trust=trust).rows
    overrides = read_overrides(store)
    games = unmatched(enriched)
    released = freed(enriched, known.join(enriched, on="appid", how="semi"), overrides)
    asked = wanted(games)
    listed = await _look_up(igdb, ambiguous(games), progress)
    searched = await _search(igdb, asked.filter(~pl.col("appid").is_in(list(listed.rows))), progress)
    likely = pl.concat([candidates(asked, found(listed.rows), least=0), candidates(asked, found(searched.rows))])
    return Export(
        body=spreadsheet(review_sheet(games, released, likely, overrides, source.key)),
        unmatched=games.height,
        freed=released.height,
        with_candidates=likely["appid"].n_unique(),
        unanswered=len(listed.lost | searched.lost),
        requests=igdb.requests,
    )


def decide(store: Store, body: bytes, location: str | None = None, *, trust: bool = False) -> Decided:
    """Take an edited file's decisions into overrides.csv; a line that cannot be used is skipped, and told.

    They are about the runs that the file names, or about the run of a raw or an enriched CSV alone. A raw CSV that was
    edited itself is read if it is to be trusted.

    Raises:
        Failed: `checkpoint_invalid`, `location_refused`. Nothing is written then.
        Refused: `configuration`, where overrides.csv is of another form. Nothing is written then.
        Retryable: `store_unavailable`, also when others write overrides.csv all the time.
    """
    if missing := lacking(body):
        raise Failed(
            "checkpoint_invalid",
            f"The file lacks the column {', '.join(missing)}. Give the one of review export, saved as CSV.",
        )
    made, faults = decisions(body)
    if location is not None:
        key = _raw(store.key_of(location)).key
        made = [decision.model_copy(update={"checkpoint": key}) for decision in made]
    taken, strangers = _of_their_runs(store, made, trust=trust)
    _write_overrides(store, [decision for _, decision in taken])
    appids = {decision.appid for _, decision in taken}
    return Decided(len(appids), sorted([*faults, *strangers]), list(dict.fromkeys(raw for raw, _ in taken)))


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


def _of_their_runs(
    store: Store, made: Iterable[Decision], *, trust: bool
) -> tuple[list[tuple[Checkpoint, Decision]], list[Fault]]:
    """The decisions with the raw CSVs that hold their apps; those whose run has no such app are faults."""
    owned: dict[Checkpoint, set[int]] = {}
    taken: list[tuple[Checkpoint, Decision]] = []
    faults: list[Fault] = []
    for decision in made:
        try:
            raw = _raw(decision.checkpoint)
        except Failed as error:
            faults.append(Fault(decision.line, f"checkpoint: {error.message} Or say which CSV it is about."))
            continue
        if raw not in owned:
            owned[raw] = set(read_checkpoint(store, raw, RawLibrary, trust=trust).rows["appid"])
        if decision.appid in owned[raw]:
            taken.append((raw, decision))
        else:
            faults.append(Fault(decision.line, f"appid: {raw.key} has no app {decision.appid}"))
    return taken, faults


def _raw(key: str) -> Checkpoint:
    """The raw CSV that a run began with, from the key of either of its CSVs; raises `location_refused`."""
    named = checkpoint(key, "raw" if key.endswith("-raw.csv") else "enriched")
    return Checkpoint(named.user_id, named.stem, "raw")


def _write_overrides(store: Store, taken: Sequence[Decision]) -> None:
    """Merge decisions into overrides.csv as it is now; whoever was quicker keeps their lines."""
    for _ in range(TRIES):
        etag = store.list(OVERRIDES).get(OVERRIDES)
        body = store.read(OVERRIDES)
        lines = merged(body, taken)
        if not taken or lines == body or store.replace(OVERRIDES, lines, etag):
            return
    raise Retryable("store_unavailable", f"{OVERRIDES} is being rewritten by others all the time. Try again later.")
