"""The notebooks executed, on a library that is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import NOTEBOOKS, ROOT, code_cells, texts
from tests.support.programs import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_notebooks_run_and_show_what_was_committed(tmp_path: Path) -> None:
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "notebooks.execute", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        timeout=240,
        check=True,
    )
    assert NOTEBOOKS
    for committed in NOTEBOOKS:
        for cell, again in zip(code_cells(committed), code_cells(tmp_path / committed.name), strict=True):
            assert texts(again) == texts(cell), f"{committed.name} is stale: make notebooks\n{cell['source']}"
