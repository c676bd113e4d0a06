"""Find the IGDB games with names like an app's, for people to choose from; no app is matched by its name alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame
from rapidfuzz import fuzz, process

from pipeline.frames.match import MAIN_GAME_TYPES, normalise_name, strip_edition
from pipeline.review.spellings import strip_last_part, strip_subtitle
from schemas.apis import parse_rows
from schemas.frames import conform, dtypes
from schemas.review import MOST_CANDIDATES, Candidates, FoundGame, FoundGames, NameScores, SearchTerms

COMPUTERS = {3, 6, 14}
"""IGDB's ids of the platforms on which Steam runs: Linux, PC (Microsoft Windows) and Mac."""

GAME_TYPES = (
    *("main game", "DLC", "expansion", "bundle", "standalone expansion", "mod", "episode", "season", "remake"),
    *("remaster", "expanded game", "port", "fork", "pack", "update"),
)
"""The names of IGDB's game types, at the index that is the type's number (`game_type`)."""

PLATFORMS_SHOWN = 6
"""The number of platforms in a candidate's label, so that a game of all consoles has one of some length only."""

LEAST_SCORE = 50
"""The lowest similarity, from 0 to 100, with which a game is shown as a candidate.

Of the right games among five, one in 2,700 is less similar than this; of all that are shown, one in 40.
"""

_WHOLE_WEIGHTS = {"text": 0.1, "key": 0.6, "base": 0.3}
"""How much each form of a name counts: its text, its normalised name (key), and that without the edition (base)."""

_PARTS = (
    *((0.89, "base", "key"), (0.89, "key", "base"), (0.86, "base", "base")),
    *((0.8, "title", "base"), (0.8, "base", "title"), (0.8, "shorter", "base"), (0.8, "base", "shorter")),
)
"""How much it counts that a form of the app's name is like a form of the game's: one may have no edition, or another
one, or lack the subtitle (title) or the last of several (shorter)."""

_WHOLE_AMONG_EQUALS = 0.05
"""How much whole names count besides such a part, so that of several games the one with the most in common is first."""

_OTHER_NUMBERS = 0.8
"""The factor of names with different numbers: Portal is not Portal 2."""


def parse_found_games(rows: Mapping[int, Sequence[Any]]) -> DataFrame[FoundGames]:
    """Return a row per app and IGDB game found for it, from lists of IGDB's `games` by appid; drop invalid ones."""
    games = [(appid, game) for appid, found in rows.items() for game in parse_rows(list(found), FoundGame)[0]]
    released = pl.from_epoch(pl.Series([game.first_release_date for _, game in games], dtype=pl.Int64))
    columns = pl.DataFrame(
        {
            "appid": [appid for appid, _ in games],
            "igdb_id": [game.id for _, game in games],
            "igdb_name": [game.name for _, game in games],
            "other_names": [game.alternative_names for _, game in games],
            "year": released.dt.year(),
            "game_type": [game.game_type for _, game in games],
            "is_edition": [game.version_parent is not None for _, game in games],
            "is_on_computers": [not COMPUTERS.isdisjoint(one.id for one in game.platforms) for _, game in games],
            "platforms": [[one.abbreviation for one in game.platforms if one.abbreviation] for _, game in games],
        },
        schema_overrides=dtypes(FoundGames),
    )
    return conform(columns.unique(["appid", "igdb_id"], keep="first", maintain_order=True), FoundGames)


def rank_candidates(
    terms: DataFrame[SearchTerms], found: DataFrame[FoundGames], least_score: int = LEAST_SCORE
) -> DataFrame[Candidates]:
    """Return up to five candidates for each app: found games of `least_score` or more, the most similar name first.

    Of equally similar games, those that are out for a computer come first, then those that are no editions, then those
    of a type that Steam sells as a game of its own.
    """
    is_minor = ~pl.col("game_type").fill_null(0).is_in(MAIN_GAME_TYPES)
    likeness = pl.col("likeness").fill_null(0)
    order = (likeness.neg(), ~pl.col("is_on_computers"), "is_edition", is_minor, "igdb_id")
    ranked = (
        found.join(score_names(terms, found), on=["appid", "igdb_id"], how="left", validate="1:1")
        .filter(likeness >= least_score)
        .sort("appid", *order)
        .group_by("appid", maintain_order=True)
        .head(MOST_CANDIDATES)
        .select("appid", "igdb_id", label=_label(), score=likeness.floor().cast(pl.Int32))
    )
    return conform(ranked, Candidates)


def _label() -> pl.Expr:
    type_ = pl.col("game_type").replace_strict(dict(enumerate(GAME_TYPES)), default=None, return_dtype=pl.String)
    shown, count = pl.col("platforms").list.head(PLATFORMS_SHOWN).list.join(", "), pl.col("platforms").list.len()
    platforms = pl.when(count > PLATFORMS_SHOWN).then(pl.format("{} …", shown)).when(count > 0).then(shown)
    facts = pl.concat_str(pl.col("year").cast(pl.String), type_, platforms, separator=", ", ignore_nulls=True)
    return pl.when(facts == "").then("igdb_name").otherwise(pl.format("{} ({})", "igdb_name", facts))


def score_names(terms: DataFrame[SearchTerms], found: DataFrame[FoundGames]) -> DataFrame[NameScores]:
    """Return a row per app and found IGDB game with the similarity of their names, from 0 to 100.

    Of a game's name and alternative names, the one most similar to the app's name counts.
    """
    names = pl.concat_list("igdb_name", "other_names").list.drop_nulls()
    pairs = (
        found.select("appid", "igdb_id", igdb_name=names)
        .explode("igdb_name")
        .join(terms.select("appid", "name"), on="appid", how="inner", validate="m:1")
    )
    ours, theirs = _comparable(pairs["name"]), _comparable(pairs["igdb_name"])
    whole = _numbers_factor(ours["key"], theirs["key"]) * pl.sum_horizontal(
        _ratios(ours[form], theirs[form]) * weight for form, weight in _WHOLE_WEIGHTS.items()
    )
    part = pl.max_horizontal(
        _numbers_factor(ours[our], theirs[their]) * _ratios(ours[our], theirs[their]) * weight
        for weight, our, their in _PARTS
    )
    likeness = pl.max_horizontal(whole, part + whole * _WHOLE_AMONG_EQUALS)
    scored = pairs.select("appid", "igdb_id", likeness=likeness).group_by("appid", "igdb_id")
    return conform(scored.agg(pl.col("likeness").max()), NameScores)


def _comparable(names: pl.Series) -> pl.DataFrame:
    """Return each name in the forms that are compared: `text`, `key`, `base`, `title` and `shorter`."""
    text = pl.col("text")
    key, title, shorter = (normalise_name(form) for form in (text, strip_subtitle(text), strip_last_part(text)))
    return names.to_frame("text").select(
        text.str.to_lowercase(),
        key=key,
        base=strip_edition(key),
        title=strip_edition(title),
        shorter=strip_edition(shorter),
    )


def _ratios(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    return pl.Series(process.cpdist(ours.to_list(), theirs.to_list(), scorer=fuzz.ratio))


def _numbers_factor(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    """Return the factor for each pair of names: 1 if they have the same numbers."""
    numbers, other_numbers = (names.str.extract_all(r"\b\d+\b").list.join(" ") for names in (ours, theirs))
    return (numbers == other_numbers).replace_strict({True: 1.0, False: _OTHER_NUMBERS}, return_dtype=pl.Float32)
