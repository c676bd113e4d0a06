"""What we depend on: each package hashed, from one index, and with a reason."""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from infra.audit import CLEAN, NOT_ALL_LEARNT, VULNERABLE, audit, licence

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKED = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
ROW = re.compile(r"^\| (?P<names>[^|]+) \| (?P<why>[^|]+) \|$", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9-]+")


def direct_dependencies() -> set[str]:
    project = PROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    return {found[0] for group in groups for line in group if (found := NAME.match(line))}


def test_each_locked_package_is_hashed_and_comes_from_the_one_index() -> None:
    assert {next(iter(package["source"])) for package in LOCKED} == {"registry", "editable"}
    foreign = [package for package in LOCKED if "registry" in package["source"]]
    assert {package["source"]["registry"] for package in foreign} == {"https://pypi.org/simple"}
    for package in foreign:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", file["hash"]) for file in files), package["name"]


def test_each_dependency_has_its_reason() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Dependencies")[2]
    explained = {name for row in ROW.finditer(text) for name in NAME.findall(re.sub(r"\(`.*?\)", "", row["names"]))}
    assert direct_dependencies() - explained == set()
    assert explained - direct_dependencies() - {"package", "---"} == set()


KNOWN = {"id": "PYSEC-1", "fix_versions": ["1.2"], "description": "Bad."}
SPOKEN_OF = {"name": "a", "version": "1.1", "vulns": []}
SILENT = {"name": "b", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "says"),
    [
        ([SPOKEN_OF], CLEAN, "spoke of 1 of 1 packages, and knows 0 vulnerabilities"),
        ([{"name": "a", "version": "1.1", "vulns": [KNOWN]}], VULNERABLE, "knows 1 vulnerabilities"),
        ([SILENT, SPOKEN_OF], NOT_ALL_LEARNT, "spoke of 1 of 2 packages"),
        ([{"name": "steam-library-import", "skip_reason": "ours"}, SPOKEN_OF], CLEAN, "spoke of 1 of 1 packages"),
        ([SILENT], NOT_ALL_LEARNT, "spoke of 0 of 1 packages"),
        ([], NOT_ALL_LEARNT, "spoke of 0 of 0 packages"),
    ],
    ids=["clean", "vulnerable", "an index that tells of some", "our own", "an index that tells nothing", "no index"],
)
def test_an_audit_that_did_not_learn_of_all_is_told_from_a_clean_one(
    packages: list[dict[str, Any]], status: int, says: str
) -> None:
    found = audit({"dependencies": packages})
    assert found.status == status
    assert says in str(found)


def test_a_licence_is_a_line() -> None:
    assert licence(distribution("polars")) == "MIT License"
    assert all("\n" not in licence(distribution(name)) for name in ("httpx", "boto3", "pandera"))
