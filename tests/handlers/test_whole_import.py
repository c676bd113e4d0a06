"""What becomes of a library on its way through all three functions: every byte of it, twice, and when IGDB is ill."""

from typing import Any

import pytest

from handlers import database_import, igdb_enrichment, steam_import
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.databases import fetch, rows_of
from tests.support.lambda_functions import ACCOUNT, ENRICHED, RAW, USER, invoke, rows_in

AWKWARD = (
    "=1+1",
    '"quoted", comma',
    "two\nlines",
    "two\r\nlines of Windows",
    "a carriage\rreturn",
    "a\ttab",
    "Ärger™ 日本語 🎮",
    "Pok\u00e9mon and Poke\u0301mon",
    "שלום עולם \u202eabc\u202c",
    "مرحبا بالعالم",
    "  blanks before and behind  ",
    "\u00a0hard blanks\u3000",
    '"',
    '""',
    ",",
    '\'; DROP TABLE "Game"; --',
    "\\n \\N \\",
    "\\.",
    "null",
    "NaN",
    "007",
    "2026-11-23T03:17:49Z",
    "true",
    "\u200b\ufeffinvisible",
    "{$1} %s {0}",
    "n" * 5000,
)
SUMMARY = ("A line, with “quotes”, Ärger and 🎮;\n" * 200)[:5000]
FIRST_APPID, FIRST_GAME = 1000, 700


@pytest.fixture
def loaded_url(deployed: Sandbox, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    assert deployed
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def import_library() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What the state machine does: each function gets what the one before it said."""
    event = {"user_id": USER, "steam_id64": ACCOUNT, "timestamp": "20261123T031749Z"}
    fetched = invoke(steam_import.handler, event)
    enriched = invoke(igdb_enrichment.handler, event | {"s3_location": fetched["s3_location"]})
    loaded = invoke(database_import.handler, event | {"s3_enriched_location": enriched["s3_enriched_location"]})
    return fetched, enriched, loaded


def written_counts(loaded: dict[str, Any]) -> dict[str, int]:
    return {what: rows for what, rows in loaded["stats"].items() if what.endswith(("_created", "_updated")) and rows}


def awkward_library(world: World) -> None:
    """An app and a game of each awkward name, a game of a long summary, and two apps without a name."""
    world.accounts[ACCOUNT].games.clear()
    for number, name in enumerate(AWKWARD):
        appid = FIRST_APPID + number
        world.add_owned(ACCOUNT, appid, name, playtime_forever=number)
        world.add_store_item(appid, "Any name")
        world.add_game(appid, FIRST_GAME + number, name, slug=f"slug-{number}", summary=f"{SUMMARY}{name}")
    world.add_owned(ACCOUNT, 2000, "")
    world.add_owned(ACCOUNT, 2010, None)
    for appid in (2000, 2010):
        world.add_store_item(appid, "Any name")


def test_awkward_names_survive_the_whole_way_byte_for_byte(deployed: Sandbox, loaded_url: str) -> None:
    awkward_library(deployed.world)
    fetched, enriched, loaded = import_library()
    assert fetched["game_count"] == enriched["stats"]["processed"] == len(AWKWARD) + 2
    assert enriched["stats"]["matched"] == loaded["stats"]["games_created"] == len(AWKWARD)
    assert loaded["stats"].items() >= {"new_games": 0, "minutes_played_since": 0}.items(), "it is the first import"
    assert [fetched["rejected"], enriched["rejected"], loaded["rejected"]] == [0, 0, 0]

    names = [*AWKWARD, "", None]
    summaries = [f"{SUMMARY}{name}" for name in AWKWARD]
    raw, rows = rows_in(RAW), rows_in(ENRICHED)
    assert raw["name"].to_list() == names
    assert rows["name"].to_list() == names
    assert rows["igdb_name"].to_list() == [*AWKWARD, None, None]
    assert rows["igdb_summary"].to_list() == [*summaries, None, None]

    imported = rows_of(loaded_url, "ImportedGame", 'name, "storefrontGameId"', '"storefrontGameId"::int')
    nameless = [("App 2000", "2000"), ("App 2010", "2010")]
    assert imported == [(name, str(FIRST_APPID + number)) for number, name in enumerate(AWKWARD)] + nameless
    games = rows_of(loaded_url, "Game", "title, description", '"igdbId"')
    assert games == list(zip(AWKWARD, summaries, strict=True))


def test_a_second_import_creates_and_updates_nothing(deployed: Sandbox, loaded_url: str) -> None:
    awkward_library(deployed.world)
    assert written_counts(import_library()[2]) != {}
    before = rows_of(loaded_url, "ImportedGame") + rows_of(loaded_url, "Game") + rows_of(loaded_url, "LibraryItem")
    assert written_counts(import_library()[2]) == {}
    after = rows_of(loaded_url, "ImportedGame") + rows_of(loaded_url, "Game") + rows_of(loaded_url, "LibraryItem")
    assert before == after


def test_games_that_igdb_did_not_answer_for_are_pending_until_it_does(deployed: Sandbox, loaded_url: str) -> None:
    outage = deployed.faults.add(Fault(service="igdb", path="/games", status=503))
    _, enriched, loaded = import_library()
    assert (enriched["success"], loaded["success"]) == (True, True)
    assert enriched["stats"].items() >= {"processed": 4, "matched": 0, "pending": 2}.items()
    assert statuses(loaded_url) == {"400": "PENDING", "620": "PENDING", "999010": "UNMATCHED", "999020": "IGNORED"}

    deployed.faults.remove(outage)
    _, enriched, loaded = import_library()
    assert enriched["stats"].items() >= {"processed": 4, "matched": 2, "pending": 0}.items()
    assert loaded["stats"]["games_created"] == 2
    assert statuses(loaded_url) == {"400": "MATCHED", "620": "MATCHED", "999010": "UNMATCHED", "999020": "IGNORED"}


def statuses(url: str) -> dict[str, str]:
    rows = fetch(url, 'SELECT "storefrontGameId" AS app, "igdbMatchStatus"::text AS status FROM "ImportedGame"')
    return dict(rows.rows())
