"""What a load writes, that it writes it once, and for whom."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.database.database import Database
from pipeline.errors import Failed, Refused
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import Generation
from schemas.staging import LoadOptions
from tests.support.databases import (
    TABLES,
    NewDatabase,
    add_user,
    contents,
    execute,
    fetch,
    load,
    load_library,
    rows_of,
    written,
)
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

MIXED = (
    app(1, match_status="IGNORED", match_reason="filtered", kind="demo"),
    app(2),
    app(3, match_status="PENDING", match_reason="igdb_unavailable"),
    matched(10, 100, igdb_genres=[FIGHTING, SHOOTER], igdb_platforms=[WINDOWS], playtime_forever=7),
    matched(20, 200, igdb_genres=[SHOOTER]),
)
AWKWARD_NAMES = [
    "=1+1",
    '"quoted", comma',
    "two\nlines",
    "carriage\r\nreturn",
    "Ärger™ 日本語 🎮",
    "\u202b\u05e2\u05d1\u05e8\u05d9\u05ea\u202c \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "  blanks around  ",
    "back\\slash ' $1 %s :name",
    "null",
]


newer_tables = pytest.mark.parametrize("generation", [2026])
"""For tests of columns that the older tables lack."""


def test_a_second_load_writes_only_the_rows_that_differ(database_url: str) -> None:
    assert written(load(database_url, *MIXED)) == {
        "genres_created": 2,
        "platforms_created": 1,
        "games_created": 2,
        "game_genres_created": 3,
        "game_platforms_created": 1,
        "imported_games_created": 5,
        "library_items_created": 2,
    }
    before = contents(database_url)

    assert written(load(database_url, *MIXED)) == {}
    assert written(load(database_url)) == {"no_longer_owned": 5}
    assert contents(database_url) == before

    again = load(database_url, *(row | {"playtime_forever": 5} if row["appid"] == 2 else row for row in MIXED))

    assert written(again) == {"imported_games_updated": 1}
    changed = {name: len({*rows} - {*before[name]}) for name, rows in contents(database_url).items()}
    assert changed == dict.fromkeys(TABLES, 0) | {"ImportedGame": 1}


def test_a_load_is_one_transaction_without_a_warning_in_the_servers_log(own_database_url: str) -> None:
    folder = fetch(own_database_url, "SELECT current_setting('data_directory') AS folder").item()
    log = Path(f"{folder}.run") / "log"
    before = log.read_text("utf-8")

    load(own_database_url, *MIXED)

    assert len({transaction for rows in contents(own_database_url).values() for transaction, _ in rows}) == 1
    assert "WARNING" not in log.read_text("utf-8").removeprefix(before)


@newer_tables
def test_the_number_of_statements_depends_on_what_changes_and_not_on_the_number_of_rows(database_url: str) -> None:
    def statements(games: int, **columns: object) -> int:
        rows = (matched(n, n, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS], **columns) for n in range(1, games + 1))
        return load(database_url, *rows).statements

    assert statements(1) == 51
    assert (statements(10), statements(100)) == (45, 45)
    assert (statements(10), statements(100)) == (33, 33)
    assert (statements(10, playtime_forever=1), statements(100, playtime_forever=2)) == (36, 36)


def test_a_process_compiles_the_statements_of_a_load_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    games = [matched(n, n, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]) for n in range(1, 4)]
    load(database_url, games[0])
    load(database_url, *games[:2])

    monkeypatch.delattr("pipeline.database.connection._compile")

    assert load(database_url, *games).counts["games_created"] == 1


@newer_tables
def test_an_imported_game_holds_what_steam_says(database_url: str) -> None:
    played_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    playtimes = {"playtime_windows_forever": 1, "playtime_mac_forever": 2, "playtime_linux_forever": 3}

    load(
        database_url,
        app(440, playtime_forever=6, img_icon_url="e3f5", rtime_last_played=played_at, **playtimes),
        app(570, playtime_windows_forever=None),
    )

    columns = '"userId", storefront::text, name, img_icon_url, "igdbMatchStatus"::text, "deletedAt", playtime'
    optional = '"playtimeWindows", "playtimeMac", "playtimeLinux", "lastPlayedAt"'
    rows = fetch(database_url, f'SELECT {columns}, {optional} FROM "ImportedGame" ORDER BY id').rows()  # noqa: S608
    assert rows == [
        ("user-1", "STEAM", "Name 440", "e3f5", "UNMATCHED", None, 6, 1, 2, 3, played_at.replace(tzinfo=None)),
        ("user-1", "STEAM", "Name 570", None, "UNMATCHED", None, 0, 0, 0, 0, None),
    ]


def test_a_game_holds_what_igdb_says(database_url: str) -> None:
    cover = "https://images.igdb.com/igdb/image/upload/t_cover_big/co1.jpg"
    game = {
        "igdb_name": "The Game",
        "igdb_slug": "the-game",
        "igdb_summary": "s" * 5_000,
        "igdb_first_release_date": datetime(1998, 11, 19, tzinfo=UTC),
        "igdb_cover_url": cover,
    }

    load(database_url, matched(10, 100, **game, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]))

    columns = '"igdbId", title, slug, description, "releaseDate"::date::text, "coverImage", "steamAppId"'
    assert rows_of(database_url, "Game", columns) == [
        (100, "The Game", "the-game", "s" * 5_000, "1998-11-19", cover, 10)
    ]
    assert rows_of(database_url, "Genre", '"igdbId", name, slug, checksum') == [tuple(FIGHTING.values())]
    platform = '"igdbId", name, slug, abbreviation, "alternativeName", generation, "platformFamily", "platformType"'
    assert rows_of(database_url, "Platform", f"{platform}, checksum") == [tuple(WINDOWS.values())]


FETCHED_AT = datetime(2026, 11, 23, 3, 17, 49, tzinfo=UTC)
PLAYS: dict[str, dict[str, Any]] = {
    "never": {},
    "played, nobody knows when": {"playtime_forever": 1},
    "6 d 23 h before": {"playtime_forever": 1, "rtime_last_played": FETCHED_AT - timedelta(days=6, hours=23)},
    "6 d 23 h before, minutes hidden": {"rtime_last_played": FETCHED_AT - timedelta(days=6, hours=23)},
    "7 d 1 h before": {"playtime_forever": 1, "rtime_last_played": FETCHED_AT - timedelta(days=7, hours=1)},
    "in the future": {"playtime_forever": 1, "rtime_last_played": FETCHED_AT + timedelta(days=1)},
}
BETWEEN = """
    ALTER TYPE "LibraryItemStatus" RENAME VALUE 'WISHLIST' TO 'WANT_TO_PLAY';
    ALTER TYPE "LibraryItemStatus" RENAME VALUE 'SHELF' TO 'OWNED'
"""
"""What turns the enum of 2026 into that of December 2025 to March 2026, but for UP_NEXT, which that lacks."""


@pytest.mark.parametrize(
    ("generation", "migrations", "unplayed_played_recent_and_recent_without_minutes"),
    [
        pytest.param(2025, "", "CURIOUS_ABOUT EXPERIENCED EXPERIENCED CURIOUS_ABOUT", id="2025"),
        pytest.param(2026, BETWEEN, "OWNED OWNED PLAYING PLAYING", id="between"),
        pytest.param(2026, "", "SHELF SHELF PLAYING PLAYING", id="2026"),
    ],
)
def test_the_status_of_an_item_follows_playtime_and_last_play(
    new_database: NewDatabase,
    generation: Generation,
    migrations: str,
    unplayed_played_recent_and_recent_without_minutes: str,
) -> None:
    url = new_database(generation)
    for statement in filter(None, migrations.split(";")):
        execute(url, statement)
    apps = [matched(n, n, **play) for n, play in enumerate(PLAYS.values(), start=1)]

    Database(url).load(stage_library(library(*apps), FETCHED_AT), ["user-1"])

    unplayed, played, recent, recent_without_minutes = unplayed_played_recent_and_recent_without_minutes.split()
    statuses = [unplayed, played, recent, recent_without_minutes, played, played]
    columns = 'status::text, platform, "acquisitionType"::text'
    assert rows_of(url, "LibraryItem", columns, "id") == [
        (status, "PC (Microsoft Windows)", "DIGITAL") for status in statuses
    ]
    if generation == 2026:
        columns = '"hasBeenPlayed", "statusChangedAt" = "createdAt"'
        assert rows_of(url, "LibraryItem", columns, "id") == [
            ("playtime_forever" in play, True) for play in PLAYS.values()
        ]


def test_settings_decide_the_statuses(database_url: str) -> None:
    staged = stage_library(library(matched(10, 100), matched(11, 101, playtime_forever=1)))

    with pytest.raises(Refused, match=r"no FINISHED: set STATUS_PLAYED to one of .*WISHLIST, "):
        Database(database_url).load(staged, ["user-1"], LoadOptions(status_played="FINISHED"))
    assert rows_of(database_url, "ImportedGame") == []

    with pytest.raises(Refused, match=r"no NOW: set STATUS_RECENT to one of .*WISHLIST, "):
        Database(database_url).load(staged, ["user-1"], LoadOptions(status_recent="NOW"))

    Database(database_url).load(staged, ["user-1"], LoadOptions("WISHLIST", "WISHLIST"))
    assert rows_of(database_url, "LibraryItem", "DISTINCT status::text") == [("WISHLIST",)]


def test_awkward_names_arrive_byte_for_byte(database_url: str) -> None:
    rows = [
        matched(n, n, name=name, igdb_name=name, igdb_summary=name) for n, name in enumerate(AWKWARD_NAMES, start=1)
    ]

    load(database_url, *rows)

    names = 'SELECT name FROM "ImportedGame" ORDER BY id'
    assert fetch(database_url, names).to_series().to_list() == AWKWARD_NAMES
    assert rows_of(database_url, "Game", "title, description", '"igdbId"') == [(name, name) for name in AWKWARD_NAMES]


def test_a_nameless_app_is_named_by_its_id_and_overwrites_no_name(database_url: str) -> None:
    load(database_url, app(10, name=None), app(11, name="Named"), app(12, name=None))
    load(database_url, app(10, name="Known now"), app(11, name="  \t"), app(12, name=""))

    names = 'SELECT name FROM "ImportedGame" ORDER BY "storefrontGameId"'
    assert fetch(database_url, names).to_series().to_list() == ["Known now", "Named", "App 12"]


def test_times_are_utc_whatever_the_time_zone_of_the_session_is(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, "ALTER DATABASE " + fetch(url, "SELECT current_database()").item() + " SET timezone TO 'Asia/Kolkata'")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    load(url, matched(10, 100, rtime_last_played=moment, igdb_first_release_date=moment))

    now = datetime.now(UTC).replace(tzinfo=None)
    assert fetch(url, 'SELECT "lastPlayedAt" FROM "ImportedGame"').item() == moment.replace(tzinfo=None)
    assert fetch(url, 'SELECT "releaseDate" FROM "Game"').item() == moment.replace(tzinfo=None)
    for name in ("ImportedGame", "Game", "LibraryItem"):
        for time in rows_of(url, name, '"createdAt", "updatedAt"')[0]:
            assert abs(time - now) < timedelta(minutes=1)


def test_ids_sort_by_time_and_row(database_url: str) -> None:
    load(database_url, app(30), app(4))
    load(database_url, app(7))

    ids = fetch(database_url, 'SELECT id, "storefrontGameId" FROM "ImportedGame" ORDER BY id COLLATE "C"')
    assert ids["storefrontGameId"].to_list() == ["4", "30", "7"]
    assert ids["id"].str.contains("^c[0-9a-z]{24}$").all()


def test_a_user_who_does_not_exist_is_named_and_nothing_is_written(database_url: str) -> None:
    with pytest.raises(Failed, match="nobody") as raised:
        load_library(database_url, library(matched(10, 100, user_id="nobody")), "nobody")

    assert raised.value.code == "user_not_found"
    assert rows_of(database_url, "Game") == []


def test_a_row_of_a_user_that_the_load_may_not_touch_is_refused(database_url: str) -> None:
    add_user(database_url, "user-2")

    with pytest.raises(Failed, match=r"1 row is of a user that this load may not touch \(user-1\)") as raised:
        load_library(database_url, library(matched(10, 100), matched(10, 100, user_id="user-2")), "user-2")

    assert raised.value.code == "location_refused"
    assert rows_of(database_url, "ImportedGame") == rows_of(database_url, "Game") == []


def test_a_file_can_hold_many_users_who_share_games(database_url: str) -> None:
    add_user(database_url, "user-2")
    mine = library(*MIXED)
    theirs = mine.with_columns(user_id=pl.lit("user-2"))

    loaded = load_library(database_url, pl.concat([mine, theirs]), "user-1", "user-2")

    created = {name: loaded.counts[f"{name}_created"] for name in ("games", "imported_games", "library_items")}
    assert created == {"games": 2, "imported_games": 10, "library_items": 4}
    assert written(load_library(database_url, theirs, "user-2")) == {}
