"""Whose library a load writes."""

import polars as pl
import pytest

from pipeline.database.database import Database
from pipeline.errors import Failed
from tests.database.rows import load_library, written
from tests.support.databases import add_user, rows_of
from tests.support.libraries import library


def test_a_user_who_does_not_exist_is_named_and_nothing_is_written(database_url: str, rows: pl.DataFrame) -> None:
    with pytest.raises(Failed, match="nobody") as raised:
        load_library(database_url, rows.with_columns(user_id=pl.lit("nobody")), ("nobody",))

    assert raised.value.code == "user_not_found"
    assert rows_of(database_url, "Game") == []


def test_a_row_of_a_user_that_the_load_may_not_touch_is_refused(database_url: str, rows: pl.DataFrame) -> None:
    add_user(database_url, "user-2")
    both = pl.concat([rows, rows.with_columns(user_id=pl.lit("user-2"))])

    with pytest.raises(Failed, match=r"5 rows are of users that this load may not touch \(user-1\)") as raised:
        load_library(database_url, both, ("user-2",))

    assert raised.value.code == "location_refused"
    assert rows_of(database_url, "ImportedGame") == rows_of(database_url, "Game") == []


def test_a_user_can_be_made_on_demand_and_only_once(database_url: str, rows: pl.DataFrame) -> None:
    database = Database(database_url)

    database.ensure_users(["76561197960287930"])
    database.ensure_users(["76561197960287930"])

    loaded = load_library(database_url, rows.with_columns(user_id=pl.lit("76561197960287930")), ("76561197960287930",))
    assert loaded.counts["imported_games_created"] == rows.height


def test_an_empty_library_is_a_load_too(database_url: str, rows: pl.DataFrame) -> None:
    load_library(database_url, rows)

    assert written(load_library(database_url, library())) == {"no_longer_owned": 5}
    assert len(rows_of(database_url, "ImportedGame")) == 5


def test_one_file_can_hold_many_users(database_url: str, rows: pl.DataFrame) -> None:
    add_user(database_url, "user-2")
    both = pl.concat([rows, rows.with_columns(user_id=pl.lit("user-2"))])

    assert load_library(database_url, both, ("user-1", "user-2")).counts["library_items_created"] == 4


def test_users_of_one_game_share_it(database_url: str, rows: pl.DataFrame) -> None:
    add_user(database_url, "user-2")
    load_library(database_url, rows)

    second = load_library(database_url, rows.with_columns(user_id=pl.lit("user-2")), ("user-2",))

    assert written(second) == {"imported_games_created": 5, "library_items_created": 2}
