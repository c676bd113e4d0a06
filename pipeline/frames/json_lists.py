"""The lists that an enriched CSV holds as JSON."""

import polars as pl

from pipeline.errors import Failed
from schemas.frames import GENRE, PLATFORM, DecodedLibrary

GENRES, PLATFORMS = pl.List(GENRE), pl.List(PLATFORM)
LISTS = {"igdb_genres": GENRES, "igdb_platforms": PLATFORMS, "igdb_candidates": pl.List(pl.Int32)}


def decode(library: pl.DataFrame) -> pl.DataFrame:
    """EnrichedLibrary as DecodedLibrary; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`, where a list is not the JSON that the schema describes.
    """
    for column, dtype in LISTS.items():
        library = decoded(library, column, dtype)
    return DecodedLibrary.validate(library)


def decoded(rows: pl.DataFrame, column: str, dtype: pl.List) -> pl.DataFrame:
    """The rows with one column of JSON arrays as lists; an empty cell is null.

    Raises:
        Failed: `checkpoint_invalid`.
    """
    # An empty cell would vanish from what json_decode returns, and the lists below it would move up by one row.
    lists = pl.when(pl.col(column).str.strip_chars() != "").then(column)
    try:
        return rows.with_columns(lists.str.json_decode(dtype).alias(column))
    except pl.exceptions.PolarsError as error:
        raise Failed(
            "checkpoint_invalid",
            f"{column} of the enriched CSV is not the JSON array that enrich writes "
            f"({str(error).splitlines()[0]}): run enrich again.",
        ) from error
