"""What a process keeps from one invocation to the next, and when an invocation ends in time."""

import time

import pytest

from handlers import igdb_enrichment
from pipeline.errors import Retryable
from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from tests.support.lambda_functions import RAW, RAW_CSV, USER, Remaining, invoke, put

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


def test_near_its_time_limit_an_enrichment_leaves_the_rest_pending(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    deployed.faults.add(Fault(service="igdb", path="/games", kind="stall"))
    started = time.monotonic()
    response = igdb_enrichment.handler(EVENT, Remaining(seconds=32))
    assert time.monotonic() - started < 9
    assert response["success"] is True
    assert response["stats"]["pending"] == 1
    deployed.faults.clear()
    assert igdb_enrichment.handler(EVENT, Remaining(seconds=60))["stats"]["matched"] == 1


def test_without_any_answer_in_time_it_is_to_be_run_again(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    with pytest.raises(Retryable, match="igdb_unavailable: There is no time left"):
        igdb_enrichment.handler(EVENT, Remaining(seconds=5))
    assert deployed.asked("igdb") == []


def test_what_the_catalogue_knows_needs_no_time(deployed: Sandbox) -> None:
    put(RAW, RAW_CSV)
    assert igdb_enrichment.handler(EVENT, Remaining(seconds=60))["success"]
    deployed.requests.clear()
    assert igdb_enrichment.handler(EVENT, Remaining(seconds=5))["stats"]["matched"] == 1
    assert deployed.requests == []
