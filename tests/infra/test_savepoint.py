"""What SavePoint is told in `docs/deploying.md`: starting an import, and the JSON of how it ends."""

import json
import re
from typing import Any

import boto3
import pytest

from handlers import steam_import
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.deployment import ROOT, create, deployed_functions, template, wait_for
from tests.support.lambda_functions import ACCOUNT, USER, Handler
from tests.support.stores import REGION

TEXT = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8").partition("## SavePoint's side")[2]
(START,) = re.findall(r"(?s)```python\n(.*?)```", TEXT)
SUCCEEDED, REFUSED = (json.loads(block) for block in re.findall(r"(?s)```json\n(.*?)```", TEXT)[:2])
ALSO = {"note", "fetch", "enrich", "load"}


def stand_in(event: Any, _context: object) -> dict[str, Any]:
    """Each later stage answers that all is well."""
    assert event["user_id"] == USER
    told = {"success": True, "error": None, "error_code": None, "stats": {"pending": 0}}
    return told | {"s3_enriched_location": "enriched"}


HANDLERS: dict[str, Handler] = {
    "SteamImportFunction": steam_import.handler,
    "IgdbEnrichmentFunction": stand_in,
    "CatalogueFunction": stand_in,
    "DatabaseImportFunction": stand_in,
}


def types_of(outcome: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in outcome.items()}


def documented_start(machine: str) -> Any:
    """The function of the document, which has a client of Step Functions and the ARN of the state machine."""
    names: dict[str, Any] = {
        "json": json,
        "states": boto3.client("stepfunctions", region_name=REGION),
        "state_machine_arn": machine,
    }
    exec(START, names)  # noqa: S102 - our own document
    return names["start_import"]


@pytest.mark.parametrize("documented", [SUCCEEDED, REFUSED], ids=["succeeded", "refused"])
def test_two_requests_of_a_click_are_one_run_which_ends_as_documented(
    deployed: Sandbox, documented: dict[str, Any]
) -> None:
    deployed.world.accounts |= {World.PRIVATE_ACCOUNT: World.recorded().accounts[World.PRIVATE_ACCOUNT]}
    account = ACCOUNT if documented["success"] else World.PRIVATE_ACCOUNT
    with deployed_functions(HANDLERS) as functions:
        start_import = documented_start(create("import"))
        first = start_import(USER, account, "click-1")
        ended = wait_for(first)
        again = start_import(USER, account, "click-1")
    assert again == first
    assert len(functions.events["SteamImportFunction"]) == 1
    assert ended.status == "SUCCEEDED"
    assert ended.output.keys() >= documented.keys() | ALSO
    assert types_of({name: ended.output[name] for name in documented}) == types_of(documented)
    assert (ended.output["run_id"], ended.output["error_code"]) == (documented["run_id"], documented["error_code"])


def test_every_end_of_an_import_goes_into_the_queue_and_what_cannot_into_another() -> None:
    resources = template()["Resources"]
    rule = resources["ImportEndedRule"]["Properties"]
    assert rule["EventPattern"]["detail-type"] == ["Step Functions Execution Status Change"]
    assert rule["EventPattern"]["detail"] == {
        "stateMachineArn": [{"Ref": "ImportStateMachine"}],
        "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
    }
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["ImportsEnded", "Arn"]}
    dead_letters = {"Fn::GetAtt": ["ImportsEndedDeadLetters", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": dead_letters}
    assert resources["ImportsEnded"]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == dead_letters


def test_savepoints_policy_starts_imports_asks_how_they_are_and_reads_the_queue_and_no_more() -> None:
    statements = template()["Resources"]["ImporterPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    actions = [statement["Action"] for statement in statements]
    assert actions[:2] == ["states:StartExecution", "states:DescribeExecution"]
    assert set(actions[2]) == {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    assert statements[0]["Resource"] == {"Ref": "ImportStateMachine"}
    assert template()["Outputs"]["ImporterPolicyArn"]["Value"] == {"Ref": "ImporterPolicy"}
