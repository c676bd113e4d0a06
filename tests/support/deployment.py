"""The deployment in `infra/`: its template as CloudFormation gets it, and its state machines run by moto."""

import contextlib
import json
import re
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend, lambda_simple_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.support.lambda_functions import Handler, invoke
from tests.support.stores import REGION

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "infra" / "template.yaml"
FUNCTIONS = ("SteamImport", "IgdbEnrichment", "Catalogue", "DatabaseImport", "Backfill")
STATE_MACHINES = ("import", "backfill")
ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/state-machine"


@cache
def template() -> dict[str, Any]:
    """The template as it is written."""
    from cfnlint.decode.cfn_yaml import load

    written: dict[str, Any] = json.loads(json.dumps(load(str(TEMPLATE))))
    return written


def translated() -> dict[str, Any]:
    """The template after SAM's transform, which needs AWS_DEFAULT_REGION."""
    from samtranslator.translator.transform import transform

    packaged = json.loads(json.dumps(template()))
    for name in STATE_MACHINES:
        properties = packaged["Resources"][f"{name.title()}StateMachine"]["Properties"]
        del properties["DefinitionUri"]
        properties["Definition"] = json.loads(_definition(name))
    resources: dict[str, Any] = transform(packaged, {}, _ManagedPolicies())
    return resources


class _ManagedPolicies:
    """IAM's managed policies, whose ARNs SAM asks for."""

    def load(self) -> dict[str, str]:
        names = ("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole")
        return {name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in names}


def _definition(name: str) -> str:
    return (ROOT / "infra" / f"{name}.asl.json").read_text(encoding="utf-8")


def statements_of(function: str) -> list[dict[str, Any]]:
    """The statements of a function's policy as they are written, with the ARN of a bucket `bucket` filled in."""
    policies = json.dumps(template()["Resources"][f"{function}Function"]["Properties"]["Policies"])
    policies = policies.replace('{"Fn::GetAtt": ["Bucket", "Arn"]}', '"arn:aws:s3:::bucket"')
    filled_in = re.sub(r'\{"Fn::Sub": "\$\{Bucket\.Arn\}/([^"$]*)"\}', r'"arn:aws:s3:::bucket/\1"', policies)
    statements: list[dict[str, Any]] = json.loads(filled_in)[0]["Statement"]
    return statements


def allows(statements: Iterable[dict[str, Any]], bucket: str, action: str, key: str) -> bool:
    """As IAM decides it, of an object's key or a listing's prefix."""
    is_listing = action == "s3:ListBucket"
    resource = f"arn:aws:s3:::{bucket}" + ("" if is_listing else f"/{key}")
    return any(
        action in _listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
        and (not is_listing or any(fnmatchcase(key, prefix) for prefix in _prefixes(statement)))
        for statement in statements
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _prefixes(statement: dict[str, Any]) -> list[str]:
    return _listed(statement["Condition"]["StringLikeIfExists"]["s3:prefix"])


def definition(name: str) -> dict[str, Any]:
    """The definition of a state machine, with the ARNs of its functions filled in."""
    arn = rf"arn:aws:lambda:{REGION}:{DEFAULT_ACCOUNT_ID}:function:\1"
    states: dict[str, Any] = json.loads(re.sub(r"\$\{(\w+)Arn\}", arn, _definition(name)))
    return states


class Throttled(Exception):
    """What Lambda answers while as many invocations run as a function has reserved."""


class Functions(LambdaSimpleBackend):
    """A Lambda whose functions are handlers in this process; it keeps their events, of each and of all in order."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__(REGION, DEFAULT_ACCOUNT_ID)
        self.handlers = handlers
        self.events: dict[str, list[Any]] = defaultdict(list)
        self.asked: list[Any] = []

    def invoke(
        self,
        function_name: str,
        qualifier: str | None,  # noqa: ARG002 - moto gives these two
        body: Any,
        headers: Any,  # noqa: ARG002
        response_headers: Any,
    ) -> bytes:
        """Call a handler as Lambda's runtime for Python does: an exception is named after its class."""
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
        # moto knows no throttles: an error of the function with the name that Step Functions gives them stands for one.
        kind = "Lambda.TooManyRequestsException" if isinstance(error, Throttled) else type(error).__name__
        failed = {"errorMessage": str(error), "errorType": kind, "stackTrace": stack}
        return json.dumps(failed).encode()


@contextlib.contextmanager
def deployed_functions(handlers: Mapping[str, Handler]) -> Iterator[Functions]:
    """A Lambda with these functions, named as the definitions name them, beside the S3 of the fixture `bucket`."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_map.result_writer.result_writer_decl import (
        ResultWriter,
    )
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
        StateTaskServiceAwsSdk,
    )
    from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

    with (
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(AmazonStateLanguageParser, "parse", _parsing_once(AmazonStateLanguageParser.parse))
        patch.setattr(ResultWriter, "_eval_body", _write_results)
        patch.setattr(StateTaskServiceAwsSdk, "_eval_service_task", _call_states)
        functions = Functions(handlers)
        backends = lambda_simple_backends[DEFAULT_ACCOUNT_ID]
        backends[REGION] = functions
        try:
            yield functions
        finally:
            del backends[REGION]


@cache
def _parsing_once(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Remember each definition: moto parses it twice to create a state machine and once for each execution, slowly."""
    return cache(parse)


def _write_results(writer: Any, env: Any) -> None:
    """Write a Map's results as moto does, but find the parameters in the state's input; moto looks into the results."""
    env.stack.append(env.states.get_input())
    writer.parargs.eval(env=env)
    parameters = env.stack.pop()
    env.stack[-1] = parameters
    writer.resource_eval.eval_resource(env=env)


def _call_states(
    task: Any,
    env: Any,
    resource_runtime_part: Any,  # noqa: ARG001 - moto gives these two
    normalised_parameters: dict[str, Any],
    state_credentials: Any,  # noqa: ARG001
) -> None:
    """Call Step Functions itself from a state: in a definition its names begin with a capital, in boto3 they do not."""
    given = {name[0].lower() + name[1:]: value for name, value in normalised_parameters.items()}
    action = getattr(_client(), task._get_boto_service_action())  # noqa: SLF001 - moto's own way
    executions = action(**given)["executions"]
    env.stack.append({"Executions": [{"ExecutionArn": one["executionArn"]} for one in executions]})


class Ended(NamedTuple):
    """How an execution ended: with its output if it succeeded, with its error and cause if it failed."""

    arn: str
    status: str
    output: Any
    error: str | None
    cause: str | None


def create(name: str, *, retries: int = 1, pace: float = 0) -> str:
    """Create a state machine with hardly a wait and so many retries, or with its own at a pace; return its ARN.

    A pace of 0.1 makes every wait ten times shorter, but no shorter than a second, which the interpreter counts in.
    """
    shorten = partial(_paced, pace=pace) if pace else partial(_hasty, retries=retries)
    hasty = json.loads(json.dumps(definition(name)), object_hook=shorten)
    made = _client().create_state_machine(name=f"{name}-{uuid4()}", definition=json.dumps(hasty), roleArn=ROLE)
    return str(made["stateMachineArn"])


def start(machine: str, event: object, *, run_id: str | None = None) -> str:
    """Start an execution of a state machine, and return its ARN."""
    started = _client().start_execution(stateMachineArn=machine, name=run_id or str(uuid4()), input=json.dumps(event))
    return str(started["executionArn"])


def wait_for(execution: str, *, seconds: float = 60, pause: float = 0.05) -> Ended:
    """Return how an execution ended, when it has; look for it after each pause, in seconds.

    Raises:
        TimeoutError: It did not end in these seconds.
    """
    client, deadline = _client(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        told = client.describe_execution(executionArn=execution)
        if told["status"] != "RUNNING":
            output = json.loads(told.get("output", "null"))
            return Ended(execution, told["status"], output, told.get("error"), told.get("cause"))
        time.sleep(pause)
    client.stop_execution(executionArn=execution)
    raise TimeoutError(f"{execution} did not end in time")


def execute(name: str, event: object, *, run_id: str | None = None, retries: int = 1, seconds: float = 60) -> Ended:
    """Execute a state machine with hardly a wait, and so many retries."""
    return wait_for(start(create(name, retries=retries), event, run_id=run_id), seconds=seconds)


def map_runs(ended: Ended) -> list[dict[str, Any]]:
    """The Distributed Maps of an execution in their order, as DescribeMapRun describes them."""
    client = _client()
    runs = client.list_map_runs(executionArn=ended.arn)["mapRuns"]
    return [client.describe_map_run(mapRunArn=run["mapRunArn"]) for run in runs]


def transitions(ended: Ended) -> int:
    """How many transitions AWS bills for an execution: each state that it enters, and each try after the first."""
    pages = _client().get_paginator("get_execution_history").paginate(executionArn=ended.arn)
    types = Counter(event["type"] for page in pages for event in page["events"])
    entered = sum(count for name, count in types.items() if name.endswith("StateEntered"))
    tries = sum(types[name] for name in ("TaskScheduled", "LambdaFunctionScheduled"))
    return entered + max(0, tries - types["TaskStateEntered"])


@cache
def _client() -> Any:
    return boto3.session.Session("testing", "testing", region_name=REGION).client("stepfunctions")


def _hasty(state: dict[str, Any], retries: int) -> dict[str, Any]:
    if "IntervalSeconds" in state:
        # The interpreter sleeps at least a second before a retry, and with jitter a part of it.
        haste = {"IntervalSeconds": 1, "MaxDelaySeconds": 1, "JitterStrategy": "FULL", "MaxAttempts": retries}
        return state | haste
    return state | {"Seconds": 0} if "Seconds" in state else state


def _paced(state: dict[str, Any], pace: float) -> dict[str, Any]:
    waits = state.keys() & {"IntervalSeconds", "MaxDelaySeconds", "Seconds"}
    return state | {name: max(1, round(state[name] * pace)) for name in waits}
