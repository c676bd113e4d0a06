"""Check that this checkout can be released (`make release-check`): `python -m infra.release_check`."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.package import ROOT, UV
from infra.package import main as package_all

HEADING = re.compile(r"^## \[(?P<name>[^]]+)\]", re.MULTILINE)
PYTHON = ROOT / ".venv" / "bin" / "python"


def faults(project: str, changelog: str) -> list[str]:
    """Return what is wrong with the version in the texts of pyproject.toml and CHANGELOG.md."""
    version = tomllib.loads(project)["project"]["version"]
    headings = HEADING.findall(changelog)
    if not headings:
        return ["CHANGELOG.md has no heading of a version: add ## [Unreleased]."]
    newest = headings[0]
    if newest not in {"Unreleased", version}:
        return [f"pyproject.toml says {version}, and the newest heading of CHANGELOG.md {newest}: make them agree."]
    entries = HEADING.split(changelog)[2]
    return [] if "\n- " in entries else [f"CHANGELOG.md says nothing under {newest}: tell users what changes."]


def build(folder: Path) -> list[Path]:
    """Build the wheel and the sdist, and return their paths."""
    _uv("build", "--quiet", "--out-dir", str(folder))
    return sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))


def try_demo(built: Path, folder: Path) -> str:
    """Install a wheel or an sdist into an empty environment, run `steam-import demo` there, and return its output."""
    environment = folder / "environment"
    _uv("venv", "--quiet", "--clear", "--python", str(PYTHON), str(environment))
    with_extras = f"steam-library-import[embedded] @ {built.as_uri()}"
    _uv("pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), with_extras)
    command = [str(environment / "bin" / "steam-import"), "demo"]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def _uv(*arguments: str) -> None:
    subprocess.run([str(UV), *arguments], cwd=ROOT, check=True)


def main() -> None:
    """Run all checks, and stop at the first that fails."""
    if found := faults((ROOT / "pyproject.toml").read_text(), (ROOT / "CHANGELOG.md").read_text()):
        sys.exit("\n".join(found))
    _uv("lock", "--check", "--quiet")
    print("version, changelog and lock agree")
    package_all([])
    with TemporaryDirectory() as name:
        folder = Path(name)
        for built in build(folder / "built"):
            (home := folder / built.name.replace(".", "-")).mkdir()
            try_demo(built, home)
            print(f"{built.name} installs into an empty environment, and its demo runs")


if __name__ == "__main__":
    main()
