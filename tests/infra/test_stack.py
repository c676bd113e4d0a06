"""The template's resources, made in a CloudFormation of this process, and the handlers run with their names."""

import json
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import boto3
import pytest
import structlog
from botocore.handlers import BUILTIN_HANDLERS
from moto import mock_aws
from moto.core.config import DefaultConfig

from pipeline.clients import cached_secrets, secret_provider
from pipeline.sandbox.server import Sandbox
from tests.support import cloudformation
from tests.support.databases import NewDatabase
from tests.support.deployment import FUNCTIONS, allows, translated
from tests.support.lambda_functions import ACCOUNT, USER, invoke
from tests.support.programs import QUICK_SETTINGS, set_only
from tests.support.stores import REGION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CODE = "code-of-releases"
SIMPLE: DefaultConfig = {"lambda": {"use_docker": False}, "stepfunctions": {"execute_state_machine": False}}
ACTIONS = {
    "GetObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "ListObjectsV2": "s3:ListBucket",
}
NOT_NEEDED = [
    ("SteamImport", "s3:GetObject", "imports/user-1/20261123T031749Z-raw.csv"),
    ("SteamImport", "s3:GetObject", "catalogue/apps.parquet"),
    ("SteamImport", "s3:PutObject", "imports/user-1/20261123T031749Z-enriched.csv"),
    ("SteamImport", "s3:ListBucket", "imports/"),
    ("IgdbEnrichment", "s3:PutObject", "imports/user-1/20261123T031749Z-raw.csv"),
    ("IgdbEnrichment", "s3:PutObject", "overrides.csv"),
    ("DatabaseImport", "s3:PutObject", "imports/user-1/20261123T031749Z-enriched.csv"),
    ("DatabaseImport", "s3:DeleteObject", "imports/user-1/20261123T031749Z-enriched.csv"),
    ("DatabaseImport", "s3:GetObject", "imports/user-1/20261123T031749Z-raw.csv"),
    ("DatabaseImport", "s3:GetObject", "catalogue/apps.parquet"),
    ("Backfill", "s3:PutObject", "catalogue/new/a.parquet"),
    ("Backfill", "s3:GetObject", "imports/user-1/20261123T031749Z-raw.csv"),
    ("Backfill", "s3:PutObject", "overrides.csv"),
]


@dataclass
class Stack:
    """What was made: outputs, environments and policies, and what S3 has been asked since."""

    outputs: dict[str, str]
    environments: dict[str, dict[str, str]]
    statements: dict[str, list[dict[str, Any]]]
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def bucket(self) -> str:
        return self.outputs["BucketName"]

    def allows(self, function: str, action: str, key: str) -> bool:
        """As IAM decides it, of an object's key or a listing's prefix."""
        return allows(self.statements[function], self.bucket, action, key)


@pytest.fixture
def stack(
    sandbox: Sandbox, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Stack]:
    set_only(monkeypatch, {})
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    with mock_aws(config=SIMPLE):
        made = _made(_parameters(sandbox, new_database(2026)))
        s3 = boto3.client("s3")
        assert made.bucket in s3.get_bucket_policy(Bucket=made.bucket)["Policy"]
        # moto reads a statement without its condition: here the policy would deny everything, by TLS too.
        s3.delete_bucket_policy(Bucket=made.bucket)
        # Where moto hooks in too: every session of botocore has these from its beginning.
        noting = ("before-parameter-build.s3", lambda **call: _note(made, call))
        BUILTIN_HANDLERS.append(noting)
        yield made
        BUILTIN_HANDLERS.remove(noting)
    secret_provider.cache_clear()
    cached_secrets.cache_clear()
    structlog.reset_defaults()


def _parameters(sandbox: Sandbox, database_url: str) -> dict[str, str]:
    """The release is uploaded and the secrets are put in place, one of them in SSM."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=CODE, CreateBucketConfiguration={"LocationConstraint": REGION})
    for bundle in ("steam_import", "igdb_enrichment", "database_import", "backfill"):
        s3.put_object(Bucket=CODE, Key=f"1.0.0/{bundle}-arm64.zip", Body=_zip())
    secrets, ssm = boto3.client("secretsmanager"), boto3.client("ssm")
    settings = sandbox.environment
    ssm.put_parameter(Name="/database", Value=database_url, Type="SecureString")
    return {
        "CodeBucket": CODE,
        "CodePrefix": "1.0.0",
        "SteamApiKeySecretArn": secrets.create_secret(Name="steam", SecretString=settings["STEAM_API_KEY"])["ARN"],
        "IgdbClientId": settings["IGDB_CLIENT_ID"],
        "IgdbClientSecretSecretArn": secrets.create_secret(Name="igdb", SecretString=settings["IGDB_CLIENT_SECRET"])[
            "ARN"
        ],
        "DatabaseUrlSecretArn": ssm.get_parameter(Name="/database")["Parameter"]["ARN"],
    }


def _zip() -> bytes:
    body = BytesIO()
    with ZipFile(body, "w") as bundle:
        bundle.writestr("bundle", "")
    return body.getvalue()


def _made(parameters: dict[str, str]) -> Stack:
    outputs = create("games", parameters)
    functions = {
        name: boto3.client("lambda").get_function_configuration(FunctionName=outputs[f"{name}FunctionArn"])
        for name in FUNCTIONS
    }
    return Stack(
        outputs,
        {
            name: {variable: str(value) for variable, value in function["Environment"]["Variables"].items()}
            for name, function in functions.items()
        },
        {name: _statements(function["Role"].rpartition("/")[2]) for name, function in functions.items()},
    )


def create(stack: str, parameters: dict[str, str]) -> dict[str, str]:
    """Create a stack of the whole translated template, and return its outputs."""
    client = boto3.client("cloudformation")
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    client.create_stack(StackName=stack, TemplateBody=json.dumps(translated()), Parameters=given)
    (made,) = client.describe_stacks(StackName=stack)["Stacks"]
    assert {one["Type"] for one in translated()["Resources"].values()} >= cloudformation.RESOURCES
    assert made["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in made["Outputs"]}


def _statements(role: str) -> list[dict[str, Any]]:
    iam = boto3.client("iam")
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    # moto keeps what its CloudFormation makes as Python writes it.
    statements: list[dict[str, Any]] = (literal_eval(document) if isinstance(document, str) else document)["Statement"]
    return statements


def _note(stack: Stack, call: dict[str, Any]) -> None:
    told = call["params"]
    stack.asked.append((ACTIONS[call["model"].name], told.get("Key", told.get("Prefix"))))


def run(
    stack: Stack, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, function: str, event: object
) -> dict[str, Any]:
    """A function with the environment of the stack, but for the APIs; it asks S3 for nothing that it may not have."""
    apis = {name: value for name, value in sandbox.environment.items() if name.endswith("_URL")}
    set_only(monkeypatch, apis | QUICK_SETTINGS | stack.environments[function] | {"AWS_REGION": REGION})
    configured = boto3.client("lambda").get_function_configuration(FunctionName=stack.outputs[f"{function}FunctionArn"])
    module, _, name = configured["Handler"].rpartition(".")
    stack.asked.clear()
    response = invoke(getattr(import_module(module), name), event)
    assert [asked for asked in stack.asked if not stack.allows(function, *asked)] == []
    assert response["success"] is True, response
    return response


def test_the_functions_import_a_library_with_the_stacks_names_and_no_permission_more(
    stack: Stack, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}
    fetched = run(stack, sandbox, monkeypatch, "SteamImport", {"user_id": USER, "steam_id64": ACCOUNT})
    asked["SteamImport"] = list(stack.asked)
    assert fetched["s3_location"].startswith(f"s3://{stack.bucket}/imports/{USER}/")
    enrich = {"user_id": USER, "s3_location": fetched["s3_location"], "look_up": False}
    assert run(stack, sandbox, monkeypatch, "IgdbEnrichment", enrich)["stats"]["pending"] > 0
    asked["IgdbEnrichment"] = list(stack.asked)
    assert run(stack, sandbox, monkeypatch, "Catalogue", {"step": "look_up"})["stats"]["unanswered"] == 0
    asked["Catalogue"] = list(stack.asked)
    enriched = run(stack, sandbox, monkeypatch, "IgdbEnrichment", enrich)
    event = {"user_id": USER, "s3_enriched_location": enriched["s3_enriched_location"]}
    assert run(stack, sandbox, monkeypatch, "DatabaseImport", event)["stats"]["games_created"] == 2
    asked["DatabaseImport"] = list(stack.asked)
    for function, calls in asked.items():
        assert calls, f"{function} has asked S3 for nothing"
        for other in asked.keys() - {function}:
            assert not all(stack.allows(other, *call) for call in calls), f"{other} may do what {function} does"


def test_every_step_of_a_backfill_of_the_catalogue_and_of_erasing_may_do_what_it_has_to(
    stack: Stack, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = partial(run, stack, sandbox, monkeypatch)
    s3 = boto3.client("s3")
    s3.put_object(Bucket=stack.bucket, Key="lists/users.csv", Body=f"user_id,steam_id64\n{USER},{ACCOUNT}\n".encode())
    step("SteamImport", {"user_id": USER, "steam_id64": ACCOUNT})
    plan = {"step": "plan", "run_id": "run-1", "users": f"s3://{stack.bucket}/lists/users.csv", "shard_size": 1}
    assert step("Backfill", plan)["shards"] == 1
    step("Backfill", {"step": "fetch", "run_id": "run-1", "shard": 0})
    step("Backfill", {"step": "catalogue", "run_id": "run-1"})
    assert any(key.startswith("catalogue/wanted/") for action, key in stack.asked if action == "s3:PutObject")
    for name, needed in (("look_up", "s3:PutObject"), ("compact", "s3:DeleteObject"), ("sync", "s3:PutObject")):
        step("Catalogue", {"step": name})
        assert needed in {action for action, _ in stack.asked}, name
    for name in ("enrich", "load"):
        step("Backfill", {"step": name, "run_id": "run-1", "shard": 0})
    assert step("Backfill", {"step": "report", "run_id": "run-1"})["report"]
    s3.put_object(Bucket=stack.bucket, Key=f"catalogue/wanted/import-{USER}.csv", Body=b"appid\n620\n")
    forget = {"step": "forget", "user_id": USER}
    before = keys_of(stack)
    assert step("Backfill", forget | {"dry_run": True})["files"] == 2
    assert keys_of(stack) == before
    erased = step("Backfill", forget)
    assert (erased["files"], erased["backfills"], erased["last_loaded"]) == (2, ["run-1"], True)
    deleted = {key.split("/")[0] for action, key in stack.asked if action == "s3:DeleteObject"}
    assert deleted == {"backfills", "catalogue", "imports"}
    assert [key for key in keys_of(stack) if USER in key] == []


def keys_of(stack: Stack) -> list[str]:
    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=stack.bucket)["Contents"]]


def test_what_a_function_does_not_need_it_may_not(stack: Stack) -> None:
    assert [what for what in NOT_NEEDED if stack.allows(*what)] == []


def test_a_second_stack_in_the_account_has_everything_the_first_has(stack: Stack, sandbox: Sandbox) -> None:
    parameters = {
        parameter["ParameterKey"]: parameter["ParameterValue"]
        for parameter in boto3.client("cloudformation").describe_stacks(StackName="games")["Stacks"][0]["Parameters"]
    }
    assert sandbox
    second = create("more-games", parameters)
    assert second.keys() == stack.outputs.keys()
    assert not set(second.values()) & set(stack.outputs.values())
    of_template = [made["Type"] for made in translated()["Resources"].values()]
    alarms = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len({alarm["AlarmName"] for alarm in alarms}) == 2 * of_template.count("AWS::CloudWatch::Alarm")
    namespaces = {alarm["Namespace"] for alarm in alarms if alarm.get("MetricName") == "failures"}
    assert namespaces == {"SteamLibraryImport/games", "SteamLibraryImport/more-games"}
    schedules = boto3.client("scheduler").list_schedules()["Schedules"]
    assert len(schedules) == 2 * of_template.count("AWS::Scheduler::Schedule")
    policy = boto3.client("s3").get_bucket_policy(Bucket=second["BucketName"])["Policy"]
    assert second["BucketName"] in policy
    assert stack.bucket not in policy
