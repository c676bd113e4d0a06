"""Look up games at IGDB by their names, many exact names in a request and then one search a name, and remember them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl
import structlog
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import OnBatch, gather_or_cancel
from pipeline.apis.igdb import MAX_OPEN, Igdb, RefusedQuery
from pipeline.catalogue.look_up import Progress, add_up, no_progress
from pipeline.errors import Retryable
from pipeline.review.candidates import rank_candidates, tabulate_games
from pipeline.storage.store import Store, rewrite
from pipeline.storage.versioned import CorruptFile, read_parquet, to_parquet
from schemas.apis import parse_rows
from schemas.catalogue import KnownNames
from schemas.frames import conform, dtypes, empty_frame
from schemas.review import Candidates, FoundGame, SearchTerms

NAMES = "catalogue/names.parquet"
REMEDY = "Use the version of the program that wrote it, or delete it: then IGDB is asked for the names again."

SAME_NAME = 95
"""The score from which a game has the app's name but for case, marks, punctuation and numerals: no search is needed."""

MAIN_TITLE = 80
"""The score of a game whose name is the main title of the app's, or the other way round."""

DOUBTFUL = 60
"""The score below which the best game that a search found may be by chance, so that another search is made."""

WRITTEN_AT_ONCE = 20
"""The number of names that are written into the store at once: a killed export loses no more, 5 s of searches."""

NAMES_AT_ONCE = 500
"""The number of names that are asked for exactly, in a few requests, before the searches for them begin."""

MAX_REFUSED = 8
"""The number of names that IGDB may refuse before it has answered one: then it is not the names that it refuses."""

log = structlog.get_logger()


class FoundNames(NamedTuple):
    """The candidates of apps, the appids without an answer, and IGDB's message by name for names that it refuses."""

    candidates: DataFrame[Candidates]
    unanswered: set[int]
    refused: dict[str, str]


@dataclass(frozen=True)
class NameFile:
    """The file of names that IGDB was searched for, with the games found, if any, in a store.

    A row counts for `lifetime` after its look-up, because IGDB gets new games.

    Raises, when it is read or written:
        Failed: `checkpoint_invalid`, if the file is of a version that this program does not read.
        Retryable: `store_unavailable`.
    """

    store: Store
    lifetime: timedelta

    def read(self) -> DataFrame[KnownNames]:
        """Return the names that were looked up within the lifetime; none if the file is corrupt."""
        return self._parse(self.store.read(NAMES))

    def remember(self, rows: DataFrame[KnownNames]) -> None:
        """Add names to the file, each over its older row; those that others add meanwhile are kept."""

        def add_names(body: bytes | None) -> bytes:
            merged = pl.concat([self._parse(body), rows]).unique("name", keep="last", maintain_order=True)
            return to_parquet(merged, "names")

        rewrite(self.store, NAMES, add_names)

    def _parse(self, body: bytes | None) -> DataFrame[KnownNames]:
        if body is None:
            return empty_frame(KnownNames)
        try:
            rows = read_parquet(body, "names", KnownNames, NAMES, REMEDY)
        except CorruptFile as error:
            log.warning("file of names is corrupt", key=NAMES, fault=str(error))
            return empty_frame(KnownNames)
        return conform(rows.filter(pl.col("looked_up_at") > datetime.now(UTC) - self.lifetime), KnownNames)


@dataclass(frozen=True)
class NameLookup:
    """Looks up names of apps at IGDB, and writes what it finds to `catalogue/names.parquet`, also if it is stopped."""

    igdb: Igdb
    names: NameFile
    progress: Progress = no_progress

    async def look_up(self, terms: DataFrame[SearchTerms]) -> FoundNames:
        """Return the candidates of apps; IGDB is asked for the names that were not looked up lately.

        A name that IGDB refuses for good is remembered like one that it does not know, if it answered others.

        Raises:
            Refused: `bad_igdb_credentials`, or `configuration` if IGDB refuses name after name.
            Failed, Retryable: `checkpoint_invalid`, `store_unavailable`, from the file of names.
        """
        known = self.names.read()
        unknown = terms.unique("name", maintain_order=True).join(known, on="name", how="anti", maintain_order="left")
        answers = _Answers(self.names, add_up(self.progress, "Names looked up on IGDB", unknown.height))
        try:
            for some in unknown.iter_slices(NAMES_AT_ONCE):
                await self._ask(conform(some, SearchTerms), answers)
            answers.add_refused()
        finally:
            answers.write()
        answered = terms.join(
            pl.concat([known, answers.frame()]), on="name", how="inner", validate="m:1", maintain_order="left"
        )
        candidates = answered.select("appid", "candidates").explode("candidates").drop_nulls().unnest("candidates")
        unanswered = terms.filter(~pl.col("name").is_in([*answered["name"], *answers.refused]))
        return FoundNames(conform(candidates, Candidates), set(unanswered["appid"]), answers.refused)

    async def _ask(self, terms: DataFrame[SearchTerms], answers: "_Answers") -> None:
        """Ask for exact names, then search for those of which no game has the same name."""
        exact, unsure = await self._find_exact(terms)
        ranked = rank_candidates(terms, tabulate_games(exact))
        has_its_name = pl.col("appid").is_in(ranked.filter(pl.col("score") >= SAME_NAME)["appid"].implode())
        for term in terms.filter(has_its_name).iter_slices(1):
            answers.add(term, ranked)
        rest = terms.filter(~has_its_name)
        answers.unsure |= unsure & set(rest["name"])
        turns = asyncio.Semaphore(MAX_OPEN)  # names are begun one after another, so that the first ones are soon done
        searches = (conform(term, SearchTerms) for term in rest.iter_slices(1))
        await gather_or_cancel([self._search(term, exact[term["appid"].item()], turns, answers) for term in searches])

    async def _find_exact(self, terms: DataFrame[SearchTerms]) -> tuple[dict[int, list[FoundGame]], set[str]]:
        """Return a mapping of appid to the games that have one of the app's spellings as a name.

        The apps' names of which a spelling got no answer are returned as well.
        """
        spellings = terms["spellings"].explode().drop_nulls().unique(maintain_order=True)
        rows, unanswered = await self.igdb.fetch_games_named(spellings)
        by_name: dict[str, list[FoundGame]] = {}
        for game in parse_rows(rows, FoundGame)[0]:
            for name in {name.casefold() for name in (game.name, *game.alternative_names)}:
                by_name.setdefault(name, []).append(game)
        found = {
            appid: [game for spelling in spellings for game in by_name.get(spelling.casefold(), [])]
            for appid, spellings in terms.select("appid", "spellings").iter_rows()
        }
        has_no_answer = pl.col("spellings").list.set_intersection(list(unanswered)).list.len() > 0
        return found, set(terms.filter(has_no_answer)["name"]) if unanswered else set()

    async def _search(
        self,
        term: DataFrame[SearchTerms],
        exact: Sequence[FoundGame],
        turns: asyncio.Semaphore,
        answers: "_Answers",
    ) -> None:
        """Search for one name; for its distinctive words too, if that finds nothing or only what may be by chance."""
        (appid, name, _, search_text, fallback_text), games = term.row(0), list(exact)

        def ranked() -> DataFrame[Candidates]:
            return rank_candidates(term, tabulate_games({appid: games}))

        async with turns:
            try:
                found = await self._search_games(search_text) if search_text else []
                games += found
                best = next(iter(ranked()["score"]), 0)
                is_other = fallback_text and fallback_text.casefold() != (search_text or "").casefold()
                if is_other and best < (DOUBTFUL if found else MAIN_TITLE):
                    games += await self._search_games(fallback_text)
            except Retryable as error:
                answers.skip(name, error)
            except RefusedQuery as error:
                answers.refuse(term, ranked(), error)
            else:
                answers.add(term, ranked())

    async def _search_games(self, text: str) -> list[FoundGame]:
        return parse_rows(await self.igdb.search_games(text), FoundGame)[0]


class _Answers:
    """Collects what was found for names, and writes it into the file of names, some names at a time."""

    def __init__(self, names: NameFile, on_batch: OnBatch) -> None:
        self.unsure: set[str] = set()
        """The names of which a spelling got no answer: what a search finds is used, but not remembered."""
        self.refused: dict[str, str] = {}
        """IGDB's message by name, for each name that IGDB refuses to search for."""
        self._names = names
        self._on_batch = on_batch
        self._rows: list[dict[str, Any]] = []
        self._refused_rows: list[dict[str, Any]] = []
        self._written = 0

    def add(self, term: pl.DataFrame, ranked: DataFrame[Candidates]) -> None:
        """Add the candidates of the app that `term` is about."""
        self._rows.append(_answer(term, ranked))
        self._on_batch(1)
        if len(self._rows) - self._written >= WRITTEN_AT_ONCE:
            self.write()

    def skip(self, name: str, error: Retryable) -> None:
        """Count a name that IGDB gave no answer for."""
        log.warning("search failed", name=name, error=error.message)
        self._on_batch(1)

    def refuse(self, term: pl.DataFrame, ranked: DataFrame[Candidates], error: RefusedQuery) -> None:
        """Keep a name that IGDB refuses to search for; raise the error if IGDB refuses one after the other."""
        name = term["name"].item()
        log.warning("search refused", name=name, error=error.message)
        self._on_batch(1)
        self.refused[name] = error.message
        self._refused_rows.append(_answer(term, ranked))
        if error.code == "bad_igdb_credentials" or (len(self.refused) > MAX_REFUSED and not self._rows):
            raise error

    def add_refused(self) -> None:
        """Add what was found for refused names, unless IGDB answered none: then it may not be the names it refuses."""
        if self._rows:
            self._rows += self._refused_rows

    def write(self) -> None:
        """Write the answers that are not written yet."""
        if self._written < len(self._rows):
            rows = self.frame(self._written).filter(~pl.col("name").is_in(list(self.unsure)))
            self._names.remember(conform(rows, KnownNames))
            self._written = len(self._rows)

    def frame(self, begin: int = 0) -> DataFrame[KnownNames]:
        """Return the answers as rows of the file, from the one with index `begin`."""
        return conform(pl.DataFrame(self._rows[begin:], schema=dtypes(KnownNames)), KnownNames)


def _answer(term: pl.DataFrame, ranked: DataFrame[Candidates]) -> dict[str, Any]:
    """Return the row of the file of names about the app that `term` is about."""
    own = ranked.filter(pl.col("appid") == term["appid"].item()).drop("appid")
    return {"name": term["name"].item(), "looked_up_at": datetime.now(UTC), "candidates": own.to_dicts()}
