import pytest
from pydantic import ValidationError

from schemas.events import EnrichResponse, EnrichStats, FetchEvent, FetchResponse, LoadResponse, to_key_time

EVENT = {"user_id": "user-1", "steam_id64": "76561197960287930"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        pytest.param("20261123T031749Z", "20261123T031749Z", id="as keys hold it"),
        pytest.param("2026-11-23T03:17:49Z", "20261123T031749Z", id="ISO 8601"),
        pytest.param("2026-11-23T05:17:49+02:00", "20261123T031749Z", id="another zone"),
        pytest.param("2026-11-23T03:17:49.987654Z", "20261123T031749Z", id="fractions are cut"),
        pytest.param("2026-11-23T03:17:49", "20261123T031749Z", id="without zone it is UTC"),
        pytest.param("2026-11-23", "20261123T000000Z", id="a day"),
    ],
)
def test_a_timestamp_becomes_the_one_of_keys(text: str, time: str) -> None:
    assert FetchEvent.model_validate(EVENT | {"timestamp": text}).timestamp == time
    assert to_key_time(time) == time


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        pytest.param({"timestamp": "yesterday"}, "timestamp", id="no time"),
        pytest.param({"timestamp": ""}, "timestamp", id="empty time"),
        pytest.param({"timestamp": 1763867869}, "timestamp", id="a number for a time"),
        pytest.param({"timestamp": "../../20261123T031749Z"}, "timestamp", id="a path for a time"),
        pytest.param({"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp", id="a time before all time"),
        pytest.param({"user_id": ""}, "user_id", id="empty user"),
        pytest.param({"user_id": "../user-2"}, "user_id", id="a path for a user"),
        pytest.param({"user_id": "user-1\n"}, "user_id", id="newline behind the user"),
        pytest.param({"user_id": "u" * 65}, "user_id", id="a user of 65 characters"),
        pytest.param({"user_id": "üser"}, "user_id", id="umlaut"),
        pytest.param({"user_id": None}, "user_id", id="null user"),
        pytest.param({"user_id": 7}, "user_id", id="a number for a user"),
        pytest.param({"steam_id64": 76561197960287930}, "steam_id64", id="a number for a Steam id"),
        pytest.param({"steam_id64": None}, "steam_id64", id="null Steam id"),
        pytest.param({"run_id": "two words"}, "run_id", id="blank in the run"),
        pytest.param({"run_id": "r" * 257}, "run_id", id="a run of 257 characters"),
    ],
)
def test_a_malformed_event_names_its_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        FetchEvent.model_validate(EVENT | changed)
    assert [fault["loc"][0] for fault in error.value.errors()] == [field]


def test_every_missing_key_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        FetchEvent.model_validate({})
    assert {fault["loc"] for fault in error.value.errors()} == {("user_id",), ("steam_id64",)}


def test_unknown_keys_of_an_event_are_ignored() -> None:
    assert FetchEvent.model_validate(EVENT | {"retry": 3}) == FetchEvent.model_validate(EVENT)


def test_a_fetch_answers_with_every_key_of_the_contract() -> None:
    answer = FetchResponse(success=True, s3_location="s3://b/k", game_count=2, rejected=0, seconds=1.5, requests=3)
    assert answer.to_lambda_response() == {
        "success": True,
        "s3_location": "s3://b/k",
        "game_count": 2,
        "error": None,
        "error_code": None,
        "rejected": 0,
    }


def test_an_enrich_answers_with_every_key_of_the_contract() -> None:
    stats = EnrichStats(processed=4, matched=1, unmatched=1, filtered=1, pending=1)
    answer = EnrichResponse(success=True, s3_enriched_location="s3://b/k", stats=stats, rejected=0).to_lambda_response()
    assert answer.keys() == {"success", "s3_enriched_location", "stats", "error", "error_code", "rejected"}
    contract = {"processed": 4, "matched": 1, "unmatched": 1, "filtered": 1, "pending": 1}
    assert answer["stats"].items() >= contract.items()


@pytest.mark.parametrize(
    ("response", "own_keys"),
    [
        pytest.param(FetchResponse, {"s3_location", "game_count"}, id="fetch"),
        pytest.param(EnrichResponse, {"s3_enriched_location", "stats"}, id="enrich"),
        pytest.param(LoadResponse, {"stats"}, id="load"),
    ],
)
def test_a_failure_has_the_same_keys_with_nulls(
    response: type[FetchResponse | EnrichResponse | LoadResponse], own_keys: set[str]
) -> None:
    answer = response.failed("private_library", "The games are private.").to_lambda_response()
    said = {"success": False, "error": "The games are private.", "error_code": "private_library", "rejected": None}
    assert answer == said | dict.fromkeys(own_keys)
