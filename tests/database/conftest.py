import polars as pl
import pytest

from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched


@pytest.fixture
def rows() -> pl.DataFrame:
    return library(
        app(1, match_status="IGNORED", match_reason="filtered", kind="demo"),
        app(2),
        app(3, match_status="PENDING", match_reason="igdb_unavailable"),
        matched(10, 100, igdb_genres=[FIGHTING, SHOOTER], igdb_platforms=[WINDOWS], playtime_forever=7),
        matched(20, 200, igdb_genres=[SHOOTER]),
    )
