"""What a process keeps from one invocation to the next: the pace and the token of its Twitch application."""

import pytest

from handlers import igdb_enrichment
from pipeline.sandbox.server import Sandbox
from tests.lambda_fixtures import RAW, RAW_CSV, USER, invoke, put

EVENT = {"user_id": USER, "s3_location": RAW}


def enrich_one_more(appid: int) -> dict[str, object]:
    put(RAW, RAW_CSV.replace(",620,", f",{appid},"))
    return invoke(igdb_enrichment.handler, EVENT)


def test_invocations_one_after_another_share_the_four_requests_of_a_second(deployed: Sandbox) -> None:
    for appid in range(999_100, 999_106):
        assert enrich_one_more(appid)["success"] is True
    assert len(deployed.asked("igdb")) == 6
    assert deployed.busiest_second("igdb") <= 4


def test_a_token_is_minted_once_for_them_all(deployed: Sandbox) -> None:
    for appid in (999_100, 999_101):
        enrich_one_more(appid)
    assert deployed.tokens_minted == 1


def test_a_token_of_another_secret_is_not_used(deployed: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    assert enrich_one_more(999_100)["success"] is True
    monkeypatch.setenv("IGDB_CLIENT_SECRET", deployed.environment["IGDB_CLIENT_ID"])
    assert enrich_one_more(999_101)["error_code"] == "bad_igdb_credentials"


def test_an_external_game_that_is_no_id_leaves_its_app_incomplete(deployed: Sandbox) -> None:
    deployed.world.add_external_game("999100", game="x")
    deployed.world.add_external_game("999101")
    assert enrich_one_more(999_100)["stats"]["igdb_incomplete"] == 1  # type: ignore[index]
    assert enrich_one_more(999_101)["stats"]["igdb_incomplete"] == 0  # type: ignore[index]
