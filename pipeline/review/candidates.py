"""Which IGDB games an app may be, by its name: for people to choose from, never to be taken unseen."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rapidfuzz import fuzz, process

from pipeline.frames.match import MAIN_GAME_TYPES
from schemas.frames import dtypes
from schemas.igdb import valid
from schemas.review import MOST_CANDIDATES, Candidates, FoundGame, FoundGames, SearchTerms

COMPUTERS = {3, 6, 14}
"""IGDB's platforms Linux, PC (Microsoft Windows) and Mac: where Steam is."""

GAME_TYPES = (
    *("main game", "DLC", "expansion", "bundle", "standalone expansion", "mod", "episode", "season", "remake"),
    *("remaster", "expanded game", "port", "fork", "pack", "update"),
)
"""IGDB's game_type, by number."""

_ROMAN = (
    *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"),
    *("xi", "xii", "xiii", "xiv", "xv", "xvi", "xvii", "xviii", "xix", "xx"),
)

ROMAN = {roman: str(number) for number, roman in enumerate(_ROMAN, start=1)}
_EDITIONS = "game of the year|goty|remastered|director'?s cut|redux|hd|deluxe|definitive|enhanced"
_BEFORE_EDITION = rf"{_EDITIONS}|complete|gold|ultimate|special|anniversary|collector'?s|digital|[0-9]+(?:th|st|nd|rd)"

_EDITION = rf"(?i)^(.*?\S)(?: the)?(?: (?:{_BEFORE_EDITION}))*(?: (?:{_EDITIONS})| (?:{_BEFORE_EDITION}|\S+) edition)$"
"""Before the word edition anything may stand; without that word only what hardly ends a name (not Black Gold)."""

_MARKS = r"[™®©℠'`\x{b4}\x{2018}\x{2019}]"

_SUBTITLE = r"^(.+?)(?:\s*[:\x{ff1a}(\[~\x{ff5e}|/]|\s+[-\x{2013}\x{2014}]\s).*$"
"""Colons, tildes and dashes, full-width ones too."""

_LIKENESS = {"text": 0.1, "key": 0.6, "base": 0.3}
"""What the likeness of names is made of: as they are, normalised, and without their editions."""

_OF_TITLE = 0.8
"""How much it counts that one name is the other's main title: of the real pairs of `python -m benchmarks.candidates`
that is what sets names apart most often (Castan: The Beginning, Castan)."""

LEAST_SCORE = 50
"""Of the right games among five, one in 2,700 is less alike than this, and one in 40 of all that are shown."""

_UNSEARCHED = r"[^\pL\pM\pN'\x{2019}&+.!]+"
"""IGDB's search stumbles over hyphens (JosefNemec/Playnite#1336, #2004) and has no use for marks."""


def search_terms(apps: pl.DataFrame) -> pl.DataFrame:
    """The apps of a frame with `appid` and `name` that have a name, as Wanted."""
    name = pl.col("name")
    searched = name.str.replace_all("[™®©℠]", "").str.replace_all(_UNSEARCHED, " ").str.strip_chars()
    shortened = searched.str.replace(_EDITION, "$1")
    says_something = shortened.str.contains(r"[\pL\pN]")
    return (
        apps.filter(name.is_not_null())
        .unique("appid", maintain_order=True)
        .select("appid", "name", search=pl.when(says_something).then(shortened))
        .select(SearchTerms.to_schema().columns.keys())
    )


def parse_found_games(rows: Mapping[int, Sequence[Any]]) -> pl.DataFrame:
    """IGDB's rows by app, as Found; a row that does not conform is no candidate."""
    games = [(appid, game) for appid, some in rows.items() for game in valid(list(some), FoundGame)[0]]
    schema = dtypes(FoundGames)
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
        schema_overrides=schema,
    )
    return columns.unique(["appid", "igdb_id"], keep="first", maintain_order=True)


def rank_candidates(terms: pl.DataFrame, found: pl.DataFrame, least: int = LEAST_SCORE) -> pl.DataFrame:
    """The likeliest of the Found for each of the Wanted, as Candidates: those of at least this score.

    Of equally alike ones first those that are out for a computer, then no editions, then what Steam sells as a game of
    its own.
    """
    is_minor = ~pl.col("game_type").fill_null(0).is_in(MAIN_GAME_TYPES)
    alike = score_names(terms, found)
    scored = found.join(alike, on=["appid", "igdb_id"], how="left", validate="1:1").with_columns(
        pl.col("likeness").fill_null(0)
    )
    order = (pl.col("likeness").neg(), ~pl.col("is_on_computers"), "is_edition", is_minor, "igdb_id")
    return (
        scored.filter(pl.col("likeness") >= least)
        .sort("appid", *order)
        .group_by("appid", maintain_order=True)
        .head(MOST_CANDIDATES)
        .select("appid", "igdb_id", label=_label(), score=pl.col("likeness").floor().cast(pl.Int32))
        .select(Candidates.to_schema().columns.keys())
    )


def score_names(terms: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """How alike the names are (`likeness`, to 100) of each `appid` and `igdb_id` of Found: by the game's best name."""
    names = pl.concat_list("igdb_name", "other_names").list.drop_nulls()
    pairs = (
        found.select("appid", "igdb_id", igdb_name=names)
        .explode("igdb_name")
        .join(terms.select("appid", "name"), on="appid", how="inner", validate="m:1")
    )
    ours, theirs = (_keys(pairs[column]) for column in ("name", "igdb_name"))
    alike = pl.DataFrame(
        {
            **{key: _alike(ours[key], theirs[key]) for key in _LIKENESS},
            "our_title": _alike(ours["title"], theirs["base"]),
            "their_title": _alike(ours["base"], theirs["title"]),
        }
    )
    whole = pl.sum_horizontal(pl.col(key) * weight for key, weight in _LIKENESS.items())
    likeness = pl.max_horizontal(whole, pl.col("our_title", "their_title") * _OF_TITLE)
    scored = pairs.select("appid", "igdb_id").with_columns(alike.select(likeness=likeness))
    return scored.group_by("appid", "igdb_id").agg(pl.col("likeness").max())


def normalise_name(name: pl.Expr) -> pl.Expr:
    """Names without what does not tell them apart: case, accents, ™®©, punctuation; Roman numerals as Arabic ones.

    One of punctuation alone stays as it is.
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
    key = words.list.eval(pl.element().replace(ROMAN)).list.join(" ")
    return pl.when(key == "").then(name).otherwise(key)


def strip_edition(key: pl.Expr) -> pl.Expr:
    """Normalised names without the edition at their end."""
    return key.str.replace(_EDITION, "$1")


def _keys(names: pl.Series) -> pl.DataFrame:
    text = pl.col("text")
    key, title = normalise_name(text), normalise_name(text.str.replace(_SUBTITLE, "$1"))
    return names.to_frame("text").select(
        text.str.to_lowercase(), key=key, base=strip_edition(key), title=strip_edition(title)
    )


def _alike(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    return pl.Series(process.cpdist(ours.to_list(), theirs.to_list(), scorer=fuzz.ratio))


def _label() -> pl.Expr:
    type_ = pl.col("game_type").replace_strict(dict(enumerate(GAME_TYPES)), default=None, return_dtype=pl.String)
    facts = pl.concat_str(pl.col("year").cast(pl.String), type_, separator=", ", ignore_nulls=True)
    return pl.when(facts == "").then("igdb_name").otherwise(pl.format("{} ({})", "igdb_name", facts))
