"""What each app is: a human's word, else the store's, else what its name gives away, else a game."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from pipeline.frames.name_rules import STORE_GAME_RULES, first_matching_rule
from schemas.catalogue import STORE_TYPES
from schemas.igdb import valid
from schemas.library import ENRICHED_KINDS, KINDS, ClassifiedLibrary
from schemas.steam import StoreItem

KIND_OF_STORE_TYPE = {
    "game": "game",
    "demo": "demo",
    "mod": "mod",
    "movie": "video",
    "dlc": "dlc",
    "guide": "bonus_content",
    "software": "software",
    "video": "video",
    "series": "series",
    "episode": "video",
    "hardware": "hardware",
    "music": "soundtrack",
    "beta": "beta",
    "tool": "tool",
    "advertising": "bonus_content",
}


def classify(library: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """RawLibrary with what the Catalogue and the Overrides say of its apps, as ClassifiedLibrary.

    A store type of game leaves a name its say: test servers and public betas are games to the store.
    """
    return (
        library.join(known.select("appid", "store_type"), on="appid", how="left", validate="m:1", maintain_order="left")
        .join(overrides.select("appid", "action"), on="appid", how="left", validate="m:1", maintain_order="left")
        .with_columns(
            pl.col("store_type").cast(pl.String),
            named=first_matching_rule(pl.col("name")),
            named_anyway=first_matching_rule(pl.col("name"), STORE_GAME_RULES),
        )
        .with_columns(
            kind=_decide(
                pl.lit("game"), pl.col("store_type").replace_strict(KIND_OF_STORE_TYPE), _named("kind"), pl.lit("game")
            ),
            kind_reason=_decide(
                pl.lit("override"),
                pl.format("store:{}", "store_type"),
                pl.format("name:{}", _named("rule")),
                pl.lit("default"),
            ),
        )
        .with_columns(pl.col("kind").cast(pl.Enum(KINDS)))
        .select(ClassifiedLibrary.to_schema().columns.keys())
    )


def is_looked_up() -> pl.Expr:
    """Whether an app is of a kind that IGDB is asked about; all others are filtered."""
    return pl.col("kind").cast(pl.String).is_in(ENRICHED_KINDS)


def parse_store_items(items: Sequence[Any]) -> pl.DataFrame:
    """The store's rows as StoreTypes; a type is believed only where `success` is 1: a hidden app's reads as game."""
    found = {item.id: item for item in valid(list(items), StoreItem)[0]}.values()
    types = [item.type if item.success == 1 and item.type in range(len(STORE_TYPES)) else None for item in found]
    return pl.DataFrame(
        {"appid": [item.id for item in found], "store_type": [None if t is None else STORE_TYPES[t] for t in types]},
        schema={"appid": pl.Int32, "store_type": pl.Enum(STORE_TYPES)},
    )


def _decide(override: pl.Expr, store: pl.Expr, name: pl.Expr, default: pl.Expr) -> pl.Expr:
    """In the order of their authority; an override decides a kind when it says that an app is a game."""
    says_game = pl.col("action").cast(pl.String).is_in(["match", "game"]).fill_null(value=False)
    says_other = (pl.col("store_type") != "game").fill_null(value=False)
    return pl.when(says_game).then(override).when(says_other).then(store).otherwise(pl.coalesce(name, store, default))


def _named(field: str) -> pl.Expr:
    """What the name says, by all rules, or by those that hold though the store says game."""
    by_all, anyway = (pl.col(column).struct.field(field) for column in ("named", "named_anyway"))
    return pl.when(pl.col("store_type") == "game").then(anyway).otherwise(by_all)
