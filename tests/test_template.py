"""The deployment's template: what the linter and SAM say of it, and what it promises."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint_file
from cfnlint.config import ManualArgs

from handlers import igdb
from pipeline.settings import Settings
from tests.support.deployment import (
    FUNCTIONS,
    NOTHING_TO_DO,
    REGION,
    STATE_MACHINES,
    TEMPLATE,
    definition,
    template,
    translated,
)

DEPLOYING = Path(__file__).parent.parent / "docs" / "deploying.md"
PARAMETERS = tuple(template()["Parameters"])


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        made: dict[str, Any] = translated()["Resources"]
        return made


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: made["Properties"] for name, made in resources.items() if made["Type"] == kind}


def own(name: str) -> dict[str, Any]:
    """The properties of one of the functions, as written."""
    properties: dict[str, Any] = template()["Resources"][f"{name}Function"]["Properties"]
    return properties


def test_the_linter_has_nothing_to_say() -> None:
    assert [str(match) for match in lint_file(TEMPLATE, config=ManualArgs(regions=[REGION]))] == []


def test_a_function_has_a_role_and_a_log_of_its_own(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    assert len(functions) == len(FUNCTIONS)
    assert len({json.dumps(function["Role"]) for function in functions.values()}) == len(FUNCTIONS)
    logs = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions.values()]
    assert len(set(logs)) == len(FUNCTIONS)
    assert all(
        group["RetentionInDays"] == {"Ref": "LogDays"} for group in of_type(resources, "AWS::Logs::LogGroup").values()
    )


def test_every_handler_is_there_and_every_bundle_is_one_that_is_made() -> None:
    bundles = {"steam_import", "igdb_enrichment", "database_import", "backfill"}
    for name in FUNCTIONS:
        module, _, function = own(name)["Handler"].rpartition(".")
        if module != "handlers.backfill":
            assert callable(getattr(importlib.import_module(module), function))
        key = re.fullmatch(r"\$\{CodePrefix\}/(\w+)-\$\{Architecture\}\.zip", own(name)["CodeUri"]["Key"]["Fn::Sub"])
        assert key is not None
        assert key[1] in bundles


def test_what_a_function_is_told_are_settings() -> None:
    told = set(template()["Globals"]["Function"]["Environment"]["Variables"])
    told |= {name for function in FUNCTIONS for name in own(function)["Environment"]["Variables"]}
    assert {name.lower() for name in told - {"POLARS_ENGINE_AFFINITY"}} <= set(Settings.model_fields)


def test_no_function_is_given_a_secret_itself() -> None:
    told = [own(name)["Environment"]["Variables"] for name in FUNCTIONS]
    assert not {"STEAM_API_KEY", "IGDB_CLIENT_SECRET", "DATABASE_URL"} & {name for names in told for name in names}


def test_igdb_is_talked_to_by_one_function_and_once_at_a_time() -> None:
    talking = [name for name in FUNCTIONS if "IGDB_CLIENT_ID" in own(name)["Environment"]["Variables"]]
    assert talking == ["IgdbEnrichment"]
    assert own("IgdbEnrichment")["ReservedConcurrentExecutions"] == 1
    substituted = template()["Resources"]["BackfillStateMachine"]["Properties"]["DefinitionSubstitutions"]
    assert substituted["BackfillCatalogueFunctionArn"] == {"Fn::GetAtt": ["IgdbEnrichmentFunction", "Arn"]}


@pytest.mark.parametrize("name", STATE_MACHINES)
def test_a_definition_names_the_functions_it_is_given_and_no_others(name: str) -> None:
    given = template()["Resources"][f"{name}StateMachine"]["Properties"]["DefinitionSubstitutions"]
    if definition(name) == NOTHING_TO_DO:
        pytest.skip("the definition is not there")
    assert set(re.findall(r"\$\{(\w+)\}", json.dumps(definition(name)))) == set(given)


def test_a_step_of_a_backfill_goes_from_igdbs_function_to_its_own_handler() -> None:
    backfill = pytest.importorskip("handlers.backfill")
    assert igdb.handler({"step": "catalogue"}, None) == backfill.handler({"step": "catalogue"}, None)


def test_whatever_may_fail_has_an_alarm(resources: dict[str, Any]) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    timeout_ms = template()["Globals"]["Function"]["Timeout"] * 1000
    for name in FUNCTIONS:
        assert alarms[f"{name}Errors"]["Dimensions"][0]["Value"] == {"Ref": f"{name}Function"}
        assert alarms[f"{name}Slow"]["Dimensions"][0]["Value"] == {"Ref": f"{name}Function"}
        assert alarms[f"{name}Slow"]["Threshold"] == 0.9 * timeout_ms
    for name in STATE_MACHINES:
        assert f'{{"Ref": "{name}StateMachine"}}' in json.dumps(alarms[f"{name}ExecutionsFailed"])
    assert len(alarms) == 2 * len(FUNCTIONS) + len(STATE_MACHINES)


def test_the_bucket_is_versioned_encrypted_private_kept_and_cleaned(resources: dict[str, Any]) -> None:
    assert resources["Bucket"]["DeletionPolicy"] == resources["Bucket"]["UpdateReplacePolicy"] == "Retain"
    bucket = resources["Bucket"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "BucketEncryption" in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    imports, rest = bucket["LifecycleConfiguration"]["Rules"]
    assert (imports["Prefix"], imports["ExpirationInDays"]) == ("imports/", {"Ref": "ImportDays"})
    assert {"NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} < rest.keys()


def test_without_tls_the_bucket_is_closed(resources: dict[str, Any]) -> None:
    (statement,) = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_periodic_sync_is_off_unless_it_is_said_whom_to_sync(resources: dict[str, Any]) -> None:
    (schedule,) = of_type(resources, "AWS::Scheduler::Schedule").values()
    assert schedule["State"] == {"Fn::If": ["IsSynced", "ENABLED", "DISABLED"]}
    assert schedule["Target"]["Arn"] == {"Ref": "BackfillStateMachine"}
    assert template()["Parameters"]["SyncUsersKey"]["Default"] == ""


def test_both_state_machines_are_standard_and_log(resources: dict[str, Any]) -> None:
    machines = of_type(resources, "AWS::StepFunctions::StateMachine").values()
    assert [machine["StateMachineType"] for machine in machines] == ["STANDARD"] * 2
    assert all(machine["LoggingConfiguration"]["Destinations"] for machine in machines)


def test_a_distributed_map_may_start_its_own_executions_and_read_their_list() -> None:
    policies = json.dumps(template()["Resources"]["BackfillStateMachine"]["Properties"]["Policies"])
    assert "stateMachine:${AWS::StackName}-backfill" in policies
    assert "states:StartExecution" in policies
    assert "${Bucket.Arn}/backfills/*" in policies


def test_the_document_tells_of_every_parameter_and_alarm_and_of_no_other() -> None:
    text = DEPLOYING.read_text(encoding="utf-8")
    alarms = {name for name, made in template()["Resources"].items() if made["Type"] == "AWS::CloudWatch::Alarm"}
    cells = " ".join(re.findall(r"(?m)^\| (`.+?`) \|", text))
    assert set(re.findall(r"`(\w+)`", cells)) == alarms | set(PARAMETERS)
    assert {name for name in re.findall(r"(\w+)=", text) if name in PARAMETERS} >= {
        name for name, given in template()["Parameters"].items() if "Default" not in given
    }


def test_the_form_of_the_console_has_every_parameter_once() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(PARAMETERS)
