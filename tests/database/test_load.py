"""What a load writes, and that it writes it once."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipeline.database.database import Database
from pipeline.errors import Refused
from pipeline.frames.staging import stage_library
from pipeline.sandbox.embedded import Generation
from schemas.staging import LoadOptions
from tests.database.rows import load_library, written
from tests.support.databases import NewDatabase, execute, fetch, rows_of
from tests.support.libraries import FIGHTING, SHOOTER, WINDOWS, app, library, matched

TABLES = ("Game", "GameGenre", "GamePlatform", "Genre", "ImportedGame", "LibraryItem", "Platform")

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


def contents(url: str) -> dict[str, list[tuple[str, str]]]:
    """Every row of the seven tables, with the transaction that wrote it."""
    return {name: rows_of(url, name, "xmin::text, t::text", "2") for name in TABLES}


def test_a_load_fills_all_seven_tables(database_url: str, rows: pl.DataFrame) -> None:
    assert written(load_library(database_url, rows)) == {
        "genres_created": 2,
        "platforms_created": 1,
        "games_created": 2,
        "game_genres_created": 3,
        "game_platforms_created": 1,
        "imported_games_created": 5,
        "library_items_created": 2,
    }


def test_second_load_changes_nothing(database_url: str, rows: pl.DataFrame) -> None:
    load_library(database_url, rows)
    before = contents(database_url)

    again = load_library(database_url, rows)

    assert written(again) == {}
    assert contents(database_url) == before


def test_only_the_rows_that_differ_are_written(database_url: str, rows: pl.DataFrame) -> None:
    load_library(database_url, rows)
    before = contents(database_url)

    grown = pl.when(pl.col("appid") == 2).then(5).otherwise("playtime_forever").cast(pl.Int32)
    again = load_library(database_url, rows.with_columns(playtime_forever=grown))

    after = contents(database_url)
    changed = {name: len(set(after[name]) - set(before[name])) for name in TABLES}
    assert written(again) == {"imported_games_updated": 1}
    assert changed == dict.fromkeys(TABLES, 0) | {"ImportedGame": 1}


def test_the_number_of_statements_is_the_same_for_10_games_and_for_10_000(new_database: NewDatabase) -> None:
    url = new_database(2026)
    few = library(*(matched(n, n, igdb_genres=[FIGHTING], igdb_platforms=[WINDOWS]) for n in range(1, 11)))
    many = library(*(matched(n, n, igdb_genres=[SHOOTER], igdb_platforms=[WINDOWS]) for n in range(1, 10_001)))

    assert load_library(url, few).statements == load_library(url, many).statements
    # Again, when there is nothing new about games: fewer, and the same number for both.
    assert load_library(url, few).statements == load_library(url, many).statements


def test_an_imported_game_holds_what_steam_says(database_url: str) -> None:
    load_library(
        database_url,
        library(
            app(
                440,
                name="Team Fortress 2",
                playtime_forever=321,
                img_icon_url="e3f595a92552da3d664ad00277fad2107345f743",
            )
        ),
    )

    columns = '"userId", storefront::text, "storefrontGameId", name, playtime, img_icon_url, "igdbMatchStatus"::text'
    assert rows_of(database_url, "ImportedGame", f'{columns}, "deletedAt"') == [
        (
            "user-1",
            "STEAM",
            "440",
            "Team Fortress 2",
            321,
            "e3f595a92552da3d664ad00277fad2107345f743",
            "UNMATCHED",
            None,
        )
    ]


def test_a_game_holds_what_igdb_says(database_url: str) -> None:
    load_library(
        database_url,
        library(
            matched(
                10,
                100,
                igdb_name="The Game",
                igdb_slug="the-game",
                igdb_summary="s" * 5_000,
                igdb_first_release_date=datetime(1998, 11, 19, tzinfo=UTC),
                igdb_cover_url="https://images.igdb.com/igdb/image/upload/t_cover_big/co1.jpg",
                igdb_genres=[FIGHTING],
                igdb_platforms=[WINDOWS],
            )
        ),
    )

    columns = '"igdbId", title, slug, description, "releaseDate", "coverImage", "steamAppId"'
    assert rows_of(database_url, "Game", columns) == [
        (
            100,
            "The Game",
            "the-game",
            "s" * 5_000,
            datetime(1998, 11, 19),  # noqa: DTZ001 - SavePoint's columns have no zone
            "https://images.igdb.com/igdb/image/upload/t_cover_big/co1.jpg",
            10,
        )
    ]
    assert rows_of(database_url, "Genre", '"igdbId", name, slug, checksum') == [tuple(FIGHTING.values())]
    platform = '"igdbId", name, slug, abbreviation, "alternativeName", generation, "platformFamily", "platformType"'
    assert rows_of(database_url, "Platform", f"{platform}, checksum") == [tuple(WINDOWS.values())]


def test_the_columns_of_2026_are_filled_where_they_are(new_database: NewDatabase) -> None:
    url = new_database(2026)
    played_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    playtimes = {"playtime_windows_forever": 1, "playtime_mac_forever": 2, "playtime_linux_forever": 3}

    load_library(
        url, library(matched(10, 100, playtime_forever=6, rtime_last_played=played_at, **playtimes), matched(11, 101))
    )

    columns = '"playtimeWindows", "playtimeMac", "playtimeLinux", "lastPlayedAt"'
    assert rows_of(url, "ImportedGame", columns, "id") == [
        (1, 2, 3, played_at.replace(tzinfo=None)),
        (0, 0, 0, None),
    ]
    items = 'SELECT "hasBeenPlayed", "statusChangedAt" = "createdAt" AS is_new FROM "LibraryItem" ORDER BY id'
    assert fetch(url, items).rows() == [(True, True), (False, True)]


@pytest.mark.parametrize(
    ("generation", "statuses"), [(2025, ("CURIOUS_ABOUT", "EXPERIENCED")), (2026, ("SHELF", "PLAYED"))]
)
def test_an_items_status_follows_the_playtime(
    new_database: NewDatabase, generation: Generation, statuses: tuple[str, str]
) -> None:
    url = new_database(generation)

    load_library(url, library(matched(10, 100), matched(11, 101, playtime_forever=1)))

    columns = 'status::text, platform, "acquisitionType"::text'
    assert rows_of(url, "LibraryItem", columns, "id") == [
        (status, "PC (Microsoft Windows)", "DIGITAL") for status in statuses
    ]


def test_settings_decide_the_statuses(database_url: str) -> None:
    rows = library(matched(10, 100), matched(11, 101, playtime_forever=1))

    Database(database_url).load(
        stage_library(rows), ["user-1"], LoadOptions(status_unplayed="WISHLIST", status_played="WISHLIST")
    )

    assert rows_of(database_url, "LibraryItem", "DISTINCT status::text") == [("WISHLIST",)]


def test_a_status_the_enum_lacks_is_refused_with_its_values(new_database: NewDatabase) -> None:
    url = new_database(2026)

    with pytest.raises(
        Refused, match=r"no FINISHED: set STATUS_PLAYED to one of WISHLIST, SHELF, UP_NEXT, PLAYING, PLAYED"
    ):
        Database(url).load(stage_library(library(app(1))), ["user-1"], LoadOptions(status_played="FINISHED"))

    assert rows_of(url, "ImportedGame") == []


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_an_awkward_name_arrives_byte_for_byte(database_url: str, name: str) -> None:
    load_library(database_url, library(matched(10, 100, name=name, igdb_name=name, igdb_summary=name)))

    assert fetch(database_url, 'SELECT name FROM "ImportedGame"').item() == name
    assert rows_of(database_url, "Game", "title, description") == [(name, name)]


@pytest.mark.parametrize("name", [None, "", "  \t"])
def test_a_nameless_app_is_named_by_its_id_and_overwrites_no_name(database_url: str, name: str | None) -> None:
    load_library(database_url, library(app(10, name=name), app(11, name="Named")))
    load_library(database_url, library(app(10, name="Known now"), app(11, name=name)))

    names = 'SELECT name FROM "ImportedGame" ORDER BY "storefrontGameId"'
    assert fetch(database_url, names).to_series().to_list() == ["Known now", "Named"]

    load_library(database_url, library(app(12, name=name)))
    assert fetch(database_url, """SELECT name FROM "ImportedGame" WHERE "storefrontGameId" = '12'""").item() == "App 12"


def test_times_are_utc_whatever_the_sessions_time_zone(new_database: NewDatabase) -> None:
    url = new_database(2026)
    execute(url, "ALTER DATABASE " + fetch(url, "SELECT current_database()").item() + " SET timezone TO 'Asia/Kolkata'")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    load_library(url, library(matched(10, 100, rtime_last_played=moment, igdb_first_release_date=moment)))

    now = datetime.now(UTC).replace(tzinfo=None)
    assert fetch(url, 'SELECT "lastPlayedAt" FROM "ImportedGame"').item() == moment.replace(tzinfo=None)
    assert fetch(url, 'SELECT "releaseDate" FROM "Game"').item() == moment.replace(tzinfo=None)
    for name in ("ImportedGame", "Game", "LibraryItem"):
        for time in rows_of(url, name, '"createdAt", "updatedAt"')[0]:
            assert abs(time - now) < timedelta(minutes=1)


def test_ids_sort_by_time_and_row(database_url: str) -> None:
    load_library(database_url, library(app(30), app(4)))
    load_library(database_url, library(app(7)))

    ids = fetch(database_url, 'SELECT id, "storefrontGameId" FROM "ImportedGame" ORDER BY id COLLATE "C"')
    assert ids["storefrontGameId"].to_list() == ["4", "30", "7"]
    assert ids["id"].str.contains("^c[0-9a-z]{24}$").all()
