"""CONTRIBUTING.md and the lock file: the map of the house, and the packages that we depend on."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
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
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    assert {next(iter(package["source"])) for package in locked} == {"registry", "editable"}
    foreign = [package for package in locked if "registry" in package["source"]]
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


def paths_of_the_map() -> set[str]:
    """The paths in the map of the house; what deeper lines name is in the folder above them."""
    folders: dict[int, str] = {}
    paths = set()
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1].splitlines():
        name = line.lstrip()
        indent = len(line) - len(name)
        folders = {depth: folder for depth, folder in folders.items() if depth < indent}
        if folder := re.match(r"\w+/", name):
            folders[indent] = folder[0]
            name = name[folder.end() :]
            paths.add("".join(folders.values()))
        named = re.findall(r"(?<!\S)(?:\w+/(?= )|[\w.]+\.(?:py|yaml|asl\.json)\b)", name)
        paths |= {"".join(folders.values()) + path for path in named}
    return paths


def test_the_map_of_the_house_names_what_is_there_and_every_module_of_the_pipeline() -> None:
    paths = paths_of_the_map()
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*.py") if path.stem[:2] != "__"}
    folders = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "pipeline").rglob("__init__.py")}
    unnamed = (modules | folders) - paths
    assert [path for path in sorted(unnamed) if not path.startswith("pipeline/sandbox/")] == []


def test_the_first_make_says_what_it_sets_up_and_how_long_that_takes() -> None:
    command = ["make", "-n", "-B", "--no-print-directory", "demo"]
    recipe = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603
    first = recipe.splitlines()[0]
    assert first.startswith('echo "Setting up .venv with ')
    assert "takes about a minute the first time" in first
