"""Match apps to IGDB games by IGDB's own list of Steam ids, never by a guess.

Of several games, those that are not an edition of another one (`version_parent`) come first, and of these those of a
main game type. If that leaves more than one, the match is ambiguous: UNMATCHED, with the candidates named.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from schemas.apis import ExternalGame, Game, parse_rows
from schemas.catalogue import ExternalGames, Games, Matches
from schemas.frames import conform, dtypes
from schemas.library import MATCH_REASONS, MATCH_STATUSES

MAIN_GAME_TYPES = (0, 4, 8, 9, 10, 11)
"""The numbers of IGDB's game types that Steam sells as games of their own.

main_game, standalone_expansion, remake, remaster, expanded_game and port.
"""

NO_GAME_TYPES = (1, 3, 13, 14)
"""The numbers of IGDB's game types that are no games: dlc_addon, bundle, pack and update."""

_ROMAN_NUMERALS = (
    *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"),
    *("xi", "xii", "xiii", "xiv", "xv", "xvi", "xvii", "xviii", "xix", "xx"),
)
ARABIC_NUMERALS = {roman: str(number) for number, roman in enumerate(_ROMAN_NUMERALS, start=1)}
"""The Arabic numeral of each Roman one from i to xx."""

EDITIONS = "game of the year|goty|remastered|director'?s cut|redux|hd|deluxe|definitive|enhanced"
"""A pattern of the words for an edition that end a name without the word edition."""

BEFORE_EDITION = rf"{EDITIONS}|complete|gold|ultimate|special|anniversary|collector'?s|digital|[0-9]+(?:th|st|nd|rd)"
"""A pattern of the words that stand before the word edition; without it some of them hardly end a name (Black Gold)."""

EDITION = rf"(?i)^(.*?\S)(?: the)?(?: (?:{BEFORE_EDITION}))*(?: (?:{EDITIONS})| (?:{BEFORE_EDITION}|\S+) edition)$"
"""A pattern of names that end with an edition; its group is the name before that."""

_MARKS = r"[™®©℠'`\x{b4}\x{2018}\x{2019}]"

_COVER_URL = "https://images.igdb.com/igdb/image/upload/t_cover_big/{}.jpg"
_STATUS, _REASON = pl.Enum(MATCH_STATUSES), pl.Enum(MATCH_REASONS)
_STATUS_OF_REASON = {"external_game": "MATCHED", "igdb_unavailable": "PENDING"}


def parse_external_games(rows: Sequence[Any]) -> DataFrame[ExternalGames]:
    """Return the sorted pairs of Steam app and IGDB game in rows of IGDB's `external_games`.

    A uid may list several appids, with commas between. A uid that is no appid, and a row without a game, is left out.
    """
    pairs, _ = parse_rows(list(rows), ExternalGame)
    uids = pl.DataFrame(
        {"uid": [pair.uid for pair in pairs], "igdb_id": [pair.game for pair in pairs]},
        schema={"uid": pl.String, "igdb_id": pl.Int32},
    )
    found = (
        uids.with_columns(pl.col("uid").str.split(","))
        .explode("uid")
        .select(appid=pl.col("uid").str.strip_chars().cast(pl.Int32, strict=False), igdb_id="igdb_id")
        .filter(pl.col("appid") > 0)
        .unique()
        .sort("appid", "igdb_id")
    )
    return conform(found, ExternalGames)


def unusable_external_games(rows: Sequence[Any]) -> tuple[list[int], list[str]]:
    """Return the list of appids whose `external_games` row has an invalid game id, and a list of lines that say why.

    A row without a game is not invalid: IGDB lists ids that it has no game for yet.
    """
    linked = [row for row in rows if isinstance(row, dict) and row.get("game") is not None]
    _, faults = parse_rows(linked, ExternalGame)
    # With a valid game in the place of the broken one, the row tells its apps as any other does.
    repaired = [{**row, "game": 1} for row in linked if not parse_rows([row], ExternalGame)[0]] if faults else []
    return parse_external_games(repaired)["appid"].to_list(), faults


def parse_games(rows: Sequence[Any]) -> tuple[DataFrame[Games], list[str]]:
    """Return the games in rows of IGDB's `games`, one row per id, and a list of messages about invalid rows."""
    games, faults = parse_rows(list(rows), Game)
    distinct = {game.id: game for game in games}.values()
    schema = dtypes(Games)
    # Seconds times 1000 are the milliseconds of the column.
    numbers = pl.DataFrame([_columns(game) for game in distinct], schema=schema | {"igdb_first_release_date": pl.Int64})
    return conform(numbers.cast(schema), Games), faults


def resolve_matches(
    appids: Iterable[int],
    pairs: DataFrame[ExternalGames],
    games: DataFrame[Games],
    *,
    unanswered_appids: Collection[int] = (),
    unanswered_games: Collection[int] = (),
    unusable_appids: Collection[int] = (),
) -> DataFrame[Matches]:
    """Return a row per app with the IGDB game that it is, if any, and why; apps without IGDB's answer are PENDING.

    Args:
        appids: The apps to decide about.
        pairs: The games that each app is, by IGDB or by an override.
        games: The games of these pairs of which IGDB gave a complete row.
        unanswered_appids: The apps that IGDB gave no answer for.
        unanswered_games: The ids of games that IGDB gave no answer for.
        unusable_appids: The apps that IGDB lists with a game that is no valid id.
    """
    apps = pl.DataFrame({"appid": sorted(set(appids))}, schema={"appid": pl.Int32})
    reason = pl.col("match_reason")
    matches = (
        apps.join(
            _best_games(pairs, games, unanswered_games), on="appid", how="left", validate="1:1", maintain_order="left"
        )
        .with_columns(match_reason=_reason(unanswered_appids, unusable_appids))
        .select(
            "appid",
            match_status=reason.replace_strict(_STATUS_OF_REASON, default="UNMATCHED"),
            match_reason=reason,
            igdb_id=pl.when(reason == "external_game").then(pl.col("best").list.first()),
            candidates=pl.when(reason == "ambiguous").then("best"),
        )
    )
    return conform(matches.cast({"match_status": _STATUS, "match_reason": _REASON}), Matches)


def mark_overrides(matches: DataFrame[Matches], overridden: DataFrame[ExternalGames]) -> DataFrame[Matches]:
    """Return the matches with `override` as the reason for apps whose IGDB game an override gave.

    A game that an override gave and IGDB lacks becomes the only candidate of its app.
    """
    given = overridden.select("appid", given="igdb_id")
    is_given, reason = pl.col("given").is_not_null(), pl.col("match_reason")
    marked = matches.join(given, on="appid", how="left", validate="1:1", maintain_order="left").with_columns(
        match_reason=pl.when(is_given & (reason == "external_game"))
        .then(pl.lit("override", _REASON))
        .otherwise(reason),
        candidates=pl.when(is_given & (reason == "igdb_incomplete"))
        .then(pl.concat_list("given"))
        .otherwise("candidates"),
    )
    return conform(marked.drop("given"), Matches)


def normalise_name(name: pl.Expr) -> pl.Expr:
    """Return an expression that normalises names: no case, accents, ™®© or punctuation; Roman numerals as Arabic.

    A name of punctuation alone stays as it is.
    """
    plain = (
        name.str.replace_all(_MARKS, "")
        .str.normalize("NFKD")
        .str.replace_all(r"[\x{300}-\x{36f}]", "")
        .str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all("&", " and ", literal=True)
        .str.replace_all(r"(\D)\.", "$1")
    )
    words = plain.str.replace_all(r"[^\pL\pM\pN]+", " ").str.strip_chars().str.split(" ")
    key = words.list.eval(pl.element().replace(ARABIC_NUMERALS)).list.join(" ")
    return pl.when(key == "").then(name).otherwise(key)


def strip_edition(key: pl.Expr) -> pl.Expr:
    """Return an expression that strips the edition from the end of normalised names, such as "deluxe edition"."""
    return key.str.replace(EDITION, "$1")


def _best_games(pairs: pl.DataFrame, games: pl.DataFrame, unanswered_games: Collection[int]) -> pl.DataFrame:
    """Return a row per app with the ids of its games of the best rank, and whether any game has no answer."""
    # 0 is a game of its own and of a main type; a higher rank is less likely meant.
    is_edition = pl.col("version_parent").is_not_null().cast(pl.Int8)
    is_minor = (~pl.col("igdb_game_type").fill_null(0).is_in(MAIN_GAME_TYPES)).cast(pl.Int8)
    ranked = pairs.join(
        games.select("igdb_id", rank=2 * is_edition + is_minor), on="igdb_id", how="left", validate="m:1"
    ).with_columns(
        is_unanswered=pl.col("igdb_id").is_in(list(unanswered_games)),
        is_best=pl.col("rank") == pl.col("rank").min().over("appid"),
    )
    return ranked.group_by("appid").agg(
        best=pl.col("igdb_id").filter("is_best").sort(), is_unanswered=pl.col("is_unanswered").any()
    )


def _reason(unanswered_appids: Collection[int], unusable_appids: Collection[int]) -> pl.Expr:
    is_unanswered = pl.col("is_unanswered") | pl.col("appid").is_in(list(unanswered_appids))
    is_listed = pl.col("best").is_not_null() | pl.col("appid").is_in(list(unusable_appids))
    whole_games = pl.col("best").list.len().fill_null(0)
    return (
        pl.when(is_unanswered)
        .then(pl.lit("igdb_unavailable"))
        .when(~is_listed)
        .then(pl.lit("not_found"))
        .when(whole_games == 0)
        .then(pl.lit("igdb_incomplete"))
        .when(whole_games == 1)
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
        "igdb_cover_url": _COVER_URL.format(game.cover.image_id) if game.cover else None,
        "igdb_game_type": game.game_type,
        "version_parent": game.version_parent,
        "genres": [genre.model_dump() for genre in game.genres],
        "platforms": [platform.model_dump() for platform in game.platforms],
    }
