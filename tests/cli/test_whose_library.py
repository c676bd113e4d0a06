"""The account and the user of an import, of which one may be left to the database's table of users."""

import json

import pytest

from tests.support.databases import give_steam_ids, rows_of
from tests.support.lambda_functions import ACCOUNT
from tests.support.programs import SteamImport


@pytest.fixture
def database(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", own_database_url)
    return own_database_url


@pytest.mark.parametrize("arguments", [("--user", "owner"), (ACCOUNT,)], ids=str)
def test_the_database_says_what_was_not_given(
    steam_import: SteamImport, database: str, arguments: tuple[str, ...]
) -> None:
    give_steam_ids(database, owner=ACCOUNT, other="76561197960265733", third=None)
    ended = steam_import("run", *arguments, "--json")
    assert ended.status == 0, ended.err
    report = json.loads(ended.out)
    assert (report["user_id"], report["steam_id64"]) == ("owner", ACCOUNT)
    assert {user for (user,) in rows_of(database, "ImportedGame", '"userId"')} == {"owner"}


@pytest.mark.parametrize(
    ("steam_ids", "arguments", "status", "says"),
    [
        ({"one": None}, (ACCOUNT,), 1, "user_not_found: No user has the steamId64"),
        ({"one": ACCOUNT, "two": ACCOUNT}, (ACCOUNT,), 1, "user_not_found: 2 users (one, two) have the steamId64"),
        ({"one": None}, ("--user", "one"), 2, "bad_steam_id: The user one has no steamId64"),
        (
            {"one": "gabe n"},
            ("--user", "one"),
            2,
            "one has the steamId64 'gabe n', which is none",
        ),
        ({"one": ACCOUNT}, ("--user", "two"), 1, "user_not_found: The table"),
        ({"one": ACCOUNT}, (), 2, "Or give --user"),
    ],
    ids=["nobody has it", "two have it", "the user has none", "malformed", "no such user", "neither"],
)
def test_what_the_database_does_not_say_is_asked_for(
    steam_import: SteamImport,
    database: str,
    steam_ids: dict[str, str | None],
    arguments: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    give_steam_ids(database, **steam_ids)
    for command in ("run", "fetch"):
        ended = steam_import(command, *arguments)
        assert (ended.status, " ".join(ended.err.split()).count(says)) == (status, 1), ended.err
        assert "--user" in ended.err
    assert rows_of(database, "ImportedGame") == []
