"""The live check, run against the sandbox so that it cannot rot, and its judgements, one by one."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import GOG_SOURCE, PRIVATE
from tests.live.exchanges import Exchange, Recording
from tests.live.facts import FACTS
from tests.live.test_live import FILE, NEEDED, run_live_check
from tests.support.databases import NewDatabase
from tests.support.lambda_functions import ACCOUNT, USER, small_world
from tests.support.programs import QUICK_SETTINGS
from tests.support.stores import BUCKET, REGION


def integration_file(folder: Path, sandbox: Sandbox, database_url: str) -> Path:
    """The seven names, and where the sandbox is."""
    named = sandbox.environment | QUICK_SETTINGS | {"IGDB_REQUESTS_PER_SECOND": "3.6"}
    named |= {"TEST_USER_ID": USER, "STEAM_ID64": ACCOUNT, "DATABASE_URL": database_url, "S3_BUCKET": BUCKET}
    named |= {"AWS_REGION": REGION}
    file = folder / ".env.integration"
    file.write_text("".join(f"{name}={value}\n" for name, value in named.items()))
    return file


def verdicts(shown: str) -> dict[str, str]:
    """The word for each fact that was printed."""
    lines = shown.splitlines()
    return {
        fact.text: line.removesuffix(fact.text).strip() for fact in FACTS for line in lines if line.endswith(fact.text)
    }


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_the_check_prints_a_verdict_for_every_fact_and_no_secret(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = small_world()
    world.accounts[ACCOUNT].games[0] |= {"playtime_deck_forever": 30, "playtime_linux_forever": 30}
    world.add_external_game("1207659999", game=72, external_game_source=GOG_SOURCE)
    with Sandbox(world) as sandbox:
        file = integration_file(tmp_path, sandbox, new_database(2026))
        run_live_check(file, monkeypatch, tmp_path)
        secrets = (sandbox.steam.key, sandbox.twitch.client_secret, sandbox.twitch.client_id)
    shown, logged = capfd.readouterr()
    assert "created and updated nothing" in shown
    assert "Games found" in shown
    assert [secret for secret in secrets if secret in shown + logged] == []
    told = verdicts(shown)
    assert told.keys() == {fact.text for fact in FACTS}
    assert {text for text, word in told.items() if word == "confirmed"} >= {
        "GetOwnedGames answers 400 to a malformed steamid",
        "an id without an account has an empty response, like a private library",
        "minutes on a Deck also count as minutes on Linux",
        "GetItems gives type, name and appid without any data_request",
        "one bad query of a multiquery fails all",
        "a request of over 32,000 bytes is refused with 413",
        "conditions on external_games.… of games hold for the same element",
        "platform 169 is Xbox Series X|S",
        "Steam takes the key in the header x-webapi-key",
        "Steam takes the key in the address",
        "a search of games alone finds games",
        "a burst of multiqueries meets no 429",
    }
    assert {text for text, word in told.items() if word == "refuted"} == {
        "appids_filter[0] restricts GetOwnedGames to that app",
        "an unquoted uid is understood",
    }


@pytest.mark.usefixtures("bucket")
def test_a_stage_that_fails_still_leaves_its_verdicts_and_fails_the_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = small_world()
    world.accounts[ACCOUNT].visibility = PRIVATE
    with Sandbox(world) as sandbox:
        file = integration_file(tmp_path, sandbox, "postgresql://u@127.0.0.1:1/x")
        with pytest.raises(AssertionError, match="private_library"):
            run_live_check(file, monkeypatch, tmp_path)
    shown = capfd.readouterr().out
    assert "FAILED" in shown
    told = verdicts(shown)
    assert told.keys() == {fact.text for fact in FACTS}
    assert told["GetOwnedGames answers 400 to a malformed steamid"] == "confirmed"
    assert told["an unquoted uid is understood"] == "not touched"


def test_without_the_file_the_check_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_live_check(tmp_path / ".env.integration", monkeypatch, tmp_path)
    assert capsys.readouterr().out.strip() == (
        "There is no .env.integration: nothing was checked. .env.integration.example says what goes into it."
    )


def test_all_names_that_the_file_lacks_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IGDB_CLIENT_ID", "of this shell")
    file = tmp_path / ".env.integration"
    file.write_text("STEAM_API_KEY=CANARY\nSTEAM_ID64=\n")
    with pytest.raises(AssertionError) as raised:
        run_live_check(file, monkeypatch, tmp_path)
    assert [name for name in NEEDED if name not in str(raised.value)] == ["STEAM_API_KEY"]
    assert "CANARY" not in str(raised.value)


def test_the_example_holds_exactly_the_needed_names() -> None:
    lines = FILE.with_name(".env.integration.example").read_text().splitlines()
    assert tuple(line.partition("=")[0] for line in lines if not line.startswith("#")) == NEEDED


def answered(label: str, status: int | None, body: Any = "", **changed: Any) -> Exchange:
    """An answer that a probe might get; a body that is no text is JSON."""
    asked: dict[str, Any] = {
        "label": label,
        "host": "host",
        "path": "/IPlayerService/GetOwnedGames/v1/",
        "asked": "",
        "at": 0.0,
        "seconds": 0.5,
        "status": status,
        "headers": {},
        "text": body if isinstance(body, str) else json.dumps(body),
    }
    return Exchange(**asked | changed)


def library(*rows: dict[str, Any], label: str = "fetch") -> Exchange:
    return answered(label, 200, {"response": {"game_count": len(rows), "games": list(rows)}})


SOMEBODY = answered("profile of an unused id", 200, {"response": {"players": [1]}})
NO_PROFILE = answered("profile of an unused id", 200, {"response": {"players": []}})
THREE = [{"appid": 1}, {"appid": 2}, {"appid": 3}]
FOUND = answered("single search", 200, [{"id": 1}])
PAGE = {"path": "/v4/games", "asked": "fields genres.name;"}
JUDGED = [
    ("malformed steamid", "confirmed", [answered("malformed steamid", 400, "<h1>Bad Request</h1>")]),
    ("malformed steamid", "not touched", [answered("malformed steamid", 403, "key=")]),
    ("id without an account", "refuted", [NO_PROFILE, answered("games of an unused id", 400)]),
    ("id without an account", "not touched", [NO_PROFILE, answered("games of an unused id", 500)]),
    ("id without an account", "not touched", [SOMEBODY]),
    ("Deck", "confirmed", [library({"playtime_deck_forever": 5, "playtime_linux_forever": 9})]),
    ("Deck", "refuted", [library({"playtime_deck_forever": 5, "playtime_linux_forever": 0})]),
    ("descriptorids", "refuted", [library({"content_descriptorids": [1, 7]})]),
    ("appids_filter", "confirmed", [library(*THREE), library(THREE[0], label="appids_filter")]),
    ("appids_filter", "refuted", [library(*THREE), library(*THREE, label="appids_filter")]),
    (
        "family",
        "confirmed",
        [library({"appid": 1, "family_shared": True}, label="family licences"), library(label="all games")],
    ),
    ("family", "not touched", [answered("family licences", 500), library(*THREE, label="all games")]),
    ("family", "not touched", [library(*THREE, label="family licences"), library(*THREE, label="all games")]),
    ("Retry-After", "confirmed", [answered("fetch", 429, headers={"Retry-After": "5"})]),
    ("Retry-After", "refuted", [answered("fetch", 429)]),
    ("5xx", "confirmed", [answered("fetch", 503, "<html>")]),
    ("status 200", "confirmed", [answered("fetch", 200, "<html>")]),
    ("two letters", "confirmed", [answered("vanity name of two", 200, {"response": {"success": 1, "steamid": "7"}})]),
    ("GetItems", "refuted", [answered("store item", 200, {"response": {"store_items": [{"success": 1, "appid": 1}]}})]),
    ("burst", "confirmed", [answered("burst of multiqueries", 200), answered("eight at once", 429)]),
    ("burst", "not touched", [answered("burst of multiqueries", 200), answered("eight at once", 200)]),
    ("burst", "refuted", [answered("burst of multiqueries", 200), answered("burst of multiqueries", 429)]),
    ("burst", "not touched", [answered("burst of multiqueries", 503)]),
    ("key in the header", "confirmed", [answered("all games", 200), answered("no key at all", 401)]),
    ("key in the header", "refuted", [answered("all games", 403), answered("no key at all", 401)]),
    ("key in the header", "refuted", [answered("all games", 200), answered("no key at all", 200)]),
    ("key in the address", "confirmed", [answered("key in the address", 200)]),
    ("key in the address", "refuted", [answered("key in the address", 403)]),
    ("key in the address", "not touched", [answered("key in the address", 503)]),
    ("search of games alone", "confirmed", [answered("single search", 200, [{"id": 1}])]),
    ("search of games alone", "refuted", [answered("single search", 200, [])]),
    ("search in a multiquery", "confirmed", [FOUND, answered("search in a multiquery", 200, [])]),
    ("search in a multiquery", "confirmed", [FOUND, answered("search in a multiquery", 200, [{"result": []}])]),
    ("search in a multiquery", "refuted", [FOUND, answered("search in a multiquery", 200, [{"result": [{"id": 1}]}])]),
    *(
        ("search in a multiquery", "not touched", [FOUND, answered("search in a multiquery", status)])
        for status in (None, 400, 404, 408, 413, 500, 503)
    ),
    *(
        (about, "not touched", [answered(label, status), answered("no key at all", 401)])
        for about, label in (
            ("search of games alone", "single search"),
            ("key in the header", "all games"),
            ("key in the address", "key in the address"),
        )
        for status in (None, 408, 429, 500, 503)
    ),
    ("key in the header", "not touched", [answered("all games", 200), answered("no key at all", 500)]),
    ("time out", "confirmed", [answered("enrich", 200, [{}] * 500, **PAGE)]),
    ("time out", "refuted", [answered("enrich", None, "ReadTimeout", **PAGE)]),
    ("same element", "confirmed", [answered("same element", 200, [])]),
    ("23 genres", "refuted", [answered("genres", 200, [{"id": 2, "name": "Shooter"}])]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "word", "exchanges"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}-{number}") for number, row in enumerate(JUDGED)],
)
def test_a_fact_is_judged_by_what_was_seen(about: str, word: str, exchanges: list[Exchange]) -> None:
    (fact,) = (fact for fact in FACTS if about in fact.text)
    verdict = fact.judge(Recording(exchanges=exchanges))
    assert verdict.word == word
    assert verdict.evidence


def test_nothing_seen_touches_no_fact() -> None:
    assert {fact.judge(Recording()).word for fact in FACTS} == {"not touched"}


def test_secrets_are_redacted_however_they_are_written() -> None:
    recording = Recording(["pass/w rd", ""])
    told = recording.redact('pass/w rd, pass/w%20rd, pass%2Fw+rd, {"access_token": "abc"}')
    assert told == '***, ***, ***, {"access_token": "***"}'
