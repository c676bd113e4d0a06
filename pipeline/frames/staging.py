"""The enriched library as the rows a load writes, keyed as SavePoint's tables are."""

from collections import Counter

import polars as pl

from pipeline.frames.catalogue import GENRES, PLATFORMS, decode_column
from schemas.staging import (
    FALLBACKS,
    StagedGames,
    StagedGenres,
    StagedImportedGames,
    StagedLinks,
    StagedPlatforms,
    StagedRows,
)


def stage_library(library: pl.DataFrame) -> StagedRows:
    """An enriched library, of one user or of many, as the frames of one load.

    An app that comes twice counts once, by its highest playtime. A match without IGDB's id, name or slug cannot become
    a Game, so it is staged UNMATCHED. Of several games, genres or platforms with one slug or name, the lowest IGDB id
    keeps it; of several games of one app (a file of many users may hold old and new matches), the overridden one has
    the app, or else the lowest IGDB id.

    Raises:
        Failed: `checkpoint_invalid`, where genres or platforms are not the JSON that the schema describes.
    """
    apps = _distinct_apps(library)
    games = apps.filter("has_game").sort("igdb_id", "appid").unique("igdb_id", keep="first", maintain_order=True)
    genres, platforms = _entries(games, "igdb_genres", GENRES), _entries(games, "igdb_platforms", PLATFORMS)
    counts = Counter({"playtimes_hidden": _users_who_hide_playtimes(apps)})
    return StagedRows(
        imported_games=StagedImportedGames.validate(_imported_games(apps)),
        games=StagedGames.validate(_distinct(_games(games, _steam_app_ids(apps)), "games", counts)),
        genres=StagedGenres.validate(_distinct(_genres(genres), "genres", counts)),
        platforms=StagedPlatforms.validate(_distinct(_platforms(platforms), "platforms", counts)),
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
            & _is_said("igdb_name")
            & _is_said("igdb_slug"),
        )
    )


def _is_said(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().fill_null("") != ""


def _imported_games(apps: pl.DataFrame) -> pl.DataFrame:
    is_incomplete = (pl.col("match_status") == "MATCHED") & ~pl.col("has_game")
    return apps.select(
        _number(),
        userId="user_id",
        storefrontGameId=pl.col("appid").cast(pl.String),
        name=pl.when(_is_said("name")).then("name").otherwise(pl.format("App {}", "appid")),
        isNameless=~_is_said("name"),
        img_icon_url=pl.when(_is_said("img_icon_url")).then("img_icon_url"),
        playtime="playtime_forever",
        playtimeWindows=pl.col("playtime_windows_forever").fill_null(0),
        playtimeMac=pl.col("playtime_mac_forever").fill_null(0),
        playtimeLinux=pl.col("playtime_linux_forever").fill_null(0),
        lastPlayedAt=pl.col("rtime_last_played").dt.replace_time_zone(None),
        igdbMatchStatus=pl.when(is_incomplete).then(pl.lit("UNMATCHED")).otherwise("match_status"),
        isMatchOverride="is_match_override",
        isKindOverride=pl.col("kind_reason") == "override",
        igdbId=pl.when("has_game").then("igdb_id"),
    )


def _users_who_hide_playtimes(apps: pl.DataFrame) -> int:
    """Steam says 0 for every app when the owner hides playtimes."""
    return apps.group_by("user_id").agg(pl.col("playtime_forever").max()).filter(pl.col("playtime_forever") == 0).height


def _steam_app_ids(apps: pl.DataFrame) -> pl.DataFrame:
    """The lowest appid of each game, of the appids that are no other game's."""
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
        _number(),
        igdbId="igdb_id",
        title="igdb_name",
        description="igdb_summary",
        coverImage="igdb_cover_url",
        releaseDate=pl.col("igdb_first_release_date").dt.replace_time_zone(None),
        steamAppId="steamAppId",
        slug="igdb_slug",
    )


def _genres(entries: pl.DataFrame) -> pl.DataFrame:
    return _first_of_each(entries).select(_number(), "igdbId", "name", "slug", "checksum")


def _platforms(entries: pl.DataFrame) -> pl.DataFrame:
    return _first_of_each(entries).select(
        _number(),
        "igdbId",
        "name",
        "slug",
        "abbreviation",
        pl.col("alternative_name").alias("alternativeName"),
        "generation",
        pl.col("platform_family").alias("platformFamily"),
        pl.col("platform_type").alias("platformType"),
        "checksum",
    )


def _first_of_each(entries: pl.DataFrame) -> pl.DataFrame:
    return entries.unique("igdbId", keep="first", maintain_order=True).sort("igdbId")


def _distinct(rows: pl.DataFrame, what: str, counts: Counter[str]) -> pl.DataFrame:
    """The rows with each name and slug once: a later row takes the fallback, and is counted."""
    for key, (before, after) in FALLBACKS.items():
        # More than once only where IGDB's own slug looks like a fallback.
        while key in rows.columns and rows[key].is_duplicated().any():
            is_first = pl.col(key).is_first_distinct()
            counts[f"{what}_with_taken_{key}"] += rows.filter(~is_first).height
            fallback = pl.concat_str(key, pl.lit(before), "igdbId", pl.lit(after))
            rows = rows.with_columns(pl.when(is_first).then(key).otherwise(fallback).alias(key))
    return rows


def _links(entries: pl.DataFrame) -> pl.DataFrame:
    return entries.select("gameIgdbId", "igdbId").unique(maintain_order=True)


def _number() -> pl.Expr:
    return pl.row_index("number").cast(pl.Int32)


def _entries(games: pl.DataFrame, column: str, dtype: pl.List) -> pl.DataFrame:
    """One row per game and named object of its list; an object without id, name or slug cannot become a row."""
    return (
        decode_column(games.select("igdb_id", column), column, dtype)
        .explode(column, empty_as_null=False, keep_nulls=False)
        .unnest(column)
        .rename({"igdb_id": "gameIgdbId", "id": "igdbId"})
        .drop_nulls("igdbId")
        .filter(_is_said("name") & _is_said("slug"))
    )
