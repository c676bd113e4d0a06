"""The state machines of `infra/` in moto's interpreter, with our handlers where AWS has Lambda functions.

    with deployed_functions({"SteamImportFunction": steam_import.handler, ...}) as functions:
        ended = execute("import", {"user_id": ..., "steam_id64": ...}, run_id="run-1")
    assert functions.events["SteamImportFunction"] == [...]
"""

import contextlib
import json
import re
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend, lambda_simple_backends
from moto.core import DEFAULT_ACCOUNT_ID

from tests.lambda_fixtures import REGION, Handler, invoke

INFRA = Path(__file__).parents[1] / "infra"
ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/state-machine"
RETRIES = 2
"""How often an executed definition retries; a committed one does it more often."""

HASTE = {"IntervalSeconds": 1, "MaxDelaySeconds": 1, "JitterStrategy": "FULL", "MaxAttempts": RETRIES}
"""The interpreter sleeps for at least a second before a retry, and with jitter for a part of it."""


class Ended(NamedTuple):
    """How an execution ended: its output if it succeeded, its error and cause if it failed."""

    arn: str
    status: str
    output: Any
    error: str | None
    cause: str | None


class Functions(LambdaSimpleBackend):
    """A Lambda whose functions are handlers in this process; it keeps the events of each."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__(REGION, DEFAULT_ACCOUNT_ID)
        self.handlers = handlers
        self.events: dict[str, list[Any]] = defaultdict(list)

    def invoke(self, function_name: str, _qualifier: object, body: Any, _headers: object, headers: Any) -> bytes:
        """Call a handler as Lambda's runtime for Python does: what it raises is named by its class."""
        name = function_name.rsplit(":", 1)[-1]
        event = json.loads(body)
        self.events[name].append(event)
        with ThreadPoolExecutor(1) as sandbox:
            call = sandbox.submit(invoke, self.handlers[name], event)
        error = call.exception()
        if error is None:
            return json.dumps(call.result()).encode()
        headers["x-amz-function-error"] = "Unhandled"
        stack = traceback.format_tb(error.__traceback__)
        failed = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": stack}
        return json.dumps(failed).encode()


@contextlib.contextmanager
def deployed_functions(handlers: Mapping[str, Handler]) -> Iterator[Functions]:
    """A Lambda that has these functions, beside the S3 of the fixture `bucket`; the names are the definitions'."""
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}):
        functions = Functions(handlers)
        backends = lambda_simple_backends[DEFAULT_ACCOUNT_ID]
        backends[REGION] = functions
        yield functions
        del backends[REGION]


def definition(name: str) -> dict[str, Any]:
    """A state machine of `infra/`, its functions' ARNs filled in."""
    arn = rf"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:\1"
    text = re.sub(r"\$\{(\w+)Arn\}", arn, (INFRA / f"{name}.asl.json").read_text())
    states: dict[str, Any] = json.loads(text)
    return states


def execute(name: str, event: object, *, run_id: str | None = None, seconds: float = 30) -> Ended:
    """Execute a state machine of `infra/`, but with hardly a wait and few retries.

    Raises:
        TimeoutError: It did not end in these seconds.
    """
    client = _client()
    hasty = json.dumps(json.loads(json.dumps(definition(name)), object_hook=_hasty))
    machine = client.create_state_machine(name=f"{name}-{uuid4()}", definition=hasty, roleArn=ROLE)["stateMachineArn"]
    started = client.start_execution(stateMachineArn=machine, name=run_id or str(uuid4()), input=json.dumps(event))
    return _ended(client, started["executionArn"], time.monotonic() + seconds)


def map_runs(ended: Ended) -> list[dict[str, Any]]:
    """The Distributed Maps of an execution in their order, as DescribeMapRun says them."""
    client = _client()
    runs = client.list_map_runs(executionArn=ended.arn)["mapRuns"]
    return [client.describe_map_run(mapRunArn=run["mapRunArn"]) for run in runs]


def _client() -> Any:
    return boto3.client("stepfunctions", region_name=REGION)


def _ended(client: Any, arn: str, deadline: float) -> Ended:
    while time.monotonic() < deadline:
        told = client.describe_execution(executionArn=arn)
        if told["status"] != "RUNNING":
            output = json.loads(told.get("output", "null"))
            return Ended(arn, told["status"], output, told.get("error"), told.get("cause"))
        time.sleep(0.02)
    client.stop_execution(executionArn=arn)
    raise TimeoutError(f"{arn} did not end in time")


def _hasty(state: dict[str, Any]) -> dict[str, Any]:
    if "ErrorEquals" in state and "IntervalSeconds" in state:
        return state | HASTE
    return state | {"Seconds": 0} if "Seconds" in state else state
