"""Which IGDB game an app is: by IGDB's own list of Steam ids, never by a guess.

Of several games, those that are not an edition of another one (`version_parent`) come first, and of these those of a
main game type. If that leaves more than one, the match is ambiguous: UNMATCHED, with the candidates named.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import polars as pl

from schemas.catalogue import Games
from schemas.frames import dtypes
from schemas.igdb import ExternalGame, Game, valid
from schemas.library import MATCH_REASONS, MATCH_STATUSES

MAIN_GAME_TYPES = (0, 4, 8, 9, 10, 11)
"""main_game, standalone_expansion, remake, remaster, expanded_game, port: what Steam sells as a game of its own."""

_COVER = "https://images.igdb.com/igdb/image/upload/t_cover_big/{}.jpg"
_STATUS = pl.Enum(MATCH_STATUSES)
_REASON = pl.Enum(MATCH_REASONS)


def parse_external_games(rows: Sequence[Any]) -> pl.DataFrame:
    """Rows of `external_games` as ExternalGames; a uid may list several appids, and a row without a game goes."""
    pairs, _ = valid(list(rows), ExternalGame)
    uids = pl.DataFrame(
        {"uid": [p.uid for p in pairs], "igdb_id": [p.game for p in pairs]},
        schema={"uid": pl.String, "igdb_id": pl.Int32},
    )
    return (
        uids.with_columns(pl.col("uid").str.split(","))
        .explode("uid")
        .select(appid=pl.col("uid").str.strip_chars().cast(pl.Int32, strict=False), igdb_id="igdb_id")
        .filter(pl.col("appid") > 0)
        .unique()
        .sort("appid", "igdb_id")
    )


def unusable_external_games(rows: Sequence[Any]) -> tuple[list[int], list[str]]:
    """The apps of `external_games` rows whose game is no id, and a line for each; one without a game is no fault."""
    linked = [row for row in rows if isinstance(row, dict) and row.get("game") is not None]
    _, faults = valid(linked, ExternalGame)
    broken = [{**row, "game": 1} for row in linked if not valid([row], ExternalGame)[0]] if faults else []
    return parse_external_games(broken)["appid"].to_list(), faults


def parse_games(rows: Sequence[Any]) -> tuple[pl.DataFrame, list[str]]:
    """Rows of `games` as (Games, a line for each row that was set aside)."""
    whole, faults = valid(list(rows), Game)
    distinct = {game.id: game for game in whole}.values()
    schema = dtypes(Games)
    columns = pl.DataFrame([_columns(game) for game in distinct], schema=schema | {"igdb_first_release_date": pl.Int64})
    return columns.cast(schema), faults


def resolve_matches(
    appids: Iterable[int],
    pairs: pl.DataFrame,
    games: pl.DataFrame,
    *,
    unanswered_appids: Collection[int] = (),
    unanswered_games: Collection[int] = (),
    unusable_appids: Collection[int] = (),
) -> pl.DataFrame:
    """Decide for each of the apps which of its ExternalGames it is, as Matches; what was not answered is PENDING."""
    candidates = pairs.join(
        games.select("igdb_id", rank=_rank()), on="igdb_id", how="left", validate="m:1"
    ).with_columns(
        is_unanswered=pl.col("igdb_id").is_in(list(unanswered_games)),
        is_best=pl.col("rank") == pl.col("rank").min().over("appid"),
    )
    by_app = candidates.group_by("appid").agg(
        best=pl.col("igdb_id").filter("is_best").sort(),
        is_unanswered=pl.col("is_unanswered").any(),
    )
    apps = pl.DataFrame({"appid": sorted(set(appids))}, schema={"appid": pl.Int32})
    return (
        apps.join(by_app, on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(match_reason=_reason(unanswered_appids, unusable_appids))
        .select(
            "appid",
            match_status=pl.col("match_reason").replace_strict(_STATUS_OF, default="UNMATCHED", return_dtype=_STATUS),
            match_reason=pl.col("match_reason").cast(_REASON),
            igdb_id=pl.when(pl.col("match_reason") == "external_game").then(pl.col("best").list.first()),
            candidates=pl.when(pl.col("match_reason") == "ambiguous").then("best"),
        )
    )


def mark_overrides(matches: pl.DataFrame, forced: pl.DataFrame) -> pl.DataFrame:
    """Matches of the ExternalGames that humans gave, by their own reason; a game that IGDB lacks is a candidate."""
    given = matches.join(
        forced.select("appid", given="igdb_id"), on="appid", how="left", validate="1:1", maintain_order="left"
    )
    is_given, reason = pl.col("given").is_not_null(), pl.col("match_reason")
    return given.with_columns(
        match_reason=pl.when(is_given & (reason == "external_game"))
        .then(pl.lit("override", _REASON))
        .otherwise("match_reason"),
        candidates=pl.when(is_given & (reason == "igdb_incomplete"))
        .then(pl.concat_list("given"))
        .otherwise("candidates"),
    ).drop("given")


_STATUS_OF = {"external_game": "MATCHED", "igdb_unavailable": "PENDING"}


def _rank() -> pl.Expr:
    is_edition = pl.col("version_parent").is_not_null()
    is_minor = ~pl.col("igdb_game_type").fill_null(0).is_in(MAIN_GAME_TYPES)
    return 2 * is_edition.cast(pl.Int8) + is_minor.cast(pl.Int8)


def _reason(unanswered_appids: Collection[int], unusable_appids: Collection[int]) -> pl.Expr:
    candidates = pl.col("best").list.len()
    is_unanswered = pl.col("is_unanswered") | pl.col("appid").is_in(list(unanswered_appids))
    return (
        pl.when(is_unanswered)
        .then(pl.lit("igdb_unavailable"))
        .when(pl.col("best").is_null() & ~pl.col("appid").is_in(list(unusable_appids)))
        .then(pl.lit("not_found"))
        .when(pl.col("best").is_null() | (candidates == 0))
        .then(pl.lit("igdb_incomplete"))
        .when(candidates == 1)
        .then(pl.lit("external_game"))
        .otherwise(pl.lit("ambiguous"))
    )


def _columns(game: Game) -> dict[str, Any]:
    return {
        "igdb_id": game.id,
        "igdb_name": game.name,
        "igdb_slug": game.slug,
        "igdb_summary": game.summary,
        "igdb_first_release_date": None if game.first_release_date is None else game.first_release_date * 1000,
        "igdb_cover_url": _COVER.format(game.cover.image_id) if game.cover else None,
        "igdb_game_type": game.game_type,
        "version_parent": game.version_parent,
        "genres": [genre.model_dump() for genre in game.genres],
        "platforms": [platform.model_dump() for platform in game.platforms],
    }
