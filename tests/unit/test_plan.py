import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.backfill.plan import Estimate, estimate, listed_users, shard_users
from pipeline.errors import Refused
from pipeline.storage.csv import parse_records, to_spreadsheet

ONE, TWO = "76561197960287930", "76561197960287931"
HEADER = "user_id,steam_id64\n"


def refused(body: str) -> list[tuple[int, str]]:
    _, lines = listed_users(body.encode())
    return lines.select("line", "error").rows()


def test_of_a_refused_line_as_much_is_told_as_a_spreadsheet_gives_back() -> None:
    _, lines = listed_users(f"{HEADER}={'a' * 131_000},{';=' * 60_000}\n".encode())
    told = to_spreadsheet(lines)
    assert [record.fault for record in parse_records(told)] == [""]
    assert max(map(len, lines.row(0)[1:])) <= 500


def test_any_form_of_steam_id_is_a_user_and_other_columns_are_left_out() -> None:
    body = (
        "email,steam_id64,user_id\n"
        f"a@b,{ONE},one\n"
        "c@d,STEAM_0:1:11101,two\n"
        "e@f,https://steamcommunity.com/id/gabelogannewell,three\n"
        "g@h,[U:1:22202],four\n"
    )
    users, lines = listed_users(body.encode())
    assert users.rows() == [("one", ONE), ("two", TWO), ("three", "gabelogannewell"), ("four", ONE)]
    assert lines.is_empty()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_that_a_spreadsheet_has_saved_is_read(encoding: str) -> None:
    users, _ = listed_users(f'"user_id";"steam_id64"\r\none;{ONE}\r\n'.encode(encoding))
    assert users.rows() == [("one", ONE)]


def test_bad_lines_are_named_by_their_number_and_the_rest_goes_on() -> None:
    body = (
        f"{HEADER}one,{ONE}\n"
        f"../two,{TWO}\n"
        f",{TWO}\n"
        "three,not a steam id!\n"
        f"one,{TWO}\n"
        f'"four\nlines",{TWO}\n'
        f"five,{ONE},too,many\n"
        "six,\n"
        f"seven,{ONE}\n"
    )
    users, lines = listed_users(body.encode())
    assert users["user_id"].to_list() == ["one", "seven"]
    assert lines["line"].to_list() == [3, 4, 5, 6, 7, 9, 10]
    assert lines["error"].to_list()[3] == "bad_event: line 2 has this user already"
    assert lines["error"].to_list()[2].startswith("bad_steam_id: ")
    assert lines.null_count().sum_horizontal().item() == 0


def test_of_several_lines_the_first_good_one_counts() -> None:
    body = f"{HEADER}one,!\none,{ONE}\none,{TWO}\n"
    users, _ = listed_users(body.encode())
    assert users.rows() == [("one", ONE)]
    assert [line for line, _ in refused(body)] == [2, 4]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "holds no users"),
        (HEADER, "holds no users"),
        ("\n\n\n", "holds no users"),
        (f"user,steam_id64\none,{ONE}\n", "user_id"),
        (f"one,{ONE}\ntwo,{TWO}\n", "user_id and steam_id64"),
        ("\x00\xff", "holds no users"),
    ],
)
def test_what_is_no_list_of_users_is_refused(body: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as refusal:
        listed_users(body.encode())
    assert refusal.value.code == "bad_event"


def test_shards_keep_the_order_and_know_what_was_loaded_before() -> None:
    users = pl.DataFrame({"user_id": ["c", "a", "b"], "steam_id": [ONE, TWO, "gabe"]})
    seen = pl.DataFrame({"user_id": ["a", "z"], "seen_digest": ["1-2", "3-4"], "seen_database": ["db", "db"]})
    first, second = shard_users(users, seen, 2)
    assert_frame_equal(
        first,
        pl.DataFrame(
            {
                "user_id": ["c", "a"],
                "steam_id": [ONE, TWO],
                "seen_digest": [None, "1-2"],
                "seen_database": [None, "db"],
            }
        ),
    )
    assert second["user_id"].to_list() == ["b"]


@pytest.mark.parametrize(
    ("users", "known", "expected"),
    [
        (100, 20_000, Estimate(100, 10.0, 0, 0.0)),
        (10, 0, Estimate(10, 1.0, 9, 2.25)),
        (0, 0, Estimate(0, 0.0, 0, 0.0)),
        (250_000, 200_000, Estimate(250_000, 2 * 86_400 + 5_000.0, 0, 0.0)),
    ],
)
def test_what_a_backfill_will_take_is_estimated_by_the_limits(users: int, known: int, expected: Estimate) -> None:
    assert estimate(users, known, 10.0, 4.0) == expected
