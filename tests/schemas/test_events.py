import pytest
from pydantic import ValidationError

from schemas.events import FetchEvent, to_key_time

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
        pytest.param({"timestamp": 1763867869}, "timestamp", id="a number for a time"),
        pytest.param({"timestamp": "../../20261123T031749Z"}, "timestamp", id="a path for a time"),
        pytest.param({"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp", id="a time before all time"),
        pytest.param({"user_id": "../user-2"}, "user_id", id="a path for a user"),
        pytest.param({"user_id": "user-1\n"}, "user_id", id="newline behind the user"),
        pytest.param({"run_id": "two words"}, "run_id", id="blank in the run"),
        pytest.param({"run_id": "r" * 257}, "run_id", id="a run of 257 characters"),
    ],
)
def test_a_malformed_event_names_its_field(changed: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        FetchEvent.model_validate(EVENT | changed)
    assert [fault["loc"][0] for fault in error.value.errors()] == [field]
