"""How IGDB may spell the name of a Steam app, and the words to search for where it spells it otherwise."""

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.match import ARABIC_NUMERALS, BEFORE_EDITION, EDITION, EDITIONS
from schemas.frames import conform
from schemas.review import SearchTerms

_LAST_EDITION = rf"(?i)^(.*\S)(?: (?:{EDITIONS}|complete)| game of the year edition| \S+ edition)$"
"""Matches only the last of a name's edition suffixes: Ultimate Anniversary Edition may be an edition of Ultimate."""

_PART = r"(?:\s*[:\x{ff1a}~\x{ff5e}|/]|\s+[-\x{2013}\x{2014}]\s)"
"""Matches the separator before a later part of a name: a colon, tilde or dash, full-width ones too."""

_SUBTITLE = rf"^(.+?)(?:{_PART}|\s*[(\[]).*$"
_LAST_PART = rf"^(.+\S){_PART}.*?$"

_BRACKETS = r"\s*[(\[\x{ff08}][^)\]\x{ff09}]*[)\]\x{ff09}]"
"""A year, an edition or a remark in brackets, with which IGDB's search finds nothing."""

_NOT_SEARCHED = r"[^\pL\pM\pN'&+.!]+"
"""IGDB's search stumbles over hyphens (JosefNemec/Playnite#1336, #2004) and has no use for marks."""

_EAST_ASIAN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]+"
"""Names on Steam often hold two titles, one of them in another script."""

_STOP_WORDS = "a|an|and|at|by|for|from|in|is|it|its|of|on|or|s|the|this|to|vs|with"

_INDISTINCT = rf"(?i)^(?:{_STOP_WORDS}|{BEFORE_EDITION}|edition|vr|[0-9]+|{'|'.join(ARABIC_NUMERALS)})$"
"""Words that IGDB's search ignores, that say little, or that Steam and IGDB may write differently."""

DISTINCTIVE_WORDS = 2
"""The number of distinctive words in the last search: IGDB finds nothing if the right name lacks one of them."""


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
            title=_or_else(_tidy(strip_subtitle(pl.col("base")).str.replace(EDITION, "$1")), "base"),
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


def strip_subtitle(name: pl.Expr) -> pl.Expr:
    """Return an expression that strips all parts of a name but the first, and what stands in brackets."""
    return name.str.replace(_SUBTITLE, "$1")


def strip_last_part(name: pl.Expr) -> pl.Expr:
    """Return an expression that strips the last of several parts of a name."""
    return name.str.replace(_LAST_PART, "$1")
