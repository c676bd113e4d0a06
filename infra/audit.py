"""What is known against the packages in .venv, and their licences; `make audit` runs it: `python -m infra.audit`.

Exit status: 0 where nothing is known of any, 1 where something is, 3 where the index did not speak of all.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, distributions
from typing import Any, NamedTuple

from infra.package import ROOT

CLEAN, VULNERABLE, NOT_ALL_LEARNT = 0, 1, 3
OURS = "steam-library-import"
LICENCE = "License :: "
LONGEST = 60
"""Some packages have the whole text where the name of their licence belongs."""


class Audit(NamedTuple):
    """How many packages the index spoke of, and of how many it did not; what it knows against them."""

    learnt: int
    unknown: int
    vulnerabilities: list[str]

    @property
    def status(self) -> int:
        """The exit status."""
        if self.vulnerabilities:
            return VULNERABLE
        return CLEAN if self.learnt and not self.unknown else NOT_ALL_LEARNT

    def __str__(self) -> str:
        told = f"The package index spoke of {self.learnt} of {self.learnt + self.unknown} packages"
        return f"{told}, and knows {len(self.vulnerabilities)} vulnerabilities in them."


def audit(report: Mapping[str, Any]) -> Audit:
    """What a report of pip-audit comes to."""
    packages = [package for package in report.get("dependencies", []) if package["name"] != OURS]
    found = [
        f"{package['name']} {package['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none'}"
        for package in packages
        for known in package.get("vulns", [])
    ]
    learnt = sum("vulns" in package for package in packages)
    return Audit(learnt, len(packages) - learnt, found)


def licence(package: Distribution) -> str:
    """A package's licence in a line, as its metadata have it."""
    said = package.metadata
    classified = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier", []) if one.startswith(LICENCE)]
    named = (said.get("License") or "").strip()
    short = named if named and "\n" not in named and len(named) <= LONGEST else ""
    return said.get("License-Expression") or short or ", ".join(classified) or "not said"


def table(packages: Sequence[Distribution]) -> list[str]:
    """Each package with its version and its licence, a line each."""
    return [
        f"{one.name:32} {one.version:16} {licence(one)}" for one in sorted(packages, key=lambda one: one.name.lower())
    ]


def main() -> int:
    """Print both; the exit status."""
    print("\n".join(table(list(distributions()))))
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "pypi", "--skip-editable"]
    asked = subprocess.run(
        [*command, "--progress-spinner", "off", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = audit(json.loads(asked.stdout or "{}"))
    print("\n".join(["", *found.vulnerabilities, str(found)]))
    if asked.stderr and not asked.stdout:
        print(asked.stderr.splitlines()[-1], file=sys.stderr)
    return found.status


if __name__ == "__main__":
    sys.exit(main())
