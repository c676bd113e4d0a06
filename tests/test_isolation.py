"""One user's event reaches neither another user's files or rows, nor anything outside the store."""

import socket
from collections.abc import Iterator

import pytest

from handlers import database_import, igdb_enrichment, steam_import
from tests.support.lambda_functions import ACCOUNT, ENRICHED, RAW, RAW_CSV, USER, Handler, enriched_csv, invoke, put
from tests.support.lambda_functions import written as objects_written
from tests.support.programs import Configure
from tests.support.stores import REGION

TIME = "20261123T031749Z"
ROOT = "s3://bucket/of/"
OWN = f"imports/user-1/{TIME}"
STAGES = {
    "raw": (igdb_enrichment.handler, "s3_location"),
    "enriched": (database_import.handler, "s3_enriched_location"),
}

USER_IDS = (
    *("", "..", "../user-2", "user-2/../user-1", "user-1/", "/user-1", "user%2f1", "user\\1", "user-1\0", "user-1\n"),
    *("user-1 ", "user.1", "*", "$USER", "u" * 65, "user\N{NON-BREAKING HYPHEN}1", "user-\N{ARABIC-INDIC DIGIT ONE}"),
    *(None, 1, ["user-1"], {"user-1": 1}),
)
LOCATIONS = {
    "of another user": f"{ROOT}imports/user-2/{TIME}",
    "round about to another user": f"{ROOT}imports/user-1/../user-2/{TIME}",
    "round about to oneself": f"{ROOT}imports/user-2/../user-1/{TIME}",
    "with a dot": f"{ROOT}imports/user-1/./{TIME}",
    "with an empty folder": f"{ROOT}imports//user-1/{TIME}",
    "in other letters": f"{ROOT}imports/USER-1/{TIME}",
    "with dots in percents": f"{ROOT}imports/user-1/%2e%2e/user-2/{TIME}",
    "with a slash in percents": f"{ROOT}imports/user-1/..%2fuser-2/{TIME}",
    "with backslashes": f"{ROOT}imports/user-1\\..\\user-2\\{TIME}",
    "with a NUL": f"{ROOT}imports/user-1\0/{TIME}",
    "with a line break": f"{ROOT}imports/user-1\n/{TIME}",
    "with dots that only look so": f"{ROOT}imports/user-1/\N{TWO DOT LEADER}/user-2/{TIME}",
    "with a letter that only looks so": f"{ROOT}imports/us\N{CYRILLIC SMALL LETTER IE}r-1/{TIME}",
    "in a folder below": f"{ROOT}imports/user-1/sub/{TIME}",
    "of nobody": f"{ROOT}imports/{TIME}",
    "in another folder": f"{ROOT}exports/user-1/{TIME}",
    "in another bucket": f"s3://another-bucket/of/{OWN}",
    "in a bucket of a longer name": f"s3://bucket.evil/of/{OWN}",
    "beside the store": f"s3://bucket/{OWN}",
    "in a folder of a longer name": f"s3://bucket/off/{OWN}",
    "out of the store and back": f"s3://bucket/of/../of/{OWN}",
    "as a web address": f"https://bucket.s3.amazonaws.com/of/{OWN}",
    "as a file": f"file:///bucket/of/{OWN}",
    "as a path": f"/etc/{OWN}",
    "as a key": OWN,
    "empty": "",
    "endless": "A" * 100_000,
}


@pytest.fixture
def tripwire(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that every setting leads to, the store's, the APIs' and the database's: nobody may call it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        apis = ("STEAM_API_URL", "STEAM_STORE_API_URL", "IGDB_API_URL", "TWITCH_TOKEN_URL")
        keys = dict.fromkeys(("STEAM_API_KEY", "IGDB_CLIENT_ID", "IGDB_CLIENT_SECRET"), "key")
        store = {"STORE_URL": ROOT, "AWS_REGION": REGION, "DATABASE_URL": f"postgresql://u@{address}/x"}
        configured(dict.fromkeys(apis, f"http://{address}") | keys | store | {"LOG_LEVEL": "CRITICAL"})
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def code_of(handler: Handler, **event: object) -> object:
    return handler(event, None)["error_code"]


@pytest.mark.usefixtures("tripwire")
@pytest.mark.parametrize("user_id", USER_IDS, ids=repr)
def test_an_event_of_no_possible_user_is_refused_before_anybody_is_asked(user_id: object) -> None:
    assert code_of(steam_import.handler, user_id=user_id, steam_id64=ACCOUNT) == "bad_event"
    for stage, (handler, key) in STAGES.items():
        assert code_of(handler, user_id=user_id, **{key: f"{ROOT}{OWN}-{stage}.csv"}) == "bad_event"


@pytest.mark.usefixtures("tripwire")
@pytest.mark.parametrize("location", LOCATIONS.values(), ids=LOCATIONS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_location_that_is_not_ones_own_is_refused_before_anybody_is_asked(stage: str, location: str) -> None:
    handler, key = STAGES[stage]
    assert code_of(handler, user_id="user-1", **{key: f"{location}-{stage}.csv"}) == "location_refused"


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("stage", STAGES)
def test_a_file_with_rows_of_another_user_is_refused_whole(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nobody")
    location, rows = (RAW, RAW_CSV) if stage == "raw" else (ENRICHED, enriched_csv())
    put(location, rows + rows.splitlines()[1].replace(USER, "user-2").replace(",620,", ",621,") + "\n")
    before = objects_written("")
    handler, key = STAGES[stage]
    assert invoke(handler, {"user_id": USER, key: location})["error_code"] == "location_refused"
    written = objects_written("")
    assert {key: tag for key, tag in written.items() if not key.endswith("-failed.json")} == before
