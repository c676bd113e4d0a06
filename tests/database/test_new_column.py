"""A column from Steam reaches the database by the steps of docs/extending.md, and nothing else."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from pipeline.sandbox.server import Sandbox
from tests.support.databases import NewDatabase, execute, fetch
from tests.support.lambda_functions import ACCOUNT, USER
from tests.support.programs import environment

ROOT = Path(__file__).parents[2]
MOST_FILES = 4
PLAYTIME = """SELECT "playtimeDisconnected" FROM "ImportedGame" WHERE "storefrontGameId" = '620'"""


class Edit(NamedTuple):
    """A block of the page that shows a change of one file: its lines before and after."""

    path: str
    before: str
    after: str


def recipe() -> str:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    return re.split(r"(?m)^## ", page.split("## A column from Steam to the database\n")[1])[0]


def blocks(language: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```", recipe())]


def edits() -> list[Edit]:
    found = []
    for block in blocks("diff"):
        path = re.search(r"(?m)^\+\+\+ b/(.*)$", block)
        lines = [line for line in block.splitlines() if not line.startswith(("---", "+++"))]
        assert path, block
        found.append(
            Edit(
                path[1],
                "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+")),
                "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-")),
            )
        )
    return found


def copy_project(folder: Path) -> None:
    """Copy what the recipe touches or runs, with the bytecode of what it does not touch."""
    for name in ("schemas", "pipeline", "docs", "tests/support/documents.py", "README.md"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)


def apply(edit: Edit, folder: Path) -> None:
    text = (folder / edit.path).read_text(encoding="utf-8")
    assert text.count(edit.before) == 1, f"docs/extending.md shows lines that {edit.path} does not have: {edit.before}"
    (folder / edit.path).write_text(text.replace(edit.before, edit.after), encoding="utf-8")


def run_python(folder: Path, settings: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", *arguments]
    subprocess.run(command, cwd=folder, env=settings | {"PYTHONPATH": str(folder)}, check=True)  # noqa: S603 - our copy


def test_a_column_from_steam_reaches_the_database_by_the_steps_of_the_page(
    sandbox: Sandbox, new_database: NewDatabase, tmp_path: Path
) -> None:
    copy_project(tmp_path)
    for edit in edits():
        apply(edit, tmp_path)
    url = new_database(2026)
    (migration,) = blocks("sql")
    execute(url, migration)
    settings = environment(sandbox, DATABASE_URL=url)

    found = []
    for minutes in (30, 45):
        sandbox.world.accounts[ACCOUNT].games[0]["playtime_disconnected"] = minutes
        run_python(tmp_path, settings, "pipeline", "run", ACCOUNT, "--user", USER)
        found.append(fetch(url, PLAYTIME).item())

    run_python(tmp_path, settings, "tests.support.documents")
    assert found == [30, 45]
    assert "`playtime_disconnected`" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_steps_of_the_page_touch_few_files_and_name_them() -> None:
    touched = {edit.path for edit in edits()}

    named = set(re.findall(r"`((?:schemas|pipeline|tests)/[\w/]+\.py)`", recipe().split("\n1. ")[0]))
    assert len(touched) <= MOST_FILES
    assert touched <= named
