"""Classify apps into kinds: by override, store type, IGDB's list of games, name, or else as games."""

from collections.abc import Collection, Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.match import NO_GAME_TYPES, normalise_name, strip_edition
from pipeline.frames.name_rules import STORE_GAME_RULES, first_matching_rule, without_words_of_rule
from schemas.apis import StoreItem, parse_rows
from schemas.catalogue import KIND_OF_STORE_TYPE, STORE_TYPES, Catalogue, Overrides, StoreTypes
from schemas.frames import conform, dtypes
from schemas.library import ENRICHED_KINDS, KINDS, ClassifiedLibrary, RawLibrary

_BESIDE_RULE = (
    r"^( (open|closed|public|private|internal|final|technical|tech|network|stress|pre|alpha|beta|demo|tests?|client"
    r"|server|dedicated|branch|build|environment|multiplayer|linux|windows|version"
    r"|the|digital|complete|extended|and|art|book|artbook|v|vol|volume|(v|vol)?[0-9]+))*$"
)
"""A pattern for what may follow the parent's name, folded, beside the words of a rule (… Closed Playtest 2)."""

_CATALOGUE_COLUMNS = ("appid", "store_type", "match_reason", "igdb_name", "igdb_game_type")


def classify(
    library: DataFrame[RawLibrary],
    known: DataFrame[Catalogue],
    overrides: DataFrame[Overrides],
    unanswered: Collection[int] = (),
) -> DataFrame[ClassifiedLibrary]:
    """Return the library with the kind of each app (game, dlc, …) and the reason for it.

    The authorities, in their order: an override to `match` or `game`; a store type other than game; IGDB, where it
    lists as a game what a rule would filter; the rules about names; the store type game. Test servers and public betas
    are games to the store, so some rules hold against that type too. No rule decides about the appids in `unanswered`,
    which IGDB was asked for without an answer: it may list them as games.
    """
    name = pl.when(~pl.col("appid").is_in(list(unanswered))).then("name")
    rule = pl.when(pl.col("store_type") == "game").then("store_game_rule").otherwise("any_rule")
    rows = (
        library.join(known.select(_CATALOGUE_COLUMNS), on="appid", how="left", validate="m:1", maintain_order="left")
        .join(overrides.select("appid", "action"), on="appid", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            pl.col("store_type").cast(pl.String),
            any_rule=first_matching_rule(name),
            store_game_rule=first_matching_rule(name, STORE_GAME_RULES),
        )
        .with_columns(rule.struct.field("kind").alias("kind_by_name"), rule.struct.field("rule"))
    )
    decided = _mark_contradicted_rules(rows).with_columns(
        kind=_decide(
            override=pl.lit("game"),
            store=pl.col("store_type").replace_strict(KIND_OF_STORE_TYPE),
            igdb=pl.lit("game"),
            name=pl.col("kind_by_name"),
            default=pl.lit("game"),
        ).cast(pl.Enum(KINDS)),
        kind_reason=_decide(
            override=pl.lit("override"),
            store=pl.format("store:{}", "store_type"),
            igdb=pl.lit("igdb"),
            name=pl.format("name:{}", "rule"),
            default=pl.lit("default"),
        ),
    )
    return conform(decided.select(dtypes(ClassifiedLibrary).keys()), ClassifiedLibrary)


def is_game() -> pl.Expr:
    """Return an expression that is true for apps of a kind that is matched to IGDB; other kinds are filtered."""
    return pl.col("kind").cast(pl.String).is_in(ENRICHED_KINDS)


def is_game_unless_named_otherwise() -> pl.Expr:
    """Return an expression that is true where override and store leave it to IGDB or the name what an app is."""
    kind_in_store = pl.col("store_type").cast(pl.String).replace_strict(KIND_OF_STORE_TYPE)
    return _is_game_by_override() | kind_in_store.is_in(ENRICHED_KINDS).fill_null(value=True)


def parse_store_items(items: Sequence[Any]) -> DataFrame[StoreTypes]:
    """Return a row per app with its type in Steam's store, from `store_items` rows; of duplicates the last counts.

    A type is believed only where `success` is 1, for the type of a hidden app reads as game.
    """
    found = {item.id: item for item in parse_rows(list(items), StoreItem)[0]}.values()
    numbers = [item.type if item.success == 1 and item.type in range(len(STORE_TYPES)) else None for item in found]
    rows = pl.DataFrame(
        {
            "appid": [item.id for item in found],
            "store_type": [None if number is None else STORE_TYPES[number] for number in numbers],
        },
        schema=dtypes(StoreTypes),
    )
    return conform(rows, StoreTypes)


def _mark_contradicted_rules(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with `is_contradicted`: whether IGDB lists the app as a game, against the rule about its name.

    IGDB lists some demos and tests under the game that they belong to: what is left of their names without the words
    of the rule is that game's name, but for an edition or a word like closed or client, and the rule stands. So it does
    where the game has no name.
    """
    # A match that an override gave says nothing about what IGDB lists.
    is_listed = pl.col("match_reason").cast(pl.String).is_in(["external_game", "ambiguous"])
    is_no_game = pl.col("igdb_game_type").is_in(NO_GAME_TYPES).fill_null(value=False)
    rest = strip_edition(normalise_name(without_words_of_rule(pl.col("name"), pl.col("rule"))))
    parent = strip_edition(normalise_name(pl.col("igdb_name")))
    is_under_parent = rest.str.starts_with(parent) & rest.str.strip_prefix(parent).str.contains(_BESIDE_RULE)
    rows = rows.with_row_index()
    listed = rows.filter(pl.col("rule").is_not_null() & is_listed & ~is_no_game)
    contradicted = listed.filter(~is_under_parent.fill_null(value=True)).select("index", is_contradicted=True)
    return rows.join(contradicted, on="index", how="left", validate="1:1", maintain_order="left")


def _is_game_by_override() -> pl.Expr:
    return pl.col("action").cast(pl.String).is_in(["match", "game"]).fill_null(value=False)


def _decide(*, override: pl.Expr, store: pl.Expr, igdb: pl.Expr, name: pl.Expr, default: pl.Expr) -> pl.Expr:
    """Return an expression for the value of the first authority that decides about an app."""
    return (
        pl.when(_is_game_by_override())
        .then(override)
        .when(pl.col("store_type") != "game")
        .then(store)
        .when("is_contradicted")
        .then(igdb)
        .otherwise(pl.coalesce(name, store, default))
    )
