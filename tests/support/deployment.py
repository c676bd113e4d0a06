"""The deployment's template, as CloudFormation gets it after packaging and SAM's transform."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.decode.cfn_yaml import load
from samtranslator.translator.transform import transform

INFRA = Path(__file__).parents[2] / "infra"
TEMPLATE = INFRA / "template.yaml"
REGION = "eu-central-1"
NOTHING_TO_DO = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
FUNCTIONS = ("SteamImport", "IgdbEnrichment", "DatabaseImport", "Backfill")
STATE_MACHINES = ("Import", "Backfill")


class _ManagedPolicies:
    """SAM asks IAM for their ARNs."""

    def load(self) -> dict[str, str]:
        names = ("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole")
        return {name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in names}


@cache
def template() -> dict[str, Any]:
    """As it is written."""
    written: dict[str, Any] = json.loads(json.dumps(load(str(TEMPLATE))))
    return written


def definition(name: str) -> dict[str, Any]:
    """A state machine's definition, or one that does nothing where its file is not there."""
    path = INFRA / template()["Resources"][f"{name}StateMachine"]["Properties"]["DefinitionUri"]
    states: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else NOTHING_TO_DO
    return states


def translated() -> dict[str, Any]:
    """The resources that the transform makes; needs AWS_DEFAULT_REGION."""
    packaged = json.loads(json.dumps(template()))
    for name in STATE_MACHINES:
        properties = packaged["Resources"][f"{name}StateMachine"]["Properties"]
        del properties["DefinitionUri"]
        properties["Definition"] = definition(name)
    resources: dict[str, Any] = transform(packaged, {}, _ManagedPolicies())
    return resources
