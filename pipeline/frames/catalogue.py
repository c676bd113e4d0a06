"""Merge the catalogue's rows, check their age, make them from API answers, and join them to a library."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.errors import Failed
from pipeline.frames.classify import classify, is_game, is_game_unless_named_otherwise
from pipeline.frames.match import NO_GAME_TYPES
from schemas.catalogue import Catalogue, CatalogueLookUps, Games, Matches, Overrides, StoreTypes
from schemas.frames import conform, dtypes, empty_frame
from schemas.library import (
    GENRES,
    KINDS,
    MATCH_REASONS,
    MATCH_STATUSES,
    PLATFORMS,
    ClassifiedLibrary,
    DecodedLibrary,
    EnrichedLibrary,
    IgdbGame,
    RawLibrary,
)

_STORE_COLUMNS = ("store_type", "store_asked_at")
_IGDB_COLUMNS = tuple(name for name in dtypes(Catalogue) if name not in ("appid", *_STORE_COLUMNS))
_JSON_COLUMNS = {"igdb_genres": GENRES, "igdb_platforms": PLATFORMS, "igdb_candidates": pl.List(pl.Int32)}


POSTPONED = timedelta(hours=1)
"""How long an app about which Steam's store does not answer is decided without a fresh type from there."""

_TIME = pl.Datetime("ms", "UTC")


class Lifetimes(NamedTuple):
    """How long the catalogue's answers are used before an API is asked again.

    `hit` is for an app that Steam's store or IGDB knows, `miss`, which is shorter, for one that it does not know yet.
    """

    hit: timedelta
    miss: timedelta


def merge_catalogues(parts: Sequence[DataFrame[Catalogue]]) -> DataFrame[Catalogue]:
    """Return several catalogues as one, sorted, with a row per app: the latest answer of the store, and of IGDB.

    Of two answers with the same time, the one in the later part is taken.
    """
    return conform(_merge(pl.concat([empty_frame(Catalogue), *parts])), Catalogue)


def merge_look_ups(parts: Sequence[DataFrame[CatalogueLookUps]]) -> DataFrame[CatalogueLookUps]:
    """Return the look-ups of several catalogues as one frame, with the answers that `merge_catalogues` takes."""
    return conform(_merge(pl.concat([empty_frame(CatalogueLookUps), *parts])), CatalogueLookUps)


def _merge(rows: pl.DataFrame) -> pl.DataFrame:
    of_igdb = [name for name in rows.columns if name in _IGDB_COLUMNS]
    is_repeated = rows["appid"].is_duplicated()  # a few, while most apps have one row, which is copied as it is
    repeated = rows.filter(is_repeated)
    store = _latest(repeated.select("appid", *_STORE_COLUMNS), "store_asked_at")
    igdb = _latest(repeated.select("appid", *of_igdb), "looked_up_at")
    merged = store.join(igdb, on="appid", how="full", coalesce=True, validate="1:1").select(rows.columns)
    single = rows.filter(~is_repeated) if repeated.height else rows
    return pl.concat([single, merged]).sort("appid")


def _latest(rows: pl.DataFrame, time: str) -> pl.DataFrame:
    answered = rows.filter(pl.col(time).is_not_null())
    return answered.sort(time, maintain_order=True).unique("appid", keep="last", maintain_order=True)


def apps_without_store_type(
    library: DataFrame[RawLibrary], known: DataFrame[Catalogue], now: datetime, lifetimes: Lifetimes
) -> pl.Series:
    """Return the sorted appids of the library whose type in Steam's store the catalogue lacks, or has too old."""
    apps = library.select("appid").unique().join(known, on="appid", how="left", validate="1:1")
    is_fresh = _is_fresh("store_asked_at", pl.col("store_type").is_not_null(), now, lifetimes)
    return apps.filter(~is_fresh)["appid"].sort()


def apps_to_look_up(
    library: DataFrame[RawLibrary],
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    now: datetime,
    lifetimes: Lifetimes,
) -> pl.Series:
    """Return the sorted appids of the library that IGDB has to be asked about.

    These are the apps whose match is missing from the catalogue, is too old, or does not follow today's override; also
    those that a rule about their name would filter, because IGDB may list them as games. An app that is no game in
    Steam's store, or that an override ignores, is not asked about.
    """
    apps = _with_what_is_known(library.select("appid").unique(), known, overrides)
    is_fresh = _is_fresh("looked_up_at", pl.col("match_status") == "MATCHED", now, lifetimes)
    is_asked = is_game_unless_named_otherwise() & ~_is_ignored() & ~(is_fresh & _follows_overrides())
    return apps.filter(is_asked)["appid"].sort()


def classify_looked_up(
    library: DataFrame[RawLibrary], known: DataFrame[Catalogue], overrides: DataFrame[Overrides], asked: pl.Series
) -> DataFrame[ClassifiedLibrary]:
    """Return the library with the kind of each app, after IGDB was `asked` about some appids.

    No rule about its name filters an app that IGDB has never answered for: IGDB may list it as a game.
    """
    apps = _with_what_is_known(asked.to_frame("appid"), known, overrides)
    is_answered = pl.col("match_status").is_not_null() & _follows_overrides().fill_null(value=False)
    return classify(library, known, overrides, apps.filter(~is_answered)["appid"].to_list())


def _with_what_is_known(apps: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    of_apps = apps.join(known, on="appid", how="left", validate="1:1")
    return of_apps.join(overrides, on="appid", how="left", validate="1:1")


def _is_fresh(time: str, is_hit: pl.Expr, now: datetime, lifetimes: Lifetimes) -> pl.Expr:
    age = _time(now) - pl.col(time)
    lifetime = pl.when(is_hit.fill_null(value=False)).then(lifetimes.hit).otherwise(lifetimes.miss)
    return (age < lifetime).fill_null(value=False)


def _is_ignored() -> pl.Expr:
    return (pl.col("action") == "ignore").fill_null(value=False)


def _follows_overrides() -> pl.Expr:
    """Return an expression that is true if the known match follows today's override, or the lack of one."""
    is_lacking_game = (pl.col("match_reason") == "igdb_incomplete") & pl.col("candidates").is_not_null()
    is_by_override = (pl.col("match_reason") == "override") | is_lacking_game
    overridden_id = pl.coalesce("igdb_id", pl.col("candidates").list.first())
    has_override = (pl.col("action") == "match").fill_null(value=False)
    return (
        pl.when(has_override)
        .then(is_by_override & (overridden_id == pl.col("override_igdb_id")))
        .otherwise(~is_by_override)
    )


def not_looked_up(
    library: DataFrame[RawLibrary],
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    now: datetime,
    lifetimes: Lifetimes,
) -> pl.Series:
    """Return the sorted appids of the library that a join cannot decide about, because the catalogue is not enough.

    These are the apps without a fresh store type, unless an override says what they are, and those that IGDB has to be
    asked about.
    """
    without_type = apps_without_store_type(library, known, now, lifetimes)
    without_type = without_type.filter(~without_type.is_in(overrides["appid"].implode()))
    without_match = apps_to_look_up(library, known, overrides, now, lifetimes)
    return pl.concat([without_type, without_match]).unique().sort()


def postpone_store_types(
    appids: pl.Series, known: DataFrame[Catalogue], now: datetime, lifetimes: Lifetimes
) -> DataFrame[Catalogue]:
    """Return catalogue rows that make the known types of apps fresh for an hour, also those that have none.

    For apps about which the store does not answer: without a type IGDB and the name decide, as long as that lasts.
    """
    types = appids.to_frame("appid").join(known.select("appid", "store_type"), on="appid", how="left", validate="1:1")
    hit, miss = (_time(now - max(lifetime - POSTPONED, timedelta())) for lifetime in lifetimes)
    return _as_catalogue(
        types.with_columns(store_asked_at=pl.when(pl.col("store_type").is_not_null()).then(hit).otherwise(miss))
    )


def store_types_as_catalogue(types: DataFrame[StoreTypes], asked_at: datetime) -> DataFrame[Catalogue]:
    """Return catalogue rows with the store types of apps and the time at which the store was asked."""
    return _as_catalogue(types.with_columns(store_asked_at=_time(asked_at)))


def matches_as_catalogue(
    matches: DataFrame[Matches], games: DataFrame[Games], looked_up_at: datetime
) -> DataFrame[Catalogue]:
    """Return catalogue rows with the matches of apps and the games that they name; PENDING apps have no row.

    An ambiguous app gets the name and the game type of one candidate, with which a rule about its name is compared: of
    those that are games, if any, the one with the shortest name. Its other columns about a game are null.
    """
    answered = matches.filter(pl.col("match_status") != "PENDING")
    of_parent = _shortest_named_candidates(answered, games)
    rows = (
        answered.join(games, on="igdb_id", how="left", validate="m:1", maintain_order="left")
        .join(of_parent, on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(pl.coalesce(name, f"{name}_of_parent").alias(name) for name in ("igdb_name", "igdb_game_type"))
    )
    return _as_catalogue(rows.with_columns(looked_up_at=_time(looked_up_at)))


def _shortest_named_candidates(matches: pl.DataFrame, games: pl.DataFrame) -> pl.DataFrame:
    """Return a row per ambiguous app with name and game type of its shortest named candidate, DLC and packs last."""
    candidates = matches.filter(pl.col("match_reason") == "ambiguous").select("appid", igdb_id="candidates")
    named = candidates.explode("igdb_id").join(games, on="igdb_id", how="inner", validate="m:1")
    return (
        named.sort(
            "appid", pl.col("igdb_game_type").is_in(NO_GAME_TYPES), pl.col("igdb_name").str.len_chars(), "igdb_id"
        )
        .unique("appid", keep="first", maintain_order=True)
        .select("appid", igdb_name_of_parent="igdb_name", igdb_game_type_of_parent="igdb_game_type")
    )


def _as_catalogue(rows: pl.DataFrame) -> DataFrame[Catalogue]:
    columns = dtypes(Catalogue).keys()
    known = rows.select(name for name in columns if name in rows.columns)
    return conform(pl.concat([empty_frame(Catalogue), known], how="diagonal").select(columns), Catalogue)


def rows_about_games(known: DataFrame[Catalogue], igdb_ids: Sequence[int]) -> DataFrame[Catalogue]:
    """Return the rows of the catalogue whose game, or one of whose candidates, is among some ids of IGDB."""
    ids = pl.Series(igdb_ids, dtype=pl.Int32).implode()
    is_candidate = pl.col("candidates").list.eval(pl.element().is_in(ids)).list.any()
    return conform(known.filter(pl.col("igdb_id").is_in(ids) | is_candidate), Catalogue)


def drop_overridden(rows: DataFrame[Catalogue], known: DataFrame[Catalogue]) -> DataFrame[Catalogue]:
    """Return new catalogue rows without those of apps that the known catalogue has matched by an override."""
    overridden = known.filter(pl.col("match_reason") == "override")
    return conform(rows.join(overridden, on="appid", how="anti", maintain_order="left"), Catalogue)


def join_catalogue(
    library: DataFrame[ClassifiedLibrary], known: DataFrame[Catalogue], overrides: DataFrame[Overrides]
) -> DataFrame[EnrichedLibrary]:
    """Return the library with the match and the IGDB game of each app, from the catalogue and the overrides.

    An app of a kind that is no game is IGNORED, whatever the catalogue has about it. An app that the catalogue
    lacks, or whose match in the catalogue does not follow today's override, is PENDING.
    """
    # Decided, and written as JSON, once an app and not once a row.
    decided = _decided(known.join(library, on="appid", how="semi"), overrides)
    ignored = overrides.filter(pl.col("action") == "ignore")["appid"]
    is_filtered = ~(is_game() | pl.col("appid").is_in(ignored.implode()))
    status_without_match = pl.when(is_filtered).then(_status("IGNORED")).otherwise(_status("PENDING"))
    reason_without_match = pl.when(is_filtered).then(_reason("filtered")).otherwise(_reason("igdb_unavailable"))
    rows = (
        library.with_columns(joined_appid=pl.when(~is_filtered).then("appid"))
        .join(decided, left_on="joined_appid", right_on="appid", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            match_status=pl.coalesce("match_status", status_without_match),
            match_reason=pl.coalesce("match_reason", reason_without_match),
        )
    )
    return conform(rows.select(dtypes(EnrichedLibrary).keys()), EnrichedLibrary)


def _decided(known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """Return a row per app in the catalogue or the overrides with its match and game, in the enriched CSV's columns."""
    rows = known.join(overrides, on="appid", how="full", coalesce=True, validate="1:1")
    candidates = pl.format("[{}]", pl.col("candidates").cast(pl.List(pl.String)).list.join(","))
    of_game = (*dtypes(IgdbGame), "igdb_genres", "igdb_platforms")
    is_matched = pl.col("match_status") == "MATCHED"
    return (
        _with_json(_with_json(rows, "genres"), "platforms")
        .with_columns(
            match_status=_unless_overridden("match_status", _status("IGNORED"), _status("PENDING")),
            match_reason=_unless_overridden("match_reason", _reason("override"), _reason("igdb_unavailable")),
        )
        .select(
            "appid",
            "match_status",
            "match_reason",
            *(pl.when(is_matched).then(name).alias(name) for name in of_game),
            igdb_candidates=pl.when(pl.col("match_reason") == "ambiguous").then(candidates),
        )
    )


def _unless_overridden(known: str, if_ignored: pl.Expr, if_outdated: pl.Expr) -> pl.Expr:
    return pl.when(_is_ignored()).then(if_ignored).when(_follows_overrides()).then(known).otherwise(if_outdated)


def _with_json(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the rows with a column of lists of structs added as JSON arrays; each distinct list is encoded once.

    42,698 real games have 848 lists of platforms and 1,383 of genres.
    """
    json = pl.format("[{}]", pl.col(column).list.eval(pl.element().struct.json_encode()).list.join(","))
    written = rows.select(column).unique().with_columns(json.alias(f"igdb_{column}"))
    return rows.join(written, on=column, how="left", nulls_equal=True, validate="m:1", maintain_order="left")


def _time(time: datetime) -> pl.Expr:
    return pl.lit(time).cast(_TIME)


def _status(status: str) -> pl.Expr:
    return pl.lit(status, pl.Enum(MATCH_STATUSES))


def _reason(reason: str) -> pl.Expr:
    return pl.lit(reason, pl.Enum(MATCH_REASONS))


def join_without_look_up(
    library: DataFrame[RawLibrary],
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    now: datetime,
    lifetimes: Lifetimes,
) -> tuple[DataFrame[EnrichedLibrary], pl.Series]:
    """Return the library joined with the catalogue as it is, and the appids to look up: those without a fresh answer.

    These apps are PENDING `not_looked_up`, of no game and of a kind that is not decided, also where a rule would filter
    an app of that name.
    """
    missed = not_looked_up(library, known, overrides, now, lifetimes)
    joined = join_catalogue(classify(library, known, overrides), known, overrides)
    undecided = {
        "kind": pl.lit("game", pl.Enum(KINDS)),
        "kind_reason": pl.lit("default"),
        "match_status": _status("PENDING"),
        "match_reason": _reason("not_looked_up"),
    }
    of_match = {name: undecided.get(name, pl.lit(None)) for name in joined.columns if name not in dtypes(RawLibrary)}
    is_missed = pl.col("appid").is_in(missed.implode())
    marked = joined.with_columns(
        pl.when(is_missed).then(value).otherwise(name).alias(name) for name, value in of_match.items()
    )
    return conform(marked, EnrichedLibrary), missed


def decode_lists(library: DataFrame[EnrichedLibrary]) -> DataFrame[DecodedLibrary]:
    """Return the library with genres, platforms and candidates as lists instead of JSON; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`, where a list is not the JSON that the schema describes.
    """
    rows: pl.DataFrame = library
    for column in _JSON_COLUMNS:
        rows = decode_column(rows, column)
    return conform(rows, DecodedLibrary)


def decode_column(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the rows with one column of JSON arrays, such as `igdb_genres`, as lists; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`, where a list is not the JSON that the schema describes.
    """
    # An empty cell would vanish from what json_decode returns, and the lists below it would move up by one row.
    lists = pl.when(pl.col(column).str.strip_chars() != "").then(column)
    try:
        return rows.with_columns(lists.str.json_decode(_JSON_COLUMNS[column]).alias(column))
    except pl.exceptions.PolarsError as error:
        raise Failed(
            "checkpoint_invalid",
            f"{column} of the enriched CSV is not the JSON array that enrich writes "
            f"({str(error).splitlines()[0]}): run enrich again.",
        ) from error
