"""How fast the command line starts: `python -m benchmarks.start_up [CHECKOUT]`.

Prints how many times as long as an import of click `steam-import --help` takes. Given the folder of another checkout,
which needs a .venv, it also prints how long `steam-import run` of a cached library takes here compared to there.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.databases import new_database, server
from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from pipeline.settings import Settings

PAIRS, GAMES = 15, 2_000
MOST_TIMES_CLICK, MOST_OF_OTHER = 6.0, 0.85
USER = "user-0"
HERE = Path(__file__).parent.parent


class Program:
    """A command, with the environment and the folder that it runs in."""

    def __init__(self, *command: str, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._command, self._folder = command, folder
        # Without our own settings, and with compiled modules, as users have them.
        left_out = {name.upper() for name in Settings.model_fields} | {"PYTHONDONTWRITEBYTECODE"}
        self._environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self._environment |= settings or {}

    def seconds(self) -> float:
        """Run the command, and return how long it took."""
        began = time.perf_counter()
        subprocess.run(self._command, cwd=self._folder, env=self._environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began


def compare(one: Program, other: Program) -> tuple[float, float, float]:
    """Return the median seconds of both programs, run in turns, and the median ratio of one to the other."""
    for program in (one, other, one, other):  # fills caches, of compiled modules and of the catalogue
        program.seconds()
    pairs = [(one.seconds(), other.seconds()) for _ in range(PAIRS)]
    ones, others = zip(*pairs, strict=True)
    return statistics.median(ones), statistics.median(others), statistics.median(a / b for a, b in pairs)


def measure_help(folder: Path) -> bool:
    """Print how long the help takes compared to an import of click, and return whether it met its target."""
    programs = HERE / ".venv" / "bin"
    shown, imported, times = compare(
        Program(str(programs / "steam-import"), "--help", folder=folder),
        Program(str(programs / "python"), "-c", "import click", folder=folder),
    )
    print(
        f"steam-import --help: {shown:.3f} s, import click: {imported:.3f} s; {times:.2f} times as long "
        f"(target: at most {MOST_TIMES_CLICK:.0f})"
    )
    return times <= MOST_TIMES_CLICK


def measure_run(checkout: Path, folder: Path) -> bool:
    """Print how long a run takes here compared to another checkout, and return whether it met its target."""
    with Sandbox(World.synthetic(GAMES), limits=False) as sandbox, server() as url:
        runs = []
        for name, source in (("here", HERE), ("there", checkout)):
            settings = sandbox.environment | {"DATABASE_URL": new_database(url, name, 1), "LOG_LEVEL": "ERROR"}
            own = folder / name
            own.mkdir()
            command = (str(source / ".venv" / "bin" / "steam-import"), "run", World.SYNTHETIC_ACCOUNT, "--user", USER)
            runs.append(Program(*command, folder=own, settings=settings))
        here, there, ratio = compare(*runs)
    print(
        f"steam-import run of {GAMES:,} cached games: {here:.2f} s, in {checkout}: {there:.2f} s; {ratio:.2f} of it "
        f"(target: at most {MOST_OF_OTHER})"
    )
    return ratio <= MOST_OF_OTHER


def main() -> None:
    """Measure, and exit with 1 if a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkout", type=Path, nargs="?", help="the folder of another checkout, which has a .venv")
    checkout = arguments.parse_args().checkout
    with tempfile.TemporaryDirectory() as name:
        met = [measure_help(Path(name))]
        if checkout:
            met.append(measure_run(checkout.resolve(), Path(name)))
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
