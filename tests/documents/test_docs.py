"""The shell examples of the README and of docs/, run as they stand against the sandbox; none is left out unsaid."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.documents import DOCUMENTS, ROOT, blocks_of, commands_of, script_of
from tests.support.programs import environment, open_folder
from tests.support.stores import BUCKET, REGION, served_s3

slow = pytest.mark.slow
long = pytest.mark.timeout(300)

PROGRAMS = Path(sys.executable).parent
REVIEWING, ERASING, OPERATING = (ROOT / "docs" / f"{name}.md" for name in ("reviewing", "erasing", "operating"))
WITH_SCRIPT = [document for document in DOCUMENTS if script_of(document)]
WITH_OWN_TEST = (REVIEWING, ERASING, OPERATING)
PLACEHOLDERS = {"RUN_ID": "$(ls data/backfills)", "BUCKET": BUCKET}
"""What a reader writes instead of the words in capitals; USER_ID is an id as it stands."""

NOT_IN_A_SCRIPT = {
    "make setup": "this test runs in what it makes",
    "make demo": "CI runs it: .ci/run",
    "make test": "CI runs it: .ci/run",
    "make test-unit": "a part of make test",
    "make bench": "it takes long, and its figures depend on the machine",
    "make package": "tests/infra/test_bundles.py makes and runs the bundles",
    "uv tool install": "tests/infra/test_installation.py installs the wheel, without and with the extra",
    "steam-import --version": "tests/infra/test_installation.py asks the installed program",
    "steam-import sandbox": "it runs until Ctrl-C: tests/cli/test_sandbox_command.py starts it as the page does",
    "aws": "it needs an account of AWS: tests/infra/test_stack.py creates the stack in moto",
    "sam deploy": "it needs an account of AWS: tests/infra/test_stack.py creates the stack in moto",
}
"""The commands that no test types as they stand, and what is tried instead."""


@contextmanager
def followed(document: Path, first: str = "", **settings: str) -> Iterator[Path]:
    """The folder in which its script was run, after a first command."""
    with open_folder() as folder, Sandbox(World.recorded()) as sandbox:
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(PROGRAMS)
        given = environment() | settings | sandbox.environment | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        script = "\n".join([first, *script_of(document)])
        for placeholder, meant in PLACEHOLDERS.items():
            script = script.replace(placeholder, meant)
        # One shell for all, as a reader has one; it stops at the first command that fails.
        ended = subprocess.run(  # noqa: S603 - our own documents
            ["/bin/bash", "-euxo", "pipefail", "-c", script],
            cwd=folder,
            env=given,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"
        (folder / "printed").write_text(ended.stdout)
        yield folder


@slow
@long
@pytest.mark.parametrize("document", sorted({*WITH_SCRIPT} - {*WITH_OWN_TEST}), ids=lambda path: path.name)
def test_the_examples_run_as_they_stand(document: Path) -> None:
    with followed(document) as folder:
        assert list((folder / "data").rglob("*-enriched*.csv"))


@slow
@long
def test_a_review_as_documented_matches_the_game_and_imports_anew() -> None:
    with followed(REVIEWING) as folder:
        (overrides,) = folder.rglob("overrides.csv")
        assert "512470,match,900006," in overrides.read_text()
        (enriched,) = folder.rglob("*-enriched.csv")
        rows = pl.read_csv(enriched, infer_schema=False).filter(pl.col("appid") == "512470")
        assert rows.select("match_reason", "igdb_id").rows() == [("override", "900006")]
        assert "512470" in (folder / "games.html").read_text()


@slow
@long
def test_a_user_is_erased_from_the_bucket_as_documented() -> None:
    first = "steam-import run gabelogannewell --user USER_ID --store-url s3://BUCKET --quiet"
    with (
        served_s3() as url,
        followed(
            ERASING,
            first,
            AWS_ENDPOINT_URL=url,
            AWS_REGION=REGION,
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
        ) as folder,
    ):
        says = re.findall(r"(.+) of user USER_ID:\n  files of imports: (\d+)", (folder / "printed").read_text())
        assert says == [("The store holds", "5"), ("Erased", "5")]


def shown_in(document: Path) -> list[str]:
    """All commands of a document, whether its test types them or not."""
    return [command for block in blocks_of(document, "sh", "shell", "") for command in commands_of(block)]


def reasons_for(command: str) -> list[str]:
    return [begin for begin in NOT_IN_A_SCRIPT if f"{command} ".startswith(f"{begin} ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_document_is_in_its_script_or_has_a_reason(document: Path) -> None:
    typed = {command for block in script_of(document) for command in commands_of(block)}
    assert [command for command in shown_in(document) if command not in typed and not reasons_for(command)] == []


def test_each_reason_is_for_a_command_that_is_shown_and_the_file_that_it_names_is_there() -> None:
    needed = {begin for document in DOCUMENTS for command in shown_in(document) for begin in reasons_for(command)}
    assert needed == set(NOT_IN_A_SCRIPT)
    named = {word for reason in NOT_IN_A_SCRIPT.values() for word in reason.split() if "/" in word}
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_commands_of_a_block_are_found_whatever_surrounds_them() -> None:
    block = (
        "run=$(steam-import runs -q)\n  aws s3 ls \\\n    s3://b  # a comment\n.venv/bin/steam-import demo\necho make\n"
    )
    assert commands_of(block) == [
        "run=$(steam-import runs -q)",
        "aws s3 ls \\\n    s3://b",
        ".venv/bin/steam-import demo",
    ]
