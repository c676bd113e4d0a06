"""Make the review sheet, as a frame or as an HTML page: apps for a person to decide about, and their candidates."""

from collections.abc import Collection, Iterable
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.apis.batching import all_rows, all_unanswered
from pipeline.catalogue.look_up import add_up
from pipeline.errors import Refused
from pipeline.frames.catalogue import decode_column, join_catalogue
from pipeline.frames.classify import classify, is_game
from pipeline.frames.raw_library import library_of_nobody
from pipeline.pages import render_page
from pipeline.review.candidates import rank_candidates, search_terms, tabulate_games
from pipeline.review.look_up import FoundNames, NameLookup
from schemas.apis import parse_rows
from schemas.catalogue import ACTIONS, Catalogue, Overrides
from schemas.frames import conform, dtypes, empty_frame
from schemas.library import EnrichedLibrary, RawLibrary
from schemas.review import MOST_CANDIDATES, Candidates, FoundGame, OwnedApps, ReviewSheet, SearchTerms

LIBRARIES_AT_ONCE = 100

REASON_WORDS = {
    "not_found": "IGDB does not list its Steam id",
    "ambiguous": "IGDB lists its Steam id for several games",
    "igdb_incomplete": "IGDB's row of its game is broken",
    "igdb_unavailable": "IGDB did not answer",
    "not_looked_up": "not looked up yet",
    "filtered": "filtered",
    "external_game": "matched by IGDB's list of Steam ids",
    "override": "decided by hand",
}
"""The words in which the page gives the reason for an app's match, by `match_reason`."""


class ReviewExport(NamedTuple):
    """A review sheet, and the number of requests to IGDB that it took.

    `unanswered` counts the apps without an answer; `refused` has what IGDB said of each name that it refuses.
    """

    sheet: DataFrame[ReviewSheet]
    unanswered: int
    refused: dict[str, str]
    requests: int


class AppsToReview(NamedTuple):
    """Two frames about the same apps: the enriched rows, one per user and app, and one row per app with its owners."""

    enriched: DataFrame[EnrichedLibrary]
    owned: DataFrame[OwnedApps]


class Choice(NamedTuple):
    """Which apps a sheet has: the unmatched ones, the MATCHED ones too, or only some appids, whatever their status."""

    with_matched: bool = False
    appids: Collection[int] = ()


async def export_review(
    apps: AppsToReview,
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    names: NameLookup,
    choice: Choice,
) -> ReviewExport:
    """Return the review sheet of some apps, each app once, with candidates from IGDB.

    The sheet has the unmatched games, and the filtered apps that would not be filtered today; the apps with the most
    owners come first, and of these the most played. An app that IGDB gives no answer for has no candidates, and is
    counted.

    Args:
        apps: The apps of some libraries.
        known: What the catalogue knows about them.
        overrides: The decisions that overrides.csv holds.
        names: Where the names are looked up.
        choice: Which of the apps the sheet has.

    Raises:
        Refused: `bad_event`, if a chosen appid is not among the apps.
    """
    chosen = choose_apps(apps.enriched, known, overrides, choice)
    to_match = conform(chosen.filter(pl.col("proposed").is_null()).drop("proposed"), EnrichedLibrary)
    candidates, unanswered, refused = await _find_candidates(names, to_match)
    return ReviewExport(
        sheet=build_review_sheet(chosen, apps.owned, candidates, overrides),
        unanswered=len(unanswered),
        refused=refused,
        requests=names.igdb.requests,
    )


def enrich_owned_apps(
    owned: DataFrame[OwnedApps], known: DataFrame[Catalogue], overrides: DataFrame[Overrides]
) -> AppsToReview:
    """Return all owned apps that are given, with what the catalogue and the overrides say about them now."""
    library = library_of_nobody(owned.select("appid", "name"))
    return AppsToReview(join_catalogue(classify(library, known, overrides), known, overrides), owned)


def add_unowned_apps(
    owned: DataFrame[OwnedApps], known: DataFrame[Catalogue], appids: Collection[int]
) -> DataFrame[OwnedApps]:
    """Return the owned apps, and of those that nobody owns the catalogue's unmatched ones and those of some appids.

    Their names are null, for the catalogue has none; they have 0 owners.
    """
    is_chosen = (pl.col("match_status") == "UNMATCHED") | pl.col("appid").is_in(list(appids))
    unowned = known.filter(is_chosen).join(owned, on="appid", how="anti", maintain_order="left")
    nobody = {"name": pl.lit(None), "owners": pl.lit(0), "playtime_forever": pl.lit(0)}
    rows = unowned.select("appid", **nobody)
    return conform(
        pl.concat([owned, rows.select(pl.col(name).cast(dtype) for name, dtype in dtypes(OwnedApps).items())]),
        OwnedApps,
    )


def count_owners(libraries: Iterable[DataFrame[RawLibrary]]) -> DataFrame[OwnedApps]:
    """Return a row per app of some libraries with its owners and minutes; a hundred are in memory at a time.

    The libraries are of different users.
    """
    owned, remaining = empty_frame(OwnedApps), iter(libraries)
    while batch := list(islice(remaining, LIBRARIES_AT_ONCE)):
        rows = pl.concat(batch).unique(["user_id", "appid"], maintain_order=True)
        of_batch = rows.select("appid", "name", pl.lit(1).alias("owners"), pl.col("playtime_forever").cast(pl.Int64))
        both = pl.concat([owned, of_batch.cast({"owners": pl.Int32})]).group_by("appid", maintain_order=True)
        added_up = both.agg(pl.col("name").drop_nulls().first(), pl.col("owners", "playtime_forever").sum())
        owned = conform(added_up.cast({"owners": pl.Int32}), OwnedApps)
    return owned


def choose_apps(
    enriched: DataFrame[EnrichedLibrary],
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    choice: Choice,
) -> pl.DataFrame:
    """Return a row per app to review, with the column `proposed`: game for those that are no longer filtered.

    Raises:
        Refused: `bad_event`, if a chosen appid is not among the apps.
    """
    nothing, game = (pl.lit(action, pl.Enum(ACTIONS)) for action in (None, "game"))
    if choice.appids:
        if missing := sorted(set(choice.appids) - set(enriched["appid"])):
            raise Refused("bad_event", f"App {missing[0]} is in none of these libraries. Give another appid to --app.")
        chosen = enriched.filter(pl.col("appid").is_in(list(choice.appids)))
        return _each_app_once(chosen).with_columns(proposed=nothing)
    statuses = ["UNMATCHED", "MATCHED"] if choice.with_matched else ["UNMATCHED"]
    to_match = _each_app_once(enriched.filter(pl.col("match_status").is_in(statuses)))
    filtered = _each_app_once(enriched.filter(pl.col("match_reason") == "filtered"))
    today = classify(conform(filtered.select(dtypes(RawLibrary).keys()), RawLibrary), known, overrides)
    unfiltered = filtered.join(today.filter(is_game()), on="appid", how="semi", maintain_order="left")
    return pl.concat([to_match.with_columns(proposed=nothing), unfiltered.with_columns(proposed=game)])


def _each_app_once(apps: pl.DataFrame) -> DataFrame[EnrichedLibrary]:
    return conform(apps.unique("appid", keep="first", maintain_order=True), EnrichedLibrary)


def build_review_sheet(
    apps: pl.DataFrame,
    owned: DataFrame[OwnedApps],
    candidates: DataFrame[Candidates],
    overrides: DataFrame[Overrides],
) -> DataFrame[ReviewSheet]:
    """Return a review sheet, a row per app to decide about; the columns that a person fills in are blank.

    Each app has its candidates side by side. `apps` has the columns of EnrichedLibrary, and `proposed`.
    """
    decided = pl.concat_str(pl.col("action").cast(pl.String), "override_igdb_id", separator=" ", ignore_nulls=True)
    blank = dict.fromkeys(("action", "igdb_id", "note"), pl.lit(None))
    rows = (
        apps.drop("playtime_forever")
        .join(owned.drop("name"), on="appid", how="left", validate="1:1", maintain_order="left")
        .join(overrides.select("appid", decided=decided), on="appid", how="left", validate="1:1", maintain_order="left")
        .join(_side_by_side(candidates), on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(matched_id="igdb_id", matched="igdb_name")
        .with_columns(**blank)
        .sort("owners", "playtime_forever", "appid", descending=[True, True, False])
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


def render_review_page(sheet: DataFrame[ReviewSheet]) -> str:
    """Return a page with the apps of a review sheet and their candidates; equal sheets make equal pages.

    The page sends no requests. It keeps the decisions in the browser, apart from those of another sheet.
    """
    columns = ("appid", "name", "owners", "playtime_forever", "match_status", "match_reason", "kind", "proposed")
    candidates = pl.concat_list(_candidate(number) for number in range(1, MOST_CANDIDATES + 1)).list.drop_nulls()
    apps = sheet.select(*columns, "decided", "matched_id", "matched", candidates=candidates).to_dicts()
    digest = sha256(sheet.write_csv().encode()).hexdigest()[:16]
    data = {"apps": apps, "digest": digest, "words": REASON_WORDS}
    return render_page("pipeline.review", "review", {}, {"apps": apps, "data": data})


def _candidate(number: int) -> pl.Expr:
    """Return an expression for a candidate of each app, by its number from 1: a struct, null where there is none."""
    name = f"candidate_{number}"
    candidate = pl.struct(id=f"{name}_id", label=name, score=f"{name}_score")
    return pl.when(pl.col(f"{name}_id").is_not_null()).then(candidate)


async def _find_candidates(names: NameLookup, apps: DataFrame[EnrichedLibrary]) -> FoundNames:
    """Return the candidates of apps, the appids that IGDB gave no answer for, and the names that it refuses.

    The name of an ambiguous app is not looked up: IGDB's list of Steam ids names its games.
    """
    terms = search_terms(apps)
    ambiguous = decode_column(apps.filter(pl.col("match_reason") == "ambiguous"), "igdb_candidates")
    listed: dict[int, list[int]] = dict(ambiguous.select("appid", "igdb_candidates").drop_nulls().rows())
    ids = {igdb_id for igdb_ids in listed.values() for igdb_id in igdb_ids}
    answers = await names.igdb.fetch_games(ids, add_up(names.progress, "Games read from IGDB", len(ids)))
    games = {game.id: game for game in parse_rows(all_rows(answers), FoundGame)[0]}
    by_app = {appid: [games[igdb_id] for igdb_id in igdb_ids if igdb_id in games] for appid, igdb_ids in listed.items()}
    lost = set(all_unanswered(answers))
    unanswered = {appid for appid, igdb_ids in listed.items() if not lost.isdisjoint(igdb_ids)}

    found = await names.look_up(conform(terms.filter(~pl.col("appid").is_in(list(listed))), SearchTerms))
    candidates = pl.concat([rank_candidates(terms, tabulate_games(by_app), least_score=0), found.candidates])
    return FoundNames(conform(candidates, Candidates), unanswered | found.unanswered, found.refused)
