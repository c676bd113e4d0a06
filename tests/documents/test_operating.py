"""docs/operating.md: its commands, typed as they stand, print what the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.databases import NewDatabase, execute, give_steam_ids
from tests.support.documents import ROOT, calls_of, script_of
from tests.support.programs import environment, open_folder

PAGE = ROOT / "docs" / "operating.md"
PROGRAMS = Path(sys.executable).parent
ADA, BEN, CY = World.RECORDED_ACCOUNT, "76561197960287931", "76561197960287932"
PIRATE, TERRARIA, NEW = 512470, 105600, 999_100
FAMILY = {"ada": ADA, "ben": BEN, "cy": CY, "dora": World.PRIVATE_ACCOUNT, "eli": "eli from next door"}
MARK = "END-OF-THE-BLOCK"


class Example(NamedTuple):
    """A block of commands, what the page shows that they print, and whether a week passes before them."""

    commands: str
    shown: str
    is_later: bool


BLOCK = r"(?ms)(<!-- a week later -->\n)?^```sh\n(.*?)^```\n(?:\n^```\n(.*?)^```)?"
EXAMPLES = [
    Example(commands, shown, bool(later))
    for later, commands, shown in re.findall(BLOCK, PAGE.read_text(encoding="utf-8"))
]
CALLS = [call for example in EXAMPLES for call in calls_of(example.commands)]


def family() -> World:
    """Return the recorded library, a private account, and two libraries that share two apps with the first."""
    world = World.recorded()
    for account in (BEN, CY):
        for appid in (PIRATE, TERRARIA):
            name = next(row["name"] for row in world.accounts[ADA].games if row["appid"] == appid)
            world.add_owned(account, appid, name, playtime_forever=60)
    return world


def a_week_later(world: World) -> None:
    """Let Ada buy a game that IGDB knows, and play another for three hours."""
    world.add_game(NEW, NEW, "Gardens of the Week", platforms=[6])
    world.add_store_item(NEW, "Gardens of the Week")
    world.add_owned(ADA, NEW, "Gardens of the Week", playtime_forever=30)
    played = next(row for row in world.accounts[ADA].games if row["appid"] == TERRARIA)
    played["playtime_forever"] += 180


@contextmanager
def shell(folder: Path, settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A shell that stops at the first command that fails."""
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(
            ["/bin/bash", "-eu", "-o", "pipefail"],
            cwd=folder,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as bash,
    ):
        yield bash


def type_into(bash: subprocess.Popen[str], commands: str) -> str:
    """Return what the commands print on stdout."""
    assert bash.stdin
    assert bash.stdout
    bash.stdin.write(f"{commands}echo {MARK}\n")
    bash.stdin.flush()
    return "".join(takewhile(lambda line: line != f"{MARK}\n", bash.stdout))


def pattern(shown: str) -> str:
    """Return a pattern for what the page shows: `…` is any text in a line, and the width of a gap does not count."""
    lines = [re.escape(" ".join(line.split())).replace("…", ".+") for line in shown.splitlines()]
    return "\n".join(lines)


def as_read(printed: str) -> str:
    """Return what was printed as one reads it: a terminal does not show gaps at the end and the mark of UTF-8."""
    return "\n".join(" ".join(line.split()) for line in printed.replace("\ufeff", "").rstrip().splitlines())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_shows_what_its_commands_print(new_database: NewDatabase) -> None:
    world, url = family(), new_database(2026)
    execute(url, "DELETE FROM \"user\" WHERE id = 'user-1'")
    give_steam_ids(url, **FAMILY)
    with open_folder() as folder, Sandbox(world) as sandbox:
        settings = environment(DATABASE_URL=url, PATH=f"{PROGRAMS}:{os.environ['PATH']}") | sandbox.environment
        with shell(folder, settings) as bash:
            for example in EXAMPLES:
                if example.is_later:
                    a_week_later(world)
                printed = as_read(type_into(bash, example.commands))
                says = f"{example.commands}\n{printed}\n{(folder / 'stderr').read_text()[-2000:]}"
                assert re.fullmatch(pattern(example.shown), printed), says


def test_each_command_of_the_page_shows_its_output_and_each_of_an_operators_commands_is_there() -> None:
    assert "".join(example.commands for example in EXAMPLES) == "".join(script_of(PAGE))
    assert all(example.shown for example in EXAMPLES)
    called = {" ".join(word for word in call[:2] if word[0].isalpha()) for call in CALLS}
    assert called >= {"backfill", "review export", "review apply", "run", "diff", "report", "replay", "runs show"}
