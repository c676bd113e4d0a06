"""What of a run is worth a person's look, as rows of a file to fill in."""

import polars as pl

from pipeline.frames.classify import classify, looked_up
from schemas.frames import ACTIONS, RawLibrary
from schemas.review import MOST_CANDIDATES, ReviewSheet

RAW = tuple(RawLibrary.to_schema().columns)
SHEET = {name: column.dtype.type for name, column in ReviewSheet.to_schema().columns.items()}


def unmatched(enriched: pl.DataFrame) -> pl.DataFrame:
    """The games of an EnrichedLibrary that IGDB has not at all, in pieces or more than once, the most played first."""
    return _by_playtime(enriched.filter(pl.col("match_status") == "UNMATCHED"))


def freed(enriched: pl.DataFrame, known: pl.DataFrame, overrides: pl.DataFrame) -> pl.DataFrame:
    """The apps of an EnrichedLibrary that were filtered, and are games by today's rules, types and overrides."""
    filtered = _by_playtime(enriched.filter(pl.col("match_reason") == "filtered"))
    today = classify(filtered.select(RAW), known, overrides)
    return filtered.join(today.filter(looked_up()), on="appid", how="semi", maintain_order="left")


def ambiguous(enriched: pl.DataFrame) -> dict[int, list[int]]:
    """The IGDB games of each app of an EnrichedLibrary that may be several."""
    listed = pl.col("igdb_candidates").str.json_decode(pl.List(pl.Int32))
    apps = enriched.filter(pl.col("match_reason") == "ambiguous").unique("appid").select("appid", games=listed)
    return dict(apps.rows())


def review_sheet(
    unmatched: pl.DataFrame, freed: pl.DataFrame, candidates: pl.DataFrame, overrides: pl.DataFrame, key: str
) -> pl.DataFrame:
    """Rows of EnrichedLibrary and their Candidates as a ReviewSheet of the enriched CSV of that key."""
    nothing, game = (pl.lit(action, pl.Enum(ACTIONS)) for action in (None, "game"))
    apps = pl.concat([unmatched.with_columns(proposed=nothing), freed.with_columns(proposed=game)])
    decided = pl.concat_str(pl.col("action").cast(pl.String), "override_igdb_id", separator=" ", ignore_nulls=True)
    blank = dict.fromkeys(("action", "igdb_id", "note"), pl.lit(None))
    return (
        apps.drop("igdb_id")
        .join(overrides.select("appid", decided=decided), on="appid", how="left", validate="1:1", maintain_order="left")
        .join(_across(candidates), on="appid", how="left", validate="1:1", maintain_order="left")
        .with_columns(**blank, checkpoint=pl.lit(key))
        .select(pl.col(name).cast(dtype) for name, dtype in SHEET.items())
    )


def _by_playtime(apps: pl.DataFrame) -> pl.DataFrame:
    return apps.unique("appid", keep="first", maintain_order=True).sort(
        "playtime_forever", "appid", descending=[True, False]
    )


def _across(candidates: pl.DataFrame) -> pl.DataFrame:
    """The Candidates of an app side by side."""
    by_app = candidates.group_by("appid").agg("igdb_id", "label", "score")
    columns = {"igdb_id": "candidate_{}_id", "label": "candidate_{}", "score": "candidate_{}_score"}
    return by_app.select(
        "appid",
        *(
            pl.col(column).list.get(number, null_on_oob=True).alias(name.format(number + 1))
            for number in range(MOST_CANDIDATES)
            for column, name in columns.items()
        ),
    )
