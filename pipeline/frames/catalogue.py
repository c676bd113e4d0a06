"""What is known of each app, how long it is believed, and a library joined to it.

The lists that an enriched CSV holds as JSON.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import polars as pl

from pipeline.errors import Failed
from pipeline.frames.classify import is_looked_up
from schemas.catalogue import Catalogue
from schemas.frames import dtypes
from schemas.library import GENRE, MATCH_REASONS, MATCH_STATUSES, PLATFORM, DecodedLibrary, EnrichedLibrary

SCHEMA = dtypes(Catalogue)
STORE_COLUMNS = ("store_type", "store_asked_at")
IGDB_COLUMNS = tuple(name for name in SCHEMA if name not in ("appid", *STORE_COLUMNS))
OF_GAME = tuple(name for name in IGDB_COLUMNS if name.startswith("igdb_"))


class Lifetimes(NamedTuple):
    """How long a hit and a miss are believed; the games of IGDB grow, so a miss is asked for again sooner."""

    hit: timedelta
    miss: timedelta


def empty_catalogue() -> pl.DataFrame:
    """A Catalogue that knows nothing."""
    return pl.DataFrame(schema=SCHEMA)


def merge_catalogues(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Several Catalogues as one: the latest word of the store and of IGDB wins; of equals, the later part's."""
    rows = pl.concat([empty_catalogue(), *parts])
    store = _latest(rows.select("appid", *STORE_COLUMNS), "store_asked_at")
    igdb = _latest(rows.select("appid", *IGDB_COLUMNS), "looked_up_at")
    return store.join(igdb, on="appid", how="full", coalesce=True, validate="1:1").select(SCHEMA.keys()).sort("appid")


def needs_store_type(library: pl.DataFrame, known: pl.DataFrame, now: datetime, lifetimes: Lifetimes) -> pl.Series:
    """The apps of a RawLibrary whose store type is not known, or no longer believed."""
    apps = library.select("appid").unique().join(known, on="appid", how="left", validate="1:1")
    is_fresh = _is_fresh("store_asked_at", pl.col("store_type").is_not_null(), now, lifetimes)
    return apps.filter(~is_fresh)["appid"].sort()


def needs_igdb_lookup(
    apps: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame, now: datetime, lifetimes: Lifetimes
) -> pl.Series:
    """The apps of a ClassifiedLibrary that IGDB has to be asked about: games not known, or no longer believed."""
    asked = apps.filter(is_looked_up()).select("appid").unique()
    is_fresh = _is_fresh("looked_up_at", pl.col("match_status") == "MATCHED", now, lifetimes) & _is_valid()
    joined = _with_overrides(asked.join(known, on="appid", how="left", validate="1:1"), overrides)
    return joined.filter(~_is_ignored() & ~is_fresh)["appid"].sort()


def store_types_as_catalogue(types: pl.DataFrame, asked_at: datetime) -> pl.DataFrame:
    """StoreTypes as Catalogue rows."""
    return _as_catalogue(types.with_columns(store_asked_at=_time(asked_at)))


def matches_as_catalogue(matches: pl.DataFrame, games: pl.DataFrame, looked_up_at: datetime) -> pl.DataFrame:
    """Matches with their Games as Catalogue rows; what is PENDING is not known, and so not remembered."""
    answered = matches.filter(pl.col("match_status") != "PENDING")
    rows = answered.join(games, on="igdb_id", how="left", validate="m:1", maintain_order="left")
    return _as_catalogue(rows.with_columns(looked_up_at=_time(looked_up_at)))


def rows_about_games(known: pl.DataFrame, igdb_ids: Sequence[int]) -> pl.DataFrame:
    """The Catalogue rows whose game, or one of whose candidates, is among these."""
    ids = pl.Series(igdb_ids, dtype=pl.Int32).implode()
    is_candidate = pl.col("candidates").list.eval(pl.element().is_in(ids)).list.any()
    return known.filter(pl.col("igdb_id").is_in(ids) | is_candidate)


def drop_overridden(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Catalogue rows without those of apps that humans decided about."""
    return rows.join(known.filter(pl.col("match_reason") == "override"), on="appid", how="anti")


def join_catalogue(apps: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """ClassifiedLibrary with what is known of its apps, as EnrichedLibrary; what is not known is PENDING.

    Decided and written as JSON once an app, not once a row; an app that nobody asks about joins to nothing.
    """
    decided = _decided(known.join(apps, on="appid", how="semi"), overrides)
    ignored = overrides.filter(pl.col("action") == "ignore")["appid"]
    asked = pl.when(is_looked_up() | pl.col("appid").is_in(ignored.implode())).then("appid")
    is_filtered = pl.col("asked").is_null()
    return (
        apps.with_columns(asked=asked)
        .join(decided, left_on="asked", right_on="appid", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            pl.coalesce("match_status", pl.when(is_filtered).then(_status("IGNORED")).otherwise(_status("PENDING"))),
            pl.coalesce(
                "match_reason", pl.when(is_filtered).then(_reason("filtered")).otherwise(_reason("igdb_unavailable"))
            ),
        )
        .select(EnrichedLibrary.to_schema().columns.keys())
    )


def _latest(rows: pl.DataFrame, time: str) -> pl.DataFrame:
    known = rows.filter(pl.col(time).is_not_null())
    return known.sort(time, maintain_order=True).unique("appid", keep="last", maintain_order=True)


def _time(time: datetime) -> pl.Expr:
    return pl.lit(time).cast(pl.Datetime("ms", "UTC"))


def _as_catalogue(rows: pl.DataFrame) -> pl.DataFrame:
    known = rows.select(name for name in SCHEMA if name in rows.columns)
    return pl.concat([empty_catalogue(), known], how="diagonal").select(SCHEMA.keys())


def _is_fresh(time: str, is_hit: pl.Expr, now: datetime, lifetimes: Lifetimes) -> pl.Expr:
    age = _time(now) - pl.col(time)
    is_hit = is_hit.fill_null(value=False)
    return (age < pl.when(is_hit).then(lifetimes.hit).otherwise(lifetimes.miss)).fill_null(value=False)


def _with_overrides(apps: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    return apps.join(overrides, on="appid", how="left", validate="m:1", maintain_order="left")


def _is_ignored() -> pl.Expr:
    return (pl.col("action") == "ignore").fill_null(value=False)


def _is_valid() -> pl.Expr:
    """Whether what is known follows the override there is now, or none if there is none."""
    is_lacking = (pl.col("match_reason") == "igdb_incomplete") & pl.col("candidates").is_not_null()
    follows = (pl.col("match_reason") == "override") | is_lacking
    followed = pl.coalesce("igdb_id", pl.col("candidates").list.first())
    is_wanted = (pl.col("action") == "match").fill_null(value=False)
    return pl.when(is_wanted).then(follows & (followed == pl.col("override_igdb_id"))).otherwise(~follows)


def _decided(known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """What the Catalogue and the Overrides say of each app that either knows, as an EnrichedLibrary says it."""
    rows = known.join(overrides, on="appid", how="full", coalesce=True, validate="1:1")
    is_matched = pl.col("match_status") == "MATCHED"
    decided = _with_json(_with_json(rows, "genres"), "platforms").with_columns(
        match_status=_unless_ignored(_status("IGNORED"), "match_status", _status("PENDING")),
        match_reason=_unless_ignored(_reason("override"), "match_reason", _reason("igdb_unavailable")),
    )
    return decided.select(
        "appid",
        "match_status",
        "match_reason",
        *(pl.when(is_matched).then(name).alias(name) for name in (*OF_GAME, "igdb_genres", "igdb_platforms")),
        igdb_candidates=pl.when(pl.col("match_reason") == "ambiguous").then(_list("candidates")),
    )


def _unless_ignored(if_ignored: pl.Expr, known: str, unknown: pl.Expr) -> pl.Expr:
    return pl.when(_is_ignored()).then(if_ignored).when(_is_valid()).then(known).otherwise(unknown)


def _status(status: str) -> pl.Expr:
    return pl.lit(status, pl.Enum(MATCH_STATUSES))


def _reason(reason: str) -> pl.Expr:
    return pl.lit(reason, pl.Enum(MATCH_REASONS))


def _with_json(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Each distinct list is written once: 42,698 real games have 848 lists of platforms and 1,383 of genres."""
    json = pl.format("[{}]", pl.col(column).list.eval(pl.element().struct.json_encode()).list.join(","))
    written = rows.select(column).unique().with_columns(json.alias(f"igdb_{column}"))
    return rows.join(written, on=column, how="left", nulls_equal=True, validate="m:1", maintain_order="left")


def _list(column: str) -> pl.Expr:
    return pl.format("[{}]", pl.col(column).cast(pl.List(pl.String)).list.join(","))


GENRES, PLATFORMS = pl.List(GENRE), pl.List(PLATFORM)
LISTS = {"igdb_genres": GENRES, "igdb_platforms": PLATFORMS, "igdb_candidates": pl.List(pl.Int32)}


def decode_lists(library: pl.DataFrame) -> pl.DataFrame:
    """EnrichedLibrary as DecodedLibrary; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`, where a list is not the JSON that the schema describes.
    """
    for column, dtype in LISTS.items():
        library = decode_column(library, column, dtype)
    return DecodedLibrary.validate(library)


def decode_column(rows: pl.DataFrame, column: str, dtype: pl.List) -> pl.DataFrame:
    """The rows with one column of JSON arrays as lists; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`.
    """
    # An empty cell would vanish from what json_decode returns, and the lists below it would move up by one row.
    lists = pl.when(pl.col(column).str.strip_chars() != "").then(column)
    try:
        return rows.with_columns(lists.str.json_decode(dtype).alias(column))
    except pl.exceptions.PolarsError as error:
        raise Failed(
            "checkpoint_invalid",
            f"{column} of the enriched CSV is not the JSON array that enrich writes "
            f"({str(error).splitlines()[0]}): run enrich again.",
        ) from error
