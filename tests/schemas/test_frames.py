import polars as pl
import pytest
from pandera.errors import SchemaErrors
from polars.testing import assert_frame_equal

from schemas.catalogue import ExternalGames
from schemas.frames import check_rows, set_aside
from schemas.library import EnrichedLibrary, RawLibrary
from tests.support.libraries import library, matched

COLUMNS = list(RawLibrary.to_schema().columns)


def raw_text(**columns: str | None) -> pl.DataFrame:
    """One row of a raw CSV as text."""
    row = dict.fromkeys(COLUMNS) | {"user_id": "user-1", "steam_id64": "76561197960287930", "appid": "1"}
    return pl.DataFrame([row | {"playtime_forever": "0"} | columns], schema=dict.fromkeys(COLUMNS, pl.String))


def test_rows_that_conform_and_rows_that_do_not_are_parted_in_their_order() -> None:
    pairs = pl.DataFrame({"appid": ["3", "x", "1", "0"], "igdb_id": ["30", "1", "10", "20"]})
    accepted, rejected = set_aside(pairs, ExternalGames)
    assert_frame_equal(
        accepted, pl.DataFrame({"appid": [3, 1], "igdb_id": [30, 10]}, schema=dict.fromkeys(pairs.columns, pl.Int32))
    )
    assert_frame_equal(
        rejected,
        pl.DataFrame(
            {
                "appid": ["x", "0"],
                "igdb_id": ["1", "20"],
                "rejected_check": ["appid: not Int32", "appid: greater_than_or_equal_to(1)"],
            }
        ),
    )


def test_rejected_rows_are_text_again_as_a_csv_spells_them() -> None:
    typed, _ = check_rows(raw_text(rtime_last_played="2021-12-12T01:46:21Z"), RawLibrary)
    accepted, rejected = set_aside(typed.with_columns(appid=pl.lit(0, pl.Int32)), RawLibrary)
    assert accepted.is_empty()
    assert set(rejected.dtypes) == {pl.String}
    assert rejected.select("appid", "rtime_last_played", "name").row(0) == ("0", "2021-12-12T01:46:21Z", None)


@pytest.mark.parametrize(
    ("column", "text", "failed"),
    [
        pytest.param("appid", "2147483648", "appid: not Int32", id="above int32"),
        pytest.param("appid", "1.5", "appid: not Int32", id="fraction"),
        pytest.param("appid", None, "appid: not_nullable", id="null"),
        pytest.param("name", "a\0b", "name: holds_no_nul", id="NUL in a name"),
        pytest.param("user_id", "user/1", "user_id: str_matches", id="user of other characters"),
        pytest.param("steam_id64", "7656119796028793", "steam_id64: str_matches", id="16 digits"),
        pytest.param("rtime_last_played", "2021-12-12 01:46:21", "rtime_last_played: not Datetime", id="other time"),
        pytest.param("rtime_last_played", "2021-02-30T00:00:00Z", "rtime_last_played: not Datetime", id="no such day"),
    ],
)
def test_what_the_model_does_not_allow_is_named(column: str, text: str | None, failed: str) -> None:
    _, rejected = set_aside(raw_text(**{column: text}), RawLibrary)
    assert rejected["rejected_check"][0].startswith(failed)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(raw_text().drop("name"), id="missing column"),
        pytest.param(raw_text().with_columns(colour=pl.lit("red")), id="unknown column"),
        pytest.param(raw_text().with_columns(appid=pl.lit(1, pl.Int64)), id="wrong type"),
    ],
)
def test_other_columns_than_the_models_are_a_bug_and_no_row_is_to_blame(rows: pl.DataFrame) -> None:
    with pytest.raises(SchemaErrors):
        set_aside(rows, RawLibrary)


@pytest.mark.parametrize(
    ("json", "rejected"),
    [
        pytest.param(r'[{"id":5,"name":"N\u0000","slug":"s","checksum":null}]', 1, id="an escaped NUL"),
        pytest.param(r'[{"id":5,"name":"\\\u0000","slug":"s","checksum":null}]', 1, id="a backslash and a NUL"),
        pytest.param(r'[{"id":5,"name":"\\u0000","slug":"s","checksum":null}]', 0, id="its spelling"),
        pytest.param('[{"id":5,"name":"N","slug":"s","checksum":null}]', 0, id="none"),
    ],
)
def test_an_escaped_nul_in_json_is_rejected(json: str, rejected: int) -> None:
    rows = library(matched(620, 72)).with_columns(igdb_genres=pl.lit(json))
    assert set_aside(rows, EnrichedLibrary)[1].height == rejected


def test_every_column_of_free_text_is_checked_for_nul() -> None:
    for name, column in EnrichedLibrary.to_schema().columns.items():
        if column.dtype.type == pl.String and name not in ("user_id", "steam_id64", "igdb_candidates"):
            assert {check.name for check in column.checks} & {"holds_no_nul", "has_no_nul"}, name
