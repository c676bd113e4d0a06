"""Make a zip for each AWS Lambda function (`make package`): `python -m infra.package [--to FOLDER]`."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import grimp

ROOT = Path(__file__).parent.parent
ZIPS = ROOT / "dist" / "lambda"
UV = ROOT / ".venv" / "bin" / "uv"
PYTHON = "3.13"
PLATFORMS = {"x86_64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
OURS = ("handlers", "pipeline", "schemas")
MEGABYTE = 1024**2
MOST_BYTES = 200 * MEGABYTE
"""The largest size of a bundle, unzipped: Lambda allows 250 MB, and the certificates of a database come on top."""

IN_THE_RUNTIME = ("boto3",)
"""Dependencies that Lambda's Python brings along."""

COMMAND_LINE = ("click", "jinja2", "rapidfuzz", "rich")
"""Dependencies that only the command line uses."""

SQL = ("sqlalchemy", "adbc-driver-postgresql")
HTTP = ("httpx",)
UNUSED = {"steam_import": SQL, "igdb_enrichment": SQL, "database_import": HTTP, "backfill": ()}
"""The functions, each named as its module in `handlers`, and the dependencies that its stage does not use."""

FUNCTIONS = tuple(UNUSED)
OTHER_HANDLERS = {"igdb_enrichment": ("catalogue",)}
"""Further modules of `handlers` in a bundle, for other functions of the template that run from it."""

UNUSED_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.cc", "*.cpp", "*.h", "*.hpp", "py.typed", ".lock")
"""Files of the libraries for compilers and type checkers."""

UNUSED_FOLDERS = (
    "bin",
    "**/tests",
    "sqlalchemy/dialects/m*sql",
    "sqlalchemy/dialects/oracle",
    "sqlalchemy/dialects/sqlite",
    "sqlalchemy/ext",
    "sqlalchemy/orm",
    "sqlalchemy/testing",
)
"""Folders of the libraries that no function imports."""

FILE_TIME = (1980, 1, 1, 0, 0, 0)
"""One time for every file: equal files make equal zips."""


class Bundle(NamedTuple):
    """The zip of a function for an architecture, and its size unzipped in bytes."""

    function: str
    architecture: str
    path: Path
    unzipped: int

    def __str__(self) -> str:
        zipped = self.path.stat().st_size / MEGABYTE
        size = f"{zipped:6.1f} MB zipped {self.unzipped / MEGABYTE:6.1f} MB unzipped"
        return f"{self.function:<16} {self.architecture:<7} {size}"


def package(function: str, architecture: str, zips: Path = ZIPS) -> Bundle:
    """Make the zip of a function for an architecture, with the versions of the lock file."""
    path = zips / f"{function}-{architecture}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        bundle = Path(folder)
        _install(function, architecture, bundle)
        _prune(bundle)
        _strip(bundle)
        _copy_ours(function, bundle)
        _compile(bundle)
        files = sorted(file for file in bundle.rglob("*") if file.is_file())
        _zip(files, bundle, path)
        return Bundle(function, architecture, path, sum(file.stat().st_size for file in files))


def find_python(version: str = PYTHON) -> str | None:
    """Return the path of an interpreter of a Python version (3.13), or None if this machine has none."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    pyenv = sorted(map(str, versions.glob(f"{version}*/bin/python")), reverse=True)
    for python in [*pyenv, shutil.which(f"python{version}")]:
        if python and _has_version(python, version):
            return python
    return None


def _has_version(python: str, version: str) -> bool:
    """Return whether an interpreter runs and has the version; a shim of pyenv may lead to nothing."""
    printed = subprocess.run([python, "--version"], capture_output=True, text=True, check=False).stdout
    return printed.startswith(f"Python {version}.")


def _install(function: str, architecture: str, bundle: Path) -> None:
    pruned = [option for name in (*IN_THE_RUNTIME, *COMMAND_LINE, *UNUSED[function]) for option in ("--prune", name)]
    export = ["export", "--locked", "--no-dev", "--no-emit-project", "--extra", "lambda", *pruned]
    locked = _uv(*export, "--no-annotate", "--no-header")
    where = ["--python-platform", PLATFORMS[architecture], "--python-version", PYTHON, "--target", str(bundle)]
    _uv("pip", "install", *where, "--only-binary", ":all:", "--require-hashes", "-r", "-", given=locked)


def _uv(*arguments: str, given: str = "") -> str:
    """Run uv and return what it prints."""
    command = [str(UV), "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, stdout=subprocess.PIPE, text=True, check=True).stdout


def _prune(bundle: Path) -> None:
    """Delete what no function uses; of a library's metadata only the version is read."""
    for folder in [folder for pattern in UNUSED_FOLDERS for folder in bundle.glob(pattern)]:
        shutil.rmtree(folder)
    unused = [file for pattern in UNUSED_FILES for file in bundle.rglob(pattern)]
    metadata = [file for folder in bundle.glob("*.dist-info") for file in folder.rglob("*") if file.name != "METADATA"]
    for file in {*unused, *metadata}:
        if file.is_file():
            file.unlink()


def _strip(bundle: Path) -> None:
    """Remove debug symbols and local names from the native libraries, which are a quarter of a bundle.

    LLVM's tool handles both architectures; that of GNU usually knows only this machine's.
    """
    tool = shutil.which("llvm-strip") or shutil.which("strip")
    libraries = [str(library) for library in bundle.rglob("*.so*")]
    if not tool or subprocess.run([tool, "--strip-unneeded", *libraries], check=False).returncode:
        print("The bundle keeps its debug symbols. Install llvm-strip (on Debian: apt install llvm), and run again.")


def _copy_ours(function: str, bundle: Path) -> None:
    """Copy the modules of a function, and all of our modules that they import."""
    handlers = [f"handlers.{name}" for name in (function, *OTHER_HANDLERS.get(function, ()))]
    graph = grimp.build_graph(*OURS, exclude_type_checking_imports=True)
    reached = set().union(*(graph.find_upstream_modules(handler) for handler in handlers))
    for module in [*OURS, *handlers, *reached]:
        source = ROOT / module.replace(".", "/")
        source = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
        if source.exists():
            target = bundle / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _compile(bundle: Path) -> None:
    """Compile to bytecode that Python uses without comparing the time of its source, which a zip does not keep."""
    python = find_python()
    if not python:
        print(f"No Python {PYTHON} on this machine: the bundle has no bytecode, and starts more slowly.")
        return
    paths = ["-s", str(bundle), "-p", "/var/task", str(bundle)]
    compileall = [python, "-m", "compileall", "-qq", "-j", "0", "--invalidation-mode", "unchecked-hash", *paths]
    subprocess.run(compileall, check=True)


def _zip(files: Iterable[Path], bundle: Path, path: Path) -> None:
    with ZipFile(path, "w") as archive:
        for file in files:
            entry = ZipInfo(str(file.relative_to(bundle)), FILE_TIME)
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(file, os.X_OK) else 0o644) << 16
            archive.writestr(entry, file.read_bytes())


def main(arguments: Sequence[str] | None = None) -> None:
    """Package every function for every architecture, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=ZIPS, help="the folder for the zips")
    zips = parser.parse_args(arguments).to
    bundles = [package(function, platform, zips) for function in FUNCTIONS for platform in PLATFORMS]
    print(*[str(bundle) for bundle in bundles], sep="\n")
    require_size(bundles)


def require_size(bundles: Iterable[Bundle]) -> None:
    """Exit with an error that names the bundles above MOST_BYTES, if there are any."""
    if too_large := [bundle.path.name for bundle in bundles if bundle.unzipped > MOST_BYTES]:
        sys.exit(f"A bundle may have {MOST_BYTES // MEGABYTE} MB unzipped, and more have: {', '.join(too_large)}.")


if __name__ == "__main__":
    main()
