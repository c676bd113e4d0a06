"""The list of users that a backfill imports."""

import pytest

from pipeline.backfill.list import parse_list, read_list, read_rejected_lines, write_rejected_lines
from pipeline.errors import Failed, Refused
from tests.support.stores import Memory

ONE, TWO = "76561197960287930", "76561197960287931"
HEADER = "user_id,steam_id64\n"


def test_any_form_of_steam_id_is_a_user_and_other_columns_are_left_out() -> None:
    body = (
        "email,steam_id64,user_id\n"
        f"a@b,{ONE},one\n"
        "c@d,STEAM_0:1:11101,two\n"
        "e@f,https://steamcommunity.com/id/gabelogannewell,three\n"
        "g@h,[U:1:22202],four\n"
    )
    users, rejected = parse_list(body.encode())
    assert users.rows() == [("one", ONE), ("two", TWO), ("three", "gabelogannewell"), ("four", ONE)]
    assert rejected.is_empty()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_that_a_spreadsheet_has_saved_is_read(encoding: str) -> None:
    users, _ = parse_list(f'"user_id";"steam_id64"\r\none;{ONE}\r\n'.encode(encoding))
    assert users.rows() == [("one", ONE)]


def test_bad_lines_are_rejected_with_their_number_and_the_others_are_users() -> None:
    body = (
        f"{HEADER}one,!\n"
        f"one,{ONE}\n"
        f"../two,{TWO}\n"
        f",{TWO}\n"
        "three,not a steam id!\n"
        f"one,{TWO}\n"
        f'"four\nlines",{TWO}\n'
        f"five,{ONE},too,many\n"
        "six,\n"
        f"seven,{ONE}\n"
    )
    users, rejected = parse_list(body.encode())
    assert users.rows() == [("one", ONE), ("seven", ONE)]
    assert rejected["line"].to_list() == [2, 4, 5, 6, 7, 8, 10, 11]
    assert rejected["error"][0].startswith("bad_steam_id: ")
    assert rejected["error"][4] == "bad_event: line 3 has this user already"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "holds no users"),
        (HEADER, "holds no users"),
        (f"user,steam_id64\none,{ONE}\n", "lacks the column user_id;"),
        (f"one,{ONE}\ntwo,{TWO}\n", "lacks the columns user_id and steam_id64;"),
        (f"user_id,steam_id64,USER_ID\none,{ONE},two\n", "more than one column user_id: keep"),
        ("\x00\xff", "holds no users"),
    ],
)
def test_a_file_that_is_no_list_of_users_is_refused(body: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        parse_list(body.encode())
    assert refused.value.code == "bad_event"


def test_rejected_lines_are_written_without_formulas_and_read_back() -> None:
    store = Memory()
    _, rejected = parse_list(f"{HEADER}=1+1,{ONE}\n{'a' * 131_000},{ONE}\n".encode())
    write_rejected_lines(store, "run", rejected)
    assert b",'=1+1," in store.objects["backfills/run/users.rejected.csv"]
    assert read_rejected_lines(store, "run").equals(rejected)
    assert rejected["user_id"].to_list() == ["=1+1", "a" * 500]


@pytest.mark.parametrize("key", ["imports/user-2/20261123T031749Z-raw.csv", "catalogue/apps.parquet"])
def test_a_list_is_read_from_anywhere_but_the_libraries_and_the_catalogue(key: str) -> None:
    store = Memory({key: b"list", "users.csv": b"list"})
    assert read_list(store, store.locate("users.csv")) == b"list"
    with pytest.raises(Failed, match="is no list of users") as refused:
        read_list(store, store.locate(key))
    assert refused.value.code == "location_refused"
