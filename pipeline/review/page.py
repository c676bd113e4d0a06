"""Render a review sheet as one HTML page, in which a person decides and saves the CSV that `review apply` takes."""

from hashlib import sha256

from pandera.typing.polars import DataFrame

from pipeline.pages.render import render_page
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
"""What the page says about each `match_reason`."""


def render_review_page(sheet: DataFrame[ReviewSheet]) -> str:
    """Return a page with the apps of a review sheet and their candidates; equal sheets make equal pages.

    The page asks nobody for anything. It keeps the decisions in the browser, apart from those of another sheet.
    """
    apps = [_as_json(row) for row in sheet.iter_rows(named=True)]
    digest = sha256(sheet.write_csv().encode()).hexdigest()[:16]
    return render_page(
        "pipeline.review", "review", {}, {"apps": apps, "data": {"apps": apps, "digest": digest, "words": REASON_WORDS}}
    )


def _as_json(row: dict[str, object]) -> dict[str, object]:
    """Return a row of the sheet as the page's script reads it, with its candidates in a list."""
    columns = ("appid", "name", "owners", "playtime_forever", "match_status", "match_reason", "kind", "proposed")
    candidates = [
        {
            "id": row[f"candidate_{number}_id"],
            "label": row[f"candidate_{number}"],
            "score": row[f"candidate_{number}_score"],
        }
        for number in range(1, MOST_CANDIDATES + 1)
        if row[f"candidate_{number}_id"] is not None
    ]
    return {name: row[name] for name in (*columns, "decided", "matched_id", "matched")} | {"candidates": candidates}
