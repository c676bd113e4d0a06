"""Find IGDB games with names like an app's, for people to choose from; no app is matched by its name alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame
from rapidfuzz import fuzz, process

from pipeline.frames.match import MAIN_GAME_TYPES, normalise_name
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

LEAST_SCORE = 50
"""The lowest similarity, from 0 to 100, with which a game is shown as a candidate.

Of the right games among five, one in 2,700 is less similar than this; of all that are shown, one in 40.
"""

_LIKENESS_WEIGHTS = {"text": 0.1, "key": 0.6, "base": 0.3}
"""How much each form of a name counts: its text, its normalised name (key), and that without the edition (base)."""

_TITLE_WEIGHT = 0.8
"""How much it counts that one name is the other's main title: of the real pairs of `python -m benchmarks.candidates`
that is what sets names apart most often (Castan: The Beginning, Castan)."""

_EDITIONS = "game of the year|goty|remastered|director'?s cut|redux|hd|deluxe|definitive|enhanced"
_BEFORE_EDITION = rf"{_EDITIONS}|complete|gold|ultimate|special|anniversary|collector'?s|digital|[0-9]+(?:th|st|nd|rd)"

_EDITION = rf"(?i)^(.*?\S)(?: the)?(?: (?:{_BEFORE_EDITION}))*(?: (?:{_EDITIONS})| (?:{_BEFORE_EDITION}|\S+) edition)$"
"""Before the word edition anything may stand; without that word only what hardly ends a name (not Black Gold)."""

_SUBTITLE = r"^(.+?)(?:\s*[:\x{ff1a}(\[~\x{ff5e}|/]|\s+[-\x{2013}\x{2014}]\s).*$"
"""A subtitle follows a colon, a bracket, a tilde or a dash, the full-width ones too."""

_NOT_SEARCHED = r"[^\pL\pM\pN'\x{2019}&+.!]+"
"""IGDB's search stumbles over hyphens (JosefNemec/Playnite#1336, #2004) and has no use for marks."""


def search_terms(apps: pl.DataFrame) -> DataFrame[SearchTerms]:
    """Return a row per named app with the words to search IGDB for; `apps` is any frame with `appid` and `name`."""
    name = pl.col("name")
    searched = name.str.replace_all("[™®©℠]", "").str.replace_all(_NOT_SEARCHED, " ").str.strip_chars()
    shortened = searched.str.replace(_EDITION, "$1")
    has_words = shortened.str.contains(r"[\pL\pN]")
    named = apps.filter(name.is_not_null()).unique("appid", maintain_order=True)
    return conform(named.select("appid", "name", search=pl.when(has_words).then(shortened)), SearchTerms)


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
            "is_on_computers": [not COMPUTERS.isdisjoint(game.platforms) for _, game in games],
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
    facts = pl.concat_str(pl.col("year").cast(pl.String), type_, separator=", ", ignore_nulls=True)
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
    ratios = pl.DataFrame(
        {
            **{column: _ratios(ours[column], theirs[column]) for column in _LIKENESS_WEIGHTS},
            "our_title": _ratios(ours["title"], theirs["base"]),
            "their_title": _ratios(ours["base"], theirs["title"]),
        }
    )
    whole = pl.sum_horizontal(pl.col(column) * weight for column, weight in _LIKENESS_WEIGHTS.items())
    likeness = pl.max_horizontal(whole, pl.col("our_title", "their_title") * _TITLE_WEIGHT)
    scored = pairs.select("appid", "igdb_id").with_columns(ratios.select(likeness=likeness))
    return conform(scored.group_by("appid", "igdb_id").agg(pl.col("likeness").max()), NameScores)


def _comparable(names: pl.Series) -> pl.DataFrame:
    """Return each name in the four forms that are compared: `text`, `key`, `base` and `title`."""
    text = pl.col("text")
    key, title = normalise_name(text), normalise_name(text.str.replace(_SUBTITLE, "$1"))
    return names.to_frame("text").select(
        text.str.to_lowercase(), key=key, base=strip_edition(key), title=strip_edition(title)
    )


def _ratios(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    return pl.Series(process.cpdist(ours.to_list(), theirs.to_list(), scorer=fuzz.ratio))


def strip_edition(key: pl.Expr) -> pl.Expr:
    """Return an expression that strips the edition from the end of normalised names, such as "deluxe edition"."""
    return key.str.replace(_EDITION, "$1")
