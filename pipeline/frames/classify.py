"""Classify apps into kinds: by override, else by their type in Steam's store, else by their name, else as games."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.frames.name_rules import STORE_GAME_RULES, first_matching_rule
from schemas.apis import StoreItem, parse_rows
from schemas.catalogue import KIND_OF_STORE_TYPE, STORE_TYPES, Catalogue, Overrides, StoreTypes
from schemas.frames import conform, dtypes
from schemas.library import ENRICHED_KINDS, KINDS, ClassifiedLibrary, RawLibrary


def classify(
    library: DataFrame[RawLibrary], known: DataFrame[Catalogue], overrides: DataFrame[Overrides]
) -> DataFrame[ClassifiedLibrary]:
    """Return the library with the kind of each app (game, dlc, …) and the reason for it.

    The authorities, in their order: an override to `match` or `game`; a store type other than game; the name; the store
    type game. Test servers and public betas are games to the store, so some name rules hold against that type too.
    """
    kind = _decide(
        override=pl.lit("game"),
        store=pl.col("store_type").replace_strict(KIND_OF_STORE_TYPE),
        name=_from_name("kind"),
        default=pl.lit("game"),
    )
    kind_reason = _decide(
        override=pl.lit("override"),
        store=pl.format("store:{}", "store_type"),
        name=pl.format("name:{}", _from_name("rule")),
        default=pl.lit("default"),
    )
    rows = (
        library.join(known.select("appid", "store_type"), on="appid", how="left", validate="m:1", maintain_order="left")
        .join(overrides.select("appid", "action"), on="appid", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            pl.col("store_type").cast(pl.String),
            by_all_rules=first_matching_rule(pl.col("name")),
            by_store_game_rules=first_matching_rule(pl.col("name"), STORE_GAME_RULES),
        )
        .with_columns(kind=kind.cast(pl.Enum(KINDS)), kind_reason=kind_reason)
    )
    return conform(rows.select(dtypes(ClassifiedLibrary).keys()), ClassifiedLibrary)


def is_looked_up() -> pl.Expr:
    """Return an expression that is true for apps of a kind that is looked up on IGDB; other kinds are filtered."""
    return pl.col("kind").cast(pl.String).is_in(ENRICHED_KINDS)


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


def _decide(*, override: pl.Expr, store: pl.Expr, name: pl.Expr, default: pl.Expr) -> pl.Expr:
    """Return an expression for the value of the first authority that decides about an app."""
    is_game_by_override = pl.col("action").cast(pl.String).is_in(["match", "game"]).fill_null(value=False)
    is_no_game_in_store = (pl.col("store_type") != "game").fill_null(value=False)
    return (
        pl.when(is_game_by_override)
        .then(override)
        .when(is_no_game_in_store)
        .then(store)
        .otherwise(pl.coalesce(name, store, default))
    )


def _from_name(field: str) -> pl.Expr:
    """Return an expression for a field of the rule that matches the name; fewer rules hold if the store says game."""
    by_all_rules, by_store_game_rules = (
        pl.col(column).struct.field(field) for column in ("by_all_rules", "by_store_game_rules")
    )
    return pl.when(pl.col("store_type") == "game").then(by_store_game_rules).otherwise(by_all_rules)
