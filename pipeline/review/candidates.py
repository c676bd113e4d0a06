"""Compare the names of apps with those of IGDB's games: what to ask IGDB for, and which games are candidates.

No app is matched by its name alone: people choose.
"""

from collections.abc import Iterable, Mapping

import polars as pl
from pandera.typing.polars import DataFrame
from rapidfuzz import fuzz, process

from pipeline.frames.match import (
    ARABIC_NUMERALS,
    BEFORE_EDITION,
    EDITION,
    EDITIONS,
    MAIN_GAME_TYPES,
    normalise_name,
    strip_edition,
)
from schemas.frames import conform, dtypes
from schemas.review import MOST_CANDIDATES, Candidates, FoundGame, FoundGames, SearchTerms

_LAST_EDITION = rf"(?i)^(.*\S)(?: (?:{EDITIONS}|complete)| game of the year edition| \S+ edition)$"
"""Matches only the last of a name's edition suffixes: Ultimate Anniversary Edition may be an edition of Ultimate."""

_PART = r"(?:\s*[:\x{ff1a}~\x{ff5e}|/]|\s+[-\x{2013}\x{2014}]\s)"
"""Matches the separator before a later part of a name: a colon, tilde or dash, full-width ones too."""

_SUBTITLE = rf"^(.+?)(?:{_PART}|\s*[(\[]).*$"
"""Matches a name of several parts or with brackets; the group is its first part."""

_LAST_PART = rf"^(.+\S){_PART}.*?$"
"""Matches a name of several parts; the group is all of them but the last."""

_BRACKETS = r"\s*[(\[\x{ff08}][^)\]\x{ff09}]*[)\]\x{ff09}]"
"""Matches a year, an edition or a remark in brackets, with which IGDB's search finds nothing."""

_NOT_SEARCHED = r"[^\pL\pM\pN'&+.!]+"
"""Matches what is left out of a search: IGDB's stumbles over hyphens (JosefNemec/Playnite#1336, #2004)."""

_EAST_ASIAN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+"
"""Matches text in another script: names on Steam often hold two titles, of which IGDB may have one."""

_STOP_WORDS = "a|an|and|at|by|for|from|in|is|it|its|of|on|or|s|the|this|to|vs|with"

_INDISTINCT = rf"(?i)^(?:{_STOP_WORDS}|{BEFORE_EDITION}|edition|vr|[0-9]+|{'|'.join(ARABIC_NUMERALS)})$"
"""Matches a word that IGDB's search ignores, that says little, or that Steam and IGDB may write differently."""

DISTINCTIVE_WORDS = 2
"""The number of distinctive words in the last search: IGDB finds nothing if the right name lacks one of them."""

COMPUTERS = {3, 6, 14}
"""IGDB's ids of the platforms on which Steam runs: Linux, PC (Microsoft Windows) and Mac."""

GAME_TYPES = (
    *("main game", "DLC", "expansion", "bundle", "standalone expansion", "mod", "episode", "season", "remake"),
    *("remaster", "expanded game", "port", "fork", "pack", "update"),
)
"""The names of IGDB's game types, at the index that is the type's number (`game_type`)."""

PLATFORMS_SHOWN = 6
"""The most platforms that a candidate's label names: some games are out for dozens."""

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
"""The weight of whole names where parts of them are compared: of games that share a part, the most similar is first."""

_OTHER_NUMBERS = 0.8
"""The factor that lowers the similarity of two names whose numbers differ, such as Portal and Portal 2."""


def search_terms(apps: pl.DataFrame) -> DataFrame[SearchTerms]:
    """Return a row per named app with what to ask IGDB for; `apps` is any frame with `appid` and `name`."""
    named = apps.filter(pl.col("name").is_not_null()).unique("appid", maintain_order=True)
    straight = pl.col("name").str.replace_all(r"[\x{b4}`\x{2018}\x{2019}]", "'")
    forms = (
        named.select("appid", "name", whole=_tidy(pl.col("name")), clean=_tidy(straight.str.replace_all("[™®©℠]", "")))
        .with_columns(
            plain=_tidy(pl.col("clean").str.replace_all(_BRACKETS, " ")),
            without_last_edition=_tidy(pl.col("clean").str.replace(_LAST_EDITION, "$1")),
        )
        .with_columns(base=_or_else(_tidy(pl.col("plain").str.replace(EDITION, "$1")), "clean"))
        .with_columns(
            shorter=_tidy(pl.col("base").str.replace(_LAST_PART, "$1")),
            title=_or_else(_tidy(pl.col("base").str.replace(_SUBTITLE, "$1").str.replace(EDITION, "$1")), "base"),
        )
    )
    searched = pl.col("base").str.replace_all(_NOT_SEARCHED, " ").str.strip_chars()
    terms = forms.select(
        "appid",
        "name",
        spellings=_spellings(),
        search_text=pl.when(_has_words(searched)).then(searched),
        fallback_text=_distinctive_words(),
    )
    return conform(terms, SearchTerms)


def _spellings() -> pl.Expr:
    """Return an expression that lists the forms in which IGDB may hold a name: each costs a few bytes of a request.

    A form with an asterisk is left out: in a condition of IGDB it may stand for any text. So is a form of one word that
    says little (The, Deluxe, 2), unless the app is called so, and the first of two words: other games are called so.
    """
    forms = pl.concat_str("whole", "clean", "plain", "without_last_edition", "base", "shorter", "title", separator="\n")
    further = [
        pl.col("clean", "base").str.replace_all(r"\s+[-\x{2013}\x{2014}~]\s*", ": ").name.suffix("_colon"),
        pl.col("clean", "base").str.replace_all(r"\s*:\s+", " - ").name.suffix("_dash"),
        _tidy(pl.col("base").str.replace_all(_EAST_ASIAN, " ")).alias("latin"),
        _tidy(pl.col("base").str.replace(r"^(\S+ \S.*) \S+$", "$1")).alias("without_last_word"),
        _tidy(pl.col("base").str.replace(r"^(\S+ \S.*) \S+ \S+$", "$1")).alias("without_last_two_words"),
    ]
    all_forms = pl.concat_str(forms, *_with_other_numerals(forms), *further, separator="\n").str.split("\n")
    says_much = pl.element().filter(~pl.element().str.contains(_INDISTINCT))
    is_asked = _has_words(pl.element()) & ~pl.element().str.contains("*", literal=True)
    own = pl.concat_list("whole", "clean", all_forms.list.eval(says_much))
    return own.list.unique(maintain_order=True).list.eval(pl.element().filter(is_asked))


def _with_other_numerals(forms: pl.Expr) -> list[pl.Expr]:
    """Return expressions with all numbers as Arabic numerals, all as Roman ones, and each as the other kind."""
    arabic, roman, other = forms, forms, forms
    for numeral, number in ARABIC_NUMERALS.items():
        arabic = _replace_number(arabic, f"(?i:{numeral})", number)
        roman = _replace_number(roman, number, numeral.upper())
        other = _replace_number(other, f"(?i:{numeral})", f"\0{number}")  # the mark keeps it from being replaced back
    for numeral, number in ARABIC_NUMERALS.items():
        other = _replace_number(other, number, numeral.upper())
    return [arabic, roman, other.str.replace_all("\0", "", literal=True)]


def _replace_number(name: pl.Expr, number: str, replacement: str) -> pl.Expr:
    """Return an expression that replaces a number, but not at the start of a name: X-Plane is not 10-Plane."""
    return name.str.replace_all(rf"([ .#+-]){number}(\W|$)", f"${{1}}{replacement}${{2}}")


def _distinctive_words() -> pl.Expr:
    words = pl.col("title").str.replace_all(_NOT_SEARCHED, " ").str.strip_chars().str.split(" ")
    is_distinct = ~pl.element().str.contains(_INDISTINCT) & _has_words(pl.element())
    return words.list.eval(pl.element().filter(is_distinct)).list.head(DISTINCTIVE_WORDS).list.join(" ")


def _tidy(name: pl.Expr) -> pl.Expr:
    """Return an expression with single blanks, and without blanks or separators at the ends of a name."""
    return name.str.replace_all(r"\s+", " ").str.strip_chars(" -:,~|/\u2013\u2014")


def _has_words(name: pl.Expr) -> pl.Expr:
    return name.str.contains(r"[\pL\pN]")


def _or_else(name: pl.Expr, other: str) -> pl.Expr:
    return pl.when(_has_words(name)).then(name).otherwise(other)


def tabulate_games(by_app: Mapping[int, Iterable[FoundGame]]) -> DataFrame[FoundGames]:
    """Return a row per app and IGDB game found for it, from a mapping of appid to the games."""
    games = [(appid, game) for appid, found in by_app.items() for game in found]
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
    """Return up to five of the games found for each app: those of `least_score` or more, the most similar name first.

    Of equally similar games, those that are out for a computer come first, then those that are no editions, then those
    of a type that Steam sells as a game of its own.
    """
    is_minor = ~pl.col("game_type").fill_null(0).is_in(MAIN_GAME_TYPES)
    likeness = pl.col("likeness").fill_null(0)
    order = (likeness.neg(), ~pl.col("is_on_computers"), "is_edition", is_minor, "igdb_id")
    ranked = (
        found.join(_score_names(terms, found), on=["appid", "igdb_id"], how="left", validate="1:1")
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


def _score_names(terms: DataFrame[SearchTerms], found: DataFrame[FoundGames]) -> pl.DataFrame:
    """Return a row per app and found IGDB game with the `likeness` of their names, from 0 to 100.

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
    return scored.agg(pl.col("likeness").max())


def _comparable(names: pl.Series) -> pl.DataFrame:
    """Return each name in the forms that are compared: `text`, `key`, `base`, `title` and `shorter`."""
    text = pl.col("text")
    key = normalise_name(text)
    return names.to_frame("text").select(
        text.str.to_lowercase(),
        key=key,
        base=strip_edition(key),
        title=strip_edition(normalise_name(text.str.replace(_SUBTITLE, "$1"))),
        shorter=strip_edition(normalise_name(text.str.replace(_LAST_PART, "$1"))),
    )


def _ratios(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    return pl.Series(process.cpdist(ours.to_list(), theirs.to_list(), scorer=fuzz.ratio))


def _numbers_factor(ours: pl.Series, theirs: pl.Series) -> pl.Series:
    """Return the factor for each pair of names: 1 if they have the same numbers."""
    numbers, other_numbers = (names.str.extract_all(r"\b\d+\b").list.join(" ") for names in (ours, theirs))
    return (numbers == other_numbers).replace_strict({True: 1.0, False: _OTHER_NUMBERS}, return_dtype=pl.Float32)
