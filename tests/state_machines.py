"""The state machines of `infra/` in moto's interpreter, with our handlers where AWS has Lambda functions."""

import contextlib
import json
import re
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend, lambda_simple_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.support.lambda_functions import Handler, invoke
from tests.support.stores import REGION

INFRA = Path(__file__).parents[1] / "infra"
ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/state-machine"


class Ended(NamedTuple):
    """How an execution ended: its output if it succeeded, its error and cause if it failed."""

    arn: str
    status: str
    output: Any
    error: str | None
    cause: str | None


class Functions(LambdaSimpleBackend):
    """A Lambda whose functions are handlers in this process; it keeps the events of each, and those of all in order."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__(REGION, DEFAULT_ACCOUNT_ID)
        self.handlers = handlers
        self.events: dict[str, list[Any]] = defaultdict(list)
        self.asked: list[Any] = []

    def invoke(
        self,
        function_name: str,
        qualifier: str | None,  # noqa: ARG002 - moto says who the arguments are
        body: Any,
        headers: Any,  # noqa: ARG002
        response_headers: Any,
    ) -> bytes:
        """Call a handler as Lambda's runtime for Python does: what it raises is named by its class."""
        name = function_name.rsplit(":", 1)[-1]
        event = json.loads(body)
        self.events[name].append(event)
        self.asked.append(event)
        with ThreadPoolExecutor(1) as sandbox:
            call = sandbox.submit(invoke, self.handlers[name], event)
        error = call.exception()
        if error is None:
            return json.dumps(call.result()).encode()
        response_headers["x-amz-function-error"] = "Unhandled"
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
        try:
            yield functions
        finally:
            del backends[REGION]


def definition(name: str) -> dict[str, Any]:
    """A state machine of `infra/`, its functions' ARNs filled in."""
    arn = rf"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:\1"
    text = re.sub(r"\$\{(\w+)Arn\}", arn, (INFRA / f"{name}.asl.json").read_text())
    states: dict[str, Any] = json.loads(text)
    return states


def execute(name: str, event: object, *, run_id: str | None = None, retries: int = 1, seconds: float = 60) -> Ended:
    """Execute a state machine of `infra/`, but with hardly a wait, and so many retries.

    Raises:
        TimeoutError: It did not end in these seconds.
    """
    client = _client()
    hasty = json.loads(json.dumps(definition(name)), object_hook=partial(_hasty, retries=retries))
    machine = client.create_state_machine(name=f"{name}-{uuid4()}", definition=json.dumps(hasty), roleArn=ROLE)
    started = client.start_execution(
        stateMachineArn=machine["stateMachineArn"], name=run_id or str(uuid4()), input=json.dumps(event)
    )
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


def _hasty(state: dict[str, Any], retries: int) -> dict[str, Any]:
    if "IntervalSeconds" in state:
        # The interpreter sleeps at least a second before a retry, and with jitter a part of it.
        haste = {"IntervalSeconds": 1, "MaxDelaySeconds": 1, "JitterStrategy": "FULL", "MaxAttempts": retries}
        return state | haste
    return state | {"Seconds": 0} if "Seconds" in state else state
