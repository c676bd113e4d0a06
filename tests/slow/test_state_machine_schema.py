"""What AWS knows of state machines, by cfn-lint; moto takes more than AWS does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.state_machines import ROLE, definition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_the_definitions_hold_nothing_that_aws_does_not_know(tmp_path: Path) -> None:
    machines = {
        name.title(): {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {"RoleArn": ROLE, "Definition": definition(name)},
        }
        for name in ("import", "backfill")
    }
    template = tmp_path / "template.json"
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": machines}))
    linter = Path(sys.executable).with_name("cfn-lint")
    linted = subprocess.run([linter, template], capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert linted.stdout == ""
    assert linted.returncode == 0
