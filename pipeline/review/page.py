"""Render a review sheet as one HTML page, in which a person decides and saves the CSV that `review apply` takes."""

from hashlib import sha256

import polars as pl
from pandera.typing.polars import DataFrame

from pipeline.pages import render_page
from schemas.review import MOST_CANDIDATES, ReviewSheet

REASON_WORDS = {
    "not_found": "IGDB does not list its Steam id",
    "ambiguous": "IGDB lists its Steam id for several games",
    "igdb_incomplete": "IGDB's row of its game is broken",
    "igdb_unavailable": "IGDB did not answer",
    "not_looked_up": "not looked up yet",
    "filtered": "filtered",
    "external_game": "matched by IGDB's list of Steam ids",
    "override": "decided by hand",
}
"""The words in which the page gives the reason for an app's match, by `match_reason`."""


def render_review_page(sheet: DataFrame[ReviewSheet]) -> str:
    """Return a page with the apps of a review sheet and their candidates; equal sheets make equal pages.

    The page asks nobody for anything. It keeps the decisions in the browser, apart from those of another sheet.
    """
    columns = ("appid", "name", "owners", "playtime_forever", "match_status", "match_reason", "kind", "proposed")
    candidates = pl.concat_list(_candidate(number) for number in range(1, MOST_CANDIDATES + 1)).list.drop_nulls()
    apps = sheet.select(*columns, "decided", "matched_id", "matched", candidates=candidates).to_dicts()
    digest = sha256(sheet.write_csv().encode()).hexdigest()[:16]
    data = {"apps": apps, "digest": digest, "words": REASON_WORDS}
    return render_page("pipeline.review", "review", {}, {"apps": apps, "data": data})


def _candidate(number: int) -> pl.Expr:
    """Return an expression for a candidate of each app, by its number from 1: a struct, null where there is none."""
    name = f"candidate_{number}"
    candidate = pl.struct(id=f"{name}_id", label=name, score=f"{name}_score")
    return pl.when(pl.col(f"{name}_id").is_not_null()).then(candidate)
