"""The first stage, with a client of the sandbox's Steam."""

import asyncio
import json
from hashlib import sha256
from typing import Any

import polars as pl
import pytest

from pipeline import stages
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from schemas.events import FetchEvent, FetchResponse
from schemas.library import RawLibrary
from tests.support.apis import open_steam
from tests.support.stores import RAW, TIMESTAMP, OpenedStore

FILES = [RAW.key, RAW.manifest_key]


@pytest.fixture
def world() -> World:
    return World.recorded()


def fetch(
    sandbox: Sandbox, at: OpenedStore, steam_id: str = World.RECORDED_ACCOUNT, **event: str | None
) -> FetchResponse:
    given = {"user_id": "user-1", "timestamp": TIMESTAMP, "run_id": "run-1", "steam_id64": steam_id} | event

    async def run() -> FetchResponse:
        async with open_steam(sandbox.environment) as steam:
            return await stages.fetch(at.store, steam, FetchEvent.model_validate(given))

    return asyncio.run(run())


def answering(sandbox: Sandbox, *games: Any) -> None:
    """From now on Steam gives these rows."""
    sandbox.faults.clear()
    body = json.dumps({"response": {"game_count": len(games), "games": games}})
    sandbox.faults.add(Fault(path="GetOwnedGames", status=200, body=body))


def test_a_library_becomes_a_raw_csv_and_its_manifest(sandbox: Sandbox, at: OpenedStore) -> None:
    response = fetch(sandbox, at)
    assert response.to_lambda_response() == {
        "success": True,
        "s3_location": at.store.locate(RAW.key),
        "game_count": 129,
        "error": None,
        "error_code": None,
        "rejected": 0,
    }
    files = at.files()
    assert sorted(files) == sorted(FILES)
    body, manifest = files[RAW.key] or b"", json.loads(files[RAW.manifest_key] or b"")
    assert manifest["counts"] == {"games": 129, "rejected": 0}
    assert (manifest["stage"], manifest["rows"], manifest["requests"], manifest["input"]) == ("fetch", 129, 1, None)
    assert (manifest["user_id"], manifest["run_id"], manifest["key"]) == ("user-1", "run-1", RAW.key)
    assert (manifest["bytes"], manifest["sha256"]) == (len(body), sha256(body).hexdigest())
    owned = sandbox.world.accounts[World.RECORDED_ACCOUNT].games
    assert at.raw_rows().select("appid", "name", "playtime_forever").rows() == [
        (game["appid"], game["name"], game["playtime_forever"]) for game in owned
    ]


@pytest.mark.parametrize(
    ("steam_id", "requests"),
    [
        ("76561197960287930", 1),
        ("https://steamcommunity.com/id/GabeLoganNewell/games/", 2),
    ],
)
def test_any_form_of_steam_id_is_fetched(sandbox: Sandbox, here: OpenedStore, steam_id: str, requests: int) -> None:
    response = fetch(sandbox, here, steam_id)
    assert here.raw_rows()["steam_id64"].unique().to_list() == [World.RECORDED_ACCOUNT]
    assert (response.game_count, response.requests) == (129, requests)


def test_rows_that_cannot_be_used_are_set_aside(sandbox: Sandbox, at: OpenedStore) -> None:
    answering(sandbox, {"appid": 440, "name": "TF2"}, {"name": "No id"}, {"appid": 570, "name": "a\0b"}, "rubbish")
    response = fetch(sandbox, at)
    assert (response.game_count, response.rejected) == (1, 3)
    assert at.raw_rows()["name"].to_list() == ["TF2"]
    rejected = pl.read_csv(at.store.read(RAW.rejected_key) or b"", infer_schema=False)
    assert rejected.columns == [*RawLibrary.to_schema().columns, "rejected_check"]
    assert rejected.select("appid", "name", "rejected_check").rows() == [
        (None, "No id", "appid: not_nullable"),
        ("570", "a\0b", "name: holds_no_nul"),
        (None, None, "appid: not_nullable"),
    ]
    assert json.loads(at.store.read(RAW.manifest_key) or b"")["counts"] == {"games": 1, "rejected": 3}


def test_a_retry_overwrites_its_own_output_and_deletes_old_rejected_rows(sandbox: Sandbox, at: OpenedStore) -> None:
    answering(sandbox, {"appid": 440}, "rubbish")
    fetch(sandbox, at)
    assert sorted(at.files()) == sorted([*FILES, RAW.rejected_key])
    answering(sandbox, {"appid": 440, "name": "TF2"})
    assert fetch(sandbox, at, timestamp="2026-11-23T03:17:49Z").rejected == 0
    assert sorted(at.files()) == sorted(FILES)
    assert at.raw_rows()["name"].to_list() == ["TF2"]
