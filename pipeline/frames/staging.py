"""Turn an enriched library into the rows that a load writes, keyed as SavePoint's tables are."""

from collections import Counter
from datetime import datetime, timedelta

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.catalogue import decode_column
from schemas.library import EnrichedLibrary
from schemas.staging import (
    FALLBACKS,
    MAPPED_COLUMNS,
    MappedColumn,
    StagedGames,
    StagedGenres,
    StagedImportedGames,
    StagedLinks,
    StagedPlatforms,
    StagedRows,
)

_OF_PLATFORMS = {
    "abbreviation": "abbreviation",
    "alternativeName": "alternative_name",
    "generation": "generation",
    "platformFamily": "platform_family",
    "platformType": "platform_type",
}


RECENT = timedelta(days=7)
"""The time before a fetch in which a game was last played to count as recently played, as in SavePoint itself."""


def stage_library(library: DataFrame[EnrichedLibrary], fetched_at: datetime | None = None) -> StagedRows:
    """Return the frames of rows that a load writes to SavePoint's tables, from a library of one or more users.

    A game counts as recently played if its last play is in the seven days before `fetched_at`, the time (UTC) at which
    Steam was asked; if that is None, none does.

    A duplicate app counts once, with its highest playtime. A match without IGDB's id, name or slug cannot become
    a Game, so the app is staged as UNMATCHED. Of several games, genres or platforms with one slug or name, the lowest
    IGDB id keeps it. Of several games of one app, as a file of many users may hold old and new matches, the game of an
    override has the app, or else the lowest IGDB id.

    Raises:
        Failed: `checkpoint_invalid`, where genres or platforms are not the JSON that the schema describes.
    """
    apps = _distinct_apps(library)
    games = apps.filter("has_game").sort("igdb_id", "appid").unique("igdb_id", keep="first", maintain_order=True)
    genres, platforms = _listed_entries(games, "igdb_genres"), _listed_entries(games, "igdb_platforms")
    counts = Counter({"playtimes_hidden": _count_users_with_hidden_playtimes(apps)})
    return StagedRows(
        imported_games=StagedImportedGames.validate(_imported_games(apps, _is_recent(fetched_at))),
        games=StagedGames.validate(_with_unique_keys(_games(games, _steam_app_ids(apps)), "games", counts)),
        genres=StagedGenres.validate(_with_unique_keys(_distinct_entries(genres), "genres", counts)),
        platforms=StagedPlatforms.validate(
            _with_unique_keys(_distinct_entries(platforms, **_OF_PLATFORMS), "platforms", counts)
        ),
        game_genres=StagedLinks.validate(_links(genres)),
        game_platforms=StagedLinks.validate(_links(platforms)),
        counts=counts,
    )


def _distinct_apps(library: pl.DataFrame) -> pl.DataFrame:
    return (
        library.sort("user_id", "appid", -pl.col("playtime_forever"), maintain_order=True)
        .unique(["user_id", "appid"], keep="first", maintain_order=True)
        .with_columns(
            pl.col("match_status").cast(pl.String),
            is_match_override=pl.col("match_reason").cast(pl.String) == "override",
            has_game=(pl.col("match_status") == "MATCHED")
            & pl.col("igdb_id").is_not_null()
            & _has_text("igdb_name")
            & _has_text("igdb_slug"),
        )
    )


def _has_text(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().fill_null("") != ""


def _row_number() -> pl.Expr:
    return pl.row_index("number").cast(pl.Int32)


def _is_recent(fetched_at: datetime | None) -> pl.Expr:
    if fetched_at is None:
        return pl.lit(value=False)
    return pl.col("rtime_last_played").is_between(fetched_at - RECENT, fetched_at).fill_null(value=False)


def _imported_games(apps: pl.DataFrame, is_recent: pl.Expr) -> pl.DataFrame:
    is_incomplete = (pl.col("match_status") == "MATCHED") & ~pl.col("has_game")
    return apps.select(
        _row_number(),
        userId="user_id",
        storefrontGameId=pl.col("appid").cast(pl.String),
        name=pl.when(_has_text("name")).then("name").otherwise(pl.format("App {}", "appid")),
        isNameless=~_has_text("name"),
        igdbMatchStatus=pl.when(is_incomplete).then(pl.lit("UNMATCHED")).otherwise("match_status"),
        isMatchOverride="is_match_override",
        isKindOverride=pl.col("kind_reason") == "override",
        igdbId=pl.when("has_game").then("igdb_id"),
        isRecent=is_recent,
        **{mapped.database: _mapped_value(mapped) for mapped in MAPPED_COLUMNS},
    )


def _mapped_value(mapped: MappedColumn) -> pl.Expr:
    if mapped.dtype == pl.String:
        return pl.when(_has_text(mapped.raw)).then(mapped.raw)
    value = pl.col(mapped.raw).cast(mapped.dtype)
    return value.fill_null(0) if mapped.starts_at_zero else value


def _count_users_with_hidden_playtimes(apps: pl.DataFrame) -> int:
    """Return the number of users with a playtime of 0 in every app, which Steam gives if the owner hides playtimes."""
    return apps.group_by("user_id").agg(pl.col("playtime_forever").max()).filter(pl.col("playtime_forever") == 0).height


def _steam_app_ids(apps: pl.DataFrame) -> pl.DataFrame:
    """Return a row per game with its lowest appid, out of the appids that belong to no other game."""
    return (
        apps.filter("has_game")
        .sort(pl.col("is_match_override").not_(), "igdb_id")
        .unique("appid", keep="first", maintain_order=True)
        .group_by("igdb_id")
        .agg(steamAppId=pl.col("appid").min())
    )


def _games(games: pl.DataFrame, steam_app_ids: pl.DataFrame) -> pl.DataFrame:
    joined = games.join(steam_app_ids, on="igdb_id", how="left", validate="1:1", maintain_order="left")
    return joined.select(
        _row_number(),
        igdbId="igdb_id",
        title="igdb_name",
        description="igdb_summary",
        coverImage="igdb_cover_url",
        releaseDate=pl.col("igdb_first_release_date").dt.replace_time_zone(None),
        steamAppId="steamAppId",
        slug="igdb_slug",
    )


def _listed_entries(games: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return one row per game and entry of its list; an entry without id, name or slug cannot become a row."""
    return (
        decode_column(games.select("igdb_id", column), column)
        .explode(column, empty_as_null=False, keep_nulls=False)
        .unnest(column)
        .rename({"igdb_id": "gameIgdbId", "id": "igdbId"})
        .drop_nulls("igdbId")
        .filter(_has_text("name") & _has_text("slug"))
    )


def _distinct_entries(entries: pl.DataFrame, **others: str) -> pl.DataFrame:
    """Return each genre or platform once, with the columns that both have and the others."""
    distinct = entries.unique("igdbId", keep="first", maintain_order=True).sort("igdbId")
    return distinct.select(_row_number(), "igdbId", "name", "slug", "checksum", **others)


def _links(entries: pl.DataFrame) -> pl.DataFrame:
    return entries.select("gameIgdbId", "igdbId").unique(maintain_order=True)


def _with_unique_keys(rows: pl.DataFrame, counted_as: str, counts: Counter[str]) -> pl.DataFrame:
    """Return the rows with unique names and slugs: a later row takes the fallback, and is counted in `counts`."""
    for key, (before, after) in FALLBACKS.items():
        # More than one round only where IGDB's own slug looks like a fallback.
        while key in rows.columns and rows[key].is_duplicated().any():
            is_first = pl.col(key).is_first_distinct()
            counts[f"{counted_as}_with_taken_{key}"] += rows.filter(~is_first).height
            fallback = pl.concat_str(key, pl.lit(before), "igdbId", pl.lit(after))
            rows = rows.with_columns(pl.when(is_first).then(key).otherwise(fallback).alias(key))
    return rows
