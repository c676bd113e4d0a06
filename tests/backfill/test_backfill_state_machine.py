"""The state machine of a backfill: steps and shards, with a function that stands in for the handler."""

import json
import threading
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from pipeline.errors import Retryable
from tests.support.deployment import create, deployed_functions, execute, map_runs, start, wait_for
from tests.support.lambda_functions import put
from tests.support.stores import BUCKET

pytestmark = pytest.mark.usefixtures("bucket")

FUNCTIONS = ("BackfillFunction", "CatalogueFunction")
STEPS = ["plan", "fetch", "catalogue", "look_up", "catalogue", "enrich", "load", "report"]
SHARDS_KEY = "backfills/run-1/shards.json"
FEW = 3
INPUT = {"users": f"s3://{BUCKET}/users.csv"}
ANSWER = dict.fromkeys(("error", "error_code", "shard", "shards", "bucket", "shards_key", "report", "stats"))
REFUSED = {"success": False, "error": "Why.", "error_code": "configuration"}

Misfortune = Callable[[str], dict[str, Any]]


class StandIn:
    """Answers each step; `misfortune(step)` says what is different about an answer, or raises."""

    def __init__(self, misfortune: Misfortune = lambda _: {}, *, shards: int = FEW) -> None:
        self.shards = shards
        self.misfortune = misfortune
        self.has_looked_up = False

    def __call__(self, event: Any, _context: object) -> dict[str, Any]:
        step = event["step"]
        answer = {"success": True, **ANSWER, "step": step, "run_id": event["run_id"], "shard": event.get("shard")}
        if step == "plan":
            put(SHARDS_KEY, json.dumps([{"shard": shard} for shard in range(self.shards)]))
            answer |= {"bucket": BUCKET, "shards_key": SHARDS_KEY, "shards": self.shards}
        if step == "catalogue":
            answer["stats"] = {"apps": 9, "pending": 0 if self.has_looked_up else 9}
        self.has_looked_up |= step == "look_up"
        return answer | self.misfortune(step)


def at(step: str, difference: dict[str, Any] | Exception) -> Misfortune:
    """A step that answers differently, or raises each time."""

    def misfortune(this: str) -> dict[str, Any]:
        if this != step:
            return {}
        if isinstance(difference, Exception):
            raise difference
        return difference

    return misfortune


def steps_of(events: list[Any]) -> list[str]:
    return [step for step, _ in groupby(event["step"] for event in events)]


def test_the_steps_follow_each_other_and_each_shard_is_asked_for_once() -> None:
    with deployed_functions(dict.fromkeys(FUNCTIONS, StandIn())) as functions:
        ended = execute("backfill", INPUT, run_id="run-1")
        runs = map_runs(ended)
    assert ended.status == "SUCCEEDED"
    assert ended.output == {"success": True, **ANSWER, "step": "report", "run_id": "run-1"}
    events = functions.asked
    assert steps_of(events) == STEPS
    assert functions.events["CatalogueFunction"] == [{"step": "look_up", "run_id": "run-1"}]
    assert events[0] == {"step": "plan", "run_id": "run-1", "users": INPUT["users"], "shard_size": None}
    for step in ("fetch", "enrich", "load"):
        asked = sorted((event for event in events if event["step"] == step), key=lambda event: event["shard"])
        shared: dict[str, Any] = {"fetch_concurrency": 2} if step == "fetch" else {}
        assert asked == [{"step": step, "run_id": "run-1", "shard": shard} | shared for shard in range(FEW)]
    for step, times in (("catalogue", 2), ("report", 1)):
        assert [event for event in events if event["step"] == step] == times * [{"step": step, "run_id": "run-1"}]
    assert [(run["maxConcurrency"], run["toleratedFailurePercentage"]) for run in runs] == [(2, 50), (20, 50), (4, 50)]


def test_an_empty_list_is_reported_at_once() -> None:
    with deployed_functions(dict.fromkeys(FUNCTIONS, StandIn(shards=0))) as functions:
        assert execute("backfill", INPUT).status == "SUCCEEDED"
    assert steps_of(functions.asked) == ["plan", "report"]


def test_the_input_says_which_run_goes_on_and_how_fast() -> None:
    given = {"run_id": "run-1", "shard_size": 500, "fetch_concurrency": 1, "load_concurrency": 3}
    with deployed_functions(dict.fromkeys(FUNCTIONS, StandIn())) as functions:
        ended = execute("backfill", given | {"tolerated_failure_percentage": 25}, run_id="another")
        runs = map_runs(ended)
    events = functions.asked
    assert events[0] == {"step": "plan", "run_id": "run-1", "users": None, "shard_size": 500}
    assert {event["run_id"] for event in events} == {"run-1"}
    assert [(run["maxConcurrency"], run["toleratedFailurePercentage"]) for run in runs] == [(1, 25), (20, 25), (3, 25)]


@pytest.mark.parametrize(
    ("misfortune", "steps", "error"),
    [
        pytest.param(at("plan", REFUSED), STEPS[:1], "configuration", id="no plan"),
        pytest.param(at("plan", {"shards_key": "gone"}), ["plan", "report"], None, id="a map that cannot run"),
        pytest.param(
            at("look_up", Retryable("igdb_unavailable", "Why.")), [*STEPS[:4], "report"], "Retryable", id="no IGDB"
        ),
    ],
)
def test_an_error_that_stops_a_run_fails_the_execution_after_the_report(
    misfortune: Misfortune, steps: list[str], error: str | None
) -> None:
    with deployed_functions(dict.fromkeys(FUNCTIONS, StandIn(misfortune))) as functions:
        ended = execute("backfill", INPUT)
    assert ended.status == "FAILED"
    assert steps_of(functions.asked) == steps
    if error:
        assert ended.error == error
        assert "Why." in (ended.cause or "")


def test_a_run_of_the_schedule_does_not_begin_while_another_is_under_way() -> None:
    is_begun, goes_on = threading.Event(), threading.Event()

    def misfortune(step: str) -> dict[str, Any]:
        if step == "report":
            is_begun.set()
            goes_on.wait(30)
        return {}

    periodic = INPUT | {"unless_running": True}
    with deployed_functions(dict.fromkeys(FUNCTIONS, StandIn(misfortune, shards=0))) as functions:
        machine = create("backfill")
        first = start(machine, periodic)
        is_begun.wait(30)
        overlapping = wait_for(start(machine, periodic))
        asked = steps_of(functions.asked)
        goes_on.set()
        statuses = wait_for(first).status, wait_for(start(machine, periodic)).status
    assert (overlapping.status, overlapping.error, asked) == ("FAILED", "Overlaps", ["plan", "report"])
    assert statuses == ("SUCCEEDED", "SUCCEEDED")
