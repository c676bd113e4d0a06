"""The shell examples of the README and of docs/, run as they stand against the sandbox."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipeline.sandbox.server import Sandbox
from pipeline.sandbox.world import World
from tests.support.documents import DOCUMENTS, blocks_of
from tests.support.programs import environment, open_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROGRAMS = Path(sys.executable).parent
REVIEWING = next(document for document in DOCUMENTS if document.name == "reviewing.md")
WITH_OWN_TEST = (REVIEWING.name, "operating.md")
WITH_EXAMPLES = [
    document
    for document in DOCUMENTS
    if document.name not in WITH_OWN_TEST and any("steam-import " in block for block in blocks_of(document))
]


@contextmanager
def followed(document: Path) -> Iterator[Path]:
    """The folder in which its examples were run, but for those of make, which have a test of their own."""
    with open_folder() as folder, Sandbox(World.recorded()) as sandbox:
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(PROGRAMS)
        settings = environment() | sandbox.environment | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        blocks = [block for block in blocks_of(document) if not block.lstrip().startswith("make ")]
        # One shell for all, as a reader has one; it stops at the first command that fails.
        ended = subprocess.run(  # noqa: S603 - our own documents
            ["/bin/bash", "-euxo", "pipefail", "-c", "\n".join(blocks)],
            cwd=folder,
            env=settings,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert ended.returncode == 0, f"{ended.stdout}{ended.stderr}"
        yield folder


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=lambda path: path.name)
def test_the_examples_run_as_they_stand(document: Path) -> None:
    with followed(document) as folder:
        assert list((folder / "data").rglob("*-enriched*.csv"))


def test_a_review_as_documented_matches_the_game_and_imports_anew() -> None:
    with followed(REVIEWING) as folder:
        (overrides,) = folder.rglob("overrides.csv")
        assert "512470,match,900006," in overrides.read_text()
        (enriched,) = folder.rglob("*-enriched.csv")
        rows = pl.read_csv(enriched, infer_schema=False).filter(pl.col("appid") == "512470")
        assert rows.select("match_reason", "igdb_id").rows() == [("override", "900006")]
