"""The deployment's template: it passes the linter and SAM, and holds what the documents promise."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.package import FUNCTIONS as BUNDLES
from pipeline.settings import Settings
from schemas.events import FROM_DATABASE, CatalogueEvent
from tests.support.deployment import (
    FUNCTIONS,
    ROLE,
    ROOT,
    STATE_MACHINES,
    TEMPLATE,
    definition,
    template,
    translated,
)
from tests.support.stores import REGION

STEAM_RATE = 10
ENDS_ALL_IMPORTS = {
    "configuration",
    "bad_steam_key",
    "bad_igdb_credentials",
    "schema_mismatch",
    "steam_blocked",
    "checkpoint_invalid",
}
"""The error codes with which every import may end as a success of its execution, until somebody acts."""


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        made: dict[str, Any] = translated()["Resources"]
        return made


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: made["Properties"] for name, made in resources.items() if made["Type"] == kind}


def schedules_of(resources: dict[str, Any], target: str) -> list[dict[str, Any]]:
    """The schedules that start a function or a state machine."""
    schedules = of_type(resources, "AWS::Scheduler::Schedule").values()
    return [schedule for schedule in schedules if f'"{target}"' in json.dumps(schedule["Target"]["Arn"])]


def function(name: str) -> dict[str, Any]:
    """The properties of a function, as written."""
    properties: dict[str, Any] = template()["Resources"][f"{name}Function"]["Properties"]
    return properties


def variables(name: str) -> dict[str, Any]:
    """The environment variables that one function alone has."""
    return function(name).get("Environment", {}).get("Variables", {})  # type: ignore[no-any-return]


def test_the_linter_has_nothing_to_say_of_the_template() -> None:
    from cfnlint.api import lint_file
    from cfnlint.config import ManualArgs

    assert [str(match) for match in lint_file(TEMPLATE, config=ManualArgs(regions=[REGION]))] == []


@pytest.mark.slow
def test_the_linter_has_nothing_to_say_of_the_state_machines(tmp_path: Path) -> None:
    machines = {
        name.title(): {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {"RoleArn": ROLE, "Definition": definition(name)},
        }
        for name in STATE_MACHINES
    }
    written = tmp_path / "template.json"
    written.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": machines}))
    linter = Path(sys.executable).with_name("cfn-lint")
    linted = subprocess.run([linter, written], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert (linted.returncode, linted.stdout) == (0, "")


def test_a_function_has_a_role_and_a_log_of_its_own(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function").values()
    roles = {json.dumps(function["Role"]) for function in functions}
    logs = {function["LoggingConfig"]["LogGroup"]["Ref"] for function in functions}
    assert len(functions) == len(roles) == len(logs) == len(FUNCTIONS)
    groups = of_type(resources, "AWS::Logs::LogGroup").values()
    assert all(group["RetentionInDays"] == {"Ref": "LogDays"} for group in groups)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_names_a_handler_and_a_bundle_that_are_there(name: str) -> None:
    module, _, handler = function(name)["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(module), handler))
    key = re.fullmatch(r"\$\{CodePrefix\}/(\w+)-\$\{Architecture\}\.zip", function(name)["CodeUri"]["Key"]["Fn::Sub"])
    assert key is not None
    assert key[1] in BUNDLES


def test_the_functions_variables_are_settings_and_none_is_a_secret() -> None:
    told = set(template()["Globals"]["Function"]["Environment"]["Variables"])
    told |= {name for of in FUNCTIONS for name in variables(of)}
    assert {name.lower() for name in told - {"POLARS_ENGINE_AFFINITY", "POWERTOOLS_METRICS_NAMESPACE"}} <= set(
        Settings.model_fields
    )
    assert not {"STEAM_API_KEY", "IGDB_CLIENT_SECRET", "DATABASE_URL"} & told


def test_one_function_asks_igdb_and_runs_once_at_a_time() -> None:
    asking = [name for name in FUNCTIONS if "IGDB_CLIENT_ID" in variables(name)]
    assert asking == ["Catalogue"]
    assert function("Catalogue")["ReservedConcurrentExecutions"] == 1
    assert "ReservedConcurrentExecutions" not in function("IgdbEnrichment")
    assert "Environment" not in function("IgdbEnrichment")


@pytest.mark.parametrize("name", STATE_MACHINES)
def test_a_definition_uses_exactly_the_functions_that_the_template_gives_it(name: str) -> None:
    given = template()["Resources"][f"{name.title()}StateMachine"]["Properties"]["DefinitionSubstitutions"]
    named = re.findall(r":function:(\w+)", json.dumps(definition(name)))
    assert {f"{function}Arn" for function in named} == set(given)


def test_whatever_may_fail_has_an_alarm(resources: dict[str, Any]) -> None:
    alarms = of_type(resources, "AWS::CloudWatch::Alarm")
    timeout_ms = template()["Globals"]["Function"]["Timeout"] * 1000
    for name in FUNCTIONS:
        assert alarms[f"{name}Errors"]["Dimensions"][0]["Value"] == {"Ref": f"{name}Function"}
        assert alarms[f"{name}Slow"]["Dimensions"][0]["Value"] == {"Ref": f"{name}Function"}
        assert alarms[f"{name}Slow"]["Threshold"] == 0.9 * timeout_ms
    for name in STATE_MACHINES:
        assert f'{{"Ref": "{name.title()}StateMachine"}}' in json.dumps(alarms[f"{name.title()}ExecutionsFailed"])
    by_code = {alarm["Dimensions"][0]["Value"] for alarm in alarms.values() if alarm.get("MetricName") == "failures"}
    assert by_code == ENDS_ALL_IMPORTS
    assert all("Fn::Sub" in alarm["Namespace"] for alarm in alarms.values() if alarm.get("MetricName") == "failures")
    others = {"FunctionsThrottled", "WantedGrows", "SchedulesFailed", "ImportsEndedUnread"}
    assert others < alarms.keys()
    assert len(alarms) == 2 * len(FUNCTIONS) + len(STATE_MACHINES) + len(by_code) + len(others)


def test_as_many_functions_run_at_once_as_the_parameters_say_and_share_the_rate_of_steam() -> None:
    limits = {"SteamImport": ("FetchConcurrency", 25), "DatabaseImport": ("LoadConcurrency", 20)}
    for name, (parameter, default) in limits.items():
        assert function(name)["ReservedConcurrentExecutions"] == {"Ref": parameter}
        assert template()["Parameters"][parameter]["Default"] == default
    assert variables("SteamImport")["STEAM_PROCESSES"] == {"Ref": "FetchConcurrency"}


def test_imports_and_backfills_together_keep_to_the_ten_requests_a_second_of_steams_key() -> None:
    rates = {"SteamImport": "ImportRequestsPerSecond", "Backfill": "BackfillRequestsPerSecond"}
    for name, parameter in rates.items():
        assert variables(name)["STEAM_REQUESTS_PER_SECOND"] == {"Ref": parameter}
    assert sum(template()["Parameters"][parameter]["Default"] for parameter in rates.values()) == STEAM_RATE
    fetch = definition("backfill")["States"]["Fetch"]
    assert fetch["ItemSelector"]["fetch_concurrency.$"] == fetch["MaxConcurrencyPath"]


def test_the_documented_start_of_a_backfill_does_not_begin_beside_another_as_each_has_the_whole_rate() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (given,) = re.findall(r'"\$BackfillStateMachineArn" \\\n +--input "(.*)"', text)
    assert json.loads(given.replace("\\", ""))["unless_running"] is True
    assert "Run one backfill at a time" in text


def test_everything_is_traced_and_no_schedule_has_a_fixed_name_or_loses_what_it_cannot_start(
    resources: dict[str, Any],
) -> None:
    functions = of_type(resources, "AWS::Lambda::Function").values()
    assert {function["TracingConfig"]["Mode"] for function in functions} == {"Active"}
    machines = of_type(resources, "AWS::StepFunctions::StateMachine").values()
    assert all(machine["TracingConfiguration"]["Enabled"] for machine in machines)
    schedules = of_type(resources, "AWS::Scheduler::Schedule").values()
    assert schedules
    assert not any("Name" in schedule for schedule in schedules)
    assert all("DeadLetterConfig" in schedule["Target"] for schedule in schedules)


def test_the_bucket_is_versioned_encrypted_private_cleaned_and_closed_without_tls(
    resources: dict[str, Any],
) -> None:
    assert resources["Bucket"]["DeletionPolicy"] == resources["Bucket"]["UpdateReplacePolicy"] == "Retain"
    bucket = resources["Bucket"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "BucketEncryption" in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    imports, backfills, rest = bucket["LifecycleConfiguration"]["Rules"]
    assert (imports["Prefix"], imports["ExpirationInDays"]) == ("imports/", {"Ref": "ImportDays"})
    assert (backfills["Prefix"], backfills["ExpirationInDays"]) == ("backfills/", {"Ref": "BackfillDays"})
    assert {"NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} < rest.keys()
    (statement,) = resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_periodic_sync_takes_the_users_of_the_database_unless_it_has_a_list(resources: dict[str, Any]) -> None:
    (schedule,) = schedules_of(resources, "BackfillStateMachine")
    assert schedule["State"] == {"Fn::If": ["IsSynced", "ENABLED", "DISABLED"]}
    assert schedule["Target"]["Arn"] == {"Ref": "BackfillStateMachine"}
    condition, with_list, without = schedule["Target"]["Input"]["Fn::If"]
    assert (condition, "${SyncUsersKey}" in with_list["Fn::Sub"]) == ("HasSyncList", True)
    assert json.loads(without) == {"users": FROM_DATABASE, "unless_running": True}
    parameters = template()["Parameters"]
    assert (parameters["PeriodicSync"]["Default"], parameters["SyncUsersKey"]["Default"]) == ("off", "")
    switched_on = {"Fn::Equals": [{"Ref": "PeriodicSync"}, "on"]}
    assert template()["Conditions"]["IsSynced"] == {"Fn::Or": [switched_on, {"Condition": "HasSyncList"}]}


def test_the_catalogue_is_synced_and_compacted_every_night_one_after_the_other(resources: dict[str, Any]) -> None:
    steps = {json.loads(s["Target"]["Input"])["step"]: s for s in schedules_of(resources, "CatalogueFunction")}
    defaults = {step: template()["Parameters"][s["ScheduleExpression"]["Ref"]]["Default"] for step, s in steps.items()}
    assert defaults == {"sync": "cron(0 3 * * ? *)", "compact": "cron(0 4 * * ? *)"}
    assert all(s.get("State", "ENABLED") == "ENABLED" for s in steps.values())
    for step in steps:
        CatalogueEvent.model_validate({"step": step})


def test_both_state_machines_are_standard_and_log(resources: dict[str, Any]) -> None:
    machines = of_type(resources, "AWS::StepFunctions::StateMachine").values()
    assert [machine["StateMachineType"] for machine in machines] == ["STANDARD"] * 2
    assert all(machine["LoggingConfiguration"]["Destinations"] for machine in machines)


def test_a_distributed_map_may_start_its_own_executions_and_read_their_list() -> None:
    policies = json.dumps(template()["Resources"]["BackfillStateMachine"]["Properties"]["Policies"])
    assert "stateMachine:${AWS::StackName}-backfill" in policies
    assert "states:StartExecution" in policies
    assert "${Bucket.Arn}/backfills/*" in policies


def test_a_distributed_map_writes_its_results_where_the_state_machine_may(resources: dict[str, Any]) -> None:
    maps = [state for state in definition("backfill")["States"].values() if state["Type"] == "Map"]
    prefixes = {state["ResultWriter"]["Parameters"]["Prefix.$"] for state in maps}
    assert (len(maps), prefixes) == (3, {"States.Format('backfills/{}/map', $.run_id)"})
    statements = resources["BackfillStateMachineRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    (writing,) = [statement for statement in statements if "s3:PutObject" in statement["Action"]]
    assert writing["Resource"] == {"Fn::Sub": "${Bucket.Arn}/backfills/*/map/*"}
    assert {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"} < set(writing["Action"])


def test_the_document_describes_every_parameter_and_alarm_and_no_other() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    alarms = {name for name, made in template()["Resources"].items() if made["Type"] == "AWS::CloudWatch::Alarm"}
    cells = " ".join(re.findall(r"(?m)^\| (`.+?`) \|", text))
    assert set(re.findall(r"`(\w+)`", cells)) == alarms | template()["Parameters"].keys()
    assert {name for name in re.findall(r"(\w+)=", text) if name in template()["Parameters"]} >= {
        name for name, given in template()["Parameters"].items() if "Default" not in given
    }


def test_the_page_about_erasing_names_each_queue_with_outcomes_and_how_long_it_keeps_them(
    resources: dict[str, Any],
) -> None:
    text = (ROOT / "docs" / "erasing.md").read_text(encoding="utf-8")
    remains = dict(re.findall(r"(?m)^\| The queue `(\w+)`.* \| (.*?) \|$", text))
    queues = of_type(resources, "AWS::SQS::Queue")
    assert remains.keys() == queues.keys() - {"ScheduleDeadLetters"}
    for name, says in remains.items():
        assert f"{queues[name]['MessageRetentionPeriod'] // 86_400} days" in says


def test_the_page_about_queries_counts_the_functions() -> None:
    words = {4: "four", 5: "five", 6: "six"}
    text = (ROOT / "docs" / "log-queries.md").read_text(encoding="utf-8")
    assert f"all {words[len(FUNCTIONS)]} functions" in text


def test_the_form_of_the_console_has_every_parameter_once() -> None:
    groups = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(template()["Parameters"])
