import gc
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from pipeline.sandbox.faults import Fault
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.steam import BLOCKED
from pipeline.sandbox.wire import Service
from pipeline.sandbox.world import World

Post = Callable[..., httpx.Response]
OWNED = "IPlayerService/GetOwnedGames/v1"
QUERY = "fields name;"


@pytest.mark.parametrize(
    ("service", "status", "kind", "text"),
    [
        ("steam", 429, "text/html", "<title>429 Too Many Requests</title>"),
        ("steam", 403, "text/html", "<pre>key=</pre>"),
        ("store", 503, "text/html", "503 Service Unavailable"),
        ("igdb", 429, "application/json", '{"message":"Too Many Requests"}'),
        ("igdb", 408, "application/json", '[{"title":"Request Timeout","status":408}]'),
        ("igdb", 502, "text/plain", "Bad Gateway"),
        ("twitch", 503, "application/json", '{"status":503,"message":"503 Service Unavailable"}'),
    ],
)
def test_a_status_comes_with_the_body_of_its_service(
    sandbox: Sandbox, client: httpx.Client, service: Service, status: int, kind: str, text: str
) -> None:
    sandbox.faults.add(Fault(service=service, status=status))
    answer = client.post(f"{sandbox.url}/{service}/v4/games")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (status, kind)
    assert text in answer.text


def test_a_status_may_bring_its_own_body_and_headers(sandbox: Sandbox, steam: Post) -> None:
    sandbox.faults.add(Fault(status=429, headers={"Retry-After": "7"}, times=1))
    sandbox.faults.add(Fault(status=403, body=BLOCKED, times=1))
    assert steam(OWNED).headers["retry-after"] == "7"
    assert "key=" not in steam(OWNED).text


def test_a_fault_hits_certain_requests_so_many_times_until_it_is_spent_or_removed(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.faults.add(Fault(service="igdb", path="/games", times=2))
    fault = sandbox.faults.add(Fault(when=lambda text: "slug" in text, status=502))
    endpoints = ("games", "genres", "games", "games")
    assert [igdb(endpoint, QUERY).status_code for endpoint in endpoints] == [500, 200, 500, 200]
    assert [igdb("genres", f"fields {field};").status_code for field in ("slug", "name", "slug")] == [502, 200, 502]
    sandbox.faults.remove(fault)
    assert igdb("genres", "fields slug;").status_code == 200


def test_a_probable_fault_hits_the_same_requests_every_time(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.faults.add(Fault(service="igdb", probability=0.3))
    assert [igdb("genres", QUERY).status_code for _ in range(20)].count(500) == 3
    sandbox.faults.clear()
    assert igdb("genres", QUERY).status_code == 200


def test_a_reset_connection_gives_no_answer(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.faults.add(Fault(kind="reset", times=1))
    with pytest.raises(httpx.ReadError, match="reset"):
        igdb("genres", QUERY)
    assert igdb("genres", QUERY).status_code == 200
    assert [record.status for record in sandbox.asked("igdb")] == [None, 200]


def test_a_request_whose_answer_is_lost_was_carried_out(sandbox: Sandbox, token: Post) -> None:
    sandbox.faults.add(Fault(service="twitch", kind="lost", times=1))
    with pytest.raises(httpx.ReadError):
        token()
    assert sandbox.tokens_minted == 1


def test_a_cut_body_ends_before_its_announced_length(sandbox: Sandbox, igdb: Post) -> None:
    sandbox.faults.add(Fault(kind="cut"))
    with pytest.raises(httpx.RemoteProtocolError, match="received 150 bytes, expected 301"):
        igdb("genres", QUERY)


def test_json_may_be_broken(sandbox: Sandbox, steam: Post) -> None:
    sandbox.faults.add(Fault(kind="not_json"))
    with pytest.raises(ValueError, match="Expecting value"):
        steam(OWNED).json()


def test_a_stalled_request_answers_late(sandbox: Sandbox, steam: Post) -> None:
    sandbox.faults.add(Fault(kind="stall", seconds=0.05))
    started = time.monotonic()
    assert steam(OWNED, steamid=World.EMPTY_ACCOUNT).json() == {"response": {"game_count": 0}}
    assert time.monotonic() - started >= 0.05


def test_a_stalled_request_does_not_delay_the_end() -> None:
    with Sandbox(World()) as sandbox:
        sandbox.faults.add(Fault(kind="stall", seconds=600))
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{sandbox.url}/steam/x", timeout=0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 2


def test_a_connection_made_just_before_the_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    left_open: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: left_open.append(found.exc_value))
    for _ in range(5):
        with Sandbox(World()) as sandbox:
            clients = [socket.create_connection(("127.0.0.1", urlsplit(sandbox.url).port)) for _ in range(20)]
        for client in clients:
            client.close()
    gc.collect()
    assert left_open == []
