from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.frames.raw_library import parse_owned_games
from schemas.frames import dtypes, empty_frame
from schemas.library import RawLibrary
from tests.support.libraries import frame

OWNER = {"user_id": "user-1", "steam_id64": "76561197960287930"}
THE_WITNESS = {
    "appid": 210970,
    "name": "The Witness",
    "playtime_forever": 1896,
    "playtime_2weeks": 12,
    "img_icon_url": "5406b4e3",
    "has_community_visible_stats": True,
    "playtime_windows_forever": 363,
    "playtime_mac_forever": 1,
    "playtime_linux_forever": 2,
    "playtime_deck_forever": 3,
    "rtime_last_played": 1639273581,
    "playtime_disconnected": 0,
    "content_descriptorids": [1, 5],
}


def parse(*games: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    return parse_owned_games(games, **OWNER)


def test_a_whole_row_keeps_steams_names_and_loses_fields_that_the_schema_lacks() -> None:
    rows, rejected = parse(THE_WITNESS)
    played = datetime(2021, 12, 12, 1, 46, 21, tzinfo=UTC)
    expected = {name: THE_WITNESS.get(name) for name in dtypes(RawLibrary)} | OWNER | {"rtime_last_played": played}
    assert_frame_equal(rows, frame(RawLibrary, [expected]))
    assert rejected.is_empty()


def test_a_field_that_steam_leaves_out_is_null_the_playtime_zero_and_the_owner_ours() -> None:
    rows, rejected = parse({"appid": 10, "user_id": "user-2", "steam_id64": "76561197960265729"})
    assert_frame_equal(rows, frame(RawLibrary, [OWNER | {"appid": 10, "playtime_forever": 0}]))
    assert rejected.is_empty()
    assert_frame_equal(parse()[0], empty_frame(RawLibrary))


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        pytest.param("name", "Ärger™ 日本語 🎮", "Ärger™ 日本語 🎮", id="beyond ASCII"),
        pytest.param("name", "half \ud83c of a pair", "half ? of a pair", id="lone surrogate"),
        pytest.param("name", 1942, "1942", id="a number for a name"),
        pytest.param("appid", "10", 10, id="appid as text of digits"),
        pytest.param("playtime_forever", None, 0, id="null playtime"),
        pytest.param("rtime_last_played", 0, None, id="never played"),
        pytest.param("rtime_last_played", 86400, None, id="the day Steam gives very old plays"),
        pytest.param("rtime_last_played", 1072915199, None, id="last second of 2003"),
        pytest.param("rtime_last_played", 1072915200, datetime(2004, 1, 1, tzinfo=UTC), id="first second of 2004"),
        pytest.param("rtime_last_played", 2**32 - 1, datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), id="highest uint32"),
    ],
)
def test_a_value_is_read_as(field: str, value: object, kept: object) -> None:
    rows, rejected = parse({"appid": 10, field: value})
    assert (rows[field].to_list(), rejected.height) == ([kept], 0)


@pytest.mark.parametrize(
    ("game", "failed"),
    [
        pytest.param({"name": "Nameless id"}, "appid: not_nullable", id="no appid"),
        pytest.param({"appid": 0}, "appid: greater_than_or_equal_to(1)", id="appid 0"),
        pytest.param({"appid": 10**400}, "appid: not Int32", id="appid of 400 digits"),
        pytest.param({"appid": "１０"}, "appid: not Int32", id="appid in full-width digits"),  # noqa: RUF001
        pytest.param({"appid": True}, "appid: not Int32", id="truth for an appid"),
        pytest.param({"appid": {"id": 10}}, "appid: not Int32", id="object for an appid"),
        pytest.param({"appid": 10, "rtime_last_played": 2**32}, "rtime_last_played: not Datetime", id="above uint32"),
        pytest.param(
            {"appid": 10, "rtime_last_played": "x"}, "rtime_last_played: not Datetime", id="letters for a time"
        ),
        pytest.param("The Witcher 3", "appid: not_nullable", id="text for a row"),
        pytest.param([{"appid": 10}], "appid: not_nullable", id="list for a row"),
    ],
)
def test_an_unusable_row_is_rejected_alone_with_the_check_that_it_failed(game: object, failed: str) -> None:
    rows, rejected = parse({"appid": 570}, game, {"appid": 440})
    assert rows["appid"].to_list() == [570, 440], "in Steam's order"
    assert rejected.columns == [*dtypes(RawLibrary), "rejected_check"]
    assert rejected["rejected_check"][0].startswith(failed)
    assert rejected["user_id"].to_list() == ["user-1"]


def test_a_rejected_row_holds_what_steam_sent() -> None:
    _, rejected = parse({"appid": 2**31, "name": "Huge", "rtime_last_played": 2**32})
    assert rejected.select("appid", "name", "playtime_forever", "rtime_last_played").row(0) == (
        "2147483648",
        "Huge",
        "0",
        "4294967296",
    )
