"""What each app is, by its name; a table of rules compiled into one expression."""

from typing import NamedTuple

import polars as pl

from schemas.frames import ENRICHED_KINDS, KINDS


class Rule(NamedTuple):
    """`name` goes into kind_reason; `pattern` is a regular expression, matched without regard to case."""

    name: str
    pattern: str
    kind: str


RULES = (
    Rule("multiplayer", r"- Multi-?player\b", "multiplayer_component"),
    Rule("dlc", r"- DLC\b|\bSeason Pass\b|\bExpansion\b", "dlc"),
    Rule("demo", r"- Demo\b", "demo"),
    Rule("soundtrack", r"- Soundtrack\b", "soundtrack"),
    Rule("editor", r"\bEditor\b", "tool"),
)
"""The first rule that matches decides."""


def classify(library: pl.DataFrame) -> pl.DataFrame:
    """RawLibrary as ClassifiedLibrary, in one pass; a name that no rule knows is a game's."""
    return library.with_columns(
        kind=_by_name([rule.kind for rule in RULES], "game").cast(pl.Enum(KINDS)),
        kind_reason=_by_name([f"name:{rule.name}" for rule in RULES], "default"),
    )


def looked_up() -> pl.Expr:
    """Whether an app is of a kind that IGDB is asked about; all others are filtered."""
    return pl.col("kind").cast(pl.String).is_in(ENRICHED_KINDS)


def _by_name(outcomes: list[str], otherwise: str) -> pl.Expr:
    matches = [pl.col("name").str.contains(f"(?i){rule.pattern}") for rule in RULES]
    return pl.coalesce(
        *(pl.when(match).then(pl.lit(outcome)) for match, outcome in zip(matches, outcomes, strict=True)),
        pl.lit(otherwise),
    )
