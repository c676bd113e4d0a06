import polars as pl
import pytest

from schemas.frames import set_aside
from schemas.library import EnrichedLibrary
from tests.support.libraries import library, matched


@pytest.mark.parametrize(
    ("json", "rejected"),
    [
        pytest.param(r'[{"id":5,"name":"N\u0000","slug":"s","checksum":null}]', 1, id="an escaped NUL"),
        pytest.param(r'[{"id":5,"name":"\\\u0000","slug":"s","checksum":null}]', 1, id="a backslash and a NUL"),
        pytest.param(r'[{"id":5,"name":"\\u0000","slug":"s","checksum":null}]', 0, id="its spelling"),
        pytest.param('[{"id":5,"name":"N","slug":"s","checksum":null}]', 0, id="none"),
    ],
)
def test_no_nul_hides_in_json(json: str, rejected: int) -> None:
    rows = library(matched(620, 72)).with_columns(igdb_genres=pl.lit(json))
    assert set_aside(rows, EnrichedLibrary)[1].height == rejected
